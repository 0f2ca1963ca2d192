"""What the control socket's commands do: a request in, an answer out. Both are JSON objects; control.py carries them."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from relay.admin.controls import Controls, ReloadOutcome, Reloads
from relay.admin.log import Log
from relay.admin.status import Status
from relay.errors import NoSuchNameError
from relay.version import VERSION

# Each command's fields and their types; all are optional.
COMMANDS: Final[dict[str, dict[str, type]]] = {
    "status": {"machine": str},
    "reload": {"now": bool},
    "drain": {"machine": str},
    "resume": {"machine": str},
    "close": {"machine": str, "octopus": str},
}
_KINDS: Final = {str: "text", bool: "true or false"}

Answer = dict[str, Any]


class Reply(NamedTuple):
    """An answer, or its text in pieces. then: to be done when it has gone out, or cannot."""

    answer: Answer | Iterator[str]
    then: Callable[[], None] = lambda: None


class RequestError(Exception):
    """The request cannot be understood. The text says why."""


class Commands:
    """See above."""

    def __init__(self, controls: Controls, reloads: Reloads, status: Status, log: Log) -> None:
        self._controls = controls
        self._reloads = reloads
        self._status = status
        self._log = log

    async def answer(self, request: object, **asker: int) -> Reply:
        """asker: pid and uid, for the log."""
        try:
            command, fields = read(request)
            say = self._log.debug if command == "status" else self._log.info
            say("an operator's command", command=command, **fields, **asker)
            if command == "status":
                return Reply(self._status.of_machine(fields["machine"]) if "machine" in fields else self._status.of_all())
            if command == "reload":
                return Reply(_reloaded(await self._reloads.reload(fields.get("now", False))))
            if command == "drain" and not fields:
                return Reply(self._drain_all(), self._controls.start_drain)
            done: Answer = getattr(self, f"_{command}")(**fields)
            return Reply(done)
        except (RequestError, NoSuchNameError) as error:
            return Reply({"ok": False, "error": str(error)})

    def _drain(self, machine: str) -> Answer:
        controls = self._controls
        already = controls.is_drained(machine)
        if not already:
            controls.drain_machine(machine)
        return {"ok": True, "machine": machine, "already": already, "exchanges_in_flight": controls.in_flight(machine)}

    def _drain_all(self) -> Answer:
        """What is about to happen: a relay without calls is gone as soon as it begins, and could not say so then."""
        controls, table = self._controls, self._controls.table
        return {
            "ok": True,
            "machine": None,
            "already": controls.draining,
            "exchanges_in_flight": sum(controls.in_flight(machine.name) for machine in table.machines),
            "drain_seconds": table.relay.timeouts.drain,
        }

    def _resume(self, machine: str | None = None) -> Answer:
        controls = self._controls
        if controls.draining:
            raise RequestError("the relay is draining, and will stop; that cannot be taken back. Start it again when it has.")
        if machine is not None:
            controls.connections(machine)  # is there such a machine?
        resumed = sorted(controls.drained if machine is None else controls.drained & {machine})
        for name in resumed:
            controls.resume_machine(name)
        return {"ok": True, "resumed": resumed}

    def _close(self, machine: str | None = None, octopus: str | None = None) -> Answer:
        if machine is not None and octopus is None:
            closed = self._controls.close_machine(machine)
        elif octopus is not None and machine is None:
            closed = self._controls.close_octopus(octopus)
        else:
            raise RequestError("close needs either a machine or an octopus")
        return {"ok": True, "machine": machine, "octopus": octopus, "closed": closed}


def read(request: object) -> tuple[str, dict[str, Any]]:
    """The command and its fields. Raises RequestError."""
    if not isinstance(request, dict):
        raise RequestError("a request is a JSON object with a command")
    fields = dict(request)
    command = fields.pop("command", None)
    known = COMMANDS.get(command) if isinstance(command, str) else None
    if known is None:
        raise RequestError(
            f"the relay (version {VERSION}) does not know the command {_shown(command)}; it knows: {', '.join(COMMANDS)}. "
            "Restart the relay after an upgrade, so that both are of one version."
        )
    for name, value in fields.items():
        if name not in known:
            raise RequestError(
                f"the relay (version {VERSION}) does not know {_shown(name)} of {command}; it knows: {', '.join(known)}"
            )
        if type(value) is not known[name]:
            raise RequestError(f"{name} of {command} is not {_KINDS[known[name]]}")
    return str(command), fields


def _reloaded(outcome: ReloadOutcome) -> Answer:
    changes = outcome.changes
    if not outcome.ok or changes is None:
        count = len(outcome.lines)
        error = f"the configuration has {count} mistake{'s' if count != 1 else ''}; the relay runs on as it was"
        return {"ok": False, "error": error, "mistakes": list(outcome.lines)}
    names = {key: list(getattr(changes, key)) for key in ("added", "changed", "removed")}
    return {"ok": True, **names, "unchanged": len(changes.unchanged), "closed": changes.closed}


def _shown(value: object) -> str:
    return str(value)[:40]
