"""The benchmark: reprobox against what an expert would write instead (`make bench`).

Both sides are run in turns, and what counts is the ratio of the medians of one run; seconds of two machines, or of two
days, say nothing. A goal that is missed is said to be missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contests import CONTESTS, Contest, ground
from stopwatch import BenchmarkFailed, Ratio, Spread, race, ratio, spread

LEAST, MOST = 5, 40
"""How often each side runs: as often as SECONDS allow, within these."""
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one contest gave; times in seconds. ``met`` is None where there is no goal."""

    name: str
    goal: float | None
    met: bool | None
    runs: int
    ratio: Ratio
    ours: Spread
    theirs: Spread


def results(contest: Contest, *, times: int | None) -> list[Result]:
    """The contest's result; for one that counts from the ready process, the whole process's beside it."""
    times = times or max(LEAST, min(MOST, int(SECONDS / contest.seconds)))
    mine, others = race(contest.ours, contest.theirs, times=times)
    theirs = [time.whole for time in others]
    whole = [time.whole for time in mine]
    if not contest.from_ready:
        return [_result(contest.name, contest.goal, whole, theirs)]
    ready = [time.ready for time in mine]
    return [
        _result(f"{contest.name} (from ready)", contest.goal, ready, theirs),
        _result(f"{contest.name} (whole process)", None, whole, theirs),
    ]


def _result(name: str, goal: float | None, ours: list[float], theirs: list[float]) -> Result:
    found = ratio(ours, theirs)
    met = None if goal is None else found.value <= goal
    return Result(
        name=name, goal=goal, met=met, runs=len(ours), ratio=found, ours=spread(ours), theirs=spread(theirs)
    )  # fmt: skip


def line(result: Result) -> str:
    goal = "" if result.goal is None else f"{result.goal:.1f} {'met' if result.met else 'MISSED'}"
    times = f"{_times(result.ours)}  {_times(result.theirs)}"
    spread = f"{result.ratio.value:.2f} ({result.ratio.low:.2f} to {result.ratio.high:.2f})"
    return f"{result.name:<36}{times}  {spread:<22} {goal}"


def _times(found: Spread) -> str:
    return f"{found.median:7.3f} s ({found.low:.3f} to {found.high:.3f})"


def as_json(found: Iterable[Result]) -> Any:
    """The results as plain JSON values, and what ran them."""
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    return {"machine": machine, "results": [dataclasses.asdict(result) for result in found]}


def main() -> int:
    """0; with ``--strict`` 1 where a goal is missed; 2 where something could not be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("only", nargs="*", metavar="CONTEST", help=f"of {', '.join(CONTESTS)}; by default all")
    parser.add_argument("--times", type=int, help="how often each side runs (at least 2)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout")
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a goal is missed")
    asked = parser.parse_args()
    if unknown := set(asked.only) - set(CONTESTS):
        parser.error(f"there is no contest {', '.join(sorted(unknown))}; there are {', '.join(CONTESTS)}")
    found: list[Result] = []
    title = f"{'median (quartiles)':<36}{'reprobox':<27}  {'opponent':<27}  {'ratio':<22} goal"
    table = sys.stderr if asked.json else sys.stdout
    print(title, file=table)
    with tempfile.TemporaryDirectory(prefix="reprobox-benchmark-") as folder, ground(Path(folder)) as prepared:
        try:
            for name in asked.only or CONTESTS:
                for contest in CONTESTS[name](prepared):
                    for result in results(contest, times=asked.times):
                        print(line(result), file=table, flush=True)
                        found.append(result)
        except BenchmarkFailed as error:
            print(f"benchmark: {error}", file=sys.stderr)
            return 2
    if asked.json:
        print(json.dumps(as_json(found), indent=2))
    return 1 if asked.strict and any(result.met is False for result in found) else 0


if __name__ == "__main__":
    sys.exit(main())
