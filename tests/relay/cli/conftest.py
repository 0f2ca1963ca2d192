"""A configuration with identities of every kind, and the identity commands on it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from identity_site import CAPTURES, Run, private

from certs.identity import Identity
from certs.store import IdentityStore
from relay.cli.main import main


@pytest.fixture(scope="session")
def new() -> Identity:
    return Identity.new("web01", "Octopus Tentacle")


@pytest.fixture
def identity_config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"""\
relay: {{name: r, state: state}}
octopus:
  - {{name: production, thumbprint: {"A" * 40}}}
  - {{name: both, thumbprint: {"B" * 40}}}
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, octopus: production, port: 11001}}
  - {{name: both, tentacle: "https://web02", thumbprint: {"D" * 40}, octopus: production, port: 11002}}
  - {{name: given, tentacle: "https://web03", thumbprint: {"E" * 40}, octopus: production, port: 11003, identity: given.pem}}
"""
    )
    private(tmp_path / "given.pem", (CAPTURES / "tentacle.pem").read_bytes())
    return path


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail)


@pytest.fixture
def run(identity_config: Path) -> Run:
    """``relay-tentacle identity``, with these arguments."""

    def run(*arguments: object, typed: object = None) -> object:
        command = ["identity", *map(str, arguments), "--config", str(identity_config)]
        return CliRunner().invoke(main, command, input=typed)  # type: ignore[arg-type]

    return run  # type: ignore[return-value]


@pytest.fixture
def openssl() -> Callable[..., str]:
    """What the command of this name says, on both outputs."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")

    def call(*arguments: object) -> str:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    return call
