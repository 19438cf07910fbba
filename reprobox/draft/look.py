"""A folder -> Findings: what is there, each fact with the file and the line that it came from. Executes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reprobox.draft import conda, containers, environments, scripts, tools
from reprobox.draft.commands import Commands
from reprobox.draft.containers import Container
from reprobox.draft.facts import Command, Fact, Findings, PackageList, Place, PythonSaid, Script
from reprobox.draft.folder import Folder, line_of
from reprobox.draft.tools import table
from reprobox.errors import InvalidInput, ProgramMissing
from reprobox.survey import notebook
from reprobox.tree import git

_UNSEEN = {
    "conda-lock.yml": f"not used: {conda.NO_CONDA}",
    "pixi.lock": f"not used: {conda.NO_CONDA}",
    "pdm.lock": "its versions are not kept; `pdm export -o requirements.txt` writes them in a form that is",
    "install.R": "not looked at: R packages cannot be locked",
    "renv.lock": "not looked at: R packages cannot be locked",
    "DESCRIPTION": "not looked at: R packages cannot be locked",
    "Project.toml": "not looked at: Julia packages cannot be locked",
    "postBuild": "not looked at: what it does when an image is built is not in the draft",
    "Snakefile": "not looked at: which of its steps is the experiment cannot be seen",
    "dvc.yaml": "not looked at: which of its steps is the experiment cannot be seen",
}
"""Files that say something of the environment or the experiment, and why a draft does not have it."""
_NO_EXPERIMENT = re.compile(r"(.*/)?(tests?|docs?|examples?)/.*|(.*/)?(setup|conftest|test_[^/]*|[^/]*_test)\.py")


def look(root: Path) -> Findings:
    """What the folder at ``root`` says. What cannot be read is among the notes; nothing is raised for it."""
    folder = Folder(root)
    paths = folder.walk(".py")
    seen = scripts_of(folder, paths)
    commands = Commands(lambda file: (folder.root / file).is_file())
    container = containers.look(folder, commands)
    notebooks, pythons_of_notebooks = _notebooks(folder, container, _local(paths))
    lists, pythons_of_tools = _tools(folder)
    taken, pythons_of_projects = environments.look(folder, container.installs)
    _apt_txt(folder, container)
    for name, why in _UNSEEN.items():
        if folder.has(name):
            folder.note(name, why)
    imports: dict[str, Place] = dict(notebooks)
    for script in reversed(seen):
        if not _NO_EXPERIMENT.fullmatch(script.path):
            imports |= {fact.value: fact.place for fact in reversed(script.imports)}
    return Findings(
        folder=folder.root.name,
        taken=folder.names,
        names=tuple(_names(folder)),
        environments=tuple(taken),
        lists=tuple(lists),
        installs=tuple(container.installs),
        imports=imports,
        pythons=(*_version_files(folder), *pythons_of_projects, *pythons_of_tools, *pythons_of_notebooks),
        images=tuple(container.images),
        system=tuple(container.system),
        commands=(*container.commands, *_commands(folder, commands), *_console_script(folder)),
        scripts=tuple(script for script in seen if not _NO_EXPERIMENT.fullmatch(script.path)),
        notebooks=tuple(folder.walk(".ipynb")),
        unseen=(*folder.unseen, *container.notes),
    )


# --- Python files and notebooks ---------------------------------------------------------------


def scripts_of(folder: Folder, paths: list[str]) -> list[Script]:
    """What each script says; one that is no Python 3 is noted."""
    local = _local(paths)
    found = []
    for path in paths:
        if (text := folder.text(path)) is None:
            continue
        tree = scripts.parse(text)
        if isinstance(tree, tuple):
            folder.note(path, tree[1], line=tree[0])
        else:
            found.append(scripts.read(path, tree, local))
    return found


def _local(paths: Iterable[str]) -> frozenset[str]:
    """The modules and packages of the folder itself."""
    return frozenset(part.removesuffix(".py") for path in paths for part in path.split("/"))


def _notebooks(
    folder: Folder, container: Container, local: frozenset[str]
) -> tuple[dict[str, Place], list[PythonSaid]]:
    """What notebooks import and which Python they ran on; what they install is added to ``container``."""
    imports: dict[str, Place] = {}
    pythons: list[PythonSaid] = []
    for path in folder.walk(".ipynb"):
        if (text := folder.text(path)) is None:
            continue
        try:
            read = notebook.read(text, name=path)
        except InvalidInput as error:
            folder.note(path, error.message.removeprefix(f"{path}:").removeprefix(path).strip(": "), lacking=True)
            continue
        if read.language not in {"python", "ipython", ""}:
            folder.note(path, f"not looked at: a notebook in {read.language}")
            continue
        if read.python_version:
            pythons.append(PythonSaid(value=read.python_version, place=Place(file=path), exact=True))
        for cell in read.cells:
            container.shell(cell.shell, path, folder, line=cell.line, system=True)
            tree = scripts.parse(cell.python)
            if isinstance(tree, tuple):
                folder.note(path, f"cell {cell.number} {tree[1]}", line=cell.line_of(tree[0]))
                continue
            for fact in scripts.imports(path, tree, local):
                line = cell.line_of(fact.place.line or 1)
                imports.setdefault(fact.value, Place(file=path, line=line))
    return imports, pythons


# --- the rest ---------------------------------------------------------------------------------


def _tools(folder: Folder) -> tuple[list[PackageList], list[PythonSaid]]:
    lists: list[PackageList] = []
    pythons: list[PythonSaid] = []
    for read in (tools.poetry, tools.pipenv, tools.setuptools, conda.environment_yml, conda.pixi_toml):
        found, said = read(folder)
        lists += [found] if found else []
        pythons += said
    return lists, pythons


def _version_files(folder: Folder) -> Iterator[PythonSaid]:
    for name, form in ((".python-version", r"(\d+\.\d+\S*)"), ("runtime.txt", r"python-?(\d+\.\d+\S*)")):
        text = folder.text(name)
        for number, line in enumerate(text.splitlines() if text else (), 1):
            if found := re.fullmatch(form, line.strip()):
                yield PythonSaid(value=found[1], place=Place(file=name, line=number), exact=True)
                break


def _apt_txt(folder: Folder, container: Container) -> None:
    for name in ("apt.txt", "binder/apt.txt", ".binder/apt.txt"):
        text = folder.text(name)
        for number, line in enumerate(text.splitlines() if text else (), 1):
            if words := line.partition("#")[0].split():
                container.shell(f"apt-get install {' '.join(words)}", name, folder, line=number)


def _commands(folder: Folder, commands: Commands) -> Iterator[Command]:
    if (text := folder.text("Makefile")) is not None:
        yield from commands.of_makefile(text, "Makefile")
    for name in ("README.md", "README.rst", "README.txt", "README"):
        if folder.has(name) and (text := folder.text(name)) is not None:
            yield from commands.of_readme(text, name)


def _console_script(folder: Folder) -> Iterator[Command]:
    """The project's own program, where it installs just one."""
    read = folder.toml("pyproject.toml")
    names = list(table(read[0], "project", "scripts")) if read else []
    if len(names) == 1 and read:
        line = line_of(read[1], "[project.scripts]", names[0])
        yield Command(words=(names[0],), place=Place(file="pyproject.toml", line=line))


def _names(folder: Folder) -> Iterator[Fact]:
    read = folder.toml("pyproject.toml")
    for keys in (("project",), ("tool", "poetry")):
        name = table(read[0], *keys).get("name") if read else None
        if isinstance(name, str) and read:
            place = Place(file="pyproject.toml", line=line_of(read[1], f"[{'.'.join(keys)}]", "name"))
            yield Fact(value=name, place=place)
    if remote := _remote(folder.root):
        yield Fact(value=remote, place=Place(file="the git remote's name"))
    yield Fact(value=folder.root.name, place=Place(file="this folder's name"))


def _remote(root: Path) -> str | None:
    """The name of the repository behind git's remote, where the folder is the top of a checkout. Nothing else of the
    address is kept: it may hold credentials."""
    if not (root / ".git").exists():
        return None
    try:
        asked = git(root, "config", "--get", "remote.origin.url", check=False)
    except ProgramMissing:
        return None
    path = asked.text.strip().partition("?")[0].partition("#")[0].rstrip("/")
    host_or_path = path.rpartition("://")[2]
    if not re.search(r"[/:]", host_or_path):
        return None
    return re.split(r"[/:]", host_or_path)[-1].removesuffix(".git") or None
