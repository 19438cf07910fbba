"""An examination of this machine -> the page that a person reads on stdout, or JSON for a program. Pure."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any, TextIO

from reprobox.console import ASCII_MARKS, UNICODE_MARKS, Marks, has_colour, marks, printable
from reprobox.doctor.diagnosis import Condition, Examination

SCHEMA = 1
_COLOURS = {Condition.OK: "32", Condition.WARNING: "33", Condition.PROBLEM: "31", Condition.ABSENT: "2"}
_NARROWEST = 60


def for_stream(report: Examination, stream: TextIO) -> str:
    """The page as ``stream`` can show it: its width, its colours, its characters."""
    return render(
        report,
        width=shutil.get_terminal_size().columns,
        colour=has_colour(stream),
        unicode=marks(stream) is UNICODE_MARKS,
    )


def render(report: Examination, *, width: int = 100, colour: bool = False, unicode: bool = True) -> str:
    """Sections of marked lines, a remedy under each that wants one, and one line that sums up."""
    signs = UNICODE_MARKS if unicode else ASCII_MARKS
    column = max((len(finding.subject) for finding in report.findings), default=0)
    margin = " " * (2 + 3 + column + 2)
    room = max(width, _NARROWEST)
    lines: list[str] = []
    for title, findings in report.sections.items():
        lines += [_styled(title, "1", colour)]
        for finding in findings:
            mark = _styled(f"{_mark(finding.condition, signs):<2}", _COLOURS[finding.condition], colour)
            first, *rest = _wrapped(finding.fact, room - len(margin))
            lines += [f"  {mark} {finding.subject:<{column}}  {first}", *(margin + line for line in rest)]
            if finding.remedy:
                told = _wrapped(finding.remedy, room - len(margin) - 4)
                lines += [margin + _styled("->" if index == 0 else "  ", "1", colour) + f" {line}"
                          for index, line in enumerate(told)]  # fmt: skip
        lines += [""]
    lines += [summary(report)]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return text if unicode else text.encode("ascii", "backslashreplace").decode("ascii")


def summary(report: Examination) -> str:
    """One sentence: whether anything stands in the way."""
    problems, warnings = report.count(Condition.PROBLEM), report.count(Condition.WARNING)
    noted = f" ({warnings} warning{'' if warnings == 1 else 's'})" if warnings else ""
    if problems:
        return (
            f"{problems} problem{' stands' if problems == 1 else 's stand'} in the way of building and running{noted}"
        )
    return f"nothing stands in the way of building and running{noted}"


def as_json(report: Examination) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {
        "schema": SCHEMA,
        "passes": report.exit_code == 0,
        "exit_code": report.exit_code,
        "findings": [
            {
                "section": section,
                "subject": finding.subject,
                "condition": finding.condition.value,
                "fact": finding.fact,
                "remedy": finding.remedy,
            }
            for section, findings in report.sections.items()
            for finding in findings
        ],
    }


def _mark(condition: Condition, signs: Marks) -> str:
    return {
        Condition.OK: signs.passed,
        Condition.WARNING: signs.trouble,
        Condition.PROBLEM: signs.failed,
        Condition.ABSENT: "-",
    }[condition]


def _wrapped(text: str, width: int) -> list[str]:
    folded = [
        line for part in printable(text).splitlines()
        for line in textwrap.wrap(part, width, break_on_hyphens=False, break_long_words=False)
    ]  # fmt: skip
    return folded or [""]


def _styled(text: str, style: str, colour: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if colour else text
