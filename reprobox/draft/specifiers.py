"""Version constraints of Poetry, Pipenv and conda -> PEP 440 and PEP 508. Pure.

Sources: Poetry's "Dependency specification" (caret, tilde, wildcard), PEP 440, PEP 508, conda's "Package match
specifications".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RELEASE = r"v?([0-9]+(?:\.[0-9]+)*)((?:[-_.]?(?:a|b|rc|alpha|beta|post|dev|pre|c)[-_.]?[0-9]*)*(?:\+[a-z0-9.]+)?)"


def from_poetry(constraint: str) -> str | None:
    """``^1.2`` -> ``>=1.2,<2``; "" for any version; None where PEP 440 cannot say it (``1.* || 3.*``)."""
    constraint = constraint.strip()
    if "|" in constraint:
        return None
    clauses = [_clause(part) for part in re.split(r"\s*,\s*|(?<=[0-9a-z*])\s+(?=[<>=!~^])", constraint) if part]
    if any(clause is None for clause in clauses):
        return None
    return checked(",".join(clause for clause in clauses if clause))


def _clause(part: str) -> str | None:
    part = re.sub(r"\s+", "", part)
    if part in {"*", "", "latest"}:
        return ""
    found = re.fullmatch(rf"(\^|~=|~|===|==|=|!=|>=|<=|>|<)?{_RELEASE}(\.\*)?", part, re.IGNORECASE)
    if not found:
        return None
    operator, release, rest, wild = found.group(1) or "==", found.group(2), found.group(3), found.group(4) or ""
    numbers = [int(number) for number in release.split(".")]
    if operator == "^":
        first = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
        return f">={release}{rest},<{_next(numbers, first)}"
    if operator == "~":
        return f">={release}{rest},<{_next(numbers, min(1, len(numbers) - 1))}"
    return f"{'==' if operator == '=' else operator}{release}{rest}{wild}"


def _next(numbers: list[int], index: int) -> str:
    """The release above all that share the numbers before ``index``, and that at it."""
    return ".".join(map(str, [*numbers[:index], numbers[index] + 1]))


def from_conda(version: str) -> str | None:
    """``1.26`` -> ``==1.26.*`` (``=1.26``), ``==1.26.4``, ``>=1,<2``; None where PEP 440 cannot say it."""
    version = version.strip().split(" ")[0]
    if "|" in version:
        return None
    if found := re.fullmatch(r"=?([0-9][0-9.]*?)(\.?\*)?", version):
        return checked(f"=={found[1]}.*")
    return checked(version)


def checked(specifier: str) -> str | None:
    """``specifier`` where PEP 440 accepts it, else None."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 (slow to import)

    try:
        SpecifierSet(specifier)
    except InvalidSpecifier:
        return None
    return specifier


def requirement(name: str, specifier: str, *, extras: Iterable[str] = (), marker: str = "") -> str | None:
    """One PEP 508 requirement; None where its parts do not make one."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 (slow to import)

    wanted = f"[{','.join(sorted(extras))}]" if extras else ""
    text = f"{name}{wanted}{specifier}" + (f" ; {marker}" if marker else "")
    try:
        Requirement(text)
    except InvalidRequirement:
        return None
    return text


def python_marker(specifier: str) -> str:
    """A constraint on Python, in PEP 440, as a marker: ``>=3.8,<3.11`` -> python_full_version >= '3.8' and ..."""
    clauses = [re.fullmatch(r"(===?|!=|>=|<=|~=|>|<)(.+)", clause) for clause in specifier.split(",") if clause]
    return " and ".join(f"python_full_version {clause[1]} '{clause[2]}'" for clause in clauses if clause)
