"""The admin side of a relay: the control socket, and the pages for monitoring."""

from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from relay.admin.commands import Commands
from relay.admin.control import ControlPort
from relay.admin.controls import Controls, Reloads
from relay.admin.exposition import Exposition
from relay.admin.families import families
from relay.admin.http import AdminPages
from relay.admin.log import Log
from relay.admin.metrics import Metrics
from relay.admin.readings import read_from
from relay.admin.slices import cooperator
from relay.admin.status import Status
from routing.table import Table


class AdminSide:
    """claim() goes first, before anything is written to the state folder; close() ends whatever has begun."""

    def __init__(self, reactor: Any, table: Table, log: Log, metrics: Metrics) -> None:
        self._reactor = reactor
        self._table = table
        self._log = log
        self._metrics = metrics
        self._control = ControlPort(reactor, table.relay.state, log)
        self._pages: AdminPages | None = None

    def claim(self) -> None:
        """Makes sure that no other relay has this state folder. Raises StartError, CertificateError."""
        self._control.lock()

    def open(self, relay: Controls, reloads: Reloads) -> AdminPages:
        """Opens the socket and the pages; these follow a reload (reload.Follower). Raises StartError."""
        metrics = self._metrics
        read_from(metrics, relay)
        exposition = Exposition(cooperator(self._reactor), lambda: families(metrics), metrics.registry)
        self._pages = AdminPages(self._reactor, relay, exposition, self._log)
        self._pages.prepare(self._table).commit()
        status = Status(relay, reloads, metrics)
        self._control.listen(Commands(relay, reloads, status, self._log))
        return self._pages

    def close(self) -> None:
        if self._pages:
            self._pages.stop()
        self._control.close()


def process_registry() -> CollectorRegistry:
    """The numbers of the process itself: memory, processor, descriptors, and the version of Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
