"""What is done to a proxy, and what is measured of it then. Each function makes one run."""

import time
from typing import Any, Final

from benchmarks.load import HOSTS, SLOW_BYTES, STREAM_BYTES, Load, names
from benchmarks.plan import CONNECTIONS, FAIR_CALLERS, FAIR_PAUSE, Plan
from benchmarks.processes import cpu_seconds, descriptors, forget_peak, memory_kb
from benchmarks.proxies import MACHINES, Proxy
from benchmarks.runs import Run
from benchmarks.trouble import TroubleError

_SLOW_S: Final = 4.0  # an upload to a slow Tentacle takes longer: so each connection begins one, and no second one
_SETTLE: Final = 1.0  # seconds after which connections that were just opened are at rest
_BASE: Final = "haproxy"
_OPEN_S: Final = 60.0  # within which every node is polled for every machine
NODES: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3")  # Octopus nodes


class _Spent:
    """The CPU time of a proxy between two calls of sample(); None where it is none."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._samples: list[float] = []

    def sample(self) -> None:
        if self._proxy.process:
            self._samples.append(cpu_seconds(self._proxy.pid))

    @property
    def seconds(self) -> float | None:
        return self._samples[-1] - self._samples[0] if len(self._samples) > 1 else None


def exchanges(workload: str, proxy: Proxy, load: Load, plan: Plan, number: int, base: str = _BASE) -> Run:
    """rpc, newconn, stream, flat: exchange after exchange. number: of the round."""
    options = {
        "rpc": load.rpc,
        "flat": load.rpc,
        "newconn": [*load.rpc, "--new-connection"],
        "stream": [*load.uploads, "--stream", str(STREAM_BYTES)],
    }[workload]
    connections, spent = CONNECTIONS[workload], _Spent(proxy)
    got = load.client(
        proxy.port, connections, plan.seconds(workload), *options, *names(proxy.machines, connections),
        warmup=plan.warmup, at_start=spent.sample, at_end=spent.sample,
    )  # fmt: skip
    proxy.expect_alive(f"in the middle of {workload}")
    figures = _figures(workload, got, spent.seconds)
    if workload == "flat":
        figures |= {"rss_mb": memory_kb(proxy.pid) / 1024, "start_s": proxy.start_s}
    return Run(workload, proxy.name, number, base, figures, got["errors"], got["first_error"])


def _figures(workload: str, got: dict[str, Any], cpu: float | None) -> dict[str, float]:
    """Of what hload says."""
    if not got["rpc"]:
        return {}
    streams = workload == "stream"
    figures = {"mb_per_s": got["mb_per_s"]} if streams else {"rate": got["rpc_per_s"]}
    figures |= {"p50_ms": got["p50_ms"], "p99_ms": got["p99_ms"]}
    if cpu is not None and streams and got["mb"]:
        figures["cpu_s_per_gb"] = cpu / (got["mb"] / 1e3)
    elif cpu is not None and not streams:
        figures["cpu_us"] = cpu / got["rpc"] * 1e6
    return figures


def fair(proxy: Proxy, load: Load, plan: Plan, number: int) -> Run:
    """Small calls, now and then, alone; and beside streams at full speed to another machine."""
    paced = [*load.rpc, "--pause", str(FAIR_PAUSE), "--sni", HOSTS, "--names", str(MACHINES - 1)]
    alone = load.client(proxy.port, FAIR_CALLERS, plan.fair, *paced, warmup=plan.warmup)
    streams = load.start_client(
        proxy.port, CONNECTIONS["stream"], plan.fair + plan.warmup, *load.uploads, "--stream", str(STREAM_BYTES),
        "--sni", f"web{MACHINES - 1}.test", warmup=plan.warmup,
    )  # fmt: skip
    try:
        streams.wait_measuring()
        beside = load.client(proxy.port, FAIR_CALLERS, plan.fair, *paced, warmup=plan.warmup / 2)
        moved = streams.result()
    finally:
        streams.stop()
    proxy.expect_alive("in the middle of fair")
    errors = alone["errors"] + beside["errors"] + moved["errors"]
    why = alone["first_error"] or beside["first_error"] or moved["first_error"]
    figures = {}
    if alone["rpc"] and beside["rpc"]:
        figures = {
            "alone_p99_ms": alone["p99_ms"],
            "p50_ms": beside["p50_ms"],
            "p99_ms": beside["p99_ms"],
            "growth": beside["p99_ms"] / alone["p99_ms"],
            "mb_per_s": moved["mb_per_s"],
        }
    return Run("fair", proxy.name, number, _BASE, figures, errors, why)


def idle(proxy: Proxy, load: Load, plan: Plan, most_pairs: int) -> Run:
    """Callers that have made a call and say nothing: what they cost. The proxy was started just before."""
    count = min(plan.idle, most_pairs) if proxy.pairs else plan.idle
    return _at_rest("idle", proxy, plan, count, load)


def pollers(proxy: Proxy, load: Load, plan: Plan) -> Run:
    """The same for parked Tentacles that poll the relay, one for each machine."""
    return _at_rest("pollers", proxy, plan, plan.idle, load)


def nodes(proxy: Proxy, load: Load, plan: Plan) -> Run:
    """The same for connections that poll Octopus nodes, beside the parked Tentacles that they are for: one of each machine."""
    return _at_rest("nodes", proxy, plan, plan.polled, load, plan.polled * len(NODES))


def _at_rest(workload: str, proxy: Proxy, plan: Plan, count: int, load: Load, dialled: int = 0) -> Run:
    """count: connections to the proxy; dialled: those that it is to open by itself then."""
    before, sockets = memory_kb(proxy.pid), descriptors(proxy.pid)
    if workload == "idle":
        held = load.idle(proxy.port, count, *load.rpc, *names(proxy.machines, proxy.machines))
    else:
        held = load.pollers(proxy.back_port, count)
    try:
        wanted, deadline = sockets + held.opened + dialled, time.monotonic() + _OPEN_S
        while dialled and descriptors(proxy.pid) < wanted and time.monotonic() < deadline:
            time.sleep(_SETTLE)
        time.sleep(_SETTLE)
        grown, legs = memory_kb(proxy.pid) - before, descriptors(proxy.pid) - sockets
        spent = cpu_seconds(proxy.pid)
        time.sleep(plan.watch)
        spent = cpu_seconds(proxy.pid) - spent
        proxy.expect_alive(f"in the middle of {workload}")
        missing = max(0, wanted - descriptors(proxy.pid)) if dialled else 0
    finally:
        still_open = held.let_go()
    figures = {
        "connections": float(held.opened),
        "legs": float(legs),
        "kb_per_leg": grown / max(1, legs),
        "kb_each": grown / max(1, held.opened),
        "idle_cpu": 100 * spent / plan.watch,
        "opened_per_s": held.opened / held.seconds,
    }
    why = "connections closed while idle" if still_open < held.opened else "nodes not polled" if missing else ""
    return Run(workload, proxy.name, 0, _BASE, figures, count - still_open + missing, held.first_error or why)


def stress(proxy: Proxy, load: Load, plan: Plan) -> Run:
    """Many uploads at once to Tentacles that read slowly: the most memory that the proxy ever has for them."""
    before, most = memory_kb(proxy.pid), plan.uploads
    forget_peak(proxy.pid)
    options = [*load.slow_uploads, "--stream", str(SLOW_BYTES), *names(proxy.machines, proxy.machines)]
    got = load.client(proxy.port, most, _SLOW_S, *options)
    proxy.expect_alive("in the middle of stress")
    if got["rpc"] + got["errors"] != most:
        raise TroubleError(f"{got['rpc']} uploads instead of {most}, each of which should take longer than {_SLOW_S:.0f} s")
    grown = memory_kb(proxy.pid, "VmHWM") - before
    figures = {"uploads": float(most), "kb_each": grown / most, "mb_per_s": got["mb_per_s"]}
    return Run("stress", proxy.name, 0, _BASE, figures, got["errors"], got["first_error"])
