"""Distribution packages on a base image, for real: apt resolves, a mirror serves, Docker installs, twice the same."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, Served, docker

from reprobox import lockfile
from reprobox.console import Console
from reprobox.model import LockedImage, Platform, SystemPackage
from reprobox.resolvers import packages

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.registry]

AWKWARD = ("git", "libgomp1", "openssh-server", "openjdk-17-jre-headless", "python3-six", "fontconfig", "dbus")
"""Packages that leave keys, a keystore with dates, .pyc files, caches, ids and users behind."""


@pytest.fixture(scope="module")
def image(registry: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian image with apt and Python, in the registry."""
    rootfs = tmp_path_factory.mktemp("image") / "rootfs.tar"
    command = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-venv", "bookworm"]
    subprocess.run([*command, str(rootfs)], check=True, capture_output=True)
    docker("import", str(rootfs), f"{registry.address}/debian:1")
    docker("push", f"{registry.address}/debian:1")
    return f"{registry.address}/debian:1"


@pytest.fixture(scope="module")
def locked(locked_project: Path, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("system") / "project"
    shutil.copytree(locked_project, root, ignore=shutil.ignore_patterns(".reprobox"))
    here = Project(root)
    here.change("reprobox.yaml", "{bootstrap: debian, suite: bookworm}", f"{image}\nsystem: [{', '.join(AWKWARD)}]")
    here("lock")
    return root


@pytest.fixture
def here(locked: Path, tmp_path: Path) -> Project:
    root = tmp_path / "project"
    shutil.copytree(locked, root, ignore=shutil.ignore_patterns(".reprobox"))
    return Project(root)


def added(root: Path) -> dict[str, SystemPackage]:
    base = lockfile.read(root).base
    assert isinstance(base, LockedImage)
    assert base.system
    return {package.name: package for package in base.system.packages[Platform.LINUX_64]}


def rendered(here: Project, folder: Path) -> Path:
    shutil.copytree(here.root, folder, ignore=shutil.ignore_patterns(".reprobox", ".git"))
    Project(folder)("render", "-o", str(folder))
    return folder


def built(folder: Path, target: Path) -> tuple[str, list[dict[str, tuple[Any, ...]]]]:
    """Build the Dockerfile without any cache, and without reprobox: the config's digest, and the layers' entries."""
    docker(
        "buildx", "build", "--no-cache", "--provenance=false", "--build-arg=SOURCE_DATE_EPOCH=1577836800",
        f"--output=type=oci,dest={target}", *_secrets(), str(folder),
    )  # fmt: skip
    layers = []
    with tarfile.open(target) as image:

        def blob(digest: str) -> Any:
            return image.extractfile("blobs/" + digest.replace(":", "/"))

        index = json.load(image.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=blob(layer["digest"]), mode="r|*") as tar:
                layers.append({m.name: (m.type, m.mode, m.uid, m.mtime, m.linkname, _content(tar, m)) for m in tar})
    return manifest["config"]["digest"], layers


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    stream = tar.extractfile(member) if member.isreg() else None
    return hash(stream.read()) if stream else 0


def _secrets() -> Iterator[str]:
    from reprobox.workflow import building  # noqa: PLC0415

    secrets = building.build_secrets()
    if secrets.ca:
        yield f"--secret=id=ca,src={secrets.ca}"


def test_two_builds_are_the_same_and_keep_no_key_log_or_time(here: Project, tmp_path: Path) -> None:
    dockerfile = here("render").out
    assert f"{added(here.root)['git'].digest.hex}  git_" in dockerfile
    first, layers = built(rendered(here, tmp_path / "one"), tmp_path / "one.tar")
    time.sleep(2)
    second, again = built(rendered(here, tmp_path / "two"), tmp_path / "two.tar")
    assert again == layers
    assert first == second
    system = next(layer for layer in layers[1:] if "usr/bin/git" in layer)
    assert {"usr/bin/ssh-keygen", "etc/ssl/certs/java/cacerts", "var/lib/dpkg/status"} <= system.keys()
    assert not [name for name in system if name.startswith(("etc/ssh/ssh_host", "var/log/dpkg", "tmp/", "mnt/"))]
    assert max(entry[3] for entry in system.values()) <= 1577836800


def test_the_packages_are_there_at_their_locked_versions(here: Project) -> None:
    listed = here("run", "--", "dpkg-query", "--show", "-f", "${Package} ${Version}\n").out.splitlines()
    for package in added(here.root).values():
        assert f"{package.name} {package.version}" in listed
    assert "git version" in here("run", "--", "git", "--version").out
    assert here("run", "--", "java", "-version").code == 0


def test_one_more_package_moves_no_other(here: Project) -> None:
    before = added(here.root)
    here.change("reprobox.yaml", "system: [", "system: [jq, ")
    here("lock")
    after = added(here.root)
    assert {name: after[name] for name in before} == before
    assert "jq" in after


def test_a_changed_package_of_the_same_version_is_refused_and_a_lost_one_is_named(
    here: Project, locked: Path, tmp_path: Path
) -> None:
    base = lockfile.read(locked).base
    assert isinstance(base, LockedImage)
    assert base.system
    wanted = base.system.packages[Platform.LINUX_64]
    files = packages.fetch(wanted, distribution="debian", suite="bookworm", snapshot="", console=Console())
    mirror = tmp_path / "mirror"
    for package, file in zip(wanted, files, strict=True):
        place = mirror / package.file
        place.parent.mkdir(parents=True, exist_ok=True)
        data = bytearray(file.read_bytes())
        if package.name == "libgomp1":
            data[-1] ^= 1
        place.write_bytes(data)
    lock = (here.root / "reprobox.lock").read_bytes()
    with served(mirror) as address:
        env = {"REPROBOX_DEBIAN_MIRROR": address, "REPROBOX_DEBIAN_SECURITY_MIRROR": address}
        env["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        said = here("build", env=env, code=2).err
        gomp = added(locked)["libgomp1"]
        assert f"libgomp1 {gomp.version} of debian bookworm" in said
        assert gomp.digest.hex in said
        (mirror / gomp.file).unlink()
        said = here("build", env=env, code=2).err
        assert f"does not have libgomp1 {gomp.version} of debian bookworm (HTTP 404)" in said
        assert f"a snapshot archive of {base.system.snapshot}" in said
    assert (here.root / "reprobox.lock").read_bytes() == lock


class served:  # noqa: N801 (used as a function)
    """A mirror on loopback: ``with served(folder) as address``."""

    def __init__(self, folder: Path) -> None:
        handler: Callable[..., Any] = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
