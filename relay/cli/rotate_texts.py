"""What ``identity rotate`` tells the operator, and what to do next, in the words of Octopus and Tentacle."""

from typing import Final

from relay.rotating import Result, Step
from relay.running import Reloaded
from relay.trust import Trust
from routing.table import Table

_HEADLINES: Final[dict[Result, str]] = {
    "prepared": "a new identity was made; nobody is shown it yet",
    "waits": "a new identity waits; nobody is shown it yet",
    "refused": "not activated: not every Tentacle is known to trust the new identity",
    "activated": "the new identity is in use",
    "cancelled": "the new identity was deleted",
    "went-back": "the identity from before is in use again, and the other one waits",
}


def headline(step: Step) -> str:
    """What was done, in one line."""
    return _HEADLINES[step.result]


def next_steps(table: Table, step: Step) -> str:
    """While the new identity waits."""
    new = step.rotation.next
    assert new is not None
    if step.entry.kind == "machine":
        return _for_octopus(table, step.entry.name, str(new.thumbprint))
    return _for_tentacles(step.entry.name, str(new.thumbprint), step.trusts or [], step.result == "refused")


def after(step: Step) -> str:
    """When it is done."""
    name, current, old = step.entry.name, step.rotation.current, step.rotation.old
    if step.result == "cancelled" or current is None:
        return "Nothing else has changed."
    lines = [_relay(step.reloaded)]
    activated = step.result == "activated" and old
    if step.entry.kind == "machine":
        lines.append(f"In Octopus, {name} must have the thumbprint {current.thumbprint} now: until it has, its calls fail.")
        lines.append("Then check its health there.")
    elif activated and old:
        lines.append("When all of it works, take the old one from each Tentacle:")
        lines.append(f"  Tentacle configure --remove-trust {old.thumbprint}")
    if activated:
        side = " --tentacle-side" if step.entry.kind == "octopus" else ""
        lines.append(f"The way back: relay-tentacle identity rotate {name}{side} --back")
    return "\n".join(lines)


def _relay(reloaded: Reloaded | None) -> str:
    if reloaded is None or not reloaded.running:
        return "No relay runs with this state folder here: it shows this identity when it is started."
    if reloaded.problem:
        return "The running relay still shows what it had. Mend what is said below, and run: relay-tentacle reload"
    return "The running relay was told, and shows it from now on."


def _for_octopus(table: Table, name: str, thumbprint: str) -> str:
    machine = table.machine(name)
    servers = [octopus.name for octopus in machine.octopus] if machine else []
    where = "In Octopus" if len(servers) < 2 else f"In each Octopus ({', '.join(servers)})"
    return f"""\
Octopus trusts one thumbprint of a machine, so its calls fail between these two steps, in whichever order they are done.
Do one right after the other, while nothing is deployed to {name}:
  1. {where}: Infrastructure, the deployment target or worker of {name}, Settings, Thumbprint:
     {thumbprint}
  2. Here: relay-tentacle identity rotate {name} --activate
Then check its health in Octopus. Not to do it after all: relay-tentacle identity rotate {name} --cancel"""


def _for_tentacles(name: str, thumbprint: str, trusts: list[Trust], refused: bool) -> str:
    left = [trust for trust in trusts if not trust.trusts]
    activate = f"relay-tentacle identity rotate {name} --tentacle-side --activate"
    if not left:
        return f"Every Tentacle trusts it. Now it can be used, and no call fails: {activate}"
    count = f"{len(trusts) - len(left)} of {len(trusts)}"
    step = f"""\
{count} Tentacles trust it. A Tentacle may trust several, so nothing fails meanwhile. On each of the others:
  Tentacle configure --trust {thumbprint}
  Tentacle service --restart
Then the same command again shows who is left, and when nobody is:
  {activate}"""
    if refused:
        step += "\nTo use it all the same, and lose the Tentacles that do not trust it: the same with --force"
    return step
