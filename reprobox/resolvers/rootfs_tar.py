"""A root file system's tar -> the same tar on every machine: which paths are kept, in what order, with what headers."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from reprobox.errors import BootstrapFailed
from reprobox.resolvers import java_keystore

WORK = ".reprobox"
"""The folder inside the growing root file system that holds the packages; gone when it is done."""

LEFT_OUT = (
    "dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "var/tmp/*",
    f"{WORK}", f"{WORK}/*",
    "etc/.pwd.lock", "etc/fstab", "etc/group-", "etc/gshadow-", "etc/hostname", "etc/hosts", "etc/passwd-",
    "etc/resolv.conf", "etc/shadow-", "etc/subgid-", "etc/subuid-",
    "etc/apt/sources.list", "etc/apt/sources.list.d/*", "etc/apt/apt.conf.d/*mmdebstrap",
    "usr/share/info/*", "usr/share/locale/*", "usr/share/man/*",
    "var/cache/apt/*", "var/cache/debconf/*-old", "var/cache/ldconfig/*", "var/cache/man/*",
    "var/lib/apt/*", "var/lib/dbus/machine-id", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock", "var/lib/systemd/random-seed", "var/lib/urandom/*",
)  # fmt: skip
"""Paths that are the run's and not the distribution's, and documentation; ``*`` crosses slashes."""

EMPTIED = frozenset({"etc/machine-id"})
"""Files that must be there and must say nothing."""

JAVA_KEYSTORE = "etc/ssl/certs/java/cacerts"
"""Java's own copy of the certificates, written when ca-certificates-java is installed, with the time in it."""


def is_kept(path: str, *, folder: bool, link: bool = False) -> bool:
    """Whether a path (without a slash in front) belongs in the root file system. Pure."""
    if not folder and path.startswith("var/log/"):
        return False
    if not folder and not link and path.startswith("usr/share/doc/"):
        return path.endswith("/copyright")
    return not any(fnmatchcase(path, pattern) for pattern in LEFT_OUT)


def normalised(source: Path, epoch: int) -> Iterator[bytes]:
    """A root file system's tar -> the bytes of one whose every bit follows from names, modes, owners and contents.

    Entries are sorted by their bytes and have no ``./`` in front; the root folder has none. Numeric owners only;
    a time later than ``epoch`` (seconds) becomes the epoch; of extended attributes only file capabilities stay;
    devices, pipes and sockets do not. Plain ustar, with a pax header only where a value does not fit.
    """
    with tarfile.open(source, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        members: dict[str, tarfile.TarInfo] = {}
        contents: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            path = str(PurePosixPath(member.name)).lstrip("/")
            if member.isfile():
                contents[path] = member
            elif member.islnk():
                contents[path] = contents[str(PurePosixPath(member.linkname)).lstrip("/")]
            if path == "." or not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                continue
            if is_kept(path, folder=member.isdir(), link=member.issym()):
                members[path] = member
        first: dict[int, str] = {}
        for path in sorted(members, key=_encoded):
            member = members[path]
            mtime = min(int(member.mtime), epoch)
            if member.isdir():
                yield entry_header(path + "/", b"5", mode=member.mode, uid=member.uid, gid=member.gid, mtime=mtime)
                continue
            if member.issym():
                yield entry_header(
                    path, b"2", mode=0o777, uid=member.uid, gid=member.gid, mtime=mtime, link=member.linkname
                )
                continue
            content = contents[path]
            known = first.setdefault(content.offset_data, path) if content.size else path
            size = 0 if path in EMPTIED or known != path else content.size
            yield entry_header(
                path, b"0" if known == path else b"1", mode=content.mode, uid=content.uid, gid=content.gid,
                mtime=min(int(content.mtime), epoch), size=size, link="" if known == path else known,
                capability=content.pax_headers.get("SCHILY.xattr.security.capability") if known == path else None,
            )  # fmt: skip
            if size:
                chunks = _content(source, content.offset_data, size)
                yield from [timeless_keystore(b"".join(chunks), epoch)] if path == JAVA_KEYSTORE else chunks
                yield bytes(-size % 512)
    yield bytes(1024)


def timeless_keystore(data: bytes, epoch: int) -> bytes:
    """Java's keystore without the time of its making. Raises BootstrapFailed for a format that is not known here."""
    try:
        return java_keystore.timeless(data, epoch)
    except ValueError as error:
        raise BootstrapFailed(
            f"/{JAVA_KEYSTORE} is in a format whose dates cannot be taken out, so no two machines would agree on it: "
            f"{error}",
            hint="take Java out of `system`",
        ) from None


def _content(source: Path, offset: int, size: int) -> Iterator[bytes]:
    with source.open("rb") as stream:
        stream.seek(offset)
        while size:
            chunk = stream.read(min(size, 1024 * 1024))
            if not chunk:
                raise BootstrapFailed("the root file system's tar is cut short", hint="is the disk full? try again")
            size -= len(chunk)
            yield chunk


def entry_header(
    path: str,
    kind: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    size: int = 0,
    link: str = "",
    capability: str | None = None,
) -> bytes:
    """One entry's ustar header, behind a pax header where name, link, owner, size or a capability needs one. Pure."""
    name_bytes, link_bytes = _encoded(path), _encoded(link)
    records: list[tuple[str, bytes]] = []
    if capability is not None:
        records.append(("SCHILY.xattr.security.capability", _encoded(capability)))
    for key, value in (("gid", gid), ("uid", uid)):
        if value > 0o7777777:
            records.append((key, str(value).encode()))
    for key, text in (("linkpath", link_bytes), ("path", name_bytes)):
        if len(text) > 100 or not text.isascii():
            records.append((key, text))
    if size > 0o77777777777:
        records.append(("size", str(size).encode()))
    header = _ustar(name_bytes, kind, mode=mode, uid=uid, gid=gid, size=size, mtime=mtime, link=link_bytes)
    if not records:
        return header
    body = b"".join(_record(key, value) for key, value in sorted(records))
    return _ustar(b"././@PaxHeader", b"x", mode=0o644, size=len(body)) + body + bytes(-len(body) % 512) + header


def _encoded(text: str) -> bytes:
    """A name's bytes as the tar had them, whatever this machine's locale says."""
    return text.encode("utf-8", "surrogateescape")


def _record(key: str, value: bytes) -> bytes:
    tail = b" " + key.encode() + b"=" + value + b"\n"
    length = len(tail) + 1
    while len(str(length)) + len(tail) != length:
        length = len(str(length)) + len(tail)
    return str(length).encode() + tail


def _ustar(
    name: bytes, kind: bytes, *, mode: int, uid: int = 0, gid: int = 0, size: int = 0, mtime: int = 0, link: bytes = b""
) -> bytes:
    def octal(value: int, width: int) -> bytes:
        return b"%0*o\0" % (width - 1, value if 0 <= value < 8 ** (width - 1) else 0)

    header = b"".join(
        (
            name[:100].ljust(100, b"\0"), octal(stat.S_IMODE(mode), 8), octal(uid, 8), octal(gid, 8), octal(size, 12),
            octal(max(mtime, 0), 12), b" " * 8, kind, link[:100].ljust(100, b"\0"), b"ustar\x0000", bytes(64),
            octal(0, 8), octal(0, 8), bytes(167),
        )
    )  # fmt: skip
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
