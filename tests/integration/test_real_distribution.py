"""A real suite from a real mirror, assembled for real: the same bits for another umask, another time, another cache."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobox import cache
from reprobox.console import Console
from reprobox.errors import HashMismatch, ResolutionFailed
from reprobox.model import DEFAULT_EPOCH, BootstrapBase, LockedBootstrap, Platform, PythonVersion
from reprobox.resolvers import distribution, packages, rootfs

pytestmark = pytest.mark.network

BOOKWORM = BootstrapBase(distribution="debian", suite="bookworm")


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    missing = [name for name in ("mmdebstrap", "apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LockedBootstrap, Path]]:
    """The suite, resolved and assembled once with a wide umask, and the cache folder that holds it."""
    place = tmp_path_factory.mktemp("first")
    with using(place, umask=0o022):
        locked, interpreter = distribution.resolve(
            BOOKWORM,
            system=("iputils-ping",),
            python=PythonVersion(3, 11),
            platform=Platform.LINUX_64,
            epoch=DEFAULT_EPOCH,
            keep={},
            console=Console(),
        )
    assert str(interpreter.path) == "/usr/bin/python3.11"
    yield locked, place


def fetch(locked: LockedBootstrap) -> tuple[Path, ...]:
    return packages.fetch(
        locked.packages,
        distribution=locked.distribution,
        suite=locked.suite,
        snapshot=locked.snapshot,
        console=Console(),
    )


@contextlib.contextmanager
def using(place: Path, *, umask: int) -> Iterator[None]:
    before, mask = os.environ.get("XDG_CACHE_HOME"), os.umask(umask)
    os.environ["XDG_CACHE_HOME"] = str(place)
    try:
        yield
    finally:
        os.umask(mask)
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def test_the_lock_names_the_core_the_python_and_what_was_asked_for(first: tuple[LockedBootstrap, Path]) -> None:
    names = [package.name for package in first[0].packages]
    assert names == sorted(names)
    assert {"base-files", "python3", "python3-venv", "ca-certificates", "iputils-ping", "libcap2"} <= set(names)
    assert not {"apt", "perl", "usrmerge", "systemd"} & set(names)
    assert all(package.file.startswith("pool/main/") for package in first[0].packages)
    assert re.fullmatch(r"20\d{6}T\d{6}Z", first[0].snapshot)


def test_the_same_packages_give_the_same_bits_later_elsewhere_and_with_another_umask(
    first: tuple[LockedBootstrap, Path], tmp_path: Path
) -> None:
    locked, place = first
    time.sleep(3)
    with using(place, umask=0o022):
        files = fetch(locked)
    with using(tmp_path / "second", umask=0o077):
        for file in files:
            cache.put([file.read_bytes()])
        again = rootfs.assemble(locked, epoch=DEFAULT_EPOCH, console=Console())  # another digest would raise
        assert again == cache.path_of(locked.rootfs)


def test_the_root_file_system_is_whole_and_silent_about_its_making(first: tuple[LockedBootstrap, Path]) -> None:
    locked, place = first
    with using(place, umask=0o022):
        path = cache.path_of(locked.rootfs)
    with tarfile.open(path) as tar:
        entries = {entry.name: entry for entry in tar}
        caches = [entry for entry in entries.values() if entry.name.endswith(".pyc")]
        flags = set()
        for entry in caches:
            stream = tar.extractfile(entry)
            assert stream
            flags.add(stream.read(8)[4])
    assert entries["bin"].linkname == "usr/bin"
    assert {"usr/bin/python3.11", "usr/lib/python3.11/ensurepip/__init__.py", "var/lib/dpkg/status"} <= entries.keys()
    assert {"usr/share/python-wheels", "etc/ssl/certs/ca-certificates.crt"} <= entries.keys()
    assert not {"etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/log/dpkg.log", ".reprobox"} & entries.keys()
    assert not any(entry.isdev() or entry.uname or entry.gname for entry in entries.values())
    assert max(entry.mtime for entry in entries.values()) == DEFAULT_EPOCH
    assert flags == {0b01}  # valid by hash, never checked
    assert list(entries) == sorted(entries, key=str.encode)
    assert "SCHILY.xattr.security.capability" in entries["usr/bin/ping"].pax_headers


def test_a_changed_package_on_the_mirror_is_refused(
    first: tuple[LockedBootstrap, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, place = first
    with using(place, umask=0o022):
        files = fetch(locked)
    mirror = tmp_path / "mirror"
    for package, file in zip(locked.packages, files, strict=True):
        target = mirror / package.file
        target.parent.mkdir(parents=True, exist_ok=True)
        data = bytearray(file.read_bytes())
        if package.name == "bash":
            data[-1] ^= 1
        target.write_bytes(data)
    handler = functools.partial(QuietHandler, directory=str(mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        with using(tmp_path / "cache", umask=0o022), pytest.raises(HashMismatch, match=r"bash 5.* of debian bookworm"):
            rootfs.assemble(locked, epoch=DEFAULT_EPOCH, console=Console())
        (mirror / next(package.file for package in locked.packages if package.name == "bash")).unlink()
        with (
            using(tmp_path / "cache", umask=0o022),
            pytest.raises(ResolutionFailed, match=r"bash 5.* \(HTTP 404\)") as gone,
        ):
            rootfs.assemble(locked, epoch=DEFAULT_EPOCH, console=Console())
        assert f"a snapshot archive of {locked.snapshot}" in (gone.value.hint or "")
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def resolve(base: BootstrapBase, python: str = "3.11", *system: str) -> None:
    distribution.resolve(
        base,
        system=system,
        python=PythonVersion.parse(python),
        platform=Platform.LINUX_64,
        epoch=DEFAULT_EPOCH,
        keep={},
        console=Console(),
    )


def test_what_the_suite_does_not_have_is_said(tmp_path: Path) -> None:
    with using(tmp_path, umask=0o022):
        with pytest.raises(ResolutionFailed, match=r"has Python 3\.11, and the project wants 3\.12"):
            resolve(BOOKWORM, "3.12")
        with pytest.raises(ResolutionFailed, match="debian bookworm has no package nosuchpackage"):
            resolve(BOOKWORM, "3.11", "nosuchpackage")
        with pytest.raises(ResolutionFailed, match="has no debian nosuchsuite"):
            resolve(BootstrapBase(distribution="debian", suite="nosuchsuite"))
