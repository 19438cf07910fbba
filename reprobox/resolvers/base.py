"""Project -> what its environment stands on: an exact image or a bootstrapped distribution, and the Python in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reprobox.console import Console
from reprobox.errors import InvalidInput
from reprobox.model import BootstrapBase, Lock, LockedBootstrap, LockedImage, LockedInterpreter, Project

if TYPE_CHECKING:
    from reprobox.registry import Registry

_ANSWERS = ("base", "python", "platforms", "system", "epoch")
"""The wishes that a base answers: while these are the same, so is it."""


def resolve(
    project: Project,
    *,
    console: Console,
    previous: Lock | None = None,
    again: bool = False,
    registry: Registry | None = None,
) -> tuple[LockedImage | LockedBootstrap, LockedInterpreter]:
    """The base, exact, and the path of its Python.

    What ``previous`` (a lock of this project) holds is kept, without a question to anybody, as long as nothing that
    the base answers was changed; where something was, the image and the versions that nobody asked to move stay.
    ``again``: look at everything again. Raises InvalidInput, ResolutionFailed, RegistryFailed, HashMismatch, and for a
    distribution's packages ProgramMissing and BootstrapFailed.
    """
    kept = None if again or previous is None else previous
    if kept and all(kept.wants.get(key) == project.wants.get(key) for key in _ANSWERS):
        return kept.base, kept.interpreter
    same = kept is not None and kept.wants.get("base") == project.wants["base"]
    old = kept.base if kept and same else None
    base: LockedImage | LockedBootstrap
    if isinstance(project.base, BootstrapBase):
        base, interpreter = _bootstrap(
            project, project.base, old if isinstance(old, LockedBootstrap) else None, console
        )
    else:
        from reprobox.resolvers import image  # noqa: PLC0415 (slow to import)

        base, interpreter = image.resolve(
            project, old if isinstance(old, LockedImage) else None, console=console, registry=registry
        )
    if previous and _dateless(base) == _dateless(previous.base):
        base = previous.base  # a younger index that says the same is no news
    return base, interpreter


def _dateless(base: LockedImage | LockedBootstrap) -> LockedImage | LockedBootstrap:
    if isinstance(base, LockedBootstrap):
        return replace(base, snapshot="")
    return replace(base, system=base.system and replace(base.system, snapshot=""))


def _bootstrap(
    project: Project, base: BootstrapBase, old: LockedBootstrap | None, console: Console
) -> tuple[LockedBootstrap, LockedInterpreter]:
    from reprobox.resolvers import distribution  # noqa: PLC0415 (an image needs none of it)

    if len(project.platforms) != 1:
        raise InvalidInput(
            f"a bootstrapped base holds one platform, and `platforms` names {len(project.platforms)}: "
            f"{', '.join(platform.value for platform in project.platforms)}",
            hint="name one platform, or choose an image as base",
        )
    return distribution.resolve(
        base,
        system=project.system,
        python=project.python,
        platform=project.platforms[0],
        epoch=project.epoch,
        keep={package.name: package.version for package in old.packages} if old else {},
        console=console,
    )
