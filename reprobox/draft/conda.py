"""environment.yml and pixi.toml -> what of them a Python package index can give, and what it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reprobox.draft.facts import Line, PackageList, Place, PythonSaid
from reprobox.draft.folder import Folder, line_of
from reprobox.draft.lines import requirement_line
from reprobox.draft.specifiers import checked, from_conda, requirement
from reprobox.draft.tools import table

if TYPE_CHECKING:
    from yaml.nodes import Node

NO_CONDA = "conda packages cannot be locked by this version"
_TOOLS = frozenset({"pip", "setuptools", "wheel"})
_NAMES = {
    "pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch", "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless", "pytables": "tables", "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack", "py-xgboost": "xgboost", "dask-core": "dask",
    "faiss-cpu": "faiss-cpu", "python-graphviz": "graphviz", "importlib_metadata": "importlib-metadata",
}  # fmt: skip
"""conda's names for packages that the Python index knows by another one."""
_PYTHON_FREE = frozenset({"cudatoolkit", "cudnn", "cuda-version", "pytorch-cuda", "mkl", "gcc", "gxx", "nodejs", "git"})
"""conda packages that are no Python packages."""


def environment_yml(folder: Folder) -> tuple[PackageList | None, list[PythonSaid]]:
    """The pip part of environment.yml, and its conda packages as suggestions that stay comments."""
    import yaml  # noqa: PLC0415 (slow to import)

    file = next((name for name in ("environment.yml", "environment.yaml") if folder.has(name)), None)
    node = folder.yaml(file) if file else None
    if file is None or node is None:
        return None, []
    lines: list[Line] = []
    pythons: list[PythonSaid] = []
    for entry in _list(_value(node, "dependencies")):
        place = Place(file=file, line=entry.start_mark.line + 1)
        if isinstance(entry, yaml.ScalarNode):
            name, version = _conda_spec(entry.value)
            if name == "python":
                pythons += _python(version, place)
            elif name not in _TOOLS:
                lines.append(_suggestion(name, version, place))
        for one in _list(_value(entry, "pip")):
            if isinstance(one, yaml.ScalarNode):
                at = Place(file=file, line=one.start_mark.line + 1)
                option = one.value.strip().startswith("-")
                lines.append(Line(text=one.value.strip(), place=at) if option else requirement_line(one.value, at))
    return PackageList(place=Place(file=file), lines=tuple(lines)), pythons


def pixi_toml(folder: Folder) -> tuple[PackageList | None, list[PythonSaid]]:
    """The pypi-dependencies of pixi.toml, and its conda packages as suggestions that stay comments."""
    read = folder.toml("pixi.toml")
    if read is None:
        return None, []
    toml, text = read
    lines: list[Line] = []
    pythons: list[PythonSaid] = []
    for name, value in table(toml, "dependencies").items():
        place = Place(file="pixi.toml", line=line_of(text, "[dependencies]", name))
        version = _version(value)
        if name == "python":
            pythons += _python(version, place)
        elif name not in _TOOLS:
            lines.append(_suggestion(name, version, place))
    for name, value in table(toml, "pypi-dependencies").items():
        place = Place(file="pixi.toml", line=line_of(text, "[pypi-dependencies]", name))
        extras = value.get("extras") or [] if isinstance(value, dict) else []
        text_ = None
        if not (isinstance(value, dict) and {"git", "path", "url"} & set(value)):
            text_ = requirement(
                name, _version(value).replace("*", ""), extras=[e for e in extras if isinstance(e, str)]
            )
        if text_:
            lines.append(Line(text=text_, place=place))
        else:
            lines.append(Line(text=name, place=place, because="it is not named by a version; write one"))
    return PackageList(place=Place(file="pixi.toml"), lines=tuple(lines)), pythons


def _suggestion(name: str, version: str, place: Place) -> Line:
    """A conda package as a requirement that the user may want: a comment, since it may be another thing there."""
    if name in _PYTHON_FREE or name.startswith(("lib", "cuda-", "gcc_", "r-", "_")):
        return Line(text=f"{name} {version}".strip(), place=place, because="conda, not a Python package")
    specifier = from_conda(version) if version else ""
    text = requirement(_NAMES.get(name, name), specifier or "") or name
    return Line(text=text, place=place, because="conda")


def _conda_spec(text: str) -> tuple[str, str]:
    """``conda-forge::numpy=1.26=py311`` -> numpy and ``1.26``."""
    text = text.partition("#")[0].rpartition("::")[2].strip()
    found = re.match(r"([A-Za-z0-9_.-]+)\s*(.*)$", text)
    if not found:
        return text, ""
    name, rest = found[1].lower(), re.sub(r"\[.*\]", "", found[2]).strip()
    if rest.startswith("=") and not rest.startswith("=="):
        rest = rest[1:].partition("=")[0]
    elif exact := re.fullmatch(r"==([^=]+)(=.*)?", rest):
        rest = f"=={exact[1]}"
    return name, rest.strip()


def _version(value: Any) -> str:
    said = value.get("version") if isinstance(value, dict) else value
    return said.strip() if isinstance(said, str) and said.strip() != "*" else ""


def _python(version: str, place: Place) -> Iterator[PythonSaid]:
    if found := re.fullmatch(r"(?:==?)?([0-9]+\.[0-9]+)(?:\.[0-9*]+)*(?:=.*)?", version):
        yield PythonSaid(value=found[1], place=place, exact=True)
    elif version and (allowed := checked(version)):
        yield PythonSaid(value=allowed, place=place, exact=False)


# --- YAML nodes -------------------------------------------------------------------------------


def _value(node: Node | None, key: str) -> Node | None:
    import yaml  # noqa: PLC0415 (slow to import)

    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(name, yaml.ScalarNode) and name.value == key:
            return value  # type: ignore[no-any-return]
    return None


def _list(node: Node | None) -> list[Node]:
    import yaml  # noqa: PLC0415 (slow to import)

    return node.value if isinstance(node, yaml.SequenceNode) else []
