"""Verdict -> the table that a person reads on stdout: what holds, what does not, what to do next. Pure."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from reprobox.compare.verdict import CONTROL, RUN, overall
from reprobox.console import ASCII_MARKS, UNICODE_MARKS, Marks, duration, has_colour, marks, printable, size
from reprobox.hardware import describe, differences
from reprobox.model import Finding, Status, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

_GAP = 2
_NARROW = 60
_LEAST_PATH = 16
_LEAST_DETAIL = 24
"""Columns: between two columns of the table; what a table takes at least; what is left for a path and a detail."""
_TROUBLE = frozenset({Status.RUN_FAILED, Status.NO_BASELINE, Status.INCOMPLETE})
_NEXT = {
    Status.DIFFERENT: "if the change is meant, `reprobox record --force` takes it as the new baseline",
    Status.MISSING: "have the command write it, or correct `outputs` in reprobox.yaml and record again",
    Status.EXTRA: "if it is meant to be there, `reprobox record --force` takes it into the baseline",
    Status.UNSTABLE: "equal runs differ here: seed every random generator; put a time under `ignore:`",
    Status.CONTROL_UNCHANGED: "have the command use its seed, or give a `control` that must change the outputs",
    Status.RUN_FAILED: "the run's own words are in its log",
    Status.INCOMPLETE: "without an answer this does not pass: see the detail above",
    Status.NO_BASELINE: "run `reprobox record` on this hardware, and commit what it writes",
}


def for_stream(verdict: Verdict, stream: TextIO, *, brief: bool = False) -> str:
    """The verdict as ``stream`` can show it: its width, its colours, its characters; ``brief``: its one line."""
    return render(
        verdict,
        width=shutil.get_terminal_size().columns,
        colour=has_colour(stream),
        unicode=marks(stream) is UNICODE_MARKS,
        brief=brief,
    )


def render(
    verdict: Verdict, *, width: int = 80, colour: bool = False, unicode: bool = True, brief: bool = False
) -> str:
    """The findings, one line that sums them up, and what to do next; ``brief``: the one line, never wrapped.

    ``width`` in columns: a table, or in a narrow terminal one paragraph for each output. Ends with a newline.
    """
    from rich.console import Console  # noqa: PLC0415  (late: rich costs 0.1 s)
    from rich.text import Text  # noqa: PLC0415

    width = max(width, 20)
    page = io.StringIO()
    console = Console(
        file=page,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    if verdict.findings and not brief:
        rows = _rows(verdict.findings, UNICODE_MARKS if unicode else ASCII_MARKS)
        ellipsis = "…" if unicode else "..."
        narrow = _is_narrow(rows, width)
        console.print(*(_paragraphs(rows) if narrow else [_table(rows, width, ellipsis)]), sep="\n")
        console.print()
    whole = overall(verdict.findings)
    style = "bold green" if verdict.exit_code == 0 else "bold yellow" if whole in _TROUBLE else "bold red"
    console.print(Text.assemble((whole.value, style), "  ", _inline(summary(verdict))), soft_wrap=brief)
    if not brief:
        for note in verdict.notes:
            console.print(Text(f"note: {_inline(note)}"))
        for other in verdict.elsewhere:
            console.print(Text(_inline(f"a baseline is there for {describe(other, beside=verdict.hardware)}:")))
            for difference in differences(verdict.hardware, other):
                console.print(Text(f"  {_inline(difference)}"))
        if told := advice(verdict):
            console.print(Text(f"next: {told}"))
    text = "".join(line.rstrip() + "\n" for line in page.getvalue().splitlines())
    return text if unicode else _ascii(text)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A finding in words, each in characters that the stream can print."""

    style: str
    mark: str
    word: str
    path: str
    size: str
    detail: str


def _rows(findings: Sequence[Finding], signs: Marks) -> list[_Row]:
    speak = (lambda text: text) if signs is UNICODE_MARKS else _ascii
    rows, above = [], ""
    for finding in findings:
        detail = "as above" if len(finding.detail) > 8 and finding.detail == above else finding.detail
        above = finding.detail
        rows.append(
            _Row(
                style=_style(finding),
                mark=_mark(finding, signs),
                word=finding.status.value,
                path=speak(_inline(finding.path)),
                size="" if finding.size is None else size(finding.size),
                detail=speak(_inline(detail)),
            )
        )
    return rows


def _room(rows: Sequence[_Row], width: int) -> int:
    """The columns of a table that are left for the path and the detail, without the gap between them."""
    fixed = (
        [*(row.mark for row in rows)],
        ["verdict", *(row.word for row in rows)],
        ["size", *(row.size for row in rows)],
    )
    return width - sum(max(map(len, column)) + _GAP for column in fixed) - _GAP


def _is_narrow(rows: Sequence[_Row], width: int) -> bool:
    """Whether a table would leave too little for paths and details."""
    from rich.cells import cell_len  # noqa: PLC0415

    path, detail = (max(cell_len(getattr(row, name)) for row in rows) for name in ("path", "detail"))
    return width < _NARROW or _room(rows, width) < min(path, _LEAST_PATH) + min(detail, _LEAST_DETAIL)


def _table(rows: Sequence[_Row], width: int, ellipsis: str) -> RenderableType:
    from rich.cells import cell_len  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    room = _room(rows, width)
    longest, detail = (max(cell_len(getattr(row, name)) for row in rows) for name in ("path", "detail"))
    limit = max(len("output"), min(longest, max(room - min(detail, max(_LEAST_DETAIL, width // 3)), _LEAST_PATH)))
    folded = [fold(row.path, limit, ellipsis=ellipsis) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("output", overflow="fold", width=limit)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("detail", overflow="fold", max_width=room - limit + _GAP)
    for row, short in zip(rows, folded, strict=True):
        path = short if folded.count(short) == 1 else row.path  # two paths that look the same are shown whole
        table.add_row(
            Text(row.mark, row.style), Text(row.word, row.style), Text(path), Text(row.size), Text(row.detail)
        )
    return table


def _paragraphs(rows: Sequence[_Row]) -> Iterator[RenderableType]:
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    for row in rows:
        yield Text(f"{row.mark} {row.word}  {row.size}", row.style)
        for text in filter(None, (row.path, row.detail)):
            yield Padding(Text(text, overflow="fold"), (0, 0, 0, 2 * _GAP))


def fold(text: str, limit: int, *, ellipsis: str = "…") -> str:
    """``text`` in at most ``limit`` columns: its middle left out, the end of a path shown longer than its beginning."""
    from rich.cells import cell_len  # noqa: PLC0415

    if cell_len(text) <= limit:
        return text
    room = limit - cell_len(ellipsis)
    beginning, end = "", ""
    for character in text:
        if cell_len(beginning + character) > room // 3:
            break
        beginning += character
    for character in reversed(text):
        if cell_len(character + end) > room - cell_len(beginning):
            break
        end = character + end
    return f"{beginning}{ellipsis}{end}"


def summary(verdict: Verdict) -> str:
    """The verdict in one sentence, without its word: how many outputs, how, where, in how many runs."""
    outputs = [finding for finding in verdict.findings if finding.path not in {RUN, CONTROL}]
    failing = [finding for finding in outputs if not finding.passes]
    where = f", on {describe(verdict.hardware)}"
    effort = f" ({verdict.runs} run{'' if verdict.runs == 1 else 's'}, {duration(verdict.seconds)})"
    if not outputs:
        failed = overall(verdict.findings) is Status.RUN_FAILED
        return (
            ("the command failed; its outputs were not compared" if failed else "nothing was compared") + where + effort
        )
    of = f"{len(failing) or len(outputs)} of {len(outputs)} output{'' if len(outputs) == 1 else 's'}"
    if failing:
        words = Counter(finding.status.value for finding in failing)
        kinds = ", ".join(f"{number} {word}" for word, number in sorted(words.items()))
        return of + (f" ({kinds})" if len(words) > 1 else "") + where + effort
    ruled = sum(finding.status is Status.SAME_CONTENT for finding in outputs)
    how = f", {ruled} of them under declared rules" if ruled else ", bit for bit"
    control = next((one for one in verdict.findings if one.path == CONTROL and not one.passes), None)
    but = ""
    if control:
        but = {
            Status.CONTROL_UNCHANGED: "; but the control changed nothing",
            Status.RUN_FAILED: "; but the control did not run to its end",
        }.get(control.status, "; but the control could not be judged")
    return of + how + where + but + effort


def advice(verdict: Verdict) -> str:
    status = overall(verdict.findings)
    advice = _NEXT.get(status, "")
    if not verdict.findings:
        return "declare `outputs` in reprobox.yaml"
    if status is Status.RUN_FAILED and verdict.log is not None:
        return f"the run's own words are in {printable(str(verdict.log))}"
    return advice


def _mark(finding: Finding, signs: Marks) -> str:
    if finding.passes:
        return signs.passed
    return signs.trouble if finding.status in _TROUBLE else signs.failed


def _style(finding: Finding) -> str:
    if finding.passes:
        return "green"
    return "yellow" if finding.status in _TROUBLE else "red"


def _inline(text: str) -> str:
    return printable(text).replace("\n", " ")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")
