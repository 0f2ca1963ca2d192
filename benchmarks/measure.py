"""A whole measurement, stage by stage, in alternating rounds. What goes wrong in one stage is kept, and the next one begins."""

import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager

from benchmarks import workloads
from benchmarks.load import Load, names
from benchmarks.plan import LOADS, SLOW_PAUSE, Plan
from benchmarks.proxies import MACHINES, Proxy, Street, Version, free_port
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
        self._target_port = free_port()
        self._street = street(self._target_port)

    def all(self, wanted: Container[str]) -> None:
        """Everything that is wanted."""
        loads = [name for name in LOADS if name in wanted]
        with self._stage("Tentacles"):
            serving = self._load.serve(self._target_port)
            try:
                self._street.direct().start(self._load)
                if loads:
                    self._loads(loads)
                if "flat" in wanted:
                    for version in self._versions:
                        self._flat(version)
                if "idle" in wanted:
                    self._idle()
                if "pollers" in wanted:
                    self._pollers()
            finally:
                serving.stop()
        if "stress" in wanted:
            self._stress()

    # ---- stages -----------------------------------------------------------------------------------------------------

    def _proxies(self, street: Street, direct: bool) -> list[Proxy]:
        """One of each."""
        found = [street.direct()] if direct and "direct" not in self._without else []
        if "haproxy" not in self._without:
            found.append(street.haproxy())
        if "nginx" not in self._without:
            found.append(street.nginx())
        return found + [street.relay(version) for version in self._versions]

    def _loads(self, loads: Sequence[str]) -> None:
        proxies: list[Proxy] = []
        try:
            for proxy in self._proxies(self._street, direct=True):
                with self._stage(f"{', '.join(loads)}, {proxy.name}"):
                    self._start(proxy)
                    proxies.append(proxy)
            for number in range(self._plan.rounds):
                say(f"round {number + 1} of {self._plan.rounds}: {', '.join(loads)}")
                for workload in loads:
                    for proxy in _turned(proxies, number):
                        with self._stage(f"{workload}, {proxy.name}"):
                            self._load_once(workload, proxy, number)
        finally:
            for proxy in proxies:
                proxy.stop()

    def _load_once(self, workload: str, proxy: Proxy, number: int) -> None:
        if workload == "fair":
            self._note(workloads.fair(proxy, self._load, self._plan, number))
        else:
            self._note(workloads.exchanges(workload, proxy, self._load, self._plan, number))

    def _flat(self, version: Version) -> None:
        """Calls with few machines, with many, and beside idle connections: compared with the first of these."""
        plan, street = self._plan, self._street
        few = street.relay(version, f"{version.name}, {MACHINES} machines")
        many = street.relay(version, f"{version.name}, {plan.machines} machines", plan.machines)
        beside = street.relay(version, f"{version.name}, {plan.idle} idle")
        with self._stage("flat"):
            say(f"flat: {version.name} with {plan.machines} machines, and with {plan.idle} idle connections")
            with self._running(few, many, beside):
                held = self._load.idle(beside.port, plan.idle, *self._load.rpc, *names(beside.machines, beside.machines))
                try:
                    for number in range(plan.rounds):
                        for proxy in _turned([few, many, beside], number):
                            self._note(workloads.exchanges("flat", proxy, self._load, plan, number, few.name))
                finally:
                    open_ = held.let_go()
                if open_ < plan.idle:
                    raise TroubleError(f"{beside.name}: only {open_} stayed open ({held.first_error or 'closed while idle'})")

    def _idle(self) -> None:
        for proxy in self._proxies(self._street, direct=False):
            with self._stage(f"idle, {proxy.name}"):
                say(f"idle: {self._plan.idle} callers of {proxy.name}")
                with self._running(proxy):
                    self._note(workloads.idle(proxy, self._load, self._plan, self._street.most_pairs))

    def _pollers(self) -> None:
        for version in self._versions:
            with self._stage(f"pollers, {version.name}"):
                say(f"pollers: {self._plan.idle} of {version.name}")
                proxy = self._street.relay(version, machines=self._plan.idle + 1, polling=True)
                with self._running(proxy):
                    self._note(workloads.pollers(proxy, self._load, self._plan))

    def _stress(self) -> None:
        port = free_port()
        with self._stage("stress"):
            say(f"stress: {self._plan.uploads} uploads to slow Tentacles")
            serving = self._load.serve(port, SLOW_PAUSE)
            try:
                for proxy in self._proxies(self._make_street(port), direct=False):
                    with self._stage(f"stress, {proxy.name}"), self._running(proxy):
                        self._note(workloads.stress(proxy, self._load, self._plan))
            finally:
                serving.stop()

    # ---- around them ------------------------------------------------------------------------------------------------

    def _note(self, run: Run) -> None:
        self._result.runs.append(run)

    def _start(self, proxy: Proxy) -> None:
        """Or not at all."""
        try:
            proxy.start(self._load)
        except BaseException:
            proxy.stop()
            raise

    @contextmanager
    def _running(self, *proxies: Proxy) -> Iterator[None]:
        """Starts them, and stops them in the end."""
        try:
            for proxy in proxies:
                proxy.start(self._load)
            yield
        finally:
            for proxy in proxies:
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
