"""``relay-tentacle run``: the relay in the foreground, until SIGTERM."""

import gc
import signal
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred

from certs.errors import CertificateError
from certs.identity import Identity
from certs.store import IdentityStore
from relay.admin.access_log import AccessLog
from relay.admin.log import Log, make_log
from relay.admin.metrics import Metrics
from relay.admin.twisted_log import observe_twisted
from relay.admin.writer import STANDARD_ERROR, STANDARD_OUTPUT, DescriptorSink, FileSink, LineWriter
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import fail
from relay.clock import keep_monotonic
from relay.service import RelayService, StartError
from relay.transport.listener import raise_descriptor_limit

_OTHER_DESCRIPTORS: Final = 100  # of doors, logs and the reactor itself


LOOKUPS: Final = 64  # names that are looked up at once; a dead name holds its place until the system gives it up


@click.command()
@config_option
def run(config: Path) -> None:
    """Run the relay in the foreground.

    SIGTERM and SIGINT let the calls in flight end, for as long as relay.timeouts.drain says; a second one stops at once.
    """
    table = load_or_exit(config)
    from twisted.internet import reactor as installed

    reactor: Any = installed
    keep_monotonic(reactor)
    reactor.suggestThreadPoolSize(LOOKUPS)
    descriptors = raise_descriptor_limit()
    writer = LineWriter(reactor, DescriptorSink(STANDARD_ERROR))
    log = make_log(writer, table.relay.log_level, relay=table.relay.name)
    observe_twisted(log)
    _check_descriptors(log, descriptors, table.relay.limits.connections)

    def made(identity: Identity, path: Path) -> None:
        log.warning("made a new identity", name=identity.name, file=str(path), thumbprint=str(identity.thumbprint))

    def warn(text: str) -> None:
        log.warning("a private key is open to others", detail=text)

    def trouble(error: OSError | None, lost: int) -> None:
        if error:
            log.error("the access log cannot be written", error=error.strerror or str(error), lost=lost)
        else:
            log.warning("the access log is written again", lost=lost)

    try:
        sink = FileSink(table.relay.access_log) if table.relay.access_log else DescriptorSink(STANDARD_OUTPUT)
    except OSError as error:
        where = table.relay.access_log or "on standard output"
        fail(f"cannot write the access log {where}: {error.strerror}. Name another file in relay.access_log.")
    access_writer = LineWriter(reactor, sink, trouble=trouble)
    access_log = AccessLog(table.relay.name, access_writer)
    metrics = Metrics(CollectorRegistry())
    metrics.counter("relay_lost_log_lines", "Lines of the log that could not be written.", lambda: writer.lost)
    metrics.counter("relay_lost_access_lines", "Lines of the access log that could not be written.", lambda: access_writer.lost)
    try:
        store = IdentityStore(table.relay.state, made, warn)
        service = RelayService(reactor, table, store, log, access_log, metrics)
        service.start()
    except (CertificateError, StartError) as error:
        writer.close()
        fail(str(error))
    _Ending(reactor, service, log).install()
    log.info("running", machines=len(table.machines), config=str(config))
    gc.freeze()  # what was made to start lives as long as the process: no collection need look at it again
    reactor.run(installSignalHandlers=False)
    for each in (access_writer, writer):  # in this order: the first may have to say in the second that lines were lost
        each.close()


def _check_descriptors(log: Log, there: int, connections: int) -> None:
    """Each caller needs one, and its connection to the Tentacle another."""
    needed = 2 * connections + _OTHER_DESCRIPTORS
    if there < needed:
        log.warning(
            "too few file descriptors for relay.limits.connections",
            descriptors=there,
            needed=needed,
            connections=connections,
            remedy=f"Allow {needed} (systemd: LimitNOFILE={needed}, a shell: ulimit -n {needed}), "
            "or lower relay.limits.connections",
        )


class _Ending:
    """What signals do: the first drains, the second stops. A hang-up changes nothing."""

    def __init__(self, reactor: Any, service: RelayService, log: Log) -> None:
        self._reactor = reactor
        self._service = service
        self._log = log
        self._signals = 0
        self._stopped = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, self._hung_up)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        text = "SIGHUP does nothing in this version: restart the relay to read a changed configuration"
        self._reactor.callFromThread(self._log.warning, text)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._act)

    def _act(self) -> None:
        self._signals += 1
        if self._signals == 1:
            Deferred.fromCoroutine(self._drain())  # an error of ours in it is Twisted's to log, and ours to stop behind
        elif self._signals == 2:
            self._stop()

    async def _drain(self) -> None:
        try:
            await self._service.drain()
        finally:
            self._stop()

    def _stop(self) -> None:
        """Once: stopping the service ends a drain under way, which comes here too."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self._service.stop()
        finally:
            self._reactor.stop()
