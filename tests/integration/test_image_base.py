"""A base image from a real registry on loopback: by digest, kept, moved when asked, and refused when it lies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project, Served, docker

from reprobox import cache, lockfile
from reprobox.model import LockedBootstrap, LockedImage, Platform

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.registry]


@pytest.fixture(scope="module")
def image(registry: Served, locked_project: Path) -> str:
    """A base image with Debian's Python, in the registry."""
    base = lockfile.read(locked_project).base
    assert isinstance(base, LockedBootstrap)
    rootfs = cache.get(base.rootfs)
    assert rootfs
    docker("import", str(rootfs), f"{registry.address}/base:1")
    docker("push", f"{registry.address}/base:1")
    return f"{registry.address}/base:1"


@pytest.fixture
def on_image(project: Callable[[], Project], image: str) -> Project:
    here = project()
    here.change("reprobox.yaml", "{bootstrap: debian, suite: bookworm}", image)
    return here


def _locked(here: Project) -> LockedImage:
    base = lockfile.read(here.root).base
    assert isinstance(base, LockedImage)
    return base


def test_a_base_is_locked_by_digest_and_built_on(on_image: Project, registry: Served) -> None:
    on_image("lock")
    manifest = _locked(on_image).manifests[Platform.LINUX_64]
    dockerfile = on_image("render").out
    assert f"FROM {registry.address}/base@{manifest} AS base" in dockerfile
    assert "reprobox.base.tar" not in dockerfile
    on_image("record")
    on_image("verify")


def test_a_tag_that_moved_moves_the_lock_only_when_asked(on_image: Project, registry: Served, tmp_path: Path) -> None:
    on_image("lock")
    before = _locked(on_image)
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.address}/base:1\nRUN echo moved > /moved\n")
    docker("tag", f"{registry.address}/base:1", f"{registry.address}/base:kept")
    docker("build", "--quiet", "--provenance=false", "--tag", f"{registry.address}/base:1", str(tmp_path))
    docker("push", f"{registry.address}/base:1")
    try:
        on_image.write("requirements.in", "six==1.15.0\n")
        on_image("lock")
        assert _locked(on_image) == before
        on_image("lock", "--upgrade")
        assert _locked(on_image).digest != before.digest
    finally:
        docker("tag", f"{registry.address}/base:kept", f"{registry.address}/base:1")
        docker("push", f"{registry.address}/base:1")


def test_a_registry_that_serves_other_bytes_than_the_digest_says_is_refused(
    on_image: Project, registry: Served, tmp_path: Path
) -> None:
    on_image("lock")
    lock = (on_image.root / "reprobox.lock").read_bytes()
    manifest = _locked(on_image).manifests[Platform.LINUX_64]
    stored = registry.blob(manifest.hex)
    true = stored.read_bytes()
    stored.write_bytes(true.replace(b'"size"', b'"size" '))
    try:
        said = on_image("lock", "--upgrade", env={"XDG_CACHE_HOME": str(tmp_path / "cache")}, code=2).err
    finally:
        stored.write_bytes(true)
    assert manifest.hex in said or "digest" in said
    assert (on_image.root / "reprobox.lock").read_bytes() == lock


def test_a_layer_of_other_bytes_is_refused(on_image: Project, registry: Served, tmp_path: Path) -> None:
    (layer,) = [path for path in registry.storage.rglob("data") if path.stat().st_size > 10**7]
    kept = tmp_path / "kept"
    shutil.copyfile(layer, kept)
    with layer.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"evil")
    try:
        said = on_image("lock", env={"XDG_CACHE_HOME": str(tmp_path / "cache")}, code=2).err
    finally:
        shutil.copyfile(kept, layer)
    assert layer.parent.name in said


def test_a_registry_that_is_gone_is_named(on_image: Project) -> None:
    on_image.change("reprobox.yaml", _address(on_image), "127.0.0.1:1")
    said = on_image("lock", code=2).err
    assert "127.0.0.1:1" in said


def _address(here: Project) -> str:
    (line,) = [line for line in (here.root / "reprobox.yaml").read_text().splitlines() if line.startswith("base:")]
    return line.removeprefix("base: ").removesuffix("/base:1")
