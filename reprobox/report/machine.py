"""Verdict -> a JSON value with a schema number, for programs. Pure."""

from __future__ import annotations

from typing import Any

from reprobox.compare.verdict import overall
from reprobox.hardware import differences
from reprobox.model import Digest, Finding, HardwareClass, Verdict

SCHEMA = 1
"""Rises when a program that reads the old form could misread the new one; new keys alone do not raise it."""


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain JSON values.

    ``status`` is the one word for the whole, ``passes`` and ``exit_code`` what the process says too; digests are
    ``sha256:<hex>``, sizes bytes, times seconds; what is not known is null.
    ``elsewhere`` are the classes of hardware that have a baseline, where this one has none.
    """
    return {
        "schema": SCHEMA,
        "status": overall(verdict.findings).value,
        "passes": verdict.exit_code == 0,
        "exit_code": verdict.exit_code,
        "hardware": _hardware(verdict.hardware),
        "conditions": None if verdict.conditions is None else verdict.conditions.plain,
        "elsewhere": [
            _hardware(other) | {"differs": list(differences(verdict.hardware, other))} for other in verdict.elsewhere
        ],
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


def _hardware(hardware: HardwareClass) -> dict[str, Any]:
    return {"name": hardware.name, "facts": dict(sorted(hardware.facts.items()))}


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
