"""A distribution's packages: what is asked of apt, what order they are installed in, what their tar looks like."""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_registry import Reply, Served, serving

from reprobox import cache
from reprobox.console import Console
from reprobox.errors import BootstrapFailed, HashMismatch, InvalidInput, ProgramMissing, ReproboxError, ResolutionFailed
from reprobox.model import BootstrapBase, Digest, LockedBootstrap, Platform, PythonVersion, SystemPackage
from reprobox.resolvers import apt as apts
from reprobox.resolvers import debian, distribution, packages, rootfs
from reprobox.resolvers.debian import stanzas
from reprobox.resolvers.rootfs import Control, install_order
from reprobox.resolvers.rootfs_tar import entry_header, is_kept, normalised, timeless_keystore
from reprobox.web import Patience

EPOCH = 1_577_836_800
Fake = Callable[[str, str], None]


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a shell script in a program's place; nothing else of the distribution's tools is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "touch"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("REPROBOX_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("REPROBOX_UBUNTU_MIRROR", raising=False)

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def keyrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "debian-archive-keyring.gpg").touch()
    monkeypatch.setattr(apts, "_KEYRINGS", tmp_path)


def package(name: str, data: bytes, version: str = "1.0") -> SystemPackage:
    return SystemPackage(
        name=name,
        version=version,
        architecture="amd64",
        file=f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
        digest=Digest.of(data),
    )


def locked(*packages: SystemPackage, rootfs: Digest | None = None) -> LockedBootstrap:
    return LockedBootstrap(
        distribution="debian",
        suite="bookworm",
        platform=Platform.LINUX_64,
        packages=packages,
        rootfs=rootfs or Digest.of(b"never"),
    )


def resolve(python: str = "3.11", name: str = "debian", system: tuple[str, ...] = ()) -> None:
    distribution.resolve(
        BootstrapBase(distribution=name, suite="bookworm"),
        system=system,
        python=PythonVersion.parse(python),
        platform=Platform.LINUX_64,
        epoch=EPOCH,
        keep={},
        console=Console(),
    )


def fetch(*wanted: SystemPackage) -> tuple[Path, ...]:
    return packages.fetch(
        wanted, distribution="debian", suite="bookworm", snapshot="20260711T101637Z", console=Console()
    )


# --- mirrors ----------------------------------------------------------------------------------

LISTED = """\
http://security.example/debian-security/|main|Debian|Debian-Security
http://third.example/debian|main|Third|Debian
http://mirror.example/debian/|contrib|Debian|Debian
file:/srv/debian/|main|Debian|Debian
http://mirror.example/debian/|main|Debian|Debian
"""


def test_the_users_variable_names_the_mirror(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "https://mine.example/debian/")
    assert debian.mirror("debian", "bookworm") == "https://mine.example/debian"


def test_the_machines_apt_names_the_mirror_of_its_own_distribution_only(fake: Fake) -> None:
    fake("apt-get", f"cat <<'END'\n{LISTED}END")
    fake("mmdebstrap", "echo deb '[signed-by=/x]' http://archive.example/ubuntu noble main >&2; exit 1")
    assert debian.mirror("debian", "bookworm") == "http://mirror.example/debian"
    assert debian.mirror("ubuntu", "noble") == "http://archive.example/ubuntu"


def test_without_apt_mmdebstraps_own_mirror_is_taken(fake: Fake) -> None:
    fake("mmdebstrap", "echo deb http://default.example/debian bookworm main; echo deb http://b.example x main; exit 1")
    assert debian.mirror("debian", "bookworm") == "http://default.example/debian"


@pytest.mark.parametrize("chosen", ["", "file:///srv/debian", "nonsense", "ftp://user:s3cret@mirror.example/debian"])
def test_a_mirror_that_is_none_is_refused_without_its_secret(
    chosen: str, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("mmdebstrap", "exit 1")
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", chosen)
    with pytest.raises(ResolutionFailed, match="no mirror of debian bookworm is known") as caught:
        debian.mirror("debian", "bookworm")
    assert "s3cret" not in caught.value.message
    assert "REPROBOX_DEBIAN_MIRROR" in (caught.value.hint or "")


def test_another_distribution_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'fedora' cannot be bootstrapped, only debian and ubuntu"):
        resolve(name="fedora")


def test_a_machine_without_mmdebstrap_is_told_where_there_is_one(fake: Fake) -> None:
    with pytest.raises(ProgramMissing, match="mmdebstrap is not installed") as caught:
        resolve()
    assert "on Debian or Ubuntu: apt-get install mmdebstrap" in (caught.value.hint or "")


def test_a_machine_of_another_architecture_is_refused(fake: Fake) -> None:
    fake("mmdebstrap", "exit 1")
    fake("dpkg", "echo arm64")
    with pytest.raises(BootstrapFailed, match=r"linux-64 .* of its own kind \(amd64\); this one is arm64"):
        resolve()


# --- what apt says ----------------------------------------------------------------------------


@pytest.fixture
def apt(fake: Fake, keyrings: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An apt that answers as told."""
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "http://user:s3cret@mirror.example/debian")
    fake("mmdebstrap", "exit 1")
    fake("dpkg", "echo amd64")
    fake("apt-config", "exit 0")

    def answers(update: str = "exit 0", install: str = "exit 0", show: str = "exit 0") -> None:
        fake("apt-get", f'case "$*" in update) {update} ;; *) {install} ;; esac')
        fake("apt-cache", show)

    return answers


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("E: The repository 'x' does not have a Release file.", "has no debian bookworm"),
        ("E: Failed to fetch http://user:s3cret@mirror.example/x  404  Not Found", "has no debian bookworm"),
        ("W: The following signatures couldn't be verified: NO_PUBKEY 1", "is not signed by a key of debian-archive"),
        ("E: Could not resolve 'user:s3cret@mirror.example'", "gave no index of debian bookworm"),
    ],
)
def test_a_mirror_without_a_trusted_index_has_words_for_each_reason(
    said: str, words: str, apt: Callable[..., None]
) -> None:
    apt(update=f'echo "{said}" >&2; exit 100')
    with pytest.raises(ResolutionFailed, match=words) as caught:
        resolve()
    assert "http://mirror.example/debian" in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "said", ["E: Unable to locate package nosuch", "E: Package 'nosuch' has no installation candidate"]
)
def test_a_package_that_the_suite_lacks_is_named(said: str, apt: Callable[..., None]) -> None:
    apt(install=f'echo "{said}" >&2; exit 100')
    with pytest.raises(ResolutionFailed, match="debian bookworm has no package nosuch"):
        resolve(system=("nosuch",))


def test_packages_that_exclude_each_other_are_apts_to_explain(apt: Callable[..., None]) -> None:
    apt(install='echo "a : Conflicts: b" >&2; exit 100')
    with pytest.raises(ResolutionFailed, match=r"(?s)no set of packages for debian bookworm with a, b:.*a : Conflicts"):
        resolve(system=("a", "b"))


SHOWN = """\
Package: python3
Version: 3.11.2-1+b1
Architecture: amd64
Filename: ./pool/main/p/python3/python3_3.11.2-1+b1_amd64.deb
SHA256: {hash}
Description: an interpreter
 with a long
 story
""".format(hash="a" * 64)


def test_the_suites_python_must_be_the_wanted_one(apt: Callable[..., None]) -> None:
    apt(install="echo 'Inst python3 (3.11.2-1+b1 Debian:12 [amd64])'", show=f"cat <<'END'\n{SHOWN}END")
    with pytest.raises(ResolutionFailed, match=r"debian bookworm has Python 3\.11, and the project wants 3\.1$"):
        resolve(python="3.1")


def test_an_index_without_a_hash_is_refused(apt: Callable[..., None]) -> None:
    apt(
        install="echo 'Inst python3 (3.11.2-1+b1 Debian:12 [amd64])'",
        show=f"cat <<'END'\n{SHOWN.replace('SHA256', 'SHA1')}END",
    )
    with pytest.raises(ResolutionFailed, match="says too little about python3: 'SHA256'"):
        resolve()


def test_apt_must_describe_what_it_chose(apt: Callable[..., None]) -> None:
    apt(install="echo 'Inst python3 (3.11.9 Debian:12 [amd64])'", show=f"cat <<'END'\n{SHOWN}END")
    with pytest.raises(ResolutionFailed, match="other packages of debian bookworm than it describes: python3"):
        resolve()


def test_a_machine_without_the_distributions_keys_is_told_their_package(
    apt: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "debian-archive-keyring.gpg").unlink()
    apt()
    with pytest.raises(ResolutionFailed, match="the keys that sign Debian are not on this machine") as caught:
        resolve()
    assert caught.value.hint == "apt-get install debian-archive-keyring"


def test_control_paragraphs_are_read_with_their_continuations() -> None:
    read = list(stanzas("A: 1\nB: x\n y\n .\n\n\n \nA: 2\n"))
    assert read == [{"A": "1", "B": "x\ny\n."}, {"A": "2"}]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_as_paragraphs(text: str) -> None:
    assert all(isinstance(value, str) for fields in stanzas(text) for value in fields.values())


# --- fetching ---------------------------------------------------------------------------------


@pytest.fixture
def mirrored(server: Served, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", f"http://{server.host}/debian")
    monkeypatch.setattr(packages, "Patience", lambda: Patience(tries=2, sleep=lambda _: None))
    return server


def test_packages_come_from_the_mirror_once_and_in_the_locks_order(mirrored: Served) -> None:
    contents = [f"package {number}".encode() for number in range(20)]
    wanted_packages = [package(f"p{number}", data, "1:2+b~1") for number, data in enumerate(contents)]
    for wanted, data in zip(wanted_packages, contents, strict=True):
        mirrored.replies[f"/debian/{wanted.file}"] = Reply(body=data)
    for _ in range(2):
        files = fetch(*wanted_packages)
        assert [file.read_bytes() for file in files] == contents
    assert len(mirrored.requests) == 20


def test_a_changed_package_is_refused_with_its_name_and_both_digests(mirrored: Served) -> None:
    wanted = package("libgomp1", b"right", "12.2.0-14")
    mirrored.replies[f"/debian/{wanted.file}"] = Reply(body=b"wrong")
    with pytest.raises(HashMismatch, match=r"libgomp1 12\.2\.0-14 of debian bookworm") as caught:
        fetch(wanted)
    assert str(wanted.digest) in caught.value.message
    assert str(Digest.of(b"wrong")) in caught.value.message
    assert cache.get(Digest.of(b"wrong")) is None


def test_a_package_that_the_mirror_no_longer_has_hints_at_the_archive(mirrored: Served) -> None:
    with pytest.raises(ResolutionFailed, match=r"does not have bash 5.2 of debian bookworm \(HTTP 404\)") as caught:
        fetch(package("bash", b"", "5.2"))
    assert "a snapshot archive of 20260711T101637Z" in (caught.value.hint or "")
    assert "REPROBOX_DEBIAN_MIRROR" in (caught.value.hint or "")


def test_a_mirror_that_fails_or_breaks_off_is_asked_again_and_then_named(mirrored: Served) -> None:
    wanted = package("bash", b"right")
    path = f"/debian/{wanted.file}"
    mirrored.replies[path] = [Reply(503), Reply(body=b"right")]
    assert fetch(wanted)[0].read_bytes() == b"right"
    cache.path_of(wanted.digest).unlink()
    mirrored.replies[path] = Reply(503)
    with pytest.raises(ResolutionFailed, match=r"failed to give bash 1.0 of debian bookworm \(HTTP 503\)"):
        fetch(wanted)
    mirrored.replies[path] = Reply(body=b"ri", length=5)
    with pytest.raises(ResolutionFailed, match=r"cannot be fetched from .*: the answer ended after 2 of 5 bytes"):
        fetch(wanted)


def test_a_mirrors_password_is_sent_and_never_told(mirrored: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", f"http://me:s3cret%21@{mirrored.host}/debian")
    with pytest.raises(ResolutionFailed) as caught:
        fetch(package("bash", b""))
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"
    assert mirrored.requests[0][2]["authorization"] == "Basic bWU6czNjcmV0IQ=="


def test_apts_own_proxy_is_used_where_the_environment_names_none(
    fake: Fake, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "http://mirror.example/debian")
    fake("apt-config", f"echo \"http='http://{server.host}/'\"; echo \"https='DIRECT'\"")
    wanted = package("bash", b"data")
    server.replies[f"http://mirror.example/debian/{wanted.file}"] = Reply(body=b"data")
    assert fetch(wanted)[0].read_bytes() == b"data"


def test_a_security_update_comes_from_the_security_archive(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("apt-get", f"cat <<'END'\n{LISTED}END")
    assert debian.security_mirror("debian", "bookworm") == "http://security.example/debian-security"
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "http://old.example/archive/debian/20260711T101637Z/")
    place = "http://old.example/archive/debian-security/20260711T101637Z"
    assert debian.security_mirror("debian", "bookworm") == place
    monkeypatch.setenv("REPROBOX_DEBIAN_SECURITY_MIRROR", "http://mine.example/")
    assert debian.security_mirror("debian", "bookworm") == "http://mine.example"
    monkeypatch.setenv("REPROBOX_UBUNTU_MIRROR", "http://ubuntu.example/ubuntu")
    assert debian.security_mirror("ubuntu", "noble") == "http://ubuntu.example/ubuntu"


def test_a_mirror_with_no_security_archive_beside_it_must_be_told_one(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "http://mine.example/deb")
    with pytest.raises(ResolutionFailed, match="no mirror of debian bookworm's security updates is known") as caught:
        debian.security_mirror("debian", "bookworm")
    assert "REPROBOX_DEBIAN_SECURITY_MIRROR" in (caught.value.hint or "")


def test_a_package_of_the_security_archive_is_fetched_there(mirrored: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROBOX_DEBIAN_SECURITY_MIRROR", f"http://{mirrored.host}/security")
    wanted = replace(package("libssl3", b"data"), file="pool/updates/main/o/openssl/libssl3_1.0_amd64.deb")
    mirrored.replies[f"/security/{wanted.file}"] = Reply(body=b"data")
    assert fetch(wanted)[0].read_bytes() == b"data"


# --- the order of installation ----------------------------------------------------------------


def test_essential_packages_come_first_with_what_they_need() -> None:
    batches = install_order(
        [
            Control(name="z", version="1", architecture="all", essential=True, depends=(("lib",),)),
            Control(name="lib", version="1", architecture="all"),
            Control(name="a", version="1", architecture="all", depends=(("b", "missing"), ("virtual",))),
            Control(name="b", version="1", architecture="all"),
            Control(name="c", version="1", architecture="all", provides=("virtual",)),
        ]
    )
    assert batches == (("lib", "z"), ("b", "c", "a"))


def test_what_must_work_before_unpacking_is_in_an_earlier_batch() -> None:
    batches = install_order(
        [
            Control(name="base", version="1", architecture="all", essential=True),
            Control(name="a", version="1", architecture="all", pre_depends=(("b",),)),
            Control(name="b", version="1", architecture="all"),
            Control(name="c", version="1", architecture="all", pre_depends=(("base",),)),
        ]
    )
    assert batches == (("base",), ("b",), ("a", "c"))


_names = st.sampled_from("abcdefgh")
_controls = st.dictionaries(
    _names,
    st.tuples(st.booleans(), st.lists(_names, max_size=3), st.lists(_names, max_size=2)),
    min_size=1,
).map(
    lambda found: [
        Control(
            name=name,
            version="1",
            architecture="all",
            essential=essential,
            depends=tuple((need,) for need in depends),
            pre_depends=tuple((need,) for need in pre_depends),
        )
        for name, (essential, depends, pre_depends) in found.items()
    ]
)


@settings(max_examples=300, deadline=None)
@given(controls=_controls, seed=st.integers())
def test_every_package_is_installed_once_in_an_order_that_the_input_does_not_change(
    controls: list[Control], seed: int
) -> None:
    batches = install_order(controls)
    assert sorted(name for batch in batches for name in batch) == sorted(control.name for control in controls)
    random.Random(seed).shuffle(controls)
    assert install_order(controls) == batches


# --- the tar ----------------------------------------------------------------------------------


def member(path: str, content: bytes | None = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(path)
    if content is None:
        entry.type = tarfile.DIRTYPE
    entry.size = len(content or b"")
    entry.mode = 0o755 if content is None else 0o644
    for name, value in changes.items():
        setattr(entry, name, value)
    return entry, content or b""


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return path


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: entry for entry in tar}


def test_the_tar_follows_from_names_modes_owners_and_contents_alone(tmp_path: Path) -> None:
    now = time.time()
    one = tar_of(
        tmp_path / "one.tar",
        member("./", None, mtime=now),
        member("./b", None, mtime=now, uname="root"),
        member("./b/file", b"data", mtime=now + 0.5, gname="wheel", pax_headers={"atime": "12"}),
        member("./a", b"", mtime=5, uid=7, mode=0o4755),
    )
    two = tar_of(
        tmp_path / "two.tar",
        member("a", b"", mtime=5, uid=7, mode=0o4755),
        member("b/file", b"data", mtime=EPOCH + 1),
        member("b", None, mtime=EPOCH),
    )
    data = b"".join(normalised(one, EPOCH))
    assert data == b"".join(normalised(two, EPOCH))
    entries = read(data)
    assert list(entries) == ["a", "b", "b/file"]
    assert (entries["a"].mtime, entries["b"].mtime, entries["b/file"].mtime) == (5, EPOCH, EPOCH)
    assert (entries["a"].uid, entries["a"].mode) == (7, 0o4755)


def test_the_tars_bytes_are_known(tmp_path: Path) -> None:
    source = tar_of(tmp_path / "t.tar", member("etc", None), member("etc/x", b"y" * 600), member("é" * 60, b""))
    known = "54e6ce5c24a5fe17e86794fa0cbeaf68e532489e0d845ca485681bb70d2dabf7"
    assert Digest.of(b"".join(normalised(source, EPOCH))).hex == known


def test_devices_sockets_and_the_runs_own_traces_stay_out(tmp_path: Path) -> None:
    source = tar_of(
        tmp_path / "t.tar",
        member("dev", None),
        member("dev/null", type=tarfile.CHRTYPE),
        member("run/pipe", type=tarfile.FIFOTYPE),
        member("var/log", None),
        member("var/log/dpkg.log", b"now"),
        member("etc/hostname", b"here"),
        member("etc/machine-id", b"0123"),
        member("usr/share/doc/bash/README", b""),
        member("usr/share/doc/bash/copyright", b"free"),
        member("usr/share/doc/libx", type=tarfile.SYMTYPE, linkname="bash"),
        member("usr/share/man/man1/bash.1.gz", b""),
    )
    entries = read(b"".join(normalised(source, EPOCH)))
    assert sorted(entries) == [
        "dev", "etc/machine-id", "usr/share/doc/bash/copyright", "usr/share/doc/libx", "var/log"
    ]  # fmt: skip
    assert entries["etc/machine-id"].size == 0


@pytest.mark.parametrize(
    ("path", "kept"),
    [("usr/bin/bash", True), ("var/lib/dpkg/status", True), ("var/lib/dpkg/status-old", False), ("tmp/x", False),
     ("var/lib/dpkg/lock-frontend", False), ("etc/apt/sources.list", False), ("usr/share/locale/de/x", False),
     ("usr/share/zoneinfo/UTC", True), ("usr/share/doc/a/copyright", True), ("etc/shadow", True)],
)  # fmt: skip
def test_what_is_kept(path: str, kept: bool) -> None:
    assert is_kept(path, folder=False) is kept


def test_hard_links_follow_the_first_name_in_order_even_where_that_one_was_the_link(tmp_path: Path) -> None:
    source = tar_of(
        tmp_path / "t.tar",
        member("usr/share/man/z", b"shared"),
        member("usr/b", b"", type=tarfile.LNKTYPE, linkname="usr/share/man/z"),
        member("usr/a", b"", type=tarfile.LNKTYPE, linkname="usr/share/man/z"),
    )
    data = b"".join(normalised(source, EPOCH))
    entries = read(data)
    assert list(entries) == ["usr/a", "usr/b"]
    assert (entries["usr/a"].isfile(), entries["usr/b"].linkname) == (True, "usr/a")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = tar.extractfile("usr/b")
        assert content
        assert content.read() == b"shared"


def test_a_file_capability_survives_and_other_attributes_do_not(tmp_path: Path) -> None:
    capability = os.fsdecode(struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0) + b"\xff")
    attributes = {"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.security.selinux": "label"}
    source = tar_of(tmp_path / "t.tar", member("ping", b"x", pax_headers=attributes))
    data = b"".join(normalised(source, EPOCH))
    assert b"selinux" not in data
    assert b"36 SCHILY" not in data
    record = b" SCHILY.xattr.security.capability=" + os.fsencode(capability) + b"\n"
    assert str(len(record) + 2).encode() + record in data


@settings(max_examples=200, deadline=None)
@given(
    path=st.text(st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1, max_size=150),
    link=st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=150),
    ids=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)),
    mode=st.integers(0, 0o7777),
    mtime=st.integers(-1, 2**33 - 1),
)
def test_any_entry_is_read_back_as_it_was_written(
    path: str, link: str, ids: tuple[int, int], mode: int, mtime: int
) -> None:
    data = entry_header(path, b"2", mode=mode, uid=ids[0], gid=ids[1], mtime=mtime, link=link) + bytes(1024)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (entry,) = tar.getmembers()
    assert (entry.name.rstrip("/"), entry.linkname) == (path, link)
    assert (entry.uid, entry.gid, entry.mode, entry.mtime) == (*ids, mode, max(mtime, 0))


def keystore(stamps: list[int], *, version: int = 2) -> bytes:
    body = struct.pack(">III", 0xFEEDFEED, version, len(stamps))
    for number, stamp in enumerate(stamps):
        alias = f"debian:{number}".encode()
        body += struct.pack(">IH", 2, len(alias)) + alias + struct.pack(">q", stamp)
        body += struct.pack(">H", 5) + b"X.509" + struct.pack(">I", 3) + b"der"
    return body + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def test_javas_keystore_loses_its_dates_and_keeps_its_seal() -> None:
    assert timeless_keystore(keystore([1, 2, 3]), EPOCH) == keystore([EPOCH * 1000] * 3)
    assert timeless_keystore(keystore([]), EPOCH) == keystore([])


@pytest.mark.parametrize("data", [b"", b"PKCS12" * 10, keystore([1], version=1), keystore([1])[:-1] + b"x"])
def test_a_keystore_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(BootstrapFailed, match="/etc/ssl/certs/java/cacerts is in a format"):
        timeless_keystore(data, EPOCH)


def test_a_tar_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    source = tar_of(tmp_path / "t.tar", member("a", b"x" * 10_000))
    with source.open("r+b") as stream:
        stream.truncate(5_000)
    with pytest.raises((BootstrapFailed, tarfile.ReadError)):
        b"".join(normalised(source, EPOCH))


# --- assembling -------------------------------------------------------------------------------


@pytest.fixture
def debs(fake: Fake) -> tuple[SystemPackage, ...]:
    """Two packages in the cache, and a dpkg-deb that reads their names out of their bytes."""
    fake("dpkg", "echo amd64")
    fake("dpkg-deb", 'cat "$2"')
    fake("apt-get", "echo apt 2.6.1")
    fake("tar", "echo tar 1.34")
    found = []
    for name in ("base-files", "python3"):
        data = f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nEssential: yes\n".encode()
        cache.put([data])
        found.append(package(name, data))
    return tuple(found)


def make_rootfs(fake: Fake, tmp_path: Path) -> None:
    """An mmdebstrap that hands over a ready root file system."""
    tar_of(tmp_path / "ready.tar", member("etc", None), member("etc/os-release", b"NAME=fake", mtime=time.time()))
    fake(
        "mmdebstrap",
        f'[ "$1" = --version ] && echo mmdebstrap 1.3.5 && exit\n'
        f'for last; do :; done; echo "Unpacking a"; cat {tmp_path}/ready.tar >"$last"',
    )


def test_the_same_root_file_system_is_taken_from_the_cache_and_another_one_is_refused(
    debs: tuple[SystemPackage, ...], fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    make_rootfs(fake, tmp_path)
    expected = Digest.of(b"".join(normalised(tmp_path / "ready.tar", EPOCH)))
    lock = locked(*debs, rootfs=expected)
    assert rootfs.assemble(lock, epoch=EPOCH, console=Console()) == cache.path_of(expected)
    fake("mmdebstrap", "exit 1")
    assert rootfs.assemble(lock, epoch=EPOCH, console=Console()) == cache.path_of(expected)
    make_rootfs(fake, tmp_path)
    with pytest.raises(HashMismatch) as caught:
        rootfs.assemble(locked(*debs), epoch=EPOCH, console=Console())
    for word in (Digest.of(b"never"), expected, "mmdebstrap 1.3.5", "apt-get 2.6.1", "tar 1.34", "dpkg of an unknown"):
        assert str(word) in caught.value.message


def test_a_failing_assembly_shows_the_end_of_what_was_said_without_the_script(
    debs: tuple[SystemPackage, ...], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fake("mmdebstrap", 'echo "dpkg: error processing"; echo "umask 022"; exit 25')
    with pytest.raises(
        BootstrapFailed, match=r"(?s)debian bookworm .*mode root, exit code 25\):\ndpkg: error"
    ) as caught:
        rootfs.assemble(locked(*debs), epoch=EPOCH, console=Console())
    assert "umask" not in caught.value.message
    assert "allowed to mount" in (caught.value.hint or "")


def test_an_ordinary_user_needs_ids_of_their_own(
    debs: tuple[SystemPackage, ...], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    fake("mmdebstrap", "exit 1")
    with pytest.raises(ProgramMissing, match="newuidmap is not installed"):
        rootfs.assemble(locked(*debs), epoch=EPOCH, console=Console())
    fake("newuidmap", "exit 0")
    with pytest.raises(BootstrapFailed, match="the user nobody has no ids of their own in /etc/subuid") as caught:
        rootfs.assemble(locked(*debs), epoch=EPOCH, console=Console())
    assert "usermod --add-subuids" in (caught.value.hint or "")


def test_a_user_without_a_name_is_told_that_no_sandbox_is_to_be_had(
    debs: tuple[SystemPackage, ...], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_123)
    fake("mmdebstrap", "exit 1")
    fake("newuidmap", "exit 0")
    with pytest.raises(BootstrapFailed, match="the user 4000123 has no name on this machine") as caught:
        rootfs.assemble(locked(*debs), epoch=EPOCH, console=Console())
    assert "an entry in /etc/passwd, or as root" in (caught.value.hint or "")


def test_a_lock_whose_digest_belongs_to_another_package_is_refused(
    debs: tuple[SystemPackage, ...], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fake("mmdebstrap", "exit 1")
    forged = SystemPackage(name="a", version="1.0", architecture="amd64", file="a.deb", digest=debs[0].digest)
    with pytest.raises(HashMismatch, match=r"names a 1\.0 amd64, and .* is base-files 1\.0 amd64"):
        rootfs.assemble(locked(forged), epoch=EPOCH, console=Console())


def test_an_epoch_in_the_future_is_refused(fake: Fake) -> None:
    with pytest.raises(InvalidInput, match="is in the future"):
        rootfs.assemble(locked(), epoch=int(time.time()) + 1000, console=Console())


def test_every_refusal_says_what_to_do(fake: Fake) -> None:
    with pytest.raises(ReproboxError) as caught:
        resolve()
    assert caught.value.hint


def test_a_control_file_gives_names_alone(fake: Fake, tmp_path: Path) -> None:
    fake("dpkg-deb", "cat <<'END'\nPackage: a\nVersion: 1\nArchitecture: all\nEssential: yes\n"
         "Pre-Depends: libc6 (>= 2.3), dpkg\nDepends: b | c:any (= 1),\n d\nProvides: e (= 1)\nEND")  # fmt: skip
    assert rootfs.read_control(tmp_path / "a.deb") == Control(
        name="a", version="1", architecture="all", essential=True,
        pre_depends=(("libc6",), ("dpkg",)), depends=(("b", "c"), ("d",)), provides=("e",),
    )  # fmt: skip


def test_the_interpreter_is_the_distributions_own(
    apt: Callable[..., None],
    debs: tuple[SystemPackage, ...],
    fake: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    shown = SHOWN.replace("a" * 64, debs[1].digest.hex).replace("3.11.2-1+b1", "1:3.11.2")
    data = b"Package: python3\nVersion: 1:3.11.2\nArchitecture: amd64\n"
    cache.put([data])
    shown = shown.replace(debs[1].digest.hex, Digest.of(data).hex)
    apt(install="echo 'Inst python3 (1:3.11.2 Debian:12 [amd64])'", show=f"cat <<'END'\n{shown}END")
    make_rootfs(fake, tmp_path)
    found, interpreter = distribution.resolve(
        BootstrapBase(distribution="debian", suite="bookworm"), system=(), python=PythonVersion(3, 11),
        platform=Platform.LINUX_64, epoch=EPOCH, keep={}, console=Console(),
    )  # fmt: skip
    assert interpreter.path == PurePosixPath("/usr/bin/python3.11")
    assert [p.file for p in found.packages] == ["pool/main/p/python3/python3_1:3.11.2_amd64.deb"]
    assert found.rootfs == Digest.of_file(rootfs.assemble(found, epoch=EPOCH, console=Console()))
