"""Distribution packages added to a base image: what apt is asked, what is refused, what stays where it is."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_base import Shelf, layer, lock_of, project, python
from test_distribution import Fake, fake  # noqa: F401 (a fixture)

from reprobox import lockfile, recipe, render
from reprobox.console import Console
from reprobox.errors import InvalidLock, ProgramMissing, RegistryFailed, ResolutionFailed
from reprobox.model import MEBIBYTE, Digest, LockedImage, LockedSystem, Platform, SystemPackage
from reprobox.resolvers import apt as apts
from reprobox.resolvers import base, image_tree

BOOKWORM = b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
INSTALLED = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\n"
DEBIAN = (("usr/bin/apt-get", b"apt"), ("var/lib/dpkg/status", INSTALLED), ("usr/lib/os-release", BOOKWORM))
DESCRIBED = """\
Package: git
Version: 1:2.39.5
Architecture: amd64
Filename: pool/main/g/git/git_2.39.5_amd64.deb
SHA256: {hash}

Package: libssl3
Version: 3.0.17
Architecture: amd64
Filename: pool/updates/main/o/openssl/libssl3_3.0.17_amd64.deb
SHA256: {hash}
""".format(hash="a" * 64)
PLAN = "Inst libssl3 [3.0.16] (3.0.17 Debian-Security:12/oldstable-security [amd64])\nInst git (1:2.39.5 x [amd64])"


@pytest.fixture
def apt(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:  # noqa: F811
    """An apt that answers as told and keeps a copy of its private folder."""
    (tmp_path / "debian-archive-keyring.gpg").touch()
    monkeypatch.setattr(apts, "_KEYRINGS", tmp_path)
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "http://mirror.example/debian")
    fake("apt-config", "exit 0")
    fake("apt-cache", f"cat <<'END'\n{DESCRIBED}END")
    for name in ("cp", "rm", "dirname", "printf"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")

    def answers(plan: str) -> Path:
        kept = tmp_path / "kept"
        release = "Date: Sat, 11 Jul 2026 10:16:37 UTC"
        fake(
            "apt-get",
            f"""place=$(dirname "$APT_CONFIG"); echo "{release}" > "$place/lists/mirror_InRelease"
            if [ "$*" = update ]; then exit; fi
            rm -rf {kept}; cp -r "$place" {kept}; echo "$@" > {kept}/asked; {plan}""",
        )
        return kept

    return answers


def shelf(*members: tuple[str, bytes | str]) -> Shelf:
    return Shelf({Platform.LINUX_64: [layer(*members, *python())]})


def added(**changes: object) -> LockedSystem:
    locked, _ = base.resolve(project(system=("git",)), console=Console(), registry=shelf(*DEBIAN), **changes)  # type: ignore[arg-type]
    assert isinstance(locked, LockedImage)
    assert locked.system
    return locked.system


def test_the_image_says_its_suite_and_what_is_installed(apt: Callable[[str], Path]) -> None:
    kept = apt(f"echo '{PLAN}'")
    system = added()
    assert (system.distribution, system.suite, system.snapshot) == ("debian", "bookworm", "20260711T101637Z")
    assert [(p.name, p.version, p.file.split("/")[1]) for p in system.packages[Platform.LINUX_64]] == [
        ("git", "1:2.39.5", "main"),
        ("libssl3", "3.0.17", "updates"),
    ]
    assert (kept / "status").read_bytes() == INSTALLED
    sources = [line.split()[3:5] for line in (kept / "sources.list").read_text().splitlines()]
    assert sources == [
        ["http://mirror.example/debian", "bookworm"],
        ["http://mirror.example/debian", "bookworm-updates"],
        ["http://mirror.example/debian-security", "bookworm-security"],
    ]
    assert (kept / "asked").read_text().split() == ["--simulate", "--no-remove", "install", "git"]


def test_upper_layers_win_and_a_link_to_the_release_is_followed(apt: Callable[[str], Path]) -> None:
    apt("exit 0")
    lower = layer(("usr/lib/os-release", b"ID=alpine\n"), *python())
    upper = layer(*DEBIAN, ("etc/os-release", "../usr/lib/os-release"))
    here = Shelf({Platform.LINUX_64: [lower, upper]})
    locked, _ = base.resolve(project(system=("git",)), console=Console(), registry=here)
    assert isinstance(locked, LockedImage)
    assert locked.system
    assert locked.system.packages == {Platform.LINUX_64: ()}  # all of it is installed already


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            (("etc/os-release", b'ID=alpine\nPRETTY_NAME="Alpine Linux v3.22"\n'),),
            "it is Alpine Linux v3.22, not",
        ),
        ((), "it is of an unknown distribution"),
        (DEBIAN[1:], r"has no apt \(/usr/bin/apt-get\)"),
        ((DEBIAN[0], DEBIAN[2]), r"has no dpkg's list of packages \(/var/lib/dpkg/status\)"),
    ],
)
def test_an_image_that_packages_cannot_be_added_to_is_refused(
    members: tuple[tuple[str, bytes | str], ...], words: str
) -> None:
    with pytest.raises(ResolutionFailed, match=words):
        base.resolve(project(system=("git",)), console=Console(), registry=shelf(*members))


def test_a_machine_without_apt_is_told_where_there_is_one(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("REPROBOX_DEBIAN_MIRROR", "http://mirror.example/debian")
    with pytest.raises(ProgramMissing, match="apt-config is not installed") as caught:
        added()
    assert "locked on Debian or Ubuntu" in (caught.value.hint or "")


def test_a_package_that_does_not_fit_the_image_is_apts_to_explain(apt: Callable[[str], Path]) -> None:
    apt('echo "libssl-dev : Depends: libssl3 (= 3.0.11) but 3.0.16 is to be installed" >&2; exit 100')
    with pytest.raises(ResolutionFailed, match=r"(?s)no set of packages for debian bookworm with git:.*libssl-dev :"):
        added()


def test_a_package_that_would_drive_another_out_of_the_image_is_refused_with_both(apt: Callable[[str], Path]) -> None:
    apt(
        """echo "The following packages will be REMOVED:"; echo "  libgcc-s1 libgomp1"
        echo "E: Packages need to be removed but remove is disabled." >&2; exit 100"""
    )
    with pytest.raises(ResolutionFailed) as caught:
        added()
    assert caught.value.message == "debian bookworm with git takes away what is installed: libgcc-s1, libgomp1"
    assert "take one of the packages out of `system`" in (caught.value.hint or "")


def test_a_package_that_the_image_has_already_is_no_entry(apt: Callable[[str], Path]) -> None:
    apt(f'echo "git is already the newest version (1:2.39.5)."; echo "{PLAN.splitlines()[0]}"')
    assert [package.name for package in added().packages[Platform.LINUX_64]] == ["libssl3"]


def test_a_user_without_a_name_asks_apt_as_well(apt: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = apt(f"echo '{PLAN}'")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_123)
    added()
    assert 'APT::Sandbox::User "root";' in (kept / "apt.conf").read_text()


@pytest.mark.parametrize("path", ["var/lib/dpkg/status", "etc/os-release"])
@pytest.mark.parametrize("how", ["hard link", "large"])
def test_a_file_that_cannot_be_read_is_not_taken_from_a_lower_layer(
    path: str, how: str, apt: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    apt(f"echo '{PLAN}'")
    lower = layer(*DEBIAN, ("etc/os-release", BOOKWORM), *python())
    if how == "large":
        monkeypatch.setattr(image_tree, "_MOST", MEBIBYTE)
        upper, reason = layer((path, bytes(MEBIBYTE + 1))), "it is larger than 1 MiB"
    else:
        upper, reason = hard_link(path, "opt/other"), "it is a hard link to /opt/other"
    here = Shelf({Platform.LINUX_64: [lower, upper]})
    with pytest.raises(RegistryFailed, match=f"the base image's /{path} cannot be read: {reason}"):
        base.resolve(project(system=("git",)), console=Console(), registry=here)
    base.resolve(project(), console=Console(), registry=here)  # nobody asks for it where nothing is added


def hard_link(path: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname = tarfile.LNKTYPE, target
        tar.addfile(entry)
    return buffer.getvalue()


def test_versions_that_nobody_asked_to_move_are_pinned(apt: Callable[[str], Path]) -> None:
    kept = apt(f"echo '{PLAN}'")
    here = shelf(*DEBIAN)
    locked, interpreter = base.resolve(project(system=("git",)), console=Console(), registry=here)
    previous = dataclasses.replace(
        lock_of(project(system=("git",))), base=locked, interpreter=interpreter
    )  # fmt: skip
    assert (kept / "preferences").read_text() == ""
    more = project(system=("git", "libgomp1"))
    base.resolve(more, console=Console(), previous=previous, registry=here)
    assert "Package: git\nPin: version 1:2.39.5\nPin-Priority: 999\n" in (kept / "preferences").read_text()
    base.resolve(more, console=Console(), previous=previous, again=True, registry=here)
    assert (kept / "preferences").read_text() == ""


def test_a_younger_index_that_says_the_same_changes_nothing(apt: Callable[[str], Path]) -> None:
    apt(f"echo '{PLAN}'")
    here, wishes = shelf(*DEBIAN), project(system=("git",))
    locked, interpreter = base.resolve(wishes, console=Console(), registry=here)
    assert isinstance(locked, LockedImage)
    assert locked.system
    older = dataclasses.replace(locked, system=dataclasses.replace(locked.system, snapshot="20260101T000000Z"))
    previous = dataclasses.replace(lock_of(wishes), base=older, interpreter=interpreter)
    again, _ = base.resolve(wishes, console=Console(), previous=previous, again=True, registry=here)
    assert again == older


SYSTEM = LockedSystem(
    distribution="debian",
    suite="bookworm",
    snapshot="20260711T101637Z",
    packages={
        Platform.LINUX_64: tuple(
            SystemPackage(name=name, version=version, architecture="amd64", file=f"pool/{name}.deb", digest=digest)
            for name, version, digest in (
                ("git", "1:2.39.5-0+deb12u2", Digest.of(b"git")),
                ("libgomp1", "12.2.0-14", Digest.of(b"libgomp1")),
            )
        )
    },
)


def test_the_lock_names_each_package_and_its_index_on_the_way_there_and_back() -> None:
    made = dataclasses.replace(lock_of(project()), base=_image())
    data = lockfile.dumps(made)
    assert lockfile.loads(data).base == _image()
    assert b"    snapshot: 20260711T101637Z\n" in data


def test_a_version_that_would_end_a_line_of_the_dockerfile_is_refused() -> None:
    evil = dataclasses.replace(SYSTEM.packages[Platform.LINUX_64][0], version="1\nEOF\nRUN evil")
    system = dataclasses.replace(SYSTEM, packages={Platform.LINUX_64: (evil,)})
    made = dataclasses.replace(lock_of(project()), base=dataclasses.replace(_image(), system=system))
    with pytest.raises(InvalidLock, match="not a package's name, version or architecture"):
        lockfile.loads(lockfile.dumps(made))


def test_the_dockerfile_with_system_packages_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    from examples import lock  # noqa: PLC0415
    from examples import project as example  # noqa: PLC0415

    wanted = example(image=True)
    made = dataclasses.replace(lock(wanted, image=True), base=_image())
    golden("system.Dockerfile", render.dockerfile(recipe.make(wanted, made, Platform.LINUX_64)))


def _image() -> LockedImage:
    return LockedImage(
        reference="registry.example:5000/python:3.11-slim",
        digest=Digest.of(b"index"),
        manifests={Platform.LINUX_64: Digest.of(b"amd64")},
        system=SYSTEM,
    )
