"""Verdict -> a Markdown table, as GitHub Actions shows it on a job's page."""

from __future__ import annotations

import os
import re
from pathlib import Path

from reprobox.compare.verdict import overall
from reprobox.console import printable, size
from reprobox.model import Finding, Verdict
from reprobox.report.terminal import advice, summary

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable that names the file to which a step appends its part of the page."""


def render(verdict: Verdict) -> str:
    """The verdict's line, and one row for each output. Pure; ends with an empty line."""
    sign = "✅" if verdict.exit_code == 0 else "❌" if verdict.exit_code == 1 else "⚠️"
    name = verdict.image.reference.partition(":")[0]
    lines = [f"### {sign} {_text(name)}: {_text(overall(verdict.findings).value)}", "", _text(summary(verdict)), ""]
    if verdict.findings:
        lines += ["| verdict | output | size | detail |", "|---|---|---:|---|"]
        lines += [_row(finding) for finding in verdict.findings]
        lines.append("")
    if told := advice(verdict):
        lines += [f"Next: {_text(told)}".replace("\\`", "`"), ""]
    lines += [f"Image {_text(verdict.image.reference)}, {verdict.image.digest}", ""]
    return "\n".join([*lines, ""])


def append(text: str) -> str | None:
    """Append ``text`` to the job's page, where there is one; what went wrong, if it did: no verb fails of it."""
    place = os.environ.get(SUMMARY)
    if not place:
        return None
    try:
        with Path(place).open("a", encoding="utf-8") as page:
            page.write(text)
    except OSError as error:
        return f"the job's summary cannot be written to {place}: {error.strerror}"
    return None


def _row(finding: Finding) -> str:
    word = finding.status.value if finding.passes else f"**{finding.status.value}**"
    amount = "" if finding.size is None else size(finding.size)
    return f"| {word} | {_text(finding.path)} | {amount} | {_text(finding.detail)} |"


def _text(text: str) -> str:
    """``text`` as Markdown that shows just that: nothing in it is markup, a link, a mention or HTML."""
    plain = printable(text).replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", plain)
