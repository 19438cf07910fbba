"""A base image's reference -> the image by digest, with the Python in it and the packages that are added to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from reprobox.console import Console, Step
from reprobox.errors import ResolutionFailed
from reprobox.model import ImageBase, LockedImage, LockedInterpreter, Platform, Project
from reprobox.registry import Descriptor, Reference, Registry, layers, parse_reference
from reprobox.resolvers import system
from reprobox.resolvers.image_tree import ImageTree, read_layer

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the layers of one platform's image say."""

    tree: ImageTree
    interpreter: PurePosixPath


def resolve(
    project: Project, old: LockedImage | None, *, console: Console, registry: Registry | None = None
) -> tuple[LockedImage, LockedInterpreter]:
    """The image by digest, what `system` adds to it, and the path of its Python.

    ``old`` is what was locked for the same reference: its digest stays. Raises RegistryFailed, HashMismatch,
    ResolutionFailed, ProgramMissing.
    """
    assert isinstance(project.base, ImageBase)
    base, registry = project.base, registry or Registry()
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
