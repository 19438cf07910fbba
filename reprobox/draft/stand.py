"""What is said of Pythons and base images -> one Python and one base that fit each other. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reprobox.draft.facts import Fact, Note, Place, PythonSaid

SUITES = {
    "bookworm": ("debian", "3.11"),
    "trixie": ("debian", "3.13"),
    "noble": ("ubuntu", "3.12"),
    "jammy": ("ubuntu", "3.10"),
}
"""Suite -> its distribution and the Python in it, the preferred one first."""

_NUMBERS = {"debian": {"12": "bookworm", "13": "trixie"}, "ubuntu": {"24.04": "noble", "22.04": "jammy"}}
_NEWEST, _OLDEST = 14, 8
"""Minor versions of Python 3 that are tried where only a range is known."""
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._/:-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?:@sha256:[0-9a-f]{64})?")


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A Python version and a base in YAML, each with the reason; what gave them, and what was said otherwise."""

    python: str
    python_why: str
    base: str
    base_why: str
    found: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    python: str
    why: str
    place: Place | None = None
    base: tuple[str, str] | None = None  # YAML and reason


def choose(pythons: Sequence[PythonSaid], images: Sequence[Fact]) -> Stand:
    """The first Python that is said and that every range allows; where nobody says one, a suite's own.

    An image that is known to hold a Python says both. Ranges that nothing fits are dropped from the last one on.
    """
    notes: list[Note] = []
    candidates = [*_of_images(images, notes), *_exact(pythons, notes)]
    ranges = [said for said in pythons if not said.exact]
    while True:
        allowed = [one for one in [*candidates, *_defaults(ranges)] if all(_fits(one.python, r.value) for r in ranges)]
        if allowed or not ranges:
            break
        dropped = ranges.pop()
        notes.append(Note(place=dropped.place, text=f"asks for Python {dropped.value}, which nothing else here fits"))
    chosen = allowed[0]
    base, why = chosen.base or _base_for(chosen.python)
    for each in candidates:
        if each.place and each.python != chosen.python:
            text = f"says Python {each.python}; {chosen.python} was taken ({chosen.why})"
            notes.append(Note(place=each.place, text=text))
    found = [Note(place=chosen.place, text=f"Python {chosen.python}")] if chosen.place else []
    if chosen.place and chosen.base:
        found.append(Note(place=chosen.place, text=f"the base {base}"))
    return Stand(
        python=chosen.python, python_why=chosen.why, base=base, base_why=why, found=tuple(found),
        notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _of_images(images: Sequence[Fact], notes: list[Note]) -> Iterator[_Candidate]:
    for image in images:
        repository, tag = _split(image.value)
        name = repository.rpartition("/")[2]
        why = str(image.place)
        if not _REFERENCE.fullmatch(image.value):
            notes.append(Note(place=image.place, text=f"{image.value}: what it stands for cannot be seen here"))
        elif name == "python" and (found := re.match(r"(3\.[0-9]+)(?:[.-]|$|a|b|rc)", tag)):
            if "alpine" in tag or "windows" in tag:
                text = f"{image.value} was not taken: most wheels are not made for it"
                notes.append(Note(place=image.place, text=text))
                yield _Candidate(python=found[1], why=why, place=image.place)
            else:
                yield _Candidate(python=found[1], why=why, place=image.place, base=(image.value, why))
        elif suite := _suite(name, tag):
            python = SUITES[suite][1]
            if name == "cuda":
                text = f"{image.value}: this version has no `cuda:` yet; the image will not hold the CUDA toolkit"
                notes.append(Note(place=image.place, text=text, lacking=True))
            base = (_bootstrap(suite), f"{why} has {suite}")
            yield _Candidate(python=python, why=f"{suite}'s own", place=image.place, base=base)
        else:
            text = (
                f"{image.value} was not taken: which Python it has cannot be seen here; `base:` takes it if it has one"
            )
            notes.append(Note(place=image.place, text=text))


def _suite(name: str, tag: str) -> str | None:
    """The suite of a plain distribution's image, or of CUDA's, which stands on one."""
    if name == "cuda":
        found = re.search(r"ubuntu([0-9]{2}\.[0-9]{2})", tag)
        return _NUMBERS["ubuntu"].get(found[1]) if found else None
    for suite, (distribution, _) in SUITES.items():
        if name == distribution and (tag.startswith(suite) or tag == suite):
            return suite
    number = re.match(r"[0-9]+(?:\.04)?", tag)
    return _NUMBERS.get(name, {}).get(number[0]) if number else None


def _split(reference: str) -> tuple[str, str]:
    plain = reference.partition("@")[0]
    name, colon, tag = plain.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (plain, "")


def _exact(pythons: Sequence[PythonSaid], notes: list[Note]) -> Iterator[_Candidate]:
    for said in pythons:
        if said.exact and (version := _minor(said.value)):
            yield _Candidate(python=version, why=said.why or str(said.place), place=said.place)
        elif said.exact:
            notes.append(Note(place=said.place, text=f"{said.value} is no version of Python 3"))


def _defaults(ranges: Sequence[PythonSaid]) -> Iterator[_Candidate]:
    within = f", within {ranges[0].value} of {ranges[0].place}" if ranges else "; nothing here names a version"
    for suite, (_, python) in SUITES.items():
        yield _Candidate(python=python, why=f"a choice: {suite}'s own{within}")
    for minor in range(_NEWEST, _OLDEST - 1, -1):
        yield _Candidate(python=f"3.{minor}", why=f"a choice{within}")


def _base_for(python: str) -> tuple[str, str]:
    suite = next((suite for suite, (_, its) in SUITES.items() if its == python), None)
    if suite:
        return _bootstrap(suite), "from its hashed packages; no image registry is needed"
    return f"python:{python}-slim", f"no distribution known here has Python {python}"


def _bootstrap(suite: str) -> str:
    return f"{{bootstrap: {SUITES[suite][0]}, suite: {suite}}}"


def _minor(version: str) -> str | None:
    found = re.fullmatch(r"(3\.(?:0|[1-9][0-9]?))(?:\..*|[a-z].*)?", version)
    return found[1] if found else None


def _fits(python: str, specifier: str) -> bool:
    """Whether some release of a minor version fits."""
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 (slow to import)

    fits = SpecifierSet(specifier)
    return any(fits.contains(f"{python}.{micro}") for micro in range(40))
