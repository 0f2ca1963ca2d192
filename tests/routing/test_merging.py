from typing import Any

import pytest

from routing.bounds_schema import LimitsSection, RelayTimeoutsSection, TimeoutsSection
from routing.merging import given, limits, pins, relay_timeouts, timeouts
from routing.schema import OctopusSection
from routing.table import Limits, RelayTimeouts, Timeouts


def written(**keys: str) -> Any:
    return keys


def test_a_machines_own_come_before_the_defaults_and_those_before_the_built_in_ones() -> None:
    defaults = LimitsSection(**written(connections="5", envelope="1KiB"))
    assert limits(defaults, LimitsSection(**written(connections="3"))) == Limits(connections=3, envelope=1024)
    assert limits(LimitsSection(), LimitsSection()) == Limits()
    slow = TimeoutsSection(**written(back_idle="30s", front_idle="5m"))
    assert timeouts(slow, TimeoutsSection(**written(front_idle="1m"))) == Timeouts(back_idle=30.0, front_idle=60.0)


def test_what_must_fit_into_another_time_fits_unless_it_is_written() -> None:
    short = timeouts(TimeoutsSection(), TimeoutsSection(**written(ready="5s")))
    assert (short.connect, short.prove) == (4.5, 4.5)
    assert timeouts(TimeoutsSection(), TimeoutsSection(**written(ready="5s", connect="9s"))).connect == 9.0
    assert relay_timeouts(RelayTimeoutsSection(**written(identify="5s"))) == RelayTimeouts(client_hello=5.0, identify=5.0)
    assert relay_timeouts(RelayTimeoutsSection(**written(identify="5s", client_hello="9s"))).client_hello == 9.0


@pytest.mark.parametrize("key", ["thumbprint", "thumbprints"])
def test_pins_are_under_either_key(key: str) -> None:
    entry = OctopusSection(**written(name="o", **{key: "A" * 40}))
    assert [str(pin) for pin in pins(entry)] == ["A" * 40]
    assert set(given(entry)) == {"name", key}
