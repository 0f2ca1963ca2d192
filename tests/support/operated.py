"""A running relay and an operator at its host, each of whose commands is a process of its own."""

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from json_docs import parsed
from prometheus_client.parser import text_string_to_metric_families
from scripted import PATIENCE
from system import Machine, Site


class Operated:
    """A relay of two machines, and an operator at its host."""

    def __init__(self, folder: Path, made: Site) -> None:
        self.config = folder / "relay.yaml"
        self.socket = folder / "state" / "control.sock"
        self.site, self.relay = made, made.relay
        self.first, self.second = made.machines

    def run(self, *arguments: str, code: int = 0, config: bool = True) -> tuple[str, str]:
        """What a command prints on both outputs. config: whether it takes the configuration."""
        command = [sys.executable, "-m", "relay", *arguments, *(["--config", str(self.config)] if config else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout, done.stderr

    def json(self, command: str, *arguments: str, code: int = 0) -> Any:
        """What it prints with --json, which is as the docs describe it."""
        said, errors = self.run(command, *arguments, "--json", code=code)
        assert errors == ""
        return parsed(said, command)

    def machine(self, machine: Machine, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.json("status", machine.name, code=code)["machine"]
        return found

    def machines(self) -> list[dict[str, Any]]:
        """What the file says of them."""
        found: list[dict[str, Any]] = self.site.configuration["machines"]
        return found

    def configure(self, **changed: Any) -> None:
        self.config.write_text(yaml.safe_dump({**self.site.configuration, **changed}))

    def page(self, path: str) -> tuple[int, str]:
        url = f"http://{self.site.configuration['admin']['listen']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Each sample by its name and its labels' values, in the order of their names."""
        families = text_string_to_metric_families(self.page("/metrics")[1])
        samples = [each for family in families for each in family.samples]
        return {(each.name, *(value for _, value in sorted(each.labels.items()))): each.value for each in samples}
