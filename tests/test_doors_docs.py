"""docs/doors.md says what is so: its sample, its words, and the answers that Octopus gets."""

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from relay.cli.main import main
from relay.fronts import tunnel_answers
from routing import json_schema
from routing.load import load

PAGE = Path(__file__).parents[1] / "docs" / "doors.md"
TEXT = PAGE.read_text()
[SAMPLE] = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_sample_is_a_right_configuration(tmp_path: Path) -> None:
    head = f"relay: {{name: r, state: state}}\noctopus: [{{name: o, thumbprint: {'A' * 40}}}]\n"
    (tmp_path / "relay.yaml").write_text(head + SAMPLE)
    (tmp_path / "proxy-users").touch(0o600)
    (tmp_path / "proxy-users").write_text("octo:s3cret\n")
    table = load(tmp_path / "relay.yaml")
    assert [str(target) for target in table.targets] == ["web01.internal:10933"]
    done = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "relay.yaml")])
    assert (done.exit_code, done.stderr) == (0, "")


def test_every_key_it_names_is_one() -> None:
    properties = json_schema.main_file()["$defs"]
    known = {key for section in properties.values() for key in section["properties"]} | {"front", "back", "octopus", "machines"}
    for name in re.findall(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+)*)(?:: [^`]*)?`", TEXT):
        assert {part.removesuffix("[]") for part in name.split(".")} <= known | set(main.commands), name
    assert set(yaml.safe_load(SAMPLE)["front"]) <= known


def test_every_answer_it_names_is_given() -> None:
    given = {answer.status for answer in vars(tunnel_answers).values() if isinstance(answer, tunnel_answers.Answer)}
    numbers = {status.partition(" ")[0] for status in given}
    named = re.findall(r"`([1-5][0-9]{2})( [A-Z][A-Za-z ]+)?`", TEXT)
    assert len(named) >= 5
    for number, phrase in named:
        if number == "200":
            assert f"HTTP/1.1 200{phrase}\r\n\r\n".encode() == tunnel_answers.ESTABLISHED
        elif phrase:
            assert f"{number}{phrase}" in given
        else:
            assert number in numbers


@pytest.mark.parametrize("option", ["--door", "--host", "--connect"])
def test_every_option_of_explain_is_one(option: str) -> None:
    assert f"`{option}`" in TEXT
    assert option in CliRunner().invoke(main, ["explain", "--help"]).output


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)", TEXT))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (PAGE.parent / target).is_file()
