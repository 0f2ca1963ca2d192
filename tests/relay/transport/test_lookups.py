import socket
from typing import Any

import pytest
from clocked_reactor import ClockedReactor
from twisted.internet.address import IPv4Address, IPv6Address

from relay.transport.lookups import Found, Lookups


class Names:
    """A resolver that answers when a test says so. asked: whose names, and their receivers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        self.asked.append((host, receiver))
        receiver.resolutionBegan(self)

    def answer(self, *addresses: str) -> None:
        """To the last question."""
        _, receiver = self.asked[-1]
        for address in addresses:
            receiver.addressResolved((IPv6Address if ":" in address else IPv4Address)("TCP", address, 10933))
        receiver.resolutionComplete()


class Asking:
    """Somebody who wants names. found: what it was told."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self.found: list[Found] = []

    def want(self, host: str = "vault01.internal") -> None:
        self._lookups.want(self, host, 10933, self.found.append)

    def forget(self) -> None:
        self._lookups.forget(self, "vault01.internal", 10933)


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def lookups(names: Names) -> Lookups:
    reactor = ClockedReactor()
    reactor.nameResolver = names
    return Lookups(reactor)


V4 = (socket.AF_INET, ("192.0.2.1", 10933))
V6 = (socket.AF_INET6, ("2001:db8::1", 10933))


def test_who_wants_a_name_gets_its_addresses(lookups: Lookups, names: Names) -> None:
    asking = Asking(lookups)
    asking.want()
    names.answer("2001:db8::1", "192.0.2.1")
    assert asking.found == [[V6, V4]]
    assert len(lookups) == 0


def test_a_name_is_looked_up_once_for_all_who_want_it_meanwhile(lookups: Lookups, names: Names) -> None:
    asking = [Asking(lookups) for _ in range(3)]
    for each in asking:
        each.want()
    assert len(names.asked) == 1
    names.answer("192.0.2.1")
    assert [each.found for each in asking] == [[[V4]]] * 3
    asking[0].found[0].clear()
    assert asking[1].found == [[V4]], "each has a list of its own"
    asking[0].want()
    assert len(names.asked) == 2, "nothing is kept"
    names.answer()
    assert asking[0].found == [[], []]


def test_names_are_told_apart(lookups: Lookups, names: Names) -> None:
    one, other = Asking(lookups), Asking(lookups)
    one.want()
    other.want("vault02.internal")
    assert [host for host, _ in names.asked] == ["vault01.internal", "vault02.internal"]
    names.answer("192.0.2.1")
    assert (one.found, other.found) == ([], [[V4]])


def test_who_has_left_is_not_told_and_its_lookup_serves_the_next(lookups: Lookups, names: Names) -> None:
    """However many come and leave, a dead name costs one lookup."""
    for _ in range(100):
        gone = Asking(lookups)
        gone.want()
        gone.forget()
    asking = Asking(lookups)
    asking.want()
    assert (len(names.asked), len(lookups)) == (1, 1)
    names.answer("192.0.2.1")
    assert (gone.found, asking.found) == ([], [[V4]])


def test_who_is_left_by_another_that_is_told_first_is_not_told(lookups: Lookups, names: Names) -> None:
    asking = Asking(lookups)
    lookups.want(object(), "vault01.internal", 10933, lambda found: asking.forget())
    asking.want()
    names.answer("192.0.2.1")
    assert asking.found == []
    assert len(lookups) == 0


def test_one_that_fails_when_it_is_told_keeps_nobody_else_from_the_addresses(lookups: Lookups, names: Names) -> None:
    def fail(found: Found) -> None:
        raise OSError("no descriptor")

    asking = Asking(lookups)
    lookups.want(object(), "vault01.internal", 10933, fail)
    asking.want()
    names.answer("192.0.2.1")
    assert asking.found == [[V4]]
    assert len(lookups) == 0


def test_a_resolver_that_raises_is_asked_again(lookups: Lookups, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(lookups)
    with monkeypatch.context() as patch:
        patch.setattr(names, "resolveHostName", None)
        with pytest.raises(TypeError):
            asking.want()
    asking.want()
    names.answer("192.0.2.1")
    assert asking.found == [[V4]]
