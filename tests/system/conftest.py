from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operated import Operated
from system import HOST, Machine, Site, free_ports, site

MACHINES = 150  # more than any module has tests


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One relay for a module's tests, with the module's OPTIONS; each test calls at machines of its own."""
    options: dict[str, Any] = getattr(request.module, "OPTIONS", {})
    with site(tmp_path_factory.mktemp("relay"), MACHINES, **options) as made:
        yield made


@pytest.fixture
def machine(shared: Site) -> Iterator[Machine]:
    """A machine that nobody has called yet. Behind the test, the relay must hold what it held before it."""
    given = shared.unused()
    yield given
    given.close()
    shared.relay.expect_rest()


@pytest.fixture
def operated(tmp_path: Path) -> Iterator[Operated]:
    [port] = free_ports(1)
    with site(tmp_path, 2, admin=f"{HOST}:{port}") as made:
        yield Operated(tmp_path, made)
