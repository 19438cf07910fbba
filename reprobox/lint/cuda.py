"""One environment that names two CUDAs: its base, its conda packages, its wheels, its indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reprobox.lint.findings import Finding
from reprobox.lint.sources import Source, kind

_NAMED = (
    re.compile(r"\b(?P<said>cudatoolkit|pytorch-cuda|cuda-version|cuda-toolkit)\s*={1,2}\s*(?P<version>\d+(?:\.\d+)?)"),
    re.compile(r"\b(?P<said>nvidia/cuda):(?P<version>\d+\.\d+)"),
)
_WHEELS = (
    re.compile(r"(?P<said>[A-Za-z][\w-]*)\s*==\s*[\w.]+\+cu(?P<digits>\d{2,3})\b"),
    re.compile(r"(?P<said>/whl/(?:\w+/)?)cu(?P<digits>\d{2,3})\b"),
    re.compile(r"\b(?P<said>nvidia-[a-z0-9-]+?)-cu(?P<digits>\d{2})\b"),
    re.compile(r"\b(?P<said>jax)\[cuda(?P<digits>\d{2})(?:[_-]\w+)?\]"),
    re.compile(r"\b(?P<said>cupy)-cuda(?P<digits>\d{2,3})x?\b"),
)
_KINDS = frozenset({"conda", "definition", "dockerfile", "notebook", "pyproject", "requirements"})


@dataclass(frozen=True, kw_only=True)
class Named:
    """A CUDA that a line names; ``minor`` is None where it says the major version alone."""

    said: str
    line: int
    major: int
    minor: int | None

    def agrees(self, other: Named) -> bool:
        """Whether both can mean the same CUDA."""
        return self.major == other.major and (self.minor == other.minor or None in (self.minor, other.minor))


def check(source: Source) -> Iterator[Finding]:
    """The first line of a file that names another CUDA than a line above it."""
    if kind(source.path) not in _KINDS or source.data is None:
        return
    earlier: list[Named] = []
    for one in _named(source.text):
        other = next((before for before in earlier if not one.agrees(before)), None)
        if other is not None:
            yield Finding(
                rule="cuda-mismatch",
                file=str(source.path),
                line=one.line,
                what=f"{one.said} is for another CUDA than {other.said} on line {other.line}",
                todo="take all of them for one CUDA version",
            )
            return
        earlier.append(one)


def _named(text: str) -> Iterator[Named]:
    for number, line in enumerate(text.split("\n"), 1):
        words = re.sub(r"(?:^|\s)#.*", "", line)[:4000]
        for pattern in _NAMED:
            for match in pattern.finditer(words):
                major, _, minor = match["version"].partition(".")
                yield Named(said=match[0].strip(), line=number, major=int(major), minor=int(minor) if minor else None)
        for pattern in _WHEELS:
            for match in pattern.finditer(words):
                digits = match["digits"]
                minor = int(digits[2:]) if len(digits) > 2 else None
                yield Named(said=match[0].strip(), line=number, major=int(digits[:2]), minor=minor)
