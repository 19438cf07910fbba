"""A base image from a real registry on loopback: by digest, kept, moved when asked, and refused when it lies."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Project

from reprobox import cache, lockfile
from reprobox.model import LockedBootstrap, LockedImage, Platform

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.registry]


@dataclass(frozen=True)
class Served:
    address: str
    storage: Path

    def blob(self, hexadecimal: str) -> Path:
        return self.storage / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, locked_project: Path) -> Iterator[Served]:
    """A registry that holds one base image with Debian's Python."""
    storage = tmp_path_factory.mktemp("registry")
    server = subprocess.Popen(
        [ROOT / ".ci/engine", "registry", str(storage)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout
    address = server.stdout.readline().strip()
    host, port = address.split(":")
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.1)
    base = lockfile.read(locked_project).base
    assert isinstance(base, LockedBootstrap)
    rootfs = cache.get(base.rootfs)
    assert rootfs
    _docker("import", str(rootfs), f"{address}/base:1")
    _docker("push", f"{address}/base:1")
    yield Served(address=address, storage=storage)
    server.terminate()
    server.wait()
    server.stdout.close()


@pytest.fixture
def on_image(project: Callable[[], Project], registry: Served) -> Project:
    here = project()
    here.change("reprobox.yaml", "{bootstrap: debian, suite: bookworm}", f"{registry.address}/base:1")
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
    _docker("tag", f"{registry.address}/base:1", f"{registry.address}/base:kept")
    _docker("build", "--quiet", "--provenance=false", "--tag", f"{registry.address}/base:1", str(tmp_path))
    _docker("push", f"{registry.address}/base:1")
    try:
        on_image.write("requirements.in", "six==1.15.0\n")
        on_image("lock")
        assert _locked(on_image) == before
        on_image("lock", "--upgrade")
        assert _locked(on_image).digest != before.digest
    finally:
        _docker("tag", f"{registry.address}/base:kept", f"{registry.address}/base:1")
        _docker("push", f"{registry.address}/base:1")


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
