"""Findings -> the text of reprobox.yaml and of what it names, and what to tell the user. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reprobox.config import CONFIG_FILE
from reprobox.draft import experiment, requirements, stand
from reprobox.draft.facts import Fact, Findings, Note, Place
from reprobox.draft.yaml_lines import commented, scalar

_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The files to write, by name, reprobox.yaml last; what was found and used; what was not seen or not taken."""

    files: Mapping[str, str]
    found: tuple[Note, ...]
    unseen: tuple[Note, ...]

    @property
    def lacking(self) -> bool:
        """Whether the draft is known to miss something that the folder asks for."""
        return any(note.lacking for note in self.unseen)


def draft(findings: Findings, *, name: str | None = None) -> Draft:
    """A reprobox.yaml that `config.load` takes, with the place of every guess; ``name`` where the user gives one.

    Raises InvalidInput where nothing in the folder says which packages it needs.
    """
    environment = requirements.choose(findings)
    chosen = stand.choose(findings.pythons, findings.images)
    trial = experiment.choose(findings)
    named = Fact(value=name, place=Place(file="as you asked")) if name else _name(findings)
    lines = [
        "# Drafted by `reprobox init`: behind each line stands where it comes from.",
        "# Correct what is wrong, then run `reprobox lock`. `reprobox schema` describes every key.",
        commented(f"name: {scalar(named.value)}", str(named.place)),
        commented(f"environment: {scalar(environment.path)}", environment.why),
        *(f"# {line}" for line in environment.hints),
        commented(f'python: "{chosen.python}"', chosen.python_why),
        commented(f"base: {chosen.base}", chosen.base_why),
        *_system(findings.system),
        commented("# determinism: portable", "the same bits on every CPU with AVX2; else on CPUs of one kind"),
        "",
        *trial.lines,
    ]
    found = [
        *environment.found,
        *chosen.found,
        *_grouped("the system package", findings.system),
        *trial.found,
    ]
    unseen = [*findings.unseen, *environment.unseen, *chosen.notes, *trial.unseen]
    return Draft(
        files={**environment.files, CONFIG_FILE: "\n".join(lines) + "\n"},
        found=tuple(found),
        unseen=tuple(sorted(dict.fromkeys(unseen), key=lambda note: not note.lacking)),
    )


def image_name(text: str) -> str:
    """A text as the name of an image: lower case, all but letters and digits become single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-")


def _name(findings: Findings) -> Fact:
    for fact in findings.names:
        if image_name(fact.value):
            return Fact(value=image_name(fact.value), place=fact.place)
    return Fact(value="experiment", place=Place(file="a choice"))


def _system(packages: Sequence[Fact]) -> list[str]:
    if not packages:
        return []
    return ["system:", *(commented(f"  - {scalar(fact.value)}", str(fact.place)) for fact in packages)]


def _grouped(what: str, facts: Iterable[Fact]) -> list[Note]:
    """One note per place."""
    places: dict[Place, list[str]] = {}
    for fact in facts:
        places.setdefault(fact.place, []).append(fact.value)
    return [
        Note(place=place, text=f"{what}{'s' if len(values) > 1 else ''} {', '.join(values)}")
        for place, values in places.items()
    ]
