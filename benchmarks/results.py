"""Writes benchmarks/RESULTS.md from the JSON files of compare.

python -m benchmarks.results full.json mtu.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import HERE
from benchmarks.report import as_markdown, summarise, tables
from benchmarks.runs import Result
from benchmarks.targets import judged

_HEAD = """# Results

Made by `python -m benchmarks.results` from what `python -m benchmarks.compare` wrote. No figure here is written by hand.
[README.md](README.md) says what is measured and how to read it: `x` is the ratio to HAProxy, or in `flat` to the first row, the
median of each round's own ratio.

## Targets

{targets}
"""


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    return _HEAD.format(targets=as_markdown(judged(results))) + "".join(map(_part, results))


def _part(result: Result) -> str:
    """Of one measurement."""
    plan, box = result.plan, result.machine
    versions = ", ".join(f"{name} {text}" for name, text in {**result.versions, **result.relays}.items())
    text = (
        f"\n## Loopback with MTU {result.mtu}, {result.date} UTC\n\n"
        f"{box['cpus']} CPUs, {box['model']}, load {box['load']} before. {versions}. "
        f"{plan['rounds']} rounds, calls for {plan['rpc']:g} s in each.\n"
    )
    for lines in tables(summarise(result.runs)):
        text += f"\n{as_markdown(lines)}\n"
    for trouble in result.troubles:
        text += f"\nNot measured: {trouble.splitlines()[0]}\n"
    return text


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what compare --json wrote")
    parser.add_argument("--to", type=Path, default=HERE / "RESULTS.md", metavar="FILE", help="where to write (RESULTS.md)")
    args = parser.parse_args()
    results = []
    for file in args.files:
        try:
            results.append(Result.from_json(file.read_text()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            print(f"results: {file} is not a result of compare: {error!r}", file=sys.stderr)
            return 2
    args.to.write_text(page(results))
    print(f"wrote {args.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
