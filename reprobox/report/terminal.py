"""Verdict -> the table that a person reads on stdout: what holds, what does not, what to do next. Pure."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from typing import TextIO

from reprobox.compare.verdict import CONTROL, RUN, overall
from reprobox.console import ASCII_MARKS, UNICODE_MARKS, Marks, duration, has_colour, marks, printable
from reprobox.determinism import describe
from reprobox.model import Finding, Status, Verdict

_TROUBLE = frozenset({Status.RUN_FAILED, Status.NO_BASELINE, Status.INCOMPLETE})
_NEXT = {
    Status.DIFFERENT: "if the change is meant, `reprobox record --force` takes it as the new baseline",
    Status.MISSING: "have the command write it, or correct `outputs` in reprobox.yaml and record again",
    Status.EXTRA: "if it is meant to be there, `reprobox record --force` takes it into the baseline",
    Status.UNSTABLE: "equal runs differ here: seed every random generator, or try `determinism: portable`",
    Status.CONTROL_UNCHANGED: "have the command use its seed, or give a `control` that must change the outputs",
    Status.RUN_FAILED: "the run's own words are in its log",
    Status.INCOMPLETE: "without an answer this does not pass: see the detail above",
    Status.NO_BASELINE: "run `reprobox record` on this hardware, and commit what it writes",
}


def for_stream(verdict: Verdict, stream: TextIO) -> str:
    """The table as ``stream`` can show it: its width, its colours, its characters."""
    return render(
        verdict,
        width=shutil.get_terminal_size().columns,
        colour=has_colour(stream),
        unicode=marks(stream) is UNICODE_MARKS,
    )


def render(verdict: Verdict, *, width: int = 80, colour: bool = False, unicode: bool = True) -> str:
    """The table, one line that sums it up, and what to do next; ``width`` in columns. Ends with a newline."""
    from rich.console import Console  # noqa: PLC0415  (late: rich costs 0.1 s)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    signs = UNICODE_MARKS if unicode else ASCII_MARKS
    page = io.StringIO()
    console = Console(
        file=page,
        width=max(width, 40),
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("output", overflow="fold", min_width=6)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("detail", overflow="fold", min_width=6)
    above = ""
    for finding in verdict.findings:
        detail = "as above" if len(finding.detail) > 8 and finding.detail == above else finding.detail
        above = finding.detail
        style = _style(finding)
        table.add_row(
            Text(_mark(finding, signs), style),
            Text(finding.status.value, style),
            Text(_inline(finding.path)),
            Text("" if finding.size is None else size(finding.size)),
            Text(_inline(detail)),
        )
    if verdict.findings:
        console.print(table)
        console.print()
    whole = overall(verdict.findings)
    style = "bold green" if verdict.exit_code == 0 else "bold yellow" if whole in _TROUBLE else "bold red"
    console.print(Text.assemble((whole.value, style), "  ", _inline(summary(verdict))))
    for note in verdict.notes:
        console.print(Text(f"note: {_inline(note)}"))
    if advice := _advice(verdict):
        console.print(Text(f"next: {advice}"))
    text = "".join(line.rstrip() + "\n" for line in page.getvalue().splitlines())
    return text if unicode else text.encode("ascii", "backslashreplace").decode("ascii")


def summary(verdict: Verdict) -> str:
    """The verdict in one sentence, without its word: how many outputs, how, where, in how many runs."""
    outputs = [finding for finding in verdict.findings if finding.path not in {RUN, CONTROL}]
    failing = [finding for finding in outputs if not finding.passes]
    where = f", on {describe(verdict.hardware)}"
    effort = f" ({verdict.runs} run{'' if verdict.runs == 1 else 's'}, {duration(verdict.seconds)})"
    if not outputs:
        return "the outputs were not judged" + where + effort
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


def size(number: int) -> str:
    """A number of bytes for people: ``812 B``, ``12.3 KiB``, ``1.0 GiB``."""
    if number < 1024:
        return f"{number} B"
    amount = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def _advice(verdict: Verdict) -> str:
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
