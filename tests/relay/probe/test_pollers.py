from typing import Any

import pytest
from tables import machine

from relay.probe.pollers import PollerCause, look_at_pollers

KIOSK = machine("kiosk7", tentacle=None, subscription="poll://kiosk7/")
AWAY = {"live": False, "drained": False, "pollers": 0, "last_failure": None}
REFUSED = {
    "kind": "refusal", "cause": "a caller closed on seeing the relay's certificate", "detail": "closed", "time": "2026-01-01",
    "remedy": "let it trust the relay",
}  # fmt: skip


def test_one_that_polls_is_fine_and_one_that_is_dialled_is_not_looked_at() -> None:
    [found] = look_at_pollers([machine("web01"), KIOSK], {"kiosk7": {**AWAY, "live": True, "pollers": 2}})
    assert (found.machine, found.ok, found.pollers, found.detail) == (KIOSK, True, 2, "")


@pytest.mark.parametrize(
    ("told", "cause", "detail", "remedy"),
    [
        (None, PollerCause.NO_RELAY, "no relay runs with this state folder", "Start the relay"),
        ({}, PollerCause.UNKNOWN, "does not know this machine", "relay-tentacle reload"),
        ({"kiosk7": {**AWAY, "drained": True}}, PollerCause.DRAINED, "an operator has drained it", "relay-tentacle resume"),
        ({"kiosk7": AWAY}, PollerCause.AWAY, "no connection of it polls the relay", "machines NAME"),
        (
            {"kiosk7": {**AWAY, "last_failure": REFUSED}},
            PollerCause.AWAY,
            "a caller closed on seeing the relay's certificate (closed), 2026-01-01",
            "let it trust the relay",
        ),
        ({"kiosk7": {**AWAY, "last_failure": {"kind": "call"}}}, PollerCause.AWAY, "no connection of it", "machines NAME"),
    ],
)
def test_why_one_is_not_known_to_be_there(told: dict[str, Any] | None, cause: PollerCause, detail: str, remedy: str) -> None:
    [found] = look_at_pollers([KIOSK], told)
    assert (found.ok, found.cause) == (False, cause)
    assert detail in found.detail
    assert remedy in found.remedy
