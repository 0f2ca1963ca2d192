"""Writes benchmarks/RESULTS.md from the JSON files of compare and flood.

python -m benchmarks.results full.json mtu.json floods.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.flood_report import flood_tables, is_of_floods
from benchmarks.floods import MOST
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
    compared = [result for result in results if not is_of_floods(result)]
    floods = [result for result in results if is_of_floods(result)]
    return _HEAD.format(targets=as_markdown(judged(compared))) + "".join(map(_part, compared)) + "".join(map(_floods, floods))


def _part(result: Result) -> str:
    """Of one measurement beside others."""
    plan = result.plan
    how = f"{plan['rounds']} rounds, calls for {plan['rpc']:g} s in each."
    title = f"Loopback with MTU {result.mtu}, {result.date} UTC"
    return _section(title, f"{_where(result)} {how}", tables(summarise(result.runs)), result)


def _floods(result: Result) -> str:
    """Of one measurement of floods."""
    how = (
        f"Each caller for {result.plan['flood']:g} s beside each flood; {result.plan['placing']}. `x` is the ratio to the mean "
        f"of what it was just before and just behind the flood; within means that none of the four is above {MOST:g}."
    )
    return _section(f"Floods, {result.date} UTC", f"{_where(result)} {how}", flood_tables(result.runs), result)


def _where(result: Result) -> str:
    box = result.machine
    versions = ", ".join(f"{name} {text}" for name, text in {**result.versions, **result.relays}.items())
    return f"{box['cpus']} CPUs, {box['model']}, load {box['load']} before. {versions}."


def _section(title: str, how: str, all_: Sequence[Sequence[Sequence[str]]], result: Result) -> str:
    text = f"\n## {title}\n\n{how}\n"
    for lines in all_:
        text += f"\n{as_markdown(lines)}\n"
    for trouble in result.troubles:
        text += f"\nNot measured: {trouble.splitlines()[0]}\n"
    return text


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what compare --json or flood --json wrote")
    parser.add_argument("--to", type=Path, default=HERE / "RESULTS.md", metavar="FILE", help="where to write (RESULTS.md)")
    args = parser.parse_args()
    results = []
    for file in args.files:
        try:
            results.append(Result.from_json(file.read_text()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            print(f"results: {file} is not a result of compare or flood: {error!r}", file=sys.stderr)
            return 2
    args.to.write_text(page(results))
    print(f"wrote {args.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
