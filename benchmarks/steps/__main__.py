"""Measures the steps of a call and the whole of it, and writes benchmarks/PROFILE.md.

python -m benchmarks.steps                    # two minutes; with valgrind installed, four
python -m benchmarks.steps --to other.md --without-instructions
"""

import argparse
import datetime as dt
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.load import HERE, Load, names
from benchmarks.processes import cpu_seconds, stop_all
from benchmarks.proxies import MACHINES, Street, installed
from benchmarks.steps import instructions
from benchmarks.steps.every import every_step
from benchmarks.steps.page import Profile, page
from benchmarks.steps.step import ROUNDS, microseconds
from benchmarks.tools import find_tools, machine, make_certificates, raise_descriptor_limit, versions
from benchmarks.trouble import TroubleError

_CALLERS: Final = (1, 16)
_WARMUP: Final = 1.0


def _whole(rounds: int, seconds: float) -> dict[int, float]:
    """Microseconds of CPU of a call through a running relay, by the number of callers. Raises TroubleError."""
    tools = find_tools(("haproxy", "nginx"))
    with tempfile.TemporaryDirectory(prefix="steps-") as folder:
        work = Path(folder)
        make_certificates(tools.paths["openssl"], work)
        load = Load(tools.paths["cc"], work)
        try:
            port, _ = load.serve()
            relay = Street(work, tools, port, raise_descriptor_limit()).relay(installed())
            relay.start(load)
            found: dict[int, list[float]] = {callers: [] for callers in _CALLERS}
            for _ in range(rounds):
                for callers in _CALLERS:
                    found[callers].append(_cpu_of_a_call(load, relay.port, relay.pid, callers, seconds))
        finally:
            stop_all()
    return {callers: statistics.median(values) for callers, values in found.items()}


def _cpu_of_a_call(load: Load, port: int, pid: int, callers: int, seconds: float) -> float:
    samples: list[float] = []

    def sample() -> None:
        samples.append(cpu_seconds(pid))

    options = [*load.rpc, *names(MACHINES, callers)]
    got = load.client(port, callers, seconds, *options, warmup=_WARMUP, at_start=sample, at_end=sample)
    if got["errors"] or not got["rpc"]:
        raise TroubleError(f"calls went wrong: {got['first_error']}")
    calls: int = got["rpc"]
    return (samples[1] - samples[0]) / calls * 1e6


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=HERE / "PROFILE.md", metavar="FILE", help="where to write (PROFILE.md)")
    parser.add_argument("--rounds", type=int, default=5, help="of the whole (default 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run of the whole (default 4)")
    parser.add_argument("--without-instructions", action="store_true", help="do not run valgrind")
    args = parser.parse_args()
    try:
        box, programs = machine(), {**versions(find_tools(("haproxy", "nginx"))), "relay": installed().number}
        profile = Profile(
            dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            f"{box['cpus']} CPUs ({box['model']}), load {box['load']} before; "
            + ", ".join(f"{name} {text}" for name, text in programs.items()),
            microseconds(every_step(), ROUNDS),
            {} if args.without_instructions else instructions.count(),
            _whole(args.rounds, args.seconds),
        )
    except TroubleError as trouble:
        print(f"steps: {trouble}", file=sys.stderr)
        return 2
    text = page(profile)
    args.to.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
