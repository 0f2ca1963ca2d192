"""What ``identity rotate`` tells the operator, and what to do next, in the words of Octopus and Tentacle."""

from typing import Final

from relay.program import command
from relay.rotating import Result, Step
from relay.running import Reloaded
from relay.trust import machines_of
from routing.table import Table

_HEADLINES: Final[dict[Result, str]] = {
    "prepared": "a new identity was made; nobody is shown it yet",
    "waits": "a new identity waits; nobody is shown it yet",
    "refused": "not activated: not every Tentacle is known to trust the new identity",
    "activated": "the new identity is in use",
    "cancelled": "the new identity was deleted",
    "went-back": "the identity from before is in use again, and the other one waits",
}

_SHOWN: Final = 5  # names in a list


def headline(step: Step) -> str:
    """What was done, in one line."""
    return _HEADLINES[step.result]


def next_steps(table: Table, step: Step) -> str:
    """While the new identity waits."""
    new = step.rotation.next
    assert new is not None
    if step.entry.kind == "machine":
        return _for_octopus(table, step.entry.name, str(new.thumbprint))
    current = step.rotation.current
    assert current is not None
    return _for_tentacles(table, step, str(current.thumbprint), str(new.thumbprint))


def after(table: Table, step: Step) -> str:
    """When it is done."""
    name, current, old = step.entry.name, step.rotation.current, step.rotation.old
    if step.result == "cancelled" or current is None:
        return "Nothing else has changed."
    lines = [_relay(table, step.reloaded), *_besides(table, step)]
    failed = step.reloaded is not None and step.reloaded.problem
    activated = step.result == "activated" and old
    if step.entry.kind == "machine" and failed:
        lines.append(f"Do not change the thumbprint of {name} in Octopus before a reload has gone well: then it must be")
        lines.append(f"  {current.thumbprint}")
        lines.append("If it is changed there already, its calls fail until then. Check its health there afterwards.")
    elif step.entry.kind == "machine":
        lines.append(f"In Octopus, {name} must have the thumbprint {current.thumbprint} now: until it has, its calls fail.")
        lines.append("Then check its health there.")
    elif activated and old:
        when = "When a reload has gone well, and all of it works" if failed else "When all of it works"
        lines.append(f"{when}, take the old one from each Tentacle:")
        lines.append(f"  Tentacle configure --remove-trust {old.thumbprint}")
        if any(machine.tentacle is None for machine in machines_of(table, name)):
            lines.append("Polling Tentacles that were not told of it are away now (`relay-tentacle status`). On each of them:")
            lines += _update_trust(str(old.thumbprint), str(current.thumbprint))
    if activated:
        side = " --tentacle-side" if step.entry.kind == "octopus" else ""
        lines.append(f"The way back: {command(f'identity rotate {name}{side} --back', table.source)}")
    return "\n".join(lines)


def _relay(table: Table, reloaded: Reloaded | None) -> str:
    if reloaded is None or not reloaded.running:
        return "No relay runs with this state folder here: it shows this identity when it is started."
    if reloaded.problem:
        reload = command("reload", table.source)
        return f"The running relay still shows what it had. Mend what is said below, and run: {reload}"
    return "The running relay was told, and shows it from now on."


def _besides(table: Table, step: Step) -> list[str]:
    """What the reload did beyond this identity: it takes the whole of the configuration."""
    if step.reloaded is None:
        return []
    entry, reloaded = step.entry, step.reloaded
    served = {entry.name} if entry.kind == "machine" else {machine.name for machine in machines_of(table, entry.name)}
    changed = tuple(name for name in reloaded.changed if name not in served)
    lists = {"added": reloaded.added, "changed": changed, "removed": reloaded.removed}
    said = [f"machines {word}: {_some(names)}" for word, names in lists.items() if names]
    return [f"It has read the whole configuration anew, besides: {'; '.join(said)}."] if said else []


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} others" if more > 0 else "")


def _for_octopus(table: Table, name: str, thumbprint: str) -> str:
    machine = table.machine(name)
    servers = [octopus.name for octopus in machine.octopus] if machine else []
    where = "In Octopus" if len(servers) < 2 else f"In each Octopus ({', '.join(servers)})"
    return f"""\
Octopus trusts one thumbprint of a machine, so its calls fail between these two steps, in whichever order they are done.
Do one right after the other, while nothing is deployed to {name}:
  1. {where}: Infrastructure, the deployment target or worker of {name}, Settings, Thumbprint:
     {thumbprint}
  2. Here: {command(f"identity rotate {name} --activate", table.source)}
Then check its health in Octopus. Not to do it after all: {command(f"identity rotate {name} --cancel", table.source)}"""


def _for_tentacles(table: Table, step: Step, current: str, new: str) -> str:
    trusts = step.trusts or []
    left = [trust for trust in trusts if not trust.trusts]
    activate = command(f"identity rotate {step.entry.name} --tentacle-side --activate", table.source)
    if not left:
        return f"Every Tentacle trusts it. Now it can be used, and no call fails: {activate}"
    listening = [trust for trust in left if trust.machine.tentacle]
    polling = [trust.machine.name for trust in left if trust.machine.tentacle is None]
    lines = [f"{len(trusts) - len(left)} of {len(trusts)} Tentacles trust it."]
    if listening:
        lines += [
            "A listening Tentacle may trust several, so nothing fails meanwhile. On each of the others:",
            f"  Tentacle configure --trust {new}",
            "  Tentacle service --restart",
        ]
    if polling:
        lines += [
            f"A polling Tentacle ({_some(tuple(polling))}) trusts one for each server that it polls. On each, shortly",
            "before or after it is used here (in between it is away, and its calls wait):",
            *_update_trust(current, new),
            "(Not server-comms: that would give it another subscription id.)",
        ]
    lines.append("Then the same command again shows who is left, and when nobody is:" if listening else "To use it here:")
    lines.append(f"  {activate}{'' if listening else ' --force'}")
    if listening and polling:
        lines.append("With polling Tentacles it takes --force: they are never known to trust it before it is in use.")
    elif step.result == "refused" and listening:
        lines.append("To use it all the same, and lose the Tentacles that do not trust it: the same with --force")
    return "\n".join(lines)


def _update_trust(old: str, new: str) -> list[str]:
    return [f"  Tentacle update-trust --oldThumbprint {old} --newThumbprint {new}", "  Tentacle service --restart"]
