"""Findings -> the environment file that reprobox.yaml names, and its text where it has to be drafted too. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reprobox.credentials import redact
from reprobox.draft.conda import NO_CONDA
from reprobox.draft.facts import EnvironmentFound, Findings, Line, Note, PackageList, Place
from reprobox.draft.imports import distribution_of
from reprobox.draft.yaml_lines import shortened
from reprobox.errors import InvalidInput

_TOOLS = frozenset({"hatch", "pdm", "pip", "pip-tools", "pipenv", "poetry", "setuptools", "uv", "virtualenv", "wheel"})
"""What installs other packages and is not itself part of an experiment."""
_HEADER = "# Drafted by `reprobox init`: behind each line stands where it comes from."
_CONDA = "conda"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The environment file, why it was chosen, comments to print below it, and the files to write for it, by name."""

    path: str
    why: str
    hints: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    found: tuple[Note, ...] = ()
    unseen: tuple[Note, ...] = ()


def choose(findings: Findings) -> Choice:
    """A file that the resolver takes, where there is one; else a requirements file of what others say.

    Raises InvalidInput where nothing says which packages are needed.
    """
    if findings.environments:
        return _taken(findings, findings.environments[0])
    if findings.lists:
        return _drafted(findings, findings.lists[0])
    if findings.installs or findings.imports or findings.scripts or findings.notebooks:
        return _guessed(findings)
    if findings.unseen:
        said = "".join(f"\n  {note.place}: {note.text}" for note in findings.unseen)
        raise InvalidInput(
            f"nothing that can be read here says which Python packages are needed:{said}",
            hint="correct these files, or write a requirements.in",
        )
    raise InvalidInput(
        "there is nothing here to draft a reprobox.yaml from: no requirements.txt, no pyproject.toml, no Python file",
        hint="go to the project's folder, or name it: reprobox -C FOLDER init",
    )


def _taken(findings: Findings, environment: EnvironmentFound) -> Choice:
    """A file as it is; with a requirements file on top where a Dockerfile or a notebook installs more."""
    place = Place(file=environment.path)
    count = f", {len(environment.names)} packages" if len(environment.names) > 1 else ""
    found = [Note(place=place, text=f"the environment{count}")]
    unseen = [*_left(findings.environments[1:], environment.path), *_left(findings.lists, environment.path)]
    hints = [f"environment: {{file: {environment.path}, {choice}}}" for choice in environment.choices]
    project = environment.path.endswith((".toml", ".lock"))
    more = _more(findings.installs, environment.names, but=("-e", "-r") if project else (f"-r {environment.path}",))
    name = "requirements.in"
    if not more or name in findings.taken or project or "/" in environment.path:
        for line in more:
            text = f"installs {shown(line.text)} too, which {environment.path} does not name"
            unseen.append(Note(place=line.place, text=text, lacking=True))
        return Choice(
            path=environment.path, why="as it is", hints=tuple(hints), found=tuple(found), unseen=tuple(unseen)
        )
    body = [_HEADER, f"-r {environment.path}", *_printed(more)]
    found += [Note(place=line.place, text=f"the package {shown(line.text)}") for line in more if not line.because]
    return Choice(
        path=name, why=f"{environment.path}, and what is installed beside it", files={name: _joined(body)},
        found=tuple(found), unseen=(*unseen, *_secrets(more)),
    )  # fmt: skip


def _drafted(findings: Findings, chosen: PackageList) -> Choice:
    """A requirements file in the words of another tool's file, at the versions of its lock."""
    name = _free("requirements.in", findings.taken)
    own = any(line.text.startswith("-e") for line in chosen.lines if not line.because)
    more = _more(findings.installs, _names(chosen.lines), but=("-e",) if own else ())
    lines = [*chosen.lines, *more]
    files: dict[str, str] = {}
    pins = _free("constraints.txt", findings.taken)
    text = [_HEADER, *(f"--extra-index-url {fact.value}  # {fact.place}" for fact in chosen.indexes)]
    if chosen.pins:
        files[pins] = _joined([
            f"# Drafted by `reprobox init`: the versions in {chosen.place.file} of what the packages in {name} need.",
            *(pin.text for pin in chosen.pins),
        ])  # fmt: skip
        text.append(f"-c {pins}")
    files[name] = _joined([*text, *_printed(lines)])
    live = [line.text for line in lines if not line.because]
    count = "the project itself" if live == ["-e ."] else f"{len(live)} package{'' if len(live) == 1 else 's'}"
    found = [Note(place=chosen.place, text=f"the environment: {count}, in {name}")]
    if chosen.pins:
        found.append(Note(place=chosen.place, text=f"the versions of {len(chosen.pins)} more, in {pins}"))
    unseen = [*_left(findings.lists[1:], chosen.place.file), *_conda(chosen, name), *_secrets(lines)]
    unseen += [
        Note(place=line.place, text=f"{shown(line.text)}: {line.because}", lacking=line.because != "optional")
        for line in chosen.lines
        if line.because and not line.because.startswith(_CONDA) and not line.text.startswith("-")
    ]
    return Choice(
        path=name, why=f"drafted from {chosen.place.file}", files=files, found=tuple(found), unseen=tuple(unseen)
    )


def _guessed(findings: Findings) -> Choice:
    """A requirements file of what is installed somewhere, and of what is imported."""
    name = _free("requirements.in", findings.taken)
    said = _more(findings.installs, frozenset())
    guesses = _guesses(findings.imports, _names(said))
    text = [_HEADER, *_printed(said)]
    if guesses:
        text += ["# Guesses, from the names of imported modules; versions are open:", *_printed(guesses)]
    if not said and not guesses:
        text.append("# No package is imported or installed here: Python alone.")
    found = [Note(place=line.place, text=f"the package {shown(line.text)}") for line in said if not line.because]
    found += [Note(place=line.place, text=f"the package {line.text}, a guess by its import") for line in guesses]
    return Choice(
        path=name, why="drafted: no file here lists the packages", files={name: _joined(text)},
        found=tuple(found), unseen=_secrets(said),
    )  # fmt: skip


def _guesses(imports: Mapping[str, Place], known: frozenset[str]) -> list[Line]:
    found: dict[str, Line] = {}
    for module, place in sorted(imports.items()):
        distribution = distribution_of(module)
        if distribution and distribution not in known and distribution not in found:
            found[distribution] = Line(text=distribution, place=place, note=f"imports {module}")
    return [found[name] for name in sorted(found)]


def _more(installs: Sequence[Line], names: frozenset[str], *, but: tuple[str, ...] = ()) -> list[Line]:
    """The installs that are not among ``names``, once each, ``but`` for lines that begin so."""
    found: dict[str, Line] = {}
    for line in installs:
        name = _name(line.text)
        if name not in names | _TOOLS and not line.text.startswith(but):
            found.setdefault(name or line.text, line)
    return list(found.values())


def _conda(chosen: PackageList, name: str) -> list[Note]:
    packages = [line for line in chosen.lines if line.because.startswith(_CONDA)]
    if not packages:
        return []
    some = ", ".join(re.split(r"[^A-Za-z0-9._-]", line.text)[0] for line in packages[:6])
    more = f" and {len(packages) - 6} more" if len(packages) > 6 else ""
    text = (
        f"{NO_CONDA}: {some}{more}. They stand in {name} as comments: "
        "remove the `# ` before those that a Python package index gives, and put others under `system:`"
    )
    return [Note(place=Place(file=chosen.place.file, line=packages[0].place.line), text=text, lacking=True)]


def _left(others: Iterable[EnvironmentFound | PackageList], path: str) -> list[Note]:
    places = [Place(file=each.path) if isinstance(each, EnvironmentFound) else each.place for each in others]
    return [Note(place=place, text=f"not used: {path} names the packages") for place in places if place.file != path]


# --- lines of a requirements file -------------------------------------------------------------


def shown(text: str) -> str:
    """A requirement in a message: on one line, without secrets."""
    return shortened(redact(text))


def _printed(lines: Sequence[Line]) -> list[str]:
    """Lines with the reason behind each; what holds a secret, or is not to be used, as a comment."""
    printed = []
    for line in lines:
        off = line.because or _exposes(line.text)
        text = shown(line.text) if off else line.text
        words = [str(line.place), *filter(None, [line.note, line.because])]
        printed.append(f"{'# ' if off else ''}{text}  # {shortened(': '.join(words))}")
    return printed


def _exposes(text: str) -> bool:
    return redact(text) != text or not text.isprintable()


def _secrets(lines: Sequence[Line]) -> tuple[Note, ...]:
    return tuple(
        Note(place=line.place, text=f"{shown(line.text)}: left out, since it holds credentials", lacking=True)
        for line in lines
        if not line.because and _exposes(line.text)
    )


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _free(name: str, taken: frozenset[str]) -> str:
    return name if name not in taken else f"reprobox-{name}"


def _names(lines: Iterable[Line]) -> frozenset[str]:
    return frozenset(filter(None, (_name(line.text) for line in lines)))


def _name(text: str) -> str:
    """The normalised name of a requirement, empty for an option, a path or a URL."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    found = re.match(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[|[<>=!~;@(]|$)", text)
    return str(canonicalize_name(found[1])) if found else ""
