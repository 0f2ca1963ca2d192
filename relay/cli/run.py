"""``relay-tentacle run``: the relay in the foreground, until SIGTERM."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
from twisted.internet.defer import Deferred

from certs.errors import CertificateError
from certs.identity import Identity
from certs.store import IdentityStore
from relay.admin.log import Log
from relay.admin.metrics import Metrics
from relay.admin.outputs import Outputs
from relay.admin.side import AdminSide, process_registry
from relay.admin.twisted_log import observe_twisted
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import fail
from relay.clock import keep_monotonic
from relay.collector import collect
from relay.doors import sockets_needed
from relay.errors import StartError
from relay.owners import check_owner
from relay.program import command
from relay.reload import Reloader
from relay.service import RelayService
from relay.transport.listener import raise_descriptor_limit
from routing.table import Table

_OTHER_DESCRIPTORS: Final = 100  # of logs, admin pages and the reactor itself


LOOKUPS: Final = 64  # names that are looked up at once; a dead name holds its place until the system gives it up


@click.command()
@config_option
def run(config: Path) -> None:
    """Run the relay in the foreground.

    SIGTERM and SIGINT let the calls in flight end, for as long as relay.timeouts.drain says; a second one stops at once.
    SIGHUP reads the configuration again, and runs by it if there is no mistake in it.
    """
    table = load_or_exit(config)
    try:
        check_owner(table.relay.state, command("run", config))  # first of all: what is made now would lock its owner out
    except CertificateError as error:
        fail(str(error))
    from twisted.internet import reactor as installed

    reactor: Any = installed
    keep_monotonic(reactor)
    reactor.suggestThreadPoolSize(LOOKUPS)
    descriptors = raise_descriptor_limit()
    try:
        outputs = Outputs(reactor, table.relay)
    except StartError as error:
        fail(str(error))
    log = outputs.log
    observe_twisted(log)
    _check_descriptors(log, descriptors, table)

    def made(identity: Identity, path: Path) -> None:
        _say(reactor, outputs, "made a new identity", name=identity.name, file=str(path), thumbprint=str(identity.thumbprint))

    def warn(text: str) -> None:
        _say(reactor, outputs, "a private key is open to others", detail=text)

    metrics = Metrics(process_registry())
    metrics.counter("relay_lost_log_lines", "Lines of the log that could not be written.", lambda: outputs.lost)
    metrics.counter(
        "relay_lost_access_lines", "Lines of the access log that could not be written.", lambda: outputs.lost_access
    )
    admin = AdminSide(reactor, table, log, metrics)
    try:
        admin.claim()
        store = IdentityStore(table.relay.state, made, warn)
        service = RelayService(reactor, table, store, log, outputs.access_log, metrics)
        reloader = Reloader(reactor, config, service, log, metrics)
        service.follow(outputs)
        service.follow(admin.open(service, reloader))
        service.finished = reactor.stop
        _Signals(reactor, service, reloader).install()  # before a door is open: whoever sees one may send a signal
        service.start()
    except (CertificateError, StartError) as error:
        admin.close()
        outputs.close()
        fail(str(error))
    log.info("running", machines=len(table.machines), config=str(config.absolute()))
    collect()
    reactor.run(installSignalHandlers=False)
    admin.close()
    outputs.close()


def _say(reactor: Any, outputs: Outputs, event: str, **fields: str) -> None:
    """A warning, from whichever thread: a reload reads identities in one of its own.

    At the start it is written at once: no reactor runs yet that would write it, and keys for many machines take minutes.
    """
    if threading.current_thread() is threading.main_thread():
        outputs.log.warning(event, **fields)
        outputs.flush()
    else:
        reactor.callFromThread(outputs.log.warning, event, **fields)


def _check_descriptors(log: Log, there: int, table: Table) -> None:
    """Each caller needs one, and its connection to the Tentacle another. So does each poll, which is no caller's.

    One that is passed through has a pipe in each direction, too, while that stalls. And there are doors.
    """
    connections = table.relay.limits.connections
    passed = min(connections, sum(machine.limits.connections for machine in table.machines if machine.passthrough))
    calls = 2 * (connections + sum(machine.polls for machine in table.machines)) + 4 * passed
    needed = calls + sockets_needed(table) + _OTHER_DESCRIPTORS
    if there < needed:
        log.warning(
            "too few file descriptors for relay.limits.connections",
            descriptors=there,
            needed=needed,
            connections=connections,
            remedy=f"Allow {needed} (systemd: LimitNOFILE={needed}, a shell: ulimit -n {needed}), "
            "or lower relay.limits.connections",
        )


class _Signals:
    """What signals do: the first to end drains, the second stops; a hang-up reloads."""

    def __init__(self, reactor: Any, service: RelayService, reloader: Reloader) -> None:
        self._reactor = reactor
        self._service = service
        self._reloader = reloader
        self._ends = 0

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ended)
        signal.signal(signal.SIGHUP, self._hung_up)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(lambda: Deferred.fromCoroutine(self._reloader.reload()))

    def _ended(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._end)

    def _end(self) -> None:
        self._ends += 1
        if self._ends == 1:
            self._service.start_drain()
        else:
            self._service.stop()
