"""The status of the relay, as docs/json/status.json describes it: pieces of JSON, made as they are sent.

A relay of 10 000 machines has megabytes of it. No piece has more than a few machines, and none is made before the one in front
of it was taken, so that neither the reactor nor the memory notices.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from relay.admin.causes import CAUSES
from relay.admin.controls import Controls, Failure, Reloads
from relay.admin.metrics import Metrics
from relay.load import NodePolls
from relay.outcomes import Outcome
from relay.version import VERSION
from routing.table import Machine

MACHINES: Final = 20  # in a piece
_LIMITS: Final = ("callers", "connections", "waiting")  # of a machine
_OF_PASSTHROUGH: Final = ("connections",)  # those of them that hold where it is passed through


class Status:
    """See above. now: Unix seconds."""

    def __init__(self, controls: Controls, reloads: Reloads, metrics: Metrics, now: Callable[[], float] = time.time) -> None:
        self._controls = controls
        self._reloads = reloads
        self._metrics = metrics
        self._now = now

    def of_all(self) -> Iterator[str]:
        """All of it, as one JSON object in pieces."""
        table = self._controls.table
        totals = dict.fromkeys(("machines", "drained", "failing", "away"), 0)
        yield f'{{"ok":true,"relay":{json.dumps(self._relay())},"doors":['
        yield from _joined(self._doors())
        yield '],"machines":['
        yield from _joined(self._machines(table.machines, totals))
        yield '],"leaving":['
        yield from _joined(self._leaving())
        limits = [limit._asdict() for limit in self._controls.limits()]
        yield f'],"totals":{json.dumps(totals | self._controls.totals()._asdict())},"limits":{json.dumps(limits)}}}'

    def of_machine(self, name: str) -> dict[str, Any]:
        """Everything about one. Raises NoSuchNameError."""
        self._controls.connections(name)
        machine = self._controls.table.machine(name)
        assert machine is not None
        counts = self._metrics.machines[name]
        numbers = zip(Outcome, counts.outcomes, strict=True)
        passed = zip(Outcome, self._metrics.passed_through.get(name, ()), strict=False)
        details = {
            "thumbprints": [str(thumbprint) for thumbprint in machine.thumbprints],
            "declared": str(machine.places.of("name")),
            "limits": {key: getattr(machine.limits, key) for key in (_OF_PASSTHROUGH if machine.passthrough else _LIMITS)},
            "exchanges": {outcome.value: count for outcome, count in numbers if count},
            "passthrough_connections": {outcome.value: count for outcome, count in passed if count},
            "request_bytes": counts.request_bytes,
            "reply_bytes": counts.reply_bytes,
        }
        return {"ok": True, "relay": self._relay(), "machine": self._machine(machine) | details}

    def _relay(self) -> dict[str, Any]:
        controls, last = self._controls, self._reloads.last
        reload = None
        if last:
            changes = last.changes
            reload = {
                "time": _stamp(self._reloads.last_at),
                "ok": last.ok,
                "mistakes": list(last.lines),
                "added": len(changes.added) if changes else 0,
                "changed": len(changes.changed) if changes else 0,
                "removed": len(changes.removed) if changes else 0,
            }
        return {
            "name": controls.table.relay.name,
            "version": VERSION,
            "pid": os.getpid(),
            "config": str(self._reloads.path.absolute()),
            "started": _stamp(controls.started),
            "uptime_seconds": round(max(0.0, self._now() - controls.started), 1),
            "draining": controls.draining,
            "last_reload": reload,
        }

    def _doors(self) -> Iterator[dict[str, Any]]:
        controls = self._controls
        table = controls.table
        closed = "draining" if controls.draining else "open"
        if table.front:
            yield {"kind": "shared", "address": str(table.front), "machine": None, "state": closed}
        if table.front and table.connect:
            yield {"kind": "connect", "address": str(table.front), "machine": None, "state": closed}
        if table.back:
            yield {"kind": "back", "address": str(table.back), "machine": None, "state": closed}
        if table.admin:
            yield {"kind": "admin", "address": str(table.admin), "machine": None, "state": "open"}
        for machine in table.machines:
            if machine.door and table is controls.table:  # else a reload has come between two pieces
                state = "drained" if controls.is_drained(machine.name) else closed
                yield {"kind": "port", "address": str(machine.door), "machine": machine.name, "state": state}

    def _machines(self, machines: tuple[Machine, ...], totals: dict[str, int]) -> Iterator[dict[str, Any]]:
        for machine in machines:
            if self._controls.table.machine(machine.name) is None:
                continue  # a reload between two pieces has removed it
            found = self._machine(machine)
            totals["machines"] += 1
            totals["drained"] += found["drained"]
            totals["failing"] += found["last_call_failed"]
            totals["away"] += found["live"] is False
            yield found

    def _leaving(self) -> Iterator[dict[str, Any]]:
        for machine, load in self._controls.leaving():
            yield {"name": machine.name, "tentacle": str(machine.tentacle or machine.uri), **load._asdict()}

    def _machine(self, machine: Machine) -> dict[str, Any]:
        controls, name = self._controls, machine.name
        failure, success = controls.last_failure(name), controls.last_success(name)
        return {
            "name": name,
            "door": str(machine.door) if machine.door else None,
            "host": machine.host,
            "connect": str(machine.target) if machine.target else None,
            "tentacle": str(machine.tentacle or machine.uri),
            "octopus": [octopus.name for octopus in machine.octopus],
            "passthrough": machine.passthrough,
            "drained": controls.is_drained(name),
            "connections": controls.connections(name),
            "exchanges_in_flight": controls.in_flight(name),
            "waiting": controls.waiting(name),
            "back_connections": controls.back_connections(name),
            "pollers": controls.pollers(name),
            "polls": controls.polls(name),
            "live": controls.live(name),
            "nodes": [_node(node) for node in controls.nodes(name)],
            "last_success": _stamp(success) if success else None,
            "last_call_failed": failed(failure, success),
            "last_failure": self._failure(failure) if failure else None,
        }

    def _failure(self, failure: Failure) -> dict[str, Any]:
        cause = CAUSES[failure.word]
        return {
            "time": _stamp(failure.time),
            "seconds_ago": round(max(0.0, self._now() - failure.time), 1),
            "kind": failure.kind,
            "word": failure.word.value,
            "cause": cause.text,
            "remedy": cause.remedy or None,
            "detail": failure.detail,
            "peer": failure.peer,
        }


def _node(node: NodePolls) -> dict[str, Any]:
    trouble = None
    if node.trouble:
        cause = CAUSES[node.trouble]
        word, remedy = node.trouble.value, cause.remedy or None
        trouble = {"word": word, "cause": cause.text, "remedy": remedy, "detail": node.detail}
    return {"octopus": node.octopus, "node": node.node, "standing": node.standing, "wanted": node.wanted, "trouble": trouble}


def failed(failure: Failure | None, success: float | None) -> bool:
    """Whether the last call failed. A refused caller is none: anybody who reaches the port can be one."""
    return failure is not None and failure.kind == "call" and failure.time > (success or 0.0)


def _joined(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Items of a JSON list, with commas between them, some in each piece."""
    some: list[str] = []
    comma = ""
    for item in items:
        some.append(json.dumps(item))
        if len(some) == MACHINES:
            yield comma + ",".join(some)
            comma, some = ",", []
    if some:
        yield comma + ",".join(some)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
