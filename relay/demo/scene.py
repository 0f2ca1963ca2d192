"""What stands where in a demo, and the relay's configuration for it."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOCAL: Final = "127.0.0.1"
OCTOPUS: Final = "demo"  # the name of the octopus entry


@dataclass(frozen=True, slots=True)
class Door:
    """A machine at the relay. thumbprint: what the relay shows there. tentacle: the port of the Tentacle behind it."""

    name: str
    port: int
    thumbprint: str
    tentacle: int
    tentacle_thumbprint: str


@dataclass(frozen=True, slots=True)
class Scene:
    """octopus: the Octopus's thumbprint. facing_tentacles: what the relay shows to the Tentacles. pid: the relay's process."""

    folder: Path
    doors: tuple[Door, ...]
    octopus: str
    facing_tentacles: str
    pid: int = 0

    @property
    def config(self) -> Path:
        """The relay's configuration."""
        return self.folder / "relay.yaml"

    @property
    def access_log(self) -> Path:
        """One JSON line for each exchange."""
        return self.folder / "access.jsonl"

    @property
    def log(self) -> Path:
        """What the relay has to say otherwise."""
        return self.folder / "relay.log"

    @property
    def state(self) -> Path:
        """The relay's identities."""
        return self.folder / "state"

    def configuration(self) -> str:
        """The text of the relay's configuration."""
        machines = "".join(
            f"  - name: {door.name}\n"
            f"    tentacle: https://{LOCAL}:{door.tentacle}\n"
            f"    thumbprint: {door.tentacle_thumbprint}\n"
            f"    port: {LOCAL}:{door.port}\n"
            for door in self.doors
        )
        return (
            "version: 1\n"
            "relay:\n"
            "  name: demo\n"
            f"  state: {self.state.name}\n"
            f"  access_log: {self.access_log.name}\n"
            "admin:\n"
            "  listen: none\n"
            "octopus:\n"
            f"  - name: {OCTOPUS}\n"
            f"    thumbprint: {self.octopus}\n"
            f"machines:\n{machines}"
        )


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses now. Raises OSError."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((LOCAL, 0))
        return [sock.getsockname()[1] for sock in sockets]
