"""Findings, and the rules that they belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_IGNORE = re.compile(r"#\s*reprobox:\s*ignore\[([a-z0-9, -]*)\]")


class Severity(Enum):
    """``ERROR``: it cannot be reproduced as it stands. ``WARNING``: it may not."""

    ERROR = "error"
    WARNING = "warning"


RULES = {
    "apt-upgrade": Severity.WARNING,
    "cuda-mismatch": Severity.WARNING,
    "env-override": Severity.WARNING,
    "export-noise": Severity.WARNING,
    "fetch-at-run-time": Severity.WARNING,
    "foreign-export": Severity.ERROR,
    "git-without-commit": Severity.ERROR,
    "host-path": Severity.WARNING,
    "host-requirement": Severity.ERROR,
    "install-at-run-time": Severity.WARNING,
    "junk-file": Severity.WARNING,
    "lfs-pointer": Severity.ERROR,
    "link-out": Severity.ERROR,
    "no-git": Severity.WARNING,
    "not-locked": Severity.WARNING,
    "secret-file": Severity.ERROR,
    "unpinned-apt": Severity.WARNING,
    "unpinned-base": Severity.WARNING,
    "unpinned-requirement": Severity.WARNING,
    "unreadable": Severity.WARNING,
    "unseeded-random": Severity.WARNING,
    "unverified-download": Severity.WARNING,
}
"""Every rule by its name, which never changes, and how bad it is."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that stands in the way: where, what, and what to do. ``line`` counts from 1; None: the file as such."""

    rule: str
    file: str
    line: int | None
    what: str
    todo: str

    @property
    def severity(self) -> Severity:
        return RULES[self.rule]


def ignored(line: str) -> frozenset[str]:
    """The rules that a line's comment ``# reprobox: ignore[rule, rule]`` silences."""
    match = _IGNORE.search(line)
    return frozenset(word.strip() for word in match[1].split(",")) if match else frozenset()


def listed(names: list[str], *, most: int = 4) -> str:
    """Some of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
