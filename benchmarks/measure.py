"""A whole measurement, stage by stage, in alternating rounds. What goes wrong in one stage is kept, and the next one begins."""

import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks import workloads
from benchmarks.load import Load, names
from benchmarks.plan import LOADS, SLOW_PAUSE, Plan
from benchmarks.proxies import MACHINES, Proxy, Street, Version
from benchmarks.runs import Result, Run
from benchmarks.trouble import TroubleError


def say(text: str) -> None:
    """To the terminal: how it goes."""
    print(text, file=sys.stderr, flush=True)


class Measurement:
    """Adds its runs to a result. keep: called behind each stage, so that nothing is lost with a later one.

    without: some of direct, haproxy, nginx.
    """

    def __init__(
        self,
        load: Load,
        plan: Plan,
        versions: Sequence[Version],
        without: Container[str],
        street: Callable[[int], Street],
        result: Result,
        keep: Callable[[], None],
    ) -> None:
        """street: proxies for Tentacles at this port."""
        self._load, self._plan, self._versions, self._without = load, plan, versions, without
        self._make_street, self._result, self._keep = street, result, keep

    def all(self, wanted: Container[str]) -> None:
        """Everything that is wanted."""
        loads = [name for name in LOADS if name in wanted]
        if loads:
            self._loads(loads)
        for version in self._versions:
            if "flat" in wanted:
                self._flat(version)
            if "pollers" in wanted:
                self._pollers(version)
            if "nodes" in wanted:
                self._nodes(version)
        if "idle" in wanted:
            self._each("idle", lambda proxy, street: workloads.idle(proxy, self._load, self._plan, street.most_pairs))
        if "stress" in wanted:
            self._each("stress", lambda proxy, _: workloads.stress(proxy, self._load, self._plan), SLOW_PAUSE)

    # ---- stages -----------------------------------------------------------------------------------------------------

    def _proxies(self, street: Street, direct: bool) -> list[Proxy]:
        """One of each."""
        makers = {"direct": street.direct, "haproxy": street.haproxy, "nginx": street.nginx}
        found = [make() for name, make in makers.items() if name not in self._without and (direct or name != "direct")]
        return found + [street.relay(version) for version in self._versions]

    def _loads(self, loads: Sequence[str]) -> None:
        with self._stage(", ".join(loads)), self._tentacles() as street, ExitStack() as running:
            proxies: list[Proxy] = []
            for proxy in self._proxies(street, direct=True):
                with self._stage(f"{', '.join(loads)}, {proxy.name}"):
                    running.enter_context(self._running(proxy))
                    proxies.append(proxy)
            for number in range(self._plan.rounds):
                say(f"round {number + 1} of {self._plan.rounds}: {', '.join(loads)}")
                for workload in loads:
                    for proxy in _turned(proxies, number):
                        with self._stage(f"{workload}, {proxy.name}"):
                            self._load_once(workload, proxy, number)

    def _load_once(self, workload: str, proxy: Proxy, number: int) -> None:
        if workload == "fair":
            self._note(workloads.fair(proxy, self._load, self._plan, number))
        else:
            self._note(workloads.exchanges(workload, proxy, self._load, self._plan, number))

    def _flat(self, version: Version) -> None:
        """Calls with few machines, with many, and beside idle connections: compared with the first of these."""
        plan = self._plan
        say(f"flat: {version.name} with {plan.machines} machines, and with {plan.idle} idle connections")
        with self._stage(f"flat, {version.name}"), self._tentacles() as street:
            few = street.relay(version, f"{version.name}, {MACHINES} machines")
            many = street.relay(version, f"{version.name}, {plan.machines} machines", plan.machines)
            beside = street.relay(version, f"{version.name}, {plan.idle} idle")
            with self._running(few), self._running(many), self._running(beside):
                held = self._load.idle(beside.port, plan.idle, *self._load.rpc, *names(beside.machines, beside.machines))
                try:
                    for number in range(plan.rounds):
                        for proxy in _turned([few, many, beside], number):
                            self._note(workloads.exchanges("flat", proxy, self._load, plan, number, few.name))
                finally:
                    open_ = held.let_go()
                if open_ < plan.idle:
                    raise TroubleError(f"{beside.name}: only {open_} stayed open ({held.first_error or 'closed while idle'})")

    def _pollers(self, version: Version) -> None:
        say(f"pollers: {self._plan.idle} of {version.name}")
        with self._stage(f"pollers, {version.name}"), self._tentacles() as street:
            proxy = street.relay(version, machines=self._plan.idle + 1, polling=True)
            with self._running(proxy):
                self._note(workloads.pollers(proxy, self._load, self._plan))

    def _nodes(self, version: Version) -> None:
        say(f"nodes: polled by {version.name} for {self._plan.polled} machines")
        with self._stage(f"nodes, {version.name}"), self._tentacles() as street:
            port, serving = self._load.nodes()
            try:
                polled = [f"{host}:{port}" for host in workloads.NODES]
                proxy = street.relay(version, machines=self._plan.polled + 1, polling=True, nodes=polled)
                with self._running(proxy):
                    self._note(workloads.nodes(proxy, self._load, self._plan))
            finally:
                serving.stop()

    def _each(self, workload: str, measure: Callable[[Proxy, Street], Run], pause: float = 0.0) -> None:
        """Of every proxy once, each with Tentacles of its own: thousands of connections leave none as it was.

        pause: how slowly these read.
        """
        others = [name for name in ("haproxy", "nginx") if name not in self._without]
        for at, name in enumerate([*others, *(version.name for version in self._versions)]):
            say(f"{workload}: {name}")
            with self._stage(f"{workload}, {name}"), self._tentacles(pause) as street:
                proxy = self._proxies(street, direct=False)[at]
                with self._running(proxy):
                    self._note(measure(proxy, street))

    # ---- around them ------------------------------------------------------------------------------------------------

    def _note(self, run: Run) -> None:
        self._result.runs.append(run)

    @contextmanager
    def _tentacles(self, pause: float = 0.0) -> Iterator[Street]:
        """Tentacles, and a street that leads to them. pause: seconds before each 64 KiB that they read of a stream."""
        port, serving = self._load.serve(pause)
        try:
            street = self._make_street(port)
            street.direct().start(self._load)
            yield street
        finally:
            serving.stop()

    @contextmanager
    def _running(self, proxy: Proxy) -> Iterator[None]:
        """Starts it, and stops it in the end."""
        try:
            proxy.start(self._load)
            yield
        finally:
            proxy.stop()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        try:
            yield
        except TroubleError as trouble:
            say(f"{name}: {trouble}")
            self._result.troubles.append(f"{name}: {trouble}")
        finally:
            self._keep()


def _turned(proxies: list[Proxy], number: int) -> list[Proxy]:
    """In each round another one is first."""
    first = number % max(1, len(proxies))
    return proxies[first:] + proxies[:first]
