"""Completions in a real bash, and what they are made of."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import completion
from relay.cli.main import main

PROGRAM = Path(sys.executable).parent / "relay-tentacle"
TEXT = """\
relay: {name: dc-east, state: state}
octopus:
  - {name: production, thumbprint: 7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1}
  - {name: staging, thumbprint: 2B91D3C4B1968F7E5A02D3C4B1968F7E5A02D30C}
machines:
  - {name: web01, tentacle: https://w1, thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D, octopus: production, port: 11001}
  - {name: web02, tentacle: https://w2, thumbprint: 64C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D, octopus: production, port: 11002}
  - {name: db01, tentacle: https://d1, thumbprint: 74C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D, octopus: staging, port: 11003}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "relay.yaml").write_text(TEXT)
    return tmp_path / "relay.yaml"


def completed(*words: str) -> list[str]:
    """What is offered for the last of these words."""
    environment = {"COMP_WORDS": "\n".join(("relay-tentacle", *words)), "COMP_CWORD": str(len(words))}
    environment["_RELAY_TENTACLE_COMPLETE"] = "bash_complete"
    done = CliRunner().invoke(main, [], env=environment, prog_name="relay-tentacle")
    assert (done.exit_code, done.stderr) == (0, "")
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["machines", "--config", "FILE", "we"], ["web01", "web02"]),
        (["machines", "--config", "FILE", "web01", ""], ["db01", "web01", "web02"]),
        (["probe", "--config", "FILE", "d"], ["db01"]),
        (["probe", "--config", "FILE", "web01", "--octopus", ""], ["production", "staging"]),
        (["explain", "--config", "FILE", "web0"], ["web01", "web02"]),
        (["explain", "--config", "FILE", "web01", "--octopus", "s"], ["staging"]),
        (["explain", "--config", "FILE", "--host", ""], []),
        (["identity", "show", "--config", "FILE", ""], ["db01", "production", "staging", "web01", "web02"]),
        (["identity", "show", "--config", "FILE", "--machine", "d"], ["db01"]),
        (["show-thumbprint", "--config", "FILE", "st"], ["staging"]),
        (["completion", "f"], ["fish"]),
        (["prob"], ["probe"]),
        (["probe", "--par"], ["--parallel"]),
    ],
    ids=str,
)
def test_what_is_offered(config, words, offered):
    assert completed(*(str(config) if word == "FILE" else word for word in words)) == offered


@pytest.mark.parametrize("content", ["machines: [", "relay: {}", "\x00", ""], ids=repr)
def test_a_broken_configuration_offers_nothing_and_says_nothing(config, content):
    config.write_text(content)
    assert completed("probe", "--config", str(config), "w") == []


def test_nor_does_one_that_is_not_there(tmp_path):
    assert completed("probe", "--config", str(tmp_path / "none.yaml"), "w") == []


def test_nor_does_one_that_takes_too_long(tmp_path, monkeypatch):
    """Here one that nobody writes: opening it waits."""
    monkeypatch.setattr(completion, "_WITHIN", 0.1)
    os.mkfifo(tmp_path / "relay.yaml")
    began = time.monotonic()
    assert completed("probe", "--config", str(tmp_path / "relay.yaml"), "w") == []
    assert time.monotonic() - began < 10


def test_no_more_names_than_a_shell_can_show(config, monkeypatch):
    monkeypatch.setattr(completion, "_MOST", 2)
    assert completed("probe", "--config", str(config), "") == ["db01", "web01"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell):
    done = CliRunner().invoke(main, ["completion", shell])
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"_RELAY_TENTACLE_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_another_shell_is_a_usage_error():
    assert CliRunner().invoke(main, ["completion", "csh"]).exit_code == 2


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_in_a_real_bash(config):
    """The script is sourced, and its function asked as bash asks it when Tab is pressed."""
    asked = f"""
        source <(relay-tentacle completion bash)
        complete -p relay-tentacle | grep -o 'F .*'
        COMP_WORDS=(relay-tentacle probe --config {config} we) COMP_CWORD=4
        _relay_tentacle_completion relay-tentacle
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.stdout.splitlines() == ["F _relay_tentacle_completion relay-tentacle", "web01", "web02"], done.stderr
