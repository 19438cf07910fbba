"""Recipe -> Context. Templates print; pure. Jinja lives here only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reprobox.model import Context, Digest, ProjectTree, Recipe
from reprobox.recipe import LABELS
from reprobox.resources import templates

if TYPE_CHECKING:
    from jinja2 import Environment

_PRINTER = Path(__file__)


def context(recipe: Recipe, *, tree: ProjectTree, root: Path, natives: Mapping[str, bytes]) -> Context:
    """The build context of ``recipe``.

    ``tree`` and ``root`` are the project's files, ``natives`` what stands beside them in the context, by path: the
    environment's lock files, and programs of ours. What the recipe names by its digest (a base's tar, packages) is
    the caller's to add.
    """
    files: dict[PurePosixPath, bytes | Path] = {
        file.path: root / file.path for file in tree.files if file.link is None
    }  # fmt: skip
    files |= {PurePosixPath(name): content for name, content in natives.items()}
    return Context(
        platform=recipe.platform,
        epoch=recipe.epoch,
        dockerfile=dockerfile(recipe),
        dockerignore=dockerignore(recipe),
        files=files,
        links={file.path: file.link for file in tree.files if file.link is not None},
        executables=frozenset(file.path for file in tree.files if file.executable),
        labels=_labels(tree),
        digest=digest(recipe, tree=tree, natives=natives),
    )


def digest(recipe: Recipe, *, tree: ProjectTree, natives: Mapping[str, bytes]) -> Digest:
    """The digest of all that decides the context that ``context`` would make: nothing is rendered for a look.

    The templates and this module's own bytes, which quote what they print, count too.
    """
    return Digest.of_json(
        {
            "labels": _labels(tree),
            "natives": {name: Digest.of(content).hex for name, content in natives.items()},
            "printer": Digest.of_file(_PRINTER).hex,
            "recipe": repr(recipe),
            "templates": {path.name: Digest.of_file(path).hex for path in templates().glob("*.j2")},
        }
    )


def _labels(tree: ProjectTree) -> dict[str, str]:
    return {f"{LABELS}source": str(tree.digest)}


def dockerfile(recipe: Recipe) -> str:
    """The Dockerfile, self-contained and the same for the same recipe."""
    return _environment().get_template("uv.Dockerfile.j2").render(recipe=recipe)


def dockerignore(recipe: Recipe) -> str:
    """The .dockerignore that goes with the Dockerfile."""
    return _environment().get_template("dockerignore.j2").render(recipe=recipe)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 (slow to import)

    environment = Environment(
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (a Dockerfile is not HTML; the filters quote)
    )
    environment.filters["shell"] = lambda value: shlex.quote(str(value))
    environment.filters["dockerfile"] = _quote_for_dockerfile
    environment.filters["pattern"] = _quote_for_dockerignore
    return environment


def _quote_for_dockerignore(path: str) -> str:
    """A path that means itself in a .dockerignore: no wildcard, no comment, no exception (Go, path/filepath: Match)."""
    escaped = re.sub(r"([\\*?\[\]])", r"\\\1", path)
    return f"\\{escaped}" if escaped[0] in "#!" else escaped


def _quote_for_dockerfile(value: object) -> str:
    """A value of ENV or LABEL that means itself: quoted, with nothing left to expand."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{text}"'
