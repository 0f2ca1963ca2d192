"""The whole measurement, for RESULTS.md and PROFILE.md: plain loopback, a network's MTU, floods, the steps.

python -m benchmarks.full FOLDER        # 35 minutes on a quiet machine; FOLDER gets the JSON files
python -m benchmarks.full FOLDER --quick --to FOLDER    # a rehearsal, which touches neither page
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.load import HERE
from benchmarks.measure import say
from benchmarks.targets import REAL_MTU


def commands(folder: Path, to: Path, quick: bool) -> list[list[str]]:
    """Modules and their arguments, in order."""
    full, mtu, floods = (str(folder / name) for name in ("full.json", "mtu.json", "floods.json"))
    short = ["--quick"] if quick else []
    return [
        ["benchmarks.compare", *short, "--json", full],
        ["benchmarks.compare", *short, "--mtu", str(REAL_MTU), "--only", "rpc,stream", "--json", mtu],
        ["benchmarks.flood", "--json", floods, *(["--seconds", "0.3"] if quick else [])],
        ["benchmarks.results", full, mtu, floods, "--to", str(to / "RESULTS.md")],
        ["benchmarks.steps", "--to", str(to / "PROFILE.md"), *(["--rounds", "1", "--seconds", "1"] if quick else [])],
    ]


def main() -> int:
    """Returns the worst exit status. One that fails keeps no other from being run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for what is measured; it is made where it is missing")
    parser.add_argument("--to", type=Path, default=HERE, metavar="FOLDER", help="for the two pages (benchmarks/)")
    parser.add_argument("--quick", action="store_true", help="short runs and few connections")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    worst = 0
    for command in commands(args.folder.absolute(), args.to.absolute(), args.quick):
        say(f"== {' '.join(command)}")
        status = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        if status:
            say(f"== it ended with status {status}")
        worst = max(worst, abs(status))
    return worst


if __name__ == "__main__":
    sys.exit(main())
