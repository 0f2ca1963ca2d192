"""Whatever `check` accepts, the relay starts: with every door that is declared, in this process, on loopback."""

import contextlib
import random
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clocked_reactor import ClockedReactor
from configurations import PORTS, Written, broken, configuration, written
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from identities import identity
from json_lines import JsonLines
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from certs.store import IdentityStore
from relay.admin.access_log import AccessLog
from relay.admin.log import make_log
from relay.admin.metrics import Metrics
from relay.admin.writer import LineWriter
from relay.service import RelayService
from routing import json_schema
from routing.addresses import Address
from routing.load import load
from routing.mistakes import ConfigurationError
from routing.table import Table

EXAMPLES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
IPV6 = socket.has_dualstack_ipv6()


def free_ports() -> list[int]:
    """Ports that nobody has at any address, below those that the kernel gives to whoever dials."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < PORTS:
            sock = stack.enter_context(socket.socket(socket.AF_INET6 if IPV6 else socket.AF_INET))
            with contextlib.suppress(OSError):
                sock.bind(("", random.randrange(12_000, 32_000)))
                found.append(sock.getsockname()[1])
    return found


RIGHT = configuration(free_ports(), IPV6)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextlib.contextmanager
def files(place: Path, content: Written) -> Iterator[Path]:
    """The configuration, with the keys that it names: they cost too much time to make them for each example."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        path = content.write(Path(folder))
        for name in filter(None, content.identities):
            put_key(path.parent / name)
        yield path


def put_key(path: Path) -> None:
    path.write_bytes(identity("relay").pem())
    path.chmod(0o600)


def start(table: Table) -> None:
    """Starts and stops a relay; meanwhile every door of it takes callers."""
    for kind, names in (("machines", table.machines), ("octopus", table.octopus)):
        (table.relay.state / kind).mkdir(parents=True)
        for entry in names:
            put_key(table.relay.state / kind / f"{entry.name}.pem")
    for folder in (table.relay.state, *table.relay.state.iterdir()):
        folder.chmod(0o700)
    reactor = ClockedReactor()
    log = make_log(LineWriter(reactor, JsonLines()), table.relay.log_level)
    store = IdentityStore(table.relay.state, lambda made, path: pytest.fail(f"{made.name} was there"), pytest.fail)
    access_log = AccessLog(table.relay.name, LineWriter(reactor, JsonLines()))
    service = RelayService(reactor, table, store, log, access_log, Metrics(CollectorRegistry()))
    service.start()
    try:
        declared = {machine.name: machine.door for machine in table.machines if machine.door}
        assert set(service.doors) == set(declared)
        assert (service.shared_door is not None) is (table.front is not None)
        assert (service.back_door is not None) is (table.back is not None)
        for door in [*declared.values(), *filter(None, (table.front, table.back))]:
            assert takes_callers(door), door
    finally:
        service.stop()


def takes_callers(door: Address) -> bool:
    hosts = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    with socket.create_connection((hosts.get(door.host, door.host), door.port), timeout=5):
        return True


@EXAMPLES
@given(data=RIGHT, draw=st.data())
def test_what_is_right_is_accepted_and_starts(place: Path, data: dict[str, object], draw: st.DataObject) -> None:
    content = draw.draw(written(data))
    with files(place, content) as path:
        table = load(path)
        assert len(table.machines) == len(data["machines"])
        start(table)


@EXAMPLES
@given(data=RIGHT.flatmap(broken), draw=st.data())
def test_what_may_be_broken_is_refused_with_words_or_starts(place: Path, data: dict[str, object], draw: st.DataObject) -> None:
    if not isinstance(data.get("octopus"), list):
        data["octopus"] = []
    content = draw.draw(written(data))
    with files(place, content) as path:
        try:
            table = load(path)
        except ConfigurationError as error:
            event("refused")
            names = {str(path.parent / name) for name in content.files}
            for mistake in error.mistakes:
                assert str(mistake.file) in names
                assert mistake.line <= content.files[str(mistake.file.relative_to(path.parent))].count("\n") + 1
                assert re.fullmatch(r".+:[0-9]+: .+\. \S.*", str(mistake)), mistake
        else:
            event("accepted")
            for name, text in content.files.items():
                schema = json_schema.main_file() if name == "relay.yaml" else json_schema.machines_file()
                Draft202012Validator(schema).validate(yaml.safe_load(text))
            start(table)
