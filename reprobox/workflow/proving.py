"""run, verify, record: an image -> what its experiment gives, held against the baseline."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reprobox import baseline as baselines
from reprobox import config, experiment, files, hardware, lockfile, probe, tree
from reprobox.baseline import Baseline, Baselines
from reprobox.compare import rules, verdict
from reprobox.console import Console
from reprobox.engines import Engine, Listener
from reprobox.errors import InvalidInput
from reprobox.model import (
    Completed,
    Conditions,
    Finding,
    HardwareClass,
    Job,
    Project,
    Run,
    Smoke,
    Status,
    Verdict,
)
from reprobox.workflow.building import Built, build, build_in
from reprobox.workflow.turns import OWN_CHECKOUT, at_work

_RUNS = "runs"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_LINE = 64 * 1024
"""Bytes that are kept of a line that has no end yet."""


def run(root: Path, command: tuple[str, ...], *, engine: Engine, console: Console, listen: Listener) -> Completed:
    """Run any command in the project's image, sealed as the experiment is, with its limits but no outputs."""
    built = build(root, engine=engine, console=console)
    project, smoke = built.prepared.project, built.prepared.project.smoke
    job = Job(
        command=command,
        mounts=experiment.mounts(project, built.prepared.lock, built.prepared.tree),
        cpus=smoke.cpus if smoke else None,
        memory=smoke.memory if smoke else None,
    )
    completed, _ = engine.run(built.image, job, into=root, listen=listen)
    return completed


def verify(root: Path, *, runs: int, control: bool, engine: Engine, console: Console) -> Verdict:
    """Run the experiment ``runs`` times and judge its outputs against the baseline; writes no baseline."""
    project = config.load(root)
    with at_work(root, console, patient=True) as state:
        known = baselines.read(root)
        trial = _try(project, state, runs=runs, control=control, engine=engine, console=console)
        kept, notes = {}, trial.notes
        if expected := known.of(trial.hardware):
            held = baselines.kept(root, expected)
            for damage in held.damaged:
                console.warn(damage)
            kept = dict(held.files)
            if expected.lock != (here := lockfile.digest(trial.built.prepared.lock)):
                notes += (f"the baseline was recorded with lock {expected.lock.short}, this is lock {here.short}",)
        with console.step("Comparing the outputs", brief=True) as step:
            found = verdict.judge(
                outputs=trial.smoke.outputs,
                runs=trial.runs,
                hardware=trial.hardware,
                baselines=known,
                control=trial.control,
                kept=kept,
                step=step,
            )
        return dataclasses.replace(trial.verdict(found, known), notes=notes)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What `record` saw, and whether it wrote it; ``accepted``: the baseline now says what was seen."""

    verdict: Verdict
    written: bool
    accepted: bool


def record(root: Path, *, force: bool, engine: Engine, console: Console) -> Recorded:
    """Run the experiment twice and its negative control once; keep what the runs agree on as the baseline.

    Nothing is written where the experiment fails or is unstable, where the control changed nothing, or, without
    ``force``, where the baseline of this hardware class says otherwise.
    """
    project = config.load(root)
    with at_work(root, console) as state:
        known = baselines.read(root)
        files.require_writable(root, hint=OWN_CHECKOUT)
        trial = _try(project, state, runs=2, control=True, engine=engine, console=console)
        outputs, before = trial.smoke.outputs, known.of(trial.hardware)
        found = verdict.judge(
            outputs=outputs, runs=trial.runs, hardware=trial.hardware, baselines=known, control=trial.control,
            kept=baselines.kept(root, before).files if before else None,
        )  # fmt: skip
        new_class = before is None
        refusing = {finding.status for finding in found if not finding.passes}
        if new_class:
            refusing.discard(Status.NO_BASELINE)
        replaceable = {Status.DIFFERENT, Status.MISSING, Status.EXTRA, Status.NO_BASELINE}
        if refusing - replaceable or (refusing and not force):
            return Recorded(verdict=trial.verdict(found, known), written=False, accepted=False)
        baseline = Baseline(
            hardware=trial.hardware,
            conditions=trial.conditions,
            command=trial.smoke.command,
            lock=lockfile.digest(trial.built.prepared.lock),
            source=trial.built.prepared.tree.digest,
            image=trial.built.image.digest,
            outputs=verdict.recorded(outputs, trial.runs[0]),
            control=verdict.recorded_control(outputs, trial.runs[0], trial.control) if trial.control else None,
        )
        stored = baselines.store(root, known, baseline, trial.runs[0].outputs)
        again = verdict.judge(
            outputs=outputs, runs=trial.runs, hardware=trial.hardware, baselines=stored, control=trial.control
        )
        return Recorded(verdict=trial.verdict(again, stored), written=stored != known, accepted=True)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    built: Built
    smoke: Smoke
    conditions: Conditions
    hardware: HardwareClass
    runs: tuple[Run, ...]
    control: Run | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the experiment failed: what it may have looked for, and the image does not hold."""
        if not any(map(_failed, self.runs)):
            return ()
        there = tree.left_out(self.built.prepared.project)
        outputs = [str(path) for path in there if any(path.is_relative_to(one.path) for one in self.smoke.outputs)]
        others = [str(path) for path in there if str(path) not in outputs]
        notes = []
        if outputs:
            notes.append(
                f"declared outputs are not in the image, nor is a folder that is one: {_few(outputs)}; "
                "let the command make the folder"
            )
        if others:
            notes.append(f"not in the image, since git does not track it: {_few(others)}")
        return tuple(notes)

    def verdict(self, findings: tuple[Finding, ...], known: Baselines) -> Verdict:
        return Verdict(
            conditions=self.conditions,
            elsewhere=() if known.of(self.hardware) else tuple(one.hardware for one in known.each),
            findings=findings,
            hardware=self.hardware,
            image=self.built.image,
            runs=len(self.runs),
            seconds=sum(one.seconds for one in self.runs),
            log=self.runs[-1].log,
            notes=self.notes,
        )


def _try(project: Project, state: Path, *, runs: int, control: bool, engine: Engine, console: Console) -> _Trial:
    smoke = experiment.smoke_of(project)
    if control and smoke.control is None:
        raise InvalidInput(
            "the experiment has no negative control",
            hint="add `control:` to `smoke:` in reprobox.yaml: the same command with another seed",
        )
    for output in smoke.outputs:
        rules.check(output)
    built = build_in(project, state, engine, console)
    conditions = _conditions(built, smoke, engine, console)
    hardware_class = hardware.hardware_class(
        project.determinism, built.prepared.recipe.platform, conditions, env=project.env
    )
    inputs = experiment.mounts(project, built.prepared.lock, built.prepared.tree)

    def once(title: str, name: str, command: tuple[str, ...]) -> Run:
        with console.step(title) as step:
            step.limit(smoke.timeout)
            done = experiment.run(
                engine, built.image, smoke, command=command, inputs=inputs, into=state / _RUNS / name,
                listen=_by_line(step.say),
            )  # fmt: skip
            step.failed = _failed(done)
        return done

    files.remove(state / _RUNS)
    done: list[Run] = []
    for number in range(1, runs + 1):
        count = f" ({number} of {runs})" if runs > 1 else ""
        done.append(once(f"Running the experiment{count}", str(number), smoke.command))
        if _failed(done[-1]):
            console.warn(f"the experiment failed; its last words:\n{_tail(done[-1].log)}")
            break
    ran = not any(map(_failed, done))
    controlled = (
        once("Running the negative control", "control", smoke.control) if control and ran and smoke.control else None
    )
    return _Trial(
        built=built, smoke=smoke, conditions=conditions, hardware=hardware_class, runs=tuple(done), control=controlled
    )


def _conditions(built: Built, smoke: Smoke, engine: Engine, console: Console) -> Conditions:
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    prepared = built.prepared
    locked = python.versions(prepared.natives, prepared.recipe.platform)
    wanted = probe.job(tuple(locked), cpus=smoke.cpus, memory=smoke.memory)
    memory = files.memory_place(prepared.project.root)
    found = probe.conditions(engine, built.image, wanted, memory=memory, console=console)
    for warning in hardware.unread(found):
        console.warn(warning)
    return found


def _failed(run: Run) -> bool:
    return run.exit_code != 0 or run.reason is not None


def _few(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _by_line(say: Callable[[str], None]) -> Listener:
    """A listener that hands on whole lines, each stream's own; a last one without an end is in the log alone."""
    rest = {"stdout": b"", "stderr": b""}

    def hear(stream: str, data: bytes) -> None:
        *whole, rest[stream] = (rest[stream] + data).split(b"\n")
        rest[stream] = rest[stream][-_LONGEST_LINE:]
        for line in whole:
            say(line.decode("utf-8", "replace"))

    return hear


def _tail(log: Path, lines: int = 12) -> str:
    """The end of a log, indented, without a terminal's colours."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 100 * 1024))
        words = _COLOUR.sub("", stream.read().decode("utf-8", "replace")).splitlines()
    return "\n".join(f"  {line}" for line in words[-lines:]) or "  (none)"
