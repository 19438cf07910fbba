"""Lines of `docker buildx build --progress=plain` -> how far the build is, and what it is at.

The lines are those of BuildKit's util/progress/progressui (printer.go): ``#7 [env 2/4] RUN ...`` opens a vertex or
comes back to it, ``#7 ...`` says what it does; ``#7 DONE 1.2s``, ``CACHED``, ``ERROR: ...`` or ``CANCELED`` ends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from reprobox.console import Step

_LINE = re.compile(r"#(\d+) (.*)")
_STEP = re.compile(r"\[(?:(.+) )?(\d+)/(\d+)\] (.*)")
_DONE = re.compile(r"(?:DONE [\d.]+s|CACHED)$")
_END = re.compile(rf"{_DONE.pattern}|CANCELED$|ERROR: ")
_LAYER = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]* ([\d.]+[kMGT]?B) / ([\d.]+[kMGT]?B)\b")
_EXTRACTED = re.compile(r"extracting sha256:([0-9a-f]{12})")
_OUTPUT = re.compile(r"\d+\.\d+ +(.*)")
_NOT_SHOWN = re.compile(r"\s--mount=\S+|\s<<\S+(?: \(.*\))?")
_UNNAMED = re.compile(r"(?:\S+ )?stage-\d+$")
"""BuildKit's own name for a stage without one; for several platforms theirs stands before it."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """``done`` of ``total`` steps, of the stages that BuildKit has named so far (None: no stage yet).

    ``what`` is going on now.
    """

    done: int
    total: int | None
    what: str


class Tracker:
    """Hears the lines of one build, in their order."""

    def __init__(self) -> None:
        self._vertices: dict[int, str] = {}
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._exported = False

    def hear(self, line: str) -> Progress | None:
        """How far the build is after ``line``; None for a line that says nothing of it."""
        match = _LINE.match(line)
        if match is None or match.group(1) == "0":
            return None
        number, text = int(match.group(1)), match.group(2).strip()
        name = self._vertices.setdefault(number, text)
        step = _STEP.match(name)
        if step and step.group(1) != "internal":
            stage = step.group(1) or ""
            self._total[stage] = int(step.group(3))
            if _DONE.match(text):
                self._done[stage] = max(self._done.get(stage, 0), int(step.group(2)))
        elif name.startswith("exporting to ") and _DONE.match(text):
            self._exported = True
        return Progress(
            done=sum(self._done.values()) + self._exported,
            total=sum(self._total.values()) + 1 if self._total else None,  # the last is the export
            what=_what(name, text),
        )


def _what(name: str, text: str) -> str:
    step = _STEP.match(name)
    stage = step.group(1) if step and step.group(1) and not _UNNAMED.match(step.group(1)) else ""
    if layer := _LAYER.match(text):
        return f"layer {layer.group(1)}: {layer.group(2)} of {layer.group(3)}"
    if layer := _EXTRACTED.match(text):
        return f"layer {layer.group(1)}: extracting"
    if text != name and not _END.match(text) and text != "...":
        output = _OUTPUT.match(text)
        said = output.group(1) if output else text
        return f"{stage}: {said}" if stage else said
    if step is None:
        return name.removeprefix("[internal] ")
    instruction = " ".join(_NOT_SHOWN.sub("", step.group(4)).split())
    where = f"{stage} {step.group(2)}/{step.group(3)}".strip()
    return where if instruction == "RUN" else f"{where} {instruction}"


def follow(step: Step) -> Callable[[str], None]:
    """A listener for the build's lines that tells ``step`` of them."""
    tracker = Tracker()

    def hear(line: str) -> None:
        step.say(line)
        if progress := tracker.hear(line):
            step.advance(progress.done, progress.total, unit="steps", what=progress.what)

    return hear
