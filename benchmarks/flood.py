"""Measures what floods from one source do to steady callers of another machine.

    python -m benchmarks.flood --json floods.json     # all of them, four minutes
    python -m benchmarks.flood --only 'half a handshake' --seconds 5
    python -m benchmarks.flood --relay ../tree-of-before

benchmarks/README.md says what it needs, and how to read the tables. The status is 0, 1 when a steady call went wrong, 2 when
something could not be measured.
"""

import argparse
import datetime as dt
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import network
from benchmarks.flood_report import flood_tables
from benchmarks.floods import FLOODS, Placing, Scene, cpus, measure
from benchmarks.load import Load
from benchmarks.measure import say
from benchmarks.proxies import Street, installed, version_at
from benchmarks.report import as_text
from benchmarks.runs import Result, Run
from benchmarks.tools import find_tools, machine, make_certificates, raise_descriptor_limit, versions
from benchmarks.trouble import TroubleError
from benchmarks.work import end_in_order, work_folder

_SECONDS: Final = 2.5


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flood", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [flood.name for flood in FLOODS]
    parser.add_argument("--relay", type=Path, metavar="PLACE", help="another relay, as compare's --beside takes it")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"of a look at each caller in a flood ({_SECONDS:g})")
    parser.add_argument("--only", action="append", choices=names, metavar="FLOOD",
                        help="this one; may be given more than once: " + ", ".join(map(repr, names)))  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--keep", action="store_true", help="keep the work directory: configurations, logs, certificates")
    return parser.parse_args(argv)


def _run(args: argparse.Namespace, work: Path) -> int:
    tools = find_tools(("haproxy", "nginx"))
    relay = version_at("ours", args.relay) if args.relay else installed()
    placing = Placing.on(cpus(), shutil.which("taskset"), shutil.which("chrt"))
    descriptors = raise_descriptor_limit()
    make_certificates(tools.paths["openssl"], work)
    load = Load(tools.paths["cc"], work, placing.steady)
    result = Result(
        dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M"), network.mtu(), {"flood": args.seconds, "placing": placing.shown},
        machine(), versions(tools), {relay.name: relay.number},
    )  # fmt: skip
    say(f"{result.machine['cpus']} CPUs, {result.machine['model']}, load {result.machine['load']}; {placing.shown}")

    def note(run: Run) -> None:
        result.runs.append(run)
        if args.json:
            result.write(args.json)

    target, _ = load.serve()
    flooded, _ = load.serve(within=placing.flood)
    proxy = Street(work, tools, target, descriptors).flooded(relay, flooded, placing.relay)
    try:
        proxy.start(load)
        scene = Scene(load, proxy, placing, f"127.1.0.2:{flooded}")
        measure(scene, [flood for flood in FLOODS if not args.only or flood.name in args.only], args.seconds, note)
    except TroubleError as trouble:
        say(f"flood: {trouble}")
        result.troubles.append(str(trouble))
        if args.json:
            result.write(args.json)
    print("\n\n".join(map(as_text, flood_tables(result.runs))))
    return 2 if result.troubles else 1 if any(run.errors for run in result.runs) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    args = _arguments(argv)
    end_in_order()
    try:
        with work_folder(args.keep) as work:
            return _run(args, work)
    except TroubleError as trouble:
        say(f"flood: {trouble}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
