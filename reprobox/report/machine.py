"""Verdict -> a JSON value with a schema number, for programs. Pure."""

from __future__ import annotations

from typing import Any

from reprobox.compare.verdict import overall
from reprobox.model import Digest, Finding, Verdict

SCHEMA = 1
"""Rises when a program that reads the old form could misread the new one; new keys alone do not raise it."""


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain JSON values.

    ``status`` is the one word for the whole, ``passes`` and ``exit_code`` what the process says too; digests are
    ``sha256:<hex>``, sizes bytes, times seconds; what is not known is null.
    """
    return {
        "schema": SCHEMA,
        "status": overall(verdict.findings).value,
        "passes": verdict.exit_code == 0,
        "exit_code": verdict.exit_code,
        "hardware": {"name": verdict.hardware.name, "facts": dict(sorted(verdict.hardware.facts.items()))},
        "image": {
            "engine": verdict.image.engine,
            "reference": verdict.image.reference,
            "digest": str(verdict.image.digest),
        },
        "runs": verdict.runs,
        "seconds": round(verdict.seconds, 3),
        "log": None if verdict.log is None else str(verdict.log),
        "notes": list(verdict.notes),
        "findings": [_finding(finding) for finding in verdict.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path,
        "status": finding.status.value,
        "passes": finding.passes,
        "detail": finding.detail,
        "expected": _digest(finding.expected),
        "found": _digest(finding.found),
        "size": finding.size,
    }


def _digest(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
