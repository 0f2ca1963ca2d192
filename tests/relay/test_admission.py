from dataclasses import replace

import pytest
from admitted import admission
from hypothesis import given
from hypothesis import strategies as st
from tables import PRODUCTION, STAGING, machine, table

from relay import admission as rooms
from relay.admission import Admission, Visit, source_of
from relay.outcomes import Outcome, Refusal, SentAway
from routing.table import OctopusLimits

WEB01 = machine(callers=2)


class Door:
    """Callers, as a door has them. gone: whose place somebody else took."""

    def __init__(self, made: Admission) -> None:
        self.admission = made
        self.gone: list[str] = []

    def comes(self, peer: str) -> Visit:
        """One that is let in."""
        visit = self.admission.admit(peer, 0.0)
        assert isinstance(visit, Visit), visit

        def leave(why: SentAway) -> None:
            assert why.refusal is Refusal.STRANGERS
            self.gone.append(peer)
            visit.departed()

        visit.leave = leave
        return visit

    def refused(self, peer: str) -> Refusal:
        """One that is not."""
        away = self.admission.admit(peer, 0.0)
        assert isinstance(away, SentAway)
        return away.refusal


def test_what_is_there_is_counted_and_goes() -> None:
    gone: list[int] = []
    made = admission(PRODUCTION, departed=lambda: gone.append(made.connections))
    door = Door(made)
    first, second = door.comes("192.0.2.1:1"), door.comes("192.0.2.1:2")
    assert (made.connections, made.strangers, made.most_strangers, made.known) == (2, 2, 2, 0)
    stayed: list[Visit] = []
    first.stays = lambda: stayed.append(first)
    assert first.identified(PRODUCTION, WEB01) is None
    assert (made.connections, made.strangers, made.callers("production"), made.known, stayed) == (2, 1, 1, 1, [first])
    second.departed()
    first.departed()
    assert (made.connections, made.strangers, made.callers("production"), made.known, gone) == (0, 0, 0, 1, [1, 0])


def test_no_more_connections_than_the_limit_and_a_stranger_makes_room_for_one() -> None:
    door = Door(admission(connections=3))
    for port in range(2):
        door.comes(f"192.0.2.1:{port}").trusted()
    door.comes("192.0.2.2:1")
    door.comes("192.0.2.3:1")
    assert (door.gone, door.admission.connections) == (["192.0.2.2:1"], 3)
    door.comes("192.0.2.1:9").trusted()
    assert door.gone == ["192.0.2.2:1", "192.0.2.3:1"]
    assert door.refused("192.0.2.4:1") is Refusal.CONNECTIONS  # nobody is a stranger


def test_strangers_of_one_source_are_bounded_known_or_not() -> None:
    door = Door(admission(source_strangers=2))
    door.comes("192.0.2.1:0").trusted()
    first, _ = door.comes("192.0.2.1:1"), door.comes("192.0.2.1:2")
    assert door.refused("192.0.2.1:3") is Refusal.SOURCE_STRANGERS
    door.comes("192.0.2.2:1")
    first.departed()
    door.comes("192.0.2.1:4")
    assert door.gone == []


def test_the_source_with_most_strangers_makes_room_and_gets_none() -> None:
    door = Door(admission(strangers=5))
    for port in range(3):
        door.comes(f"192.0.2.1:{port}")
    for port in range(2):
        door.comes(f"192.0.2.2:{port}")
    assert door.refused("192.0.2.1:9") is Refusal.STRANGERS
    door.comes("192.0.2.3:1")
    assert door.gone == ["192.0.2.1:0"]  # its oldest
    door.comes("192.0.2.3:2")
    assert len(door.gone) == 2
    assert door.admission.strangers == 5


def test_nobody_takes_the_place_of_whoever_is_known() -> None:
    door = Door(admission(strangers=3))
    door.comes("192.0.2.1:0").trusted()
    for port in (1, 2):
        door.comes(f"192.0.2.1:{port}")
    door.comes("192.0.2.2:1")
    assert door.refused("192.0.2.2:2") is Refusal.STRANGERS
    door.comes("192.0.2.1:3")  # even of a source with few
    assert door.gone == ["192.0.2.2:1"]
    assert door.refused("192.0.2.3:1") is Refusal.STRANGERS


def test_an_octopus_and_a_machine_have_their_limits_of_identified_callers() -> None:
    production = replace(PRODUCTION, limits=OctopusLimits(callers=3))
    door = Door(admission(production, STAGING))
    other = machine("web02")
    visits = [door.comes(f"192.0.2.1:{port}") for port in range(6)]
    assert [visit.identified(production, WEB01) for visit in visits[:2]] == [None, None]
    refused = visits[2].identified(production, WEB01)
    assert refused
    assert (refused.refusal, refused.detail) == (
        Refusal.CALLERS,
        "2 callers of the machine are there (limits.callers)",
    )
    assert visits[3].identified(production, other) is None
    refused = visits[4].identified(production, other)
    assert refused
    assert refused.refusal is Refusal.OCTOPUS_CALLERS
    assert visits[5].identified(STAGING, other) is None
    for visit in visits:
        visit.departed()
    assert (door.admission.callers("production"), door.comes("192.0.2.1:7").identified(production, WEB01)) == (0, None)


def test_exchanges_of_all_and_of_an_octopus_and_what_is_buffered() -> None:
    waits = [0]
    production = replace(PRODUCTION, limits=OctopusLimits(exchanges=1))
    made = Admission(table(__file__ and WEB01.places.file, octopus=(production, STAGING), exchanges=2), lambda: waits[0], list)
    assert made.begin("production") is None
    assert made.begin("production") == (
        Outcome.OCTOPUS_EXCHANGES,
        "1 calls of production were under way (octopus[].limits.exchanges)",
    )
    waits[0] = made.limits.buffered
    refused = made.begin("staging")
    assert refused
    assert refused[0] is Outcome.BUFFERED
    waits[0] -= 1
    assert made.begin("staging") is None
    refused = made.begin("staging")
    assert refused
    assert refused[0] is Outcome.EXCHANGES
    made.end("production")
    assert (made.exchanges, made.exchanges_of("production"), made.exchanges_of("staging")) == (1, 0, 1)


def test_other_limits_hold_from_a_reload_on() -> None:
    made = admission(PRODUCTION)
    door = Door(made)
    for port in range(3):
        door.comes(f"192.0.2.1:{port}")
    made.follow(table(WEB01.places.file, octopus=(PRODUCTION,), source_strangers=2))
    assert door.refused("192.0.2.1:9") is Refusal.SOURCE_STRANGERS
    assert made.strangers == 3


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("192.0.2.1:50000", "192.0.2.1"),
        ("[2001:db8:1:2:3::4]:5", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::]:5", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:5", "fe80::/64"),
        ("[odd]:5", "[odd]"),
    ],
)
def test_a_source_is_an_address_or_a_network_of_ipv6(peer: str, source: str) -> None:
    assert source_of(peer) == source


def test_what_is_remembered_of_sources_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "PAST", 3)
    monkeypatch.setattr(rooms, "KNOWN", 2)
    made = admission(PRODUCTION)
    door = Door(made)
    for number in range(10):
        door.comes(f"192.0.2.{number}:1").departed()
    assert len(made._sources) == 3
    for number in range(10, 20):
        visit = door.comes(f"192.0.2.{number}:1")
        visit.trusted()
        visit.departed()
    assert (made.known, len(made._sources)) == (2, 5)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=60))
def test_the_counts_agree_with_who_is_there(steps: list[tuple[int, int]]) -> None:
    """kinds of steps: one comes, the oldest is identified, the oldest leaves, the newest leaves."""
    made = admission(PRODUCTION, connections=8, strangers=5, source_strangers=3)
    there: list[Visit] = []
    strange: list[Visit] = []

    def departs(visit: Visit) -> None:
        there.remove(visit)
        if visit in strange:
            strange.remove(visit)
        visit.departed()

    for number, kind in steps:
        if kind == 0:
            visit = made.admit(f"192.0.2.{number}:1", 0.0)
            if isinstance(visit, Visit):
                visit.leave = lambda why, visit=visit: departs(visit)  # type: ignore[misc]  # mypy knows no bound defaults
                there.append(visit)
                strange.append(visit)
        elif kind == 1 and strange:
            strange.pop(0).trusted()
        elif kind > 1 and there:
            departs(there[0 if kind == 2 else -1])
        assert (made.connections, made.strangers) == (len(there), len(strange))
        assert made.connections <= 8
        assert made.strangers <= 5
        assert made.most_strangers == max(
            (sum(each.source is visit.source for each in strange) for visit in strange), default=0
        )
    while there:
        departs(there[0])
    assert (made.connections, made.strangers, made._crowds) == (0, 0, {})


# ---- who calls ----------------------------------------------------------------------------------------------------------


def test_others_call_where_another_source_did_a_moment_ago() -> None:
    made = admission()
    assert not made.others_call("192.0.2.1", 0.0)
    made.called("192.0.2.1:1", 10.0)
    assert not made.others_call("192.0.2.1", 10.0)
    assert made.others_call("192.0.2.2", 10.0)
    made.called("192.0.2.2:1", 10.5)
    made.called("192.0.2.2:2", 10.6)
    assert made.others_call("192.0.2.2", 10.9)
    assert not made.others_call("192.0.2.2", 10.0 + rooms.CALLING)
    assert made.others_call("192.0.2.1", 10.0 + rooms.CALLING)


def test_a_source_knows_whether_others_call() -> None:
    made = admission()
    one, other = Door(made).comes("192.0.2.1:1").source, Door(made).comes("[2001:db8::1]:1").source
    made.called("[2001:db8::2]:7", 1.0)
    assert (one.others_call(1.5), other.others_call(1.5)) == (True, False)
