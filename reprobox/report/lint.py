"""Lint's report -> lines for people, JSON, and annotations for GitHub Actions."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from reprobox.console import github, printable
from reprobox.lint.check import Report
from reprobox.lint.findings import Finding, Severity


def as_json(report: Report) -> dict[str, Any]:
    """``{"findings": [...], "files": n, "unread": [...]}``; a finding about a file as such has no line."""
    return {
        "findings": [
            {
                "rule": one.rule,
                "severity": one.severity.value,
                "file": one.file,
                "line": one.line,
                "what": one.what,
                "todo": one.todo,
            }
            for one in report.findings
        ],
        "files": report.files,
        "unread": [{"file": file, "reason": reason} for file, reason in report.unread],
    }


def render(report: Report) -> str:
    """The findings file by file, and a line that sums them up. Ends with a newline."""
    groups = [
        "".join(f"{_line(one)}\n    {_inert(one.todo)}\n" for one in some)
        for _, some in groupby(report.findings, key=lambda one: one.file)
    ]
    return "\n".join([*groups, f"{summary(report)}\n"])


def summary(report: Report) -> str:
    """``2 errors, 1 warning in 12 files``."""
    errors = sum(one.severity is Severity.ERROR for one in report.findings)
    counts = [_count(errors, "error"), _count(len(report.findings) - errors, "warning")]
    said = [count for count in counts if not count.startswith("0 ")]
    files = _count(report.files, "file")
    return f"{', '.join(said)} in {files}" if said else f"{files}, nothing found"


def for_github(report: Report, *, folder: Path) -> list[str]:
    """The findings as GitHub Actions shows them beside the code; ``folder`` is the project's."""
    return [
        github.annotation(
            one.severity.value,
            f"{one.what}; {one.todo}",
            file=one.file,
            line=one.line or 1,
            title=f"reprobox lint: {one.rule}",
            folder=folder,
        )
        for one in report.findings
    ]


def _line(finding: Finding) -> str:
    place = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
    sign = " (error)" if finding.severity is Severity.ERROR else ""
    return _inert(f"{place}: {finding.rule}{sign}: {finding.what}")


def _inert(text: str) -> str:
    """One line that neither a terminal nor GitHub Actions obeys."""
    return github.inert(printable(text).replace("\n", "\\n"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
