from collections.abc import AsyncIterator

import pytest_twisted
from changes import turns
from wires import Held, Wires


@pytest_twisted.async_yield_fixture
async def nothing_left() -> AsyncIterator[None]:
    """Fails where a test leaves a descriptor, a reader, a writer or a timer behind."""
    await turns()
    before = Held.now()
    yield
    await turns()
    assert not Held.now().more_than(before)


@pytest_twisted.async_yield_fixture
async def wires(nothing_left: None) -> AsyncIterator[Wires]:
    made = Wires()
    yield made
    await made.clean()
