"""What stands where in a demo, and the relay's configuration for it."""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOCAL: Final = "127.0.0.1"
OCTOPUS: Final = "demo"  # the name of the octopus entry


@dataclass(frozen=True, slots=True)
class Target:
    """A machine at the relay. thumbprint: what the relay shows to Octopus for it.

    door: the relay's port for it; 0: the relay polls Octopus. tentacle: the port of its Tentacle; 0: that one polls the relay.
    subscription: where anybody polls.
    """

    name: str
    thumbprint: str
    tentacle_thumbprint: str
    door: int = 0
    tentacle: int = 0
    subscription: str = ""

    def configuration(self) -> str:
        """Its item of `machines`."""
        tentacle = f"https://{LOCAL}:{self.tentacle}" if self.tentacle else self.subscription
        lines = [f"- name: {self.name}", f"  tentacle: {tentacle}", f"  thumbprint: {self.tentacle_thumbprint}"]
        lines += [f"  port: {LOCAL}:{self.door}"] if self.door else ["  front: polling"]
        if self.tentacle and self.subscription:
            lines.append(f"  subscription: {self.subscription}")
        return "".join(f"  {line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Scene:
    """octopus: the Octopus's thumbprint. facing_tentacles: what the relay shows to the Tentacles. pid: the relay's process.

    node: the Octopus's polling port, and back: the relay's; 0 where nobody polls.
    """

    folder: Path
    targets: tuple[Target, ...]
    octopus: str
    facing_tentacles: str
    node: int = 0
    back: int = 0
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

    def way(self, target: Target) -> str:
        """Who connects to whom, in words."""
        front = f"Octopus dials the relay at {target.door}" if target.door else f"the relay polls Octopus at {self.node}"
        if target.tentacle:
            return f"{front}, {'the relay' if target.door else 'and'} dials the Tentacle at {target.tentacle}"
        return f"{front}, the Tentacle polls the relay at {self.back}"

    def configuration(self) -> str:
        """The text of the relay's configuration."""
        nodes = f"    nodes: https://{LOCAL}:{self.node}\n" if self.node else ""
        back = f"back:\n  listen: {LOCAL}:{self.back}\n" if self.back else ""
        machines = "".join(target.configuration() for target in self.targets)
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
            f"{nodes}"
            f"{back}"
            f"machines:\n{machines}"
        )


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses now. Raises OSError."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((LOCAL, 0))
        return [sock.getsockname()[1] for sock in sockets]
