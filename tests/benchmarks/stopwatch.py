"""Two commands, run in turns -> how long each took, and the ratio, with its spread."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class BenchmarkFailed(Exception):
    """A command that was to be measured did something else."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two commands. ``prepare`` is called before each run and not counted; ``tells_ready``: it is ready.py."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    prepare: Callable[[], object] = lambda: None
    tells_ready: bool = False


@dataclass(frozen=True, kw_only=True)
class Time:
    """One run, in seconds: from its start to its end, and from when it was ready (its start, if it does not tell)."""

    whole: float
    ready: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and quartiles, with the extremes."""

    median: float
    low: float
    high: float
    least: float
    most: float


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Ours to the opponent's: of the medians, and the quartiles of the ratios of neighbouring runs."""

    value: float
    low: float
    high: float


def run(side: Side) -> Time:
    """Run one side once. Raises BenchmarkFailed, with its last words, where its exit code is not 0."""
    side.prepare()
    read, write = os.pipe()
    with tempfile.TemporaryFile() as words, os.fdopen(read, "rb") as clock:
        env = {**side.env, "READY_FD": str(write)} if side.tells_ready else side.env
        began = time.monotonic_ns()
        process = subprocess.Popen(
            side.argv, cwd=side.cwd, env=env, stdin=subprocess.DEVNULL, stdout=words, stderr=words,
            pass_fds=[write] if side.tells_ready else [],
        )  # fmt: skip
        code = process.wait()
        ended = time.monotonic_ns()
        os.close(write)
        if code != 0:
            words.seek(0)
            tail = words.read()[-2000:].decode("utf-8", "replace")
            raise BenchmarkFailed(f"exit code {code} of {' '.join(side.argv)}\n{tail}")
        ready = int(clock.read()) if side.tells_ready else began
    return Time(whole=(ended - began) / 1e9, ready=(ended - ready) / 1e9)


def race(ours: Side, theirs: Side, *, times: int, warm_up: int = 2) -> tuple[list[Time], list[Time]]:
    """Run both in turns, ``times`` each, so that what slows the machine slows both; who begins alternates."""
    for _ in range(warm_up):
        run(ours)
        run(theirs)
    found: tuple[list[Time], list[Time]] = ([], [])
    for turn in range(times):
        for which in (turn % 2, 1 - turn % 2):
            found[which].append(run((ours, theirs)[which]))
    return found


def spread(values: Sequence[float]) -> Spread:
    """Of at least two values; quartiles as by the inclusive method."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high, least=min(values), most=max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of as many values each, in the order in which they were measured."""
    pairs = spread([mine / other for mine, other in zip(ours, theirs, strict=True)])
    return Ratio(value=statistics.median(ours) / statistics.median(theirs), low=pairs.low, high=pairs.high)
