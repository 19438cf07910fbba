"""render and build: a project whose lock fits -> its Dockerfile, its image."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from reprobox import cache, config, files, image_note, lockfile, recipe, render, tree
from reprobox.console import Console
from reprobox.engines import Engine, Secrets, Supplies
from reprobox.engines.staging import link_or_copy
from reprobox.errors import InvalidInput, StaleLock
from reprobox.image_note import Note
from reprobox.lockfile import LOCK_FILE
from reprobox.model import (
    Context,
    Digest,
    Image,
    Lock,
    LockedBootstrap,
    Platform,
    Project,
    ProjectTree,
    Recipe,
)
from reprobox.workflow.locking import misfits
from reprobox.workflow.turns import at_work


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A project whose lock fits, with everything that decides its image."""

    project: Project
    lock: Lock
    tree: ProjectTree
    recipe: Recipe
    natives: Mapping[str, bytes]

    @property
    def digest(self) -> Digest:
        """The context's digest, at the cost of a look."""
        return render.digest(self.recipe, tree=self.tree, natives=self._beside)

    @cached_property
    def context(self) -> Context:
        return render.context(self.recipe, tree=self.tree, root=self.project.root, natives=self._beside)

    @cached_property
    def _beside(self) -> Mapping[str, bytes]:
        """The lock files and, where distribution packages are added to an image, the program that runs after them."""
        if not self.recipe.system:
            return self.natives
        from reprobox.resolvers import java_keystore  # noqa: PLC0415 (slow to import)

        program = java_keystore.PATH
        return {**self.natives, f"{recipe.SYSTEM_FOLDER}/{program.name}": program.read_bytes()}

    @property
    def reference(self) -> str:
        """The image's name and tag: which lock and which sources it holds."""
        return f"{self.project.name}:lock-{lockfile.digest(self.lock).short}-src-{self.tree.digest.short}"


def prepare(project: Project, *, platform: Platform | None = None) -> Prepared:
    """Read the project's lock and files. Raises StaleLock, with every reason, where the lock no longer fits."""
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    locked = lockfile.read(project.root)
    if reasons := misfits(project, locked):
        said = "".join(f"\n  {reason}" for reason in reasons)
        raise StaleLock(f"{LOCK_FILE} no longer fits the project:{said}", hint="run `reprobox lock`")
    project_tree = tree.read(project)
    natives = {file.name: (project.root / file.name).read_bytes() for file in locked.natives}
    platform = platform or project.platforms[0]
    made = recipe.make(
        project, locked, platform,
        local_wheels=python.local_files(natives, recipe.REQUIREMENTS_LOCK),
        local_sdists=python.local_files(natives, recipe.SDISTS_LOCK),
        sdists=python.has_sdists(natives, platform),
    )  # fmt: skip
    return Prepared(
        project=project,
        lock=locked,
        tree=project_tree,
        recipe=made,
        natives=natives,
    )


def render_to(root: Path, folder: Path, *, platform: Platform | None, console: Console) -> tuple[str, ...]:
    """Write Dockerfile, .dockerignore and, for a bootstrapped base, its tar; returns their names.

    Raises InvalidInput rather than replace a file that was not rendered by reprobox.
    """
    prepared = prepare(config.load(root), platform=platform)
    texts = {".dockerignore": prepared.context.dockerignore, "Dockerfile": prepared.context.dockerfile}
    for name in texts:
        path = folder / name
        if os.path.lexists(path) and not tree.is_rendered(path):
            raise InvalidInput(f"{path} was not rendered by reprobox", hint="move it away, or render to another folder")
    files.require_writable(folder, hint="name another folder")
    names = list(texts)
    files.remove(folder / recipe.SYSTEM_FOLDER)
    for inner, source in _distribution_files(prepared, console).items():
        (folder / inner).parent.mkdir(exist_ok=True)
        files.copy_whole(source, folder / inner)
        names.append(inner.parts[0])
    files.write_together(folder, {name: text.encode() for name, text in texts.items()})
    return tuple(sorted(set(names)))


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that holds just this lock and these sources; ``fresh``: it was built now."""

    prepared: Prepared
    image: Image
    fresh: bool


def build(root: Path, *, engine: Engine, console: Console) -> Built:
    """The project's image: found, where the engine still holds it, else built."""
    project = config.load(root)  # where there is no project, nothing is left behind
    with at_work(root, console, patient=True) as state:
        return build_in(project, state, engine, console)


def build_in(project: Project, state: Path, engine: Engine, console: Console) -> Built:
    """``build`` for who is at work in the project already."""
    prepared = prepare(project)
    note = image_note.read(project.root, engine.name)
    known = note.image if note and note.context == prepared.digest else None
    if known and known.reference == prepared.reference and engine.holds(known):
        return Built(prepared=prepared, image=known, fresh=False)
    engine.probe()
    packages = _distribution_files(prepared, console)
    context = dataclasses.replace(prepared.context, files={**prepared.context.files, **packages})
    staging = state / "build"
    try:
        supplies = Supplies(
            staging=staging, secrets=build_secrets(), wheels=_wheels_at_hand(prepared, state / "wheels"),
            check=lambda: _require_unchanged(prepared),
        )  # fmt: skip
        image = engine.build(context, reference=prepared.reference, supplies=supplies, console=console)
    finally:
        files.remove(staging)
        files.remove(state / "wheels")
    image_note.write(project.root, Note(context=prepared.digest, image=image))
    return Built(prepared=prepared, image=image, fresh=True)


def _require_unchanged(prepared: Prepared) -> None:
    if tree.read(prepared.project).digest != prepared.tree.digest:
        raise InvalidInput("the project's files changed while the build was being prepared", hint="build again")


def _distribution_files(prepared: Prepared, console: Console) -> dict[PurePosixPath, Path]:
    """What the build context holds of the distribution: a bootstrapped base's tar, or an image's added packages."""
    base, platform = prepared.lock.base, prepared.recipe.platform
    if isinstance(base, LockedBootstrap):
        from reprobox.resolvers import rootfs  # noqa: PLC0415 (slow to import)

        return {
            PurePosixPath(recipe.BASE_TAR): rootfs.assemble(base, epoch=prepared.lock.epoch, console=console)
        }  # fmt: skip
    if not (base.system and prepared.recipe.system):
        return {}
    from reprobox.resolvers import java_keystore, packages  # noqa: PLC0415 (slow to import)

    wanted, system = base.system.packages[platform], base.system
    debs = packages.fetch(
        wanted, distribution=system.distribution, suite=system.suite, snapshot=system.snapshot, console=console
    )
    folder = PurePosixPath(recipe.SYSTEM_FOLDER)
    named = {folder / package.deb: deb for package, deb in zip(wanted, debs, strict=True)}
    return {**named, folder / java_keystore.PATH.name: java_keystore.PATH}


def _wheels_at_hand(prepared: Prepared, folder: Path) -> Path | None:
    """Locked files at hand, in folders that this machine names or in the cache, gathered for the build; None: none."""
    from reprobox.resolvers import indexes, python  # noqa: PLC0415 (slow to import)

    found = {}
    for name, digests in python.files(prepared.natives).items():
        for place in indexes.find_links():
            if (place / name).is_file() and Digest.of_file(place / name) in digests:
                found[name] = place / name
                break
        else:
            if cached := next(filter(None, map(cache.get, sorted(digests))), None):
                found[name] = cached
    files.remove(folder)
    if not found:
        return None
    try:
        folder.mkdir(parents=True)
        for name, path in found.items():
            link_or_copy(path, folder / name)
    except OSError as error:
        raise files.explain(error, f"cannot gather the wheels at hand in {folder}") from error
    return folder


def build_secrets() -> Secrets:
    """What this machine's configuration says about reaching an index: certificates, proxies, indexes."""
    from reprobox.resolvers import indexes  # noqa: PLC0415 (slow to import)

    ca = next(filter(None, (os.environ.get(name) for name in ("REPROBOX_CA_BUNDLE", "SSL_CERT_FILE"))), None)
    if ca and not Path(ca).is_file():
        raise InvalidInput(f"the certificates to trust are not there: {ca}", hint="correct SSL_CERT_FILE")
    proxies = {
        name: os.environ[name]
        for upper in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
        for name in (upper, upper.lower())
        if os.environ.get(name)
    }
    return Secrets(ca=Path(ca) if ca else None, env={**indexes.reachable_from_a_build(), **proxies})


def engine() -> Engine:
    """The engine that builds and runs here."""
    from reprobox.engines.docker import Docker  # noqa: PLC0415 (slow to import)

    return Docker()


def platform_named(name: str) -> Platform:
    """Raises InvalidInput where there is no such platform."""
    try:
        return Platform(name)
    except ValueError as error:
        known = ", ".join(platform.value for platform in Platform)
        raise InvalidInput(f"there is no platform {name}", hint=f"known are {known}") from error
