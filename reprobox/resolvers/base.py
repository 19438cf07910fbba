"""Project -> what its environment stands on: an exact image or a bootstrapped distribution, and the Python in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from reprobox.console import Console, Step
from reprobox.errors import InvalidInput, ResolutionFailed
from reprobox.model import (
    BootstrapBase,
    ImageBase,
    Lock,
    LockedBootstrap,
    LockedImage,
    LockedInterpreter,
    Platform,
    Project,
)
from reprobox.registry import Descriptor, Reference, Registry, layers, parse_reference
from reprobox.resolvers.image_tree import ImageTree, read_layer

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
        base, interpreter = _image(
            project, project.base, old if isinstance(old, LockedImage) else None, console, registry or Registry()
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


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the layers of one platform's image say."""

    tree: ImageTree
    interpreter: PurePosixPath


def _image(
    project: Project, base: ImageBase, old: LockedImage | None, console: Console, registry: Registry
) -> tuple[LockedImage, LockedInterpreter]:
    with console.step(f"Resolving {base.reference}") as step:
        if old and old.manifests.keys() == set(project.platforms):
            locked = replace(old, system=None)
        else:
            step.say("asking the registry")
            locked = registry.resolve(base.reference, project.platforms)
        found = {platform: _look(project, locked, platform, registry, step) for platform in project.platforms}
        paths = {one.interpreter: platform for platform, one in found.items()}
        if len(paths) > 1:
            raise ResolutionFailed(
                f"{base.reference} has Python {project.python} at different paths: "
                + ", ".join(f"{path} ({platform.value})" for path, platform in paths.items()),
                hint="lock one platform, or choose another image",
            )
        if project.system:
            from reprobox.resolvers import system  # noqa: PLC0415 (most images need none of it)

            keep = old.system.packages if old and old.system else {}
            added = system.resolve(
                base.reference,
                {platform: one.tree for platform, one in found.items()},
                project.system,
                keep={platform: {p.name: p.version for p in packages} for platform, packages in keep.items()},
                step=step,
            )
            locked = replace(locked, system=added)
    return locked, LockedInterpreter(version=project.python, path=next(iter(paths)))


def _look(project: Project, locked: LockedImage, platform: Platform, registry: Registry, step: Step) -> _Found:
    """Read layers from the top until the Python is found and, where packages are to be added, what is installed."""
    from reprobox.resolvers import system  # noqa: PLC0415

    step.say(f"looking for Python {project.python} ({platform.value})")

    def fetch(layer: Descriptor, reference: Reference) -> Path:
        received = 0

        def count(size: int) -> None:
            nonlocal received
            received += size
            step.advance(received, layer.size, unit="B", what=f"layer {layer.digest.short}")

        return registry.blob(reference, layer.digest, size=layer.size, on_bytes=count)

    reference = parse_reference(locked.reference)
    manifest = registry.manifest(reference, locked.manifests[platform])
    path = _search_path(registry.config(reference, manifest))
    tree = ImageTree()
    interpreter = None
    for layer in reversed(layers(manifest, reference)):
        tree.add(read_layer(fetch(layer, reference), layer, reference))
        interpreter = tree.interpreter(project.python, path)
        if interpreter and (not project.system or system.is_known(tree)):
            break
    if interpreter is None:
        raise tree.nothing(project.python, locked.reference)
    return _Found(tree=tree, interpreter=interpreter)


def _search_path(config: Mapping[str, object]) -> tuple[str, ...]:
    inner = config.get("config")
    variables = inner.get("Env") if isinstance(inner, dict) else None
    named = [word[5:] for word in variables or () if isinstance(word, str) and word.startswith("PATH=")]
    return tuple(part.strip("/") for part in (named[-1] if named else _DEFAULT_PATH).split(":") if part.startswith("/"))
