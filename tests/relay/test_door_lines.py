from pathlib import Path
from typing import Any

import pytest
from identities import identity
from json_lines import JsonLines
from tables import PRODUCTION, machine, table
from twisted.internet.task import Clock

from certs.identity import Identity
from certs.store import IdentityStore
from relay import door_lines
from relay.admin.log import Log, make_log
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.door_lines import MOST
from relay.faces import Faces
from routing.addresses import Address
from routing.table import ConnectDoor, Table

SHARED = Address("", 10933)


class Lines:
    """A log, and what was written."""

    def __init__(self) -> None:
        self._clock, self._lines = Clock(), JsonLines()
        self.log: Log = make_log(LineWriter(self._clock, self._lines), "info")

    def said(self) -> list[dict[str, Any]]:
        self._clock.advance(FLUSH_AFTER)
        found = list(self._lines.found)
        self._lines.found.clear()
        return found


@pytest.fixture
def lines() -> Lines:
    return Lines()


def faces_of(declared: Table, folder: Path) -> Faces:
    """Everybody has the same certificate."""
    store = IdentityStore(folder / "state", lambda identity, path: None, pytest.fail)
    one = identity("web01")
    for each in declared.machines:
        store.import_machine(Identity(each.name, one.certificate, one.key), replace=True)
    store.import_octopus(identity("production"), replace=True)
    return Faces.read(declared, store)


def named(name: str, **more: Any) -> Any:
    return machine(name, octopus=(PRODUCTION,), door=None, host=f"{name}.relay.corp", **more)


def test_a_machine_with_a_port_or_polled_for_has_a_line_and_those_of_the_shared_door_are_counted(
    tmp_path: Path, lines: Lines
) -> None:
    own = machine("own", octopus=(PRODUCTION,), host="own.relay.corp")
    polled = named("polled", polled_for=True, subscription="poll://sq/")
    target = machine("target", octopus=(PRODUCTION,), door=None, target=Address("target", 10933))
    declared = table(tmp_path, own, polled, target, *(named(f"web{n}") for n in range(40)), front=SHARED, connect=ConnectDoor())
    faces = faces_of(declared, tmp_path)
    door_lines.say(lines.log, declared, faces, door_lines.with_line(declared))
    door_lines.say_shared(lines.log, declared)
    first, second, shared = lines.said()
    assert (first["event"], first["machine"], first["door"]) == ("door open", "own", "127.0.0.1:0")
    assert (second["machine"], second["door"], second["subscription"]) == ("polled", None, "poll://sq/")
    assert (shared["event"], shared["door"], shared["hosts"], shared["targets"]) == ("shared door open", ":10933", 42, 1)


def test_the_shared_door_is_told_again_where_something_else_is_said_of_it(tmp_path: Path, lines: Lines) -> None:
    before = table(tmp_path, named("web01"), front=SHARED)
    same = table(tmp_path, named("web02"), front=SHARED)
    more = table(tmp_path, named("web01"), named("web02"), front=SHARED)
    gone = table(tmp_path, machine())
    for after in (same, more, gone):
        door_lines.say_shared(lines.log, after, before)
    assert [line["hosts"] for line in lines.said()] == [2]


def test_a_reload_tells_of_machines_that_are_new_or_reached_another_way(tmp_path: Path) -> None:
    stays, moves, loses = (machine(name, octopus=(PRODUCTION,)) for name in ("stays", "moves", "loses"))
    before = table(tmp_path, stays, moves, loses, front=SHARED)
    after = table(
        tmp_path,
        stays,
        machine("moves", octopus=(PRODUCTION,), host="moves.relay.corp"),
        named("loses"),
        machine("new", octopus=(PRODUCTION,)),
        named("shared"),
        front=SHARED,
    )
    told = door_lines.with_other_line(before, faces_of(before, tmp_path), after, faces_of(after, tmp_path))
    assert told == ["moves", "new"]


def test_very_many_are_cut_short(tmp_path: Path, lines: Lines) -> None:
    declared = table(tmp_path, machine(octopus=(PRODUCTION,)))
    faces = faces_of(declared, tmp_path)
    door_lines.say(lines.log, declared, faces, ["web01"] * (MOST + 3))
    said = lines.said()
    assert len(said) == MOST + 1
    assert (said[-1]["event"], said[-1]["machines"]) == ("more doors open", 3)
