"""What an examination finds: one fact, whether it is good, what to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Condition(Enum):
    """How it is. Only PROBLEM stands in the way of building and running."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """``subject`` is what was looked at, ``fact`` one line of what is so, ``remedy`` what to do where it is not OK."""

    subject: str
    condition: Condition
    fact: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        if (self.condition is Condition.OK) == bool(self.remedy):
            raise ValueError(f"{self.subject}: what is not well has a remedy, and only that")


def ok(subject: str, fact: str) -> Diagnosis:
    return Diagnosis(subject=subject, condition=Condition.OK, fact=fact)


def warning(subject: str, fact: str, remedy: str) -> Diagnosis:
    return Diagnosis(subject=subject, condition=Condition.WARNING, fact=fact, remedy=remedy)


def problem(subject: str, fact: str, remedy: str) -> Diagnosis:
    return Diagnosis(subject=subject, condition=Condition.PROBLEM, fact=fact, remedy=remedy)


def absent(subject: str, fact: str, remedy: str) -> Diagnosis:
    return Diagnosis(subject=subject, condition=Condition.ABSENT, fact=fact, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """All findings, by section, in the order in which they are told."""

    sections: dict[str, tuple[Diagnosis, ...]]

    @property
    def findings(self) -> tuple[Diagnosis, ...]:
        return tuple(finding for section in self.sections.values() for finding in section)

    def count(self, condition: Condition) -> int:
        return sum(finding.condition is condition for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0: nothing stands in the way; 1: something does."""
        return 1 if self.count(Condition.PROBLEM) else 0
