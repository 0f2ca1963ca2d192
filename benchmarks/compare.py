"""Measures this relay beside HAProxy, nginx and a direct connection, in one run, under the same Halibut load.

    python -m benchmarks.compare --quick                                     # some minutes: did something break?
    python -m benchmarks.compare --json full.json                            # all of it, half an hour
    python -m benchmarks.compare --mtu 1500 --only rpc,stream --json mtu.json
    python -m benchmarks.compare --beside before ../tree-of-before --only rpc --without nginx

benchmarks/README.md says what it needs, and how to read the tables. The status is 0, 1 when an exchange went wrong, 2 when
something could not be measured.
"""

import argparse
import datetime as dt
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import network
from benchmarks.load import Load
from benchmarks.measure import Measurement, say
from benchmarks.plan import FULL, LOADS, QUICK, WORKLOADS, Plan
from benchmarks.proxies import Street, Version, installed, version_at
from benchmarks.report import as_text, summarise, tables
from benchmarks.runs import Result
from benchmarks.tools import find_tools, machine, make_certificates, raise_descriptor_limit, versions
from benchmarks.trouble import TroubleError
from benchmarks.work import end_in_order, work_folder

_OTHERS = ("nginx", "haproxy", "direct")
_BUSY = 0.5  # load of the machine, before ours, above which it is worth a word


def _some_of(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {','.join(allowed)}")
        return chosen

    return parse


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", nargs=2, action="append", default=[], metavar=("NAME", "PLACE"),
                        help="another relay: a tree of this project, or a relay-tentacle or Python of another environment; "
                        "may be given more than once, say for before and after")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="short runs and few connections")
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}, with --quick {QUICK.rounds}")
    parser.add_argument("--seconds", type=float, help="of each run of a load, instead of those of the plan")
    parser.add_argument("--only", type=_some_of(WORKLOADS), default=WORKLOADS, help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--without", type=_some_of(_OTHERS), default=[], help=f"some of {','.join(_OTHERS)}")
    parser.add_argument("--mtu", type=int, help="of loopback, in a network namespace of its own (unshare)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")
    parser.add_argument("--keep", action="store_true", help="keep the work directory: configurations, logs, certificates")
    parser.add_argument("--unshared", action="store_true", help=argparse.SUPPRESS)  # we are in that namespace
    args = parser.parse_args(argv)
    taken = ["ours", *_OTHERS, *(name for name, _ in args.beside)]
    for name, _ in args.beside:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or taken.count(name) > 1:
            parser.error(f"--beside {name}: want a new name of letters, digits, dots and dashes, and then a place")
    return args


def _plan(args: argparse.Namespace) -> Plan:
    plan = QUICK if args.quick else FULL
    if args.seconds:
        plan = replace(plan, **dict.fromkeys((*LOADS, "flat"), args.seconds))
    return replace(plan, rounds=args.rounds or plan.rounds)


def _run(args: argparse.Namespace, work: Path) -> int:
    plan, tools = _plan(args), find_tools(args.without)
    relays: list[Version] = [installed(), *(version_at(name, Path(place)) for name, place in args.beside)]
    descriptors = raise_descriptor_limit()
    make_certificates(tools.paths["openssl"], work)
    load = Load(tools.paths["cc"], work)
    result = Result(
        dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M"), network.mtu(), asdict(plan), machine(), versions(tools),
        {version.name: version.number for version in relays},
    )  # fmt: skip
    say(f"{result.machine['cpus']} CPUs, {result.machine['model']}; loopback's MTU {result.mtu}; "
        + ", ".join(f"{name} {text}" for name, text in {**result.versions, **result.relays}.items()))  # fmt: skip
    if result.machine["load"] > _BUSY:
        say(f"this machine has other work to do (load {result.machine['load']}): trust the ratios of CPU, not the rates")

    def keep() -> None:
        if args.json:
            result.write(args.json)

    def street(target_port: int) -> Street:
        return Street(work, tools, target_port, descriptors)

    Measurement(load, plan, relays, args.without, street, result, keep).all(args.only)
    rows = summarise(result.runs)
    print("\n\n".join(map(as_text, tables(rows))))
    wrong = [row for row in rows if row.errors]
    for row in wrong:
        say(f"{row.proxy}, {row.workload}: {row.errors} errors ({row.first_error}); its figures mean nothing")
    return 2 if result.troubles else 1 if wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    args = _arguments(argv)
    end_in_order()
    try:
        if args.mtu and not args.unshared:
            network.enter(["-m", "benchmarks.compare", "--unshared", *(sys.argv[1:] if argv is None else argv)])
        if args.mtu:
            network.set_mtu(args.mtu)
        with work_folder(args.keep) as work:
            return _run(args, work)
    except TroubleError as trouble:
        say(f"compare: {trouble}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
