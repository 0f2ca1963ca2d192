"""Sets the scene of a demo: everything but the relay's process, whose identities everybody trusts already."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certs.identity import Identity
from certs.store import IdentityStore
from relay.demo.scene import LOCAL, OCTOPUS, Scene, Target, free_ports
from relay.peers.machine import Machine
from relay.peers.octopus import Octopus
from relay.peers.tentacle import Tentacle
from relay.peers.times import Reactor


@dataclass(frozen=True, slots=True)
class Combination:
    """Of one machine: who is dialled, and who is polled."""

    name: str
    octopus_polled: bool = False
    tentacle_polls: bool = False

    @property
    def polling(self) -> bool:
        """Somebody polls, so it takes a subscription."""
        return self.octopus_polled or self.tentacle_polls


LISTENING: Final = tuple(Combination(name) for name in ("web01", "web02", "web03"))
ALL_FOUR: Final = (
    Combination("both-listen"),
    Combination("tentacle-polls", tentacle_polls=True),
    Combination("relay-polls", octopus_polled=True),
    Combination("both-poll", octopus_polled=True, tentacle_polls=True),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """Who is there. tentacles: in the order of the scene's targets. machines: what the Octopus calls, by name."""

    scene: Scene
    octopus: Octopus
    tentacles: tuple[Tentacle, ...]
    machines: dict[str, Machine]

    def begin_polling(self) -> None:
        """Lets the Tentacles that poll do so, once the relay runs: those that come too early wait for 5 s."""
        for target, tentacle in zip(self.scene.targets, self.tentacles, strict=True):
            if not target.tentacle:
                tentacle.poll(LOCAL, self.scene.back, self.scene.facing_tentacles, target.subscription)

    def violations(self) -> list[Exception]:
        """What the relay did that no Tentacle or Octopus does."""
        return [*self.octopus.violations, *(error for tentacle in self.tentacles for error in tentacle.violations)]


async def set_up(reactor: Reactor, folder: Path, combinations: tuple[Combination, ...], stack: AsyncExitStack) -> Setting:
    """Octopus and Tentacles, which end with the stack, and the relay's configuration in the folder. Raises OSError."""
    me = Identity.new(OCTOPUS, "Octopus Portal")
    octopus = Octopus(reactor, me.pem(), spool=folder)
    stack.push_async_callback(octopus.stop)
    node = await octopus.listen(interface=LOCAL) if any(each.octopus_polled for each in combinations) else 0
    store = IdentityStore(folder / "state", lambda identity, path: None, lambda text: None)
    facing_tentacles = str(store.octopus(OCTOPUS).thumbprint)
    back, *doors = free_ports(1 + len(combinations))
    tentacles, targets = [], []
    for each, door in zip(combinations, doors, strict=True):
        identity = Identity.new(each.name, "Octopus Tentacle")
        tentacle = Tentacle(reactor, identity.pem(), [facing_tentacles], folder / each.name)
        stack.push_async_callback(tentacle.stop)
        tentacles.append(tentacle)
        target = Target(
            each.name,
            thumbprint=str(store.machine(each.name).thumbprint),
            tentacle_thumbprint=tentacle.thumbprint,
            door=0 if each.octopus_polled else door,
            tentacle=0 if each.tentacle_polls else await tentacle.listen(interface=LOCAL),
            subscription=f"poll://{each.name}/" if each.polling else "",
        )
        targets.append(target)
    if not any(each.tentacle_polls for each in combinations):
        back = 0
    scene = Scene(folder, tuple(targets), str(me.thumbprint), facing_tentacles, node, back)
    scene.config.write_text(scene.configuration(), encoding="utf-8")
    return Setting(scene, octopus, tuple(tentacles), {target.name: _called(octopus, target) for target in targets})


def _called(octopus: Octopus, target: Target) -> Machine:
    if target.door:
        return octopus.machine(LOCAL, target.door, target.thumbprint)
    return octopus.polling_machine(target.subscription, target.thumbprint)  # before anybody polls it, who would be closed
