"""A Dockerfile or a definition file -> its base, its installs and its command, through the survey's readers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from reprobox.draft.commands import Commands, tails
from reprobox.draft.conda import NO_CONDA
from reprobox.draft.facts import Command, Fact, Line, Note, Place
from reprobox.draft.folder import Folder
from reprobox.draft.lines import requirement_line
from reprobox.errors import InvalidInput
from reprobox.survey import commands as survey
from reprobox.survey import definition, dockerfile
from reprobox.survey.commands import Kind, Package
from reprobox.survey.dockerfile import Instruction
from reprobox.tree import RENDERED_MARK

_DOCKERFILES = ("Dockerfile", "Containerfile", "docker/Dockerfile", "binder/Dockerfile", ".devcontainer/Dockerfile")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_PYTHON_PACKAGE = re.compile(r"python[0-9.]*(-pip|-venv|-dev|-distutils|-minimal|-is-python3|-setuptools|-wheel)?|pip")


@dataclass(kw_only=True)
class Container:
    """What a container's recipe says, as far as a draft can use it; ``notes`` is the rest."""

    images: list[Fact] = field(default_factory=list)
    system: list[Fact] = field(default_factory=list)
    installs: list[Line] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def shell(self, text: str, file: str, folder: Folder, *, line: int = 1, system: bool = True) -> None:
        """Take over what the shell commands of ``text`` install."""
        for found in survey.read(text, line=line):
            place = Place(file=file, line=found.line)
            if found.kind is Kind.PIP:
                self.installs += _pip(found, place, folder)
                self.notes += [
                    Note(place=place, text="names a package index too, which is left out: --extra-index-url takes it")
                    for _ in found.indexes[:1]
                ]
            elif found.kind is Kind.APT and found.action == "install" and system:
                self._apt(found.packages, place)
            elif found.kind is Kind.CONDA and (found.packages or found.files):
                named = ", ".join([*(package.text for package in found.packages), *found.files])
                text_ = f"{NO_CONDA}: {named}"
                self.notes.append(Note(place=place, text=text_, lacking=True))

    def _apt(self, packages: tuple[Package, ...], place: Place) -> None:
        for package in packages:
            name = package.name or package.text
            if _PYTHON_PACKAGE.fullmatch(name):
                continue
            if not _PACKAGE.fullmatch(name):
                self.notes.append(Note(place=place, text=f"installs {package.text}, which is no package's name"))
            elif name.startswith("python3-"):
                text = f"{name}: Python packages come from the Python index here; name it there"
                self.notes.append(Note(place=place, text=text, lacking=True))
            elif name not in {fact.value for fact in self.system}:
                self.system.append(Fact(value=name, place=place))


def look(folder: Folder, commands: Commands) -> Container:
    """What the folder's Dockerfile and its definition file say, the Dockerfile first."""
    found = Container()
    dockerfiles = [name for name in _DOCKERFILES if folder.has(name) and not _rendered(folder, name)]
    for name in dockerfiles[:1]:
        if (text := folder.text(name)) is not None:
            _dockerfile(found, text, name, folder, commands)
    for name in dockerfiles[1:]:
        folder.note(name, f"not looked at: {dockerfiles[0]} was taken")
    definitions = sorted(name for name in folder.names if name.endswith(".def") or name == "Singularity")
    definitions = [name for name in definitions if not _rendered(folder, name)]
    for name in definitions[:1]:
        if (text := folder.text(name)) is not None:
            _definition(found, text, name, folder, commands)
    for name in definitions[1:]:
        folder.note(name, f"not looked at: {definitions[0]} was taken")
    return found


def _rendered(folder: Folder, name: str) -> bool:
    data = folder.data(name)
    return data is not None and RENDERED_MARK in data.partition(b"\n")[0]


def _dockerfile(found: Container, text: str, name: str, folder: Folder, commands: Commands) -> None:
    instructions = dockerfile.read(text)
    stages = dockerfile.stages(instructions)
    if not stages:
        folder.note(name, "has no FROM")
        return
    kept, at = {len(stages) - 1}, stages[-1]
    while at.earlier:
        below = next(n for n, stage in enumerate(stages) if (stage.name or "").lower() == at.base.lower())
        kept, at = kept | {below}, stages[below]
    found.images.append(Fact(value=at.base, place=Place(file=name, line=at.line)))
    started: dict[str, Instruction] = {}
    workdir, number = "/", -1
    for instruction in instructions:
        if instruction.keyword == "FROM":
            number += 1
        elif instruction.keyword == "RUN":
            found.shell(instruction.shell, name, folder, line=instruction.line, system=number in kept)
        elif instruction.keyword == "WORKDIR" and number in kept:
            workdir = instruction.value.strip()
        elif instruction.keyword in {"ENTRYPOINT", "CMD"} and number in kept:
            started[instruction.keyword] = instruction
    chosen = started.get("ENTRYPOINT") or started.get("CMD")
    if chosen:
        words = [*_started(started.get("ENTRYPOINT")), *_started(started.get("CMD"))]
        if command := commands.of(words, Place(file=name, line=chosen.line), workdir=workdir):
            found.commands.append(command)


def _started(instruction: Instruction | None) -> list[str]:
    if instruction is None:
        return []
    if instruction.value.lstrip().startswith("["):
        return list(instruction.arguments)
    return [instruction.value]


def _definition(found: Container, text: str, name: str, folder: Folder, commands: Commands) -> None:
    try:
        read = definition.read(text, name=name)
    except InvalidInput as error:
        folder.note(name, f"cannot be read: {error.message}", lacking=True)
        return
    stage = read.stages[-1]
    if stage.bootstrap == "docker":
        found.images.append(Fact(value=stage.base, place=Place(file=name, line=stage.line)))
    else:
        folder.note(name, f"its base comes by {stage.bootstrap}, which cannot be taken over", line=stage.line)
    found.shell(stage.script, name, folder)
    for line in stage.runscript:
        if command := commands.of([line], Place(file=name)):
            found.commands.append(command)


def _pip(found: survey.Command, place: Place, folder: Folder) -> Iterator[Line]:
    for file in found.files:
        here = next((name for name in tails(file) if folder.has(name)), None)
        if here:
            yield Line(text=f"-r {here}", place=place)
        else:
            folder.note(place.file, f"installs from {file}, which is not here", line=place.line, lacking=True)
    for package in found.packages:
        yield requirement_line(package.text, place)
