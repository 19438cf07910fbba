"""Declared outputs, runs, baselines -> findings: what the bytes mean. Reads the outputs, starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, count
from operator import ne
from pathlib import PurePosixPath
from typing import Protocol

from reprobox.baseline import KEPT_EACH, Baseline, Baselines, RecordedControl, RecordedOutput
from reprobox.compare import rules
from reprobox.errors import InvalidInput, ReproboxError, Uncomparable
from reprobox.hardware import describe
from reprobox.model import Digest, Finding, HardwareClass, Output, OutputFile, Run, Status

RUN = "(run)"
CONTROL = "(control)"
NAMED = 3
"""How many paths a detail names before it counts the rest."""

_GRAVITY = (
    Status.UNSTABLE,
    Status.DIFFERENT,
    Status.MISSING,
    Status.EXTRA,
    Status.CONTROL_UNCHANGED,
    Status.RUN_FAILED,
    Status.INCOMPLETE,
    Status.NO_BASELINE,
)
"""Failing words, the one that names a whole verdict first: what is wrong before what could not be told."""


class Step(Protocol):
    """Who hears how far it is, such as the console's."""

    def advance(self, done: float, total: float | None, *, unit: str = "", what: str = "") -> None: ...


def judge(
    *,
    outputs: Sequence[Output],
    runs: Sequence[Run],
    hardware: HardwareClass,
    baselines: Baselines,
    control: Run | None = None,
    kept: Mapping[PurePosixPath, bytes] | None = None,
    step: Step | None = None,
) -> tuple[Finding, ...]:
    """One finding per output file, sorted by path; then one for the negative control, where it ran.

    ``outputs`` are the declared ones, ``runs`` equal runs of the experiment here, on ``hardware``; ``kept`` the
    baseline's own bytes, which make a difference's detail richer; ``step`` hears which output is compared. A failed
    run is the only finding: nothing else is judged then. Raises InvalidInput where a declared rule is no JSONPath.
    """
    if not runs:
        return (Finding(path=RUN, status=Status.INCOMPLETE, passes=False, detail="nothing was run"),)
    failed = [(number, run) for number, run in enumerate(runs, 1) if _failure(run)]
    if failed:
        number, run = failed[0]
        which = f"run {number} of {len(runs)}: " if len(runs) > 1 else ""
        return (Finding(path=RUN, status=Status.RUN_FAILED, passes=False, detail=f"{which}{_failure(run)}"),)
    bench = _Bench(outputs, runs, hardware, baselines, kept or {})
    findings, paths = [], bench.paths()
    for number, path in enumerate(paths):
        if step:
            step.advance(number, len(paths), unit="files", what=str(path))
        findings.append(bench.finding(path))
    if control is not None:
        findings.append(_judge_control(outputs, runs[0], control))
    return tuple(findings)


def unstable(outputs: Sequence[Output], runs: Sequence[Run]) -> tuple[Finding, ...]:
    """The outputs in which equal runs differ among themselves; empty where a baseline can be recorded."""
    bench = _Bench(outputs, runs, HardwareClass(facts={}), Baselines(), {})
    return tuple(filter(None, map(bench.instability, bench.paths())))


def recorded(outputs: Sequence[Output], run: Run) -> tuple[RecordedOutput, ...]:
    """What a baseline holds of ``run``, sorted by path.

    Raises InvalidInput where a declared output is not there, and Uncomparable where a rule cannot be applied:
    a baseline that can never be met is not recorded.
    """
    files = _files(run)
    for output in outputs:
        if not any(_covers(output, path) for path in files):
            raise InvalidInput(
                f"the run wrote no {output.path}, which reprobox.yaml declares as an output",
                hint="correct the path, or have the command write it",
            )
    return tuple(_recorded(_declared(outputs, path) or Output(path=path), file) for path, file in files.items())


def _recorded(output: Output, file: OutputFile) -> RecordedOutput:
    try:
        ruled = rules.ruled(output, file.stored, name=file.path).digest if output.ignore else None
    except Uncomparable as error:
        raise Uncomparable(f"{file.path}: {error.message}", hint=error.hint) from error
    return RecordedOutput(
        path=file.path,
        digest=file.digest,
        size=file.size,
        rules_digest=rules.rules_digest(output),
        ruled_digest=ruled,
    )


def recorded_control(outputs: Sequence[Output], run: Run, control: Run) -> RecordedControl:
    """What a baseline holds of a negative control that passed. Raises Uncomparable as ``recorded`` does."""
    return RecordedControl(command=control.command, changed=_changed(outputs, run, control))


def overall(findings: Iterable[Finding]) -> Status:
    """The one word for several findings: the gravest failing one, else SAME_CONTENT where a rule was needed."""
    findings = list(findings)
    failing = {finding.status for finding in findings if not finding.passes}
    for status in _GRAVITY:
        if status in failing:
            return status
    if not findings:
        return Status.INCOMPLETE
    needed_a_rule = any(finding.status is Status.SAME_CONTENT for finding in findings)
    return Status.SAME_CONTENT if needed_a_rule else Status.IDENTICAL


# --- one output -------------------------------------------------------------------------------


class _Bench:
    """What one verification compares, with each rule applied once to each file."""

    def __init__(
        self,
        outputs: Sequence[Output],
        runs: Sequence[Run],
        hardware: HardwareClass,
        baselines: Baselines,
        kept: Mapping[PurePosixPath, bytes],
    ) -> None:
        self.outputs, self.runs, self.kept = outputs, [_files(run) for run in runs], kept
        self.baseline: Baseline | None = baselines.of(hardware)
        self.recorded = {one.path: one for one in self.baseline.outputs} if self.baseline else {}
        self.hardware, self.others = hardware, baselines.each if self.baseline is None else ()
        self.note = _command_note(self.baseline, runs[0].command) if runs else ""
        self._ruled: dict[tuple[int, PurePosixPath], rules.Ruled | str] = {}

    def paths(self) -> list[PurePosixPath]:
        """Every path that is declared and absent, recorded, or found; sorted."""
        found = set(self.recorded).union(*self.runs)
        absent = {output.path for output in self.outputs if not any(_covers(output, path) for path in found)}
        return sorted(found | absent, key=str)

    def finding(self, path: PurePosixPath) -> Finding:
        """The verdict on one path: stability first, then presence, then bytes, then the rules."""
        file, expected = self.runs[0].get(path), self.recorded.get(path)
        if shaky := self.instability(path):
            return shaky
        if file is None:
            return self._missing(path, expected)
        if expected is None:
            return self._unexpected(path, file)
        return self._compared(path, file, expected)

    def instability(self, path: PurePosixPath) -> Finding | None:
        """UNSTABLE, or INCOMPLETE where a rule that might have made the runs equal cannot be applied."""
        files = [run.get(path) for run in self.runs]
        present = [file for file in files if file]
        if len({file.digest if file else None for file in files}) < 2:
            return None
        results: set[Digest | None] = {file.digest if file else None for file in files}
        output = _declared(self.outputs, path)
        ignoring = ""
        if output and output.ignore:
            ignoring = f", ignoring {', '.join(output.ignore)}"
            applied = [self._apply(output, number, path) for number, file in enumerate(files) if file]
            reason = next((one for one in applied if isinstance(one, str)), None)
            if reason and len(present) == len(files):
                return _fails(path, Status.INCOMPLETE, f"the runs differ; {reason}", found=present[0])
            if not reason:
                results = {one.digest for one in applied if isinstance(one, rules.Ruled)}
                results |= {None} if len(present) < len(files) else set()
        if len(results) < 2:
            return None
        absent = len(files) - len(present)
        missing = f", missing in {absent}" if absent else ""
        detail = f"{len(results)} different results in {len(files)} runs{missing}{ignoring}"
        if other := next((file for file in present if file.digest != present[0].digest), None):
            detail += self._apart(output or Output(path=path), present[0], other)
        return _fails(path, Status.UNSTABLE, detail, expected=self.recorded.get(path), found=present[0])

    @staticmethod
    def _apart(output: Output, one: OutputFile, other: OutputFile) -> str:
        """In which place two runs' JSON differs, as far as it is told."""
        if one.path.suffix.lower() not in {".json", *rules.LINEWISE} or max(one.size, other.size) > 2 * KEPT_EACH:
            return ""
        try:
            place = rules.first_difference(output, one.stored.read_bytes(), other.stored.read_bytes(), name=one.path)
        except (OSError, ReproboxError):
            return ""
        return f": {place.removesuffix(' expected')} in another" if place else ""

    def _missing(self, path: PurePosixPath, expected: RecordedOutput | None) -> Finding:
        if expected is None:
            detail = "declared, and the run wrote nothing there"
        elif _declared(self.outputs, path) is None:
            detail = "recorded, and declared no longer in reprobox.yaml"
        else:
            detail = "recorded, and the run did not write it"
        return _fails(path, Status.MISSING, detail + self.note, expected=expected)

    def _unexpected(self, path: PurePosixPath, file: OutputFile) -> Finding:
        if self.baseline is None:
            return _fails(path, Status.NO_BASELINE, self._elsewhere(path, file), found=file)
        output = _declared(self.outputs, path)
        if output and not any(_covers(output, other) for other in self.recorded):
            return _fails(path, Status.NO_BASELINE, "declared after the baseline was recorded", found=file)
        return _fails(path, Status.EXTRA, "not in the baseline" + self.note, found=file)

    def _elsewhere(self, path: PurePosixPath, file: OutputFile) -> str:
        """How the output stands to the baselines of other hardware: for information, it passes nothing."""
        said: dict[str, list[str]] = {}
        for other in self.others:
            expected = next((one for one in other.outputs if one.path == path), None)
            where = describe(other.hardware, beside=self.hardware)
            said.setdefault(self._likeness(path, file, expected), []).append(where)
        return "; ".join(f"{words} of {', '.join(places)}" for words, places in said.items()) or "none was recorded yet"

    def _likeness(self, path: PurePosixPath, file: OutputFile, expected: RecordedOutput | None) -> str:
        if expected is None:
            return "not in the baseline"
        if file.digest == expected.digest:
            return "equal to the baseline"
        output = _declared(self.outputs, path)
        if output and output.ignore and rules.rules_digest(output) == expected.rules_digest:
            applied = self._apply(output, 0, path)
            if isinstance(applied, rules.Ruled) and applied.digest == expected.ruled_digest:
                return f"but for {', '.join(output.ignore)} equal to the baseline"
        return "differs from the baseline"

    def _compared(self, path: PurePosixPath, file: OutputFile, expected: RecordedOutput) -> Finding:
        output = _declared(self.outputs, path) or Output(path=path)
        if rules.rules_digest(output) != expected.rules_digest:
            detail = "its `ignore` rules changed after the baseline was recorded"
            return _fails(path, Status.NO_BASELINE, detail, expected=expected, found=file)
        identical = all(run[path].digest == expected.digest for run in self.runs)
        applied = self._apply(output, 0, path) if output.ignore else None
        idle = "; ".join(f"{rule} matched nothing" for rule in getattr(applied, "unmatched", ()))
        if identical:
            return _passes(path, Status.IDENTICAL, idle, expected, file)
        if isinstance(applied, str):
            return _fails(path, Status.INCOMPLETE, f"the bytes differ; {applied}", expected=expected, found=file)
        if applied and applied.digest == expected.ruled_digest:
            used = [rule for rule in output.ignore if rule not in applied.unmatched]
            what = f"ignoring {', '.join(used)}" if used else "only its spelling differs"
            return _passes(path, Status.SAME_CONTENT, "; ".join(filter(None, [what, idle])), expected, file)
        where = self._difference(output, file, expected)
        detail = "; ".join(filter(None, [where, idle])) + self.note
        return _fails(path, Status.DIFFERENT, detail, expected=expected, found=file)

    def _apply(self, output: Output, number: int, path: PurePosixPath) -> rules.Ruled | str:
        """The digest under the rules, or the reason why there is none; each file is parsed once."""
        key = (number, path)
        if key not in self._ruled:
            try:
                self._ruled[key] = rules.ruled(output, self.runs[number][path].stored, name=path)
            except Uncomparable as error:
                self._ruled[key] = error.message
        return self._ruled[key]

    def _difference(self, output: Output, file: OutputFile, expected: RecordedOutput) -> str:
        """Where and how much, as far as the kept bytes tell; else what the sizes tell."""
        sizes = f"{file.size} bytes, {expected.size} expected" if file.size != expected.size else ""
        kept = self.kept.get(file.path)
        if kept is None:
            return sizes or f"same size, {file.size} bytes, other content"
        try:
            with file.stored.open("rb") as stream:
                data = stream.read(2 * KEPT_EACH)
        except OSError:
            return sizes
        whole = len(data) == file.size
        if whole and file.path.suffix.lower() in {".json", *rules.LINEWISE}:
            try:
                if place := rules.first_difference(output, data, kept, name=file.path):
                    return place
            except ReproboxError:
                pass  # it only looked like JSON: its bytes are told apart below
        first = next(compress(count(), map(ne, data, kept)), min(len(data), len(kept)))
        if sizes:
            return f"{sizes}; first difference at byte {first}"
        return f"{sum(map(ne, data, kept))} of {file.size} bytes differ, the first at byte {first}"


def _passes(path: PurePosixPath, status: Status, detail: str, expected: RecordedOutput, found: OutputFile) -> Finding:
    return Finding(
        path=str(path),
        status=status,
        passes=True,
        detail=detail,
        expected=expected.digest,
        found=found.digest,
        size=found.size,
    )


def _fails(
    path: PurePosixPath,
    status: Status,
    detail: str,
    *,
    expected: RecordedOutput | None = None,
    found: OutputFile | None = None,
) -> Finding:
    return Finding(
        path=str(path),
        status=status,
        passes=False,
        detail=detail,
        expected=expected.digest if expected else None,
        found=found.digest if found else None,
        size=found.size if found else None,
    )


def _files(run: Run) -> dict[PurePosixPath, OutputFile]:
    return {file.path: file for file in sorted(run.outputs, key=lambda one: str(one.path))}


def _covers(output: Output, path: PurePosixPath) -> bool:
    """Whether ``path`` is the declared output itself or a file in it."""
    return path == output.path or output.path in path.parents


def _declared(outputs: Sequence[Output], path: PurePosixPath) -> Output | None:
    """The declaration that ``path`` falls under; of a folder and something in it, the closer one."""
    covering = [output for output in outputs if _covers(output, path)]
    return max(covering, key=lambda output: len(output.path.parts), default=None)


def _failure(run: Run) -> str | None:
    if run.reason:
        return run.reason
    return f"exit code {run.exit_code}" if run.exit_code else None


def _command_note(baseline: Baseline | None, command: tuple[str, ...]) -> str:
    if baseline is None or baseline.command == command:
        return ""
    return f"; the command is another one: `{' '.join(command)}`, `{' '.join(baseline.command)}` was recorded"


# --- the negative control ---------------------------------------------------------------------


def _judge_control(outputs: Sequence[Output], run: Run, control: Run) -> Finding:
    def finding(status: Status, detail: str) -> Finding:
        return Finding(path=CONTROL, status=status, passes=status is Status.CONTROL_DIFFERS, detail=detail)

    if failure := _failure(control):
        return finding(Status.RUN_FAILED, failure)
    try:
        changed = _changed(outputs, run, control)
    except Uncomparable as error:
        return finding(Status.INCOMPLETE, error.message)
    if not changed:
        return finding(
            Status.CONTROL_UNCHANGED, "the control command gave the same bytes: what it varies has no effect"
        )
    return finding(Status.CONTROL_DIFFERS, f"it changed {_names(changed)}")


def _changed(outputs: Sequence[Output], run: Run, control: Run) -> tuple[PurePosixPath, ...]:
    """The output files that differ, under their rules; Uncomparable only where none of the others does."""
    ours, theirs = _files(run), _files(control)
    changed: list[PurePosixPath] = []
    doubts: list[Uncomparable] = []
    for path in sorted(ours.keys() | theirs.keys(), key=str):
        one, two = ours.get(path), theirs.get(path)
        if one and two and one.digest == two.digest:
            continue
        output = _declared(outputs, path)
        if one and two and output and output.ignore:
            try:
                if (
                    rules.ruled(output, one.stored, name=path).digest
                    == rules.ruled(output, two.stored, name=path).digest
                ):
                    continue
            except Uncomparable as error:
                doubts.append(Uncomparable(f"{path}: {error.message}", hint=error.hint))
                continue
        changed.append(path)
    if doubts and not changed:
        raise doubts[0]
    return tuple(changed)


def _names(paths: Sequence[PurePosixPath]) -> str:
    named = ", ".join(map(str, paths[:NAMED]))
    return named + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")
