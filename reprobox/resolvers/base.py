"""Project -> what its environment stands on: an exact image or a bootstrapped distribution, and the Python in it."""

from __future__ import annotations

import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Literal, cast

from reprobox.console import Console
from reprobox.errors import InvalidInput, RegistryFailed, ResolutionFailed
from reprobox.model import (
    BootstrapBase,
    ImageBase,
    Lock,
    LockedBootstrap,
    LockedImage,
    LockedInterpreter,
    Platform,
    Project,
    PythonVersion,
)

if TYPE_CHECKING:
    from reprobox.registry import Descriptor, Reference, Registry

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ANSWERS = ("base", "python", "platforms", "system", "epoch")
"""The wishes that a base answers: while these are the same, so is it."""


def resolve(
    project: Project, *, console: Console, previous: Lock | None = None, registry: Registry | None = None
) -> tuple[LockedImage | LockedBootstrap, LockedInterpreter]:
    """The base, exact, and the path of its Python.

    With ``previous`` (a lock of this project) what it holds is kept, without a question to anybody, as long as
    nothing that the base answers was changed; give None to look again. Raises InvalidInput, ResolutionFailed,
    RegistryFailed, HashMismatch, and for a distribution ProgramMissing and BootstrapFailed.
    """
    if previous and all(previous.wants.get(key) == project.wants.get(key) for key in _ANSWERS):
        return previous.base, previous.interpreter
    if isinstance(project.base, BootstrapBase):
        return _bootstrap(project, project.base, console)
    return _image(project, project.base, console, registry)


def _bootstrap(project: Project, base: BootstrapBase, console: Console) -> tuple[LockedBootstrap, LockedInterpreter]:
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
        console=console,
    )


def _image(
    project: Project, base: ImageBase, console: Console, registry: Registry | None
) -> tuple[LockedImage, LockedInterpreter]:
    from reprobox.registry import Registry, layers, parse_reference  # noqa: PLC0415 (slow to import)

    if project.system:
        raise InvalidInput(
            f"system packages ({', '.join(project.system)}) on an image base are not supported yet",
            hint="use a bootstrapped base: {bootstrap: debian, suite: bookworm}; or an image that has them",
        )
    with console.step(f"Resolving {base.reference}") as step:
        step.say("asking the registry")
        registry = registry or Registry()
        locked = registry.resolve(base.reference, project.platforms)
        found: dict[PurePosixPath, Platform] = {}
        for platform in project.platforms:
            step.say(f"looking for Python {project.python} ({platform.value})")

            def fetch(layer: Descriptor, reference: Reference) -> Path:
                received = 0

                def count(size: int) -> None:
                    nonlocal received
                    received += size
                    step.advance(received, layer.size)

                return registry.blob(reference, layer.digest, size=layer.size, on_bytes=count)

            reference = parse_reference(base.reference)
            manifest = registry.manifest(reference, locked.manifests[platform])
            path = _search_path(registry.config(reference, manifest))
            tree = _Tree()
            interpreter = None
            for layer in reversed(layers(manifest, reference)):
                tree.add(read_layer(fetch(layer, reference), layer, reference))
                interpreter = tree.interpreter(project.python, path)
                if interpreter:
                    break
            if interpreter is None:
                raise tree.nothing(project.python, base.reference)
            found.setdefault(interpreter, platform)
    if len(found) > 1:
        raise ResolutionFailed(
            f"{base.reference} has Python {project.python} at different paths: "
            + ", ".join(f"{path} ({platform.value})" for path, platform in found.items()),
            hint="lock one platform, or choose another image",
        )
    return locked, LockedInterpreter(version=project.python, path=next(iter(found)))


def _search_path(config: Mapping[str, object]) -> tuple[str, ...]:
    inner = config.get("config")
    variables = inner.get("Env") if isinstance(inner, dict) else None
    named = [word[5:] for word in variables or () if isinstance(word, str) and word.startswith("PATH=")]
    return tuple(part.strip("/") for part in (named[-1] if named else _DEFAULT_PATH).split(":") if part.startswith("/"))


# --- what lies in an image, layer by layer, never on the disk ---------------------------------

_PYTHON = re.compile(r"(?:.+/)?bin/python(\d+\.\d+)")
_STANDARD = re.compile(r"(.*?lib/python(?:\d+\.\d+)?)/ensurepip/__init__\.py")
_WHEEL = re.compile(r"(?:.*/ensurepip/_bundled|usr/share/python-wheels)/pip-[^/]+\.whl")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A path of interest in one layer: a file that is there, a link (``target``), or something taken away."""

    path: str
    kind: Literal["file", "link", "gone", "opaque"]
    target: str = ""


def read_layer(blob: Path, layer: Descriptor, reference: Reference) -> tuple[Entry, ...]:
    """The Pythons, their pip wheels, links and deletions in a layer. Raises RegistryFailed for what is no layer."""
    try:
        with (
            blob.open("rb") as stream,
            _decompressed(stream, layer, reference) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            return tuple(entry for member in tar if (entry := _entry(member)))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise RegistryFailed(
            f"the layer {layer.digest} of {reference} cannot be read: {error}", hint="choose another image"
        ) from None


def _decompressed(stream: IO[bytes], layer: Descriptor, reference: Reference) -> IO[bytes]:
    start = stream.read(4)
    stream.seek(0)
    if start[:2] == b"\x1f\x8b":
        import gzip  # noqa: PLC0415 (only where a layer has it)

        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if start == b"\x28\xb5\x2f\xfd":
        try:
            from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 (new in 3.14)
        except ImportError:
            raise ResolutionFailed(
                f"the layer {layer.digest.short} of {reference} is compressed with zstd, which this Python cannot read",
                hint="run reprobox with Python 3.14 or newer, or choose an image with gzip layers",
            ) from None
        return cast(IO[bytes], zstd.ZstdFile(stream))
    return stream


def _entry(member: tarfile.TarInfo) -> Entry | None:
    path = posixpath.normpath(member.name.lstrip("/"))
    folder, _, name = path.rpartition("/")
    if name == ".wh..wh..opq":
        return Entry(path=folder, kind="opaque")
    if name.startswith(".wh."):
        return Entry(path=posixpath.join(folder, name[4:]), kind="gone")
    if member.issym():
        return Entry(
            path=path, kind="link", target=posixpath.normpath(posixpath.join("/", folder, member.linkname))[1:]
        )
    if _PYTHON.fullmatch(path):
        runs = (member.isfile() or member.islnk()) and member.mode & 0o111
        return Entry(path=path, kind="file" if runs else "gone")
    if (member.isfile() or member.islnk()) and (_STANDARD.fullmatch(path) or _WHEEL.fullmatch(path)):
        return Entry(path=path, kind="file")
    return None


@dataclass
class _Tree:
    """What is known of an image after its upper layers: what an upper layer says about a path, no lower one changes."""

    files: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    _hidden: set[str] = field(default_factory=set)
    _emptied: set[str] = field(default_factory=set)

    def add(self, entries: Iterable[Entry]) -> None:
        """The next lower layer. Its own deletions count for the layers below it only."""
        hidden: set[str] = set()
        emptied: set[str] = set()
        for entry in entries:
            if self._covered(entry.path):
                continue
            if entry.kind == "opaque":
                emptied.add(entry.path)
                continue
            hidden.add(entry.path)
            if entry.kind == "file":
                self.files.add(entry.path)
            elif entry.kind == "link":
                self.links[entry.path] = entry.target
        self._hidden |= hidden
        self._emptied |= emptied

    def _covered(self, path: str) -> bool:
        """Whether upper layers have this path, or took away it or a folder above it."""
        if path in self._hidden:
            return True
        above = [path[: match.start()] for match in re.finditer("/", path)]
        return any(folder in self._hidden or folder in self._emptied for folder in above) or "" in self._emptied

    def real(self, path: str) -> str | None:
        """The file behind a path, through links in any of its parts; None where there is none."""
        for _ in range(40):
            if path in self.files:
                return path
            parts = path.split("/")
            for end in range(1, len(parts) + 1):
                target = self.links.get("/".join(parts[:end]))
                if target is not None:
                    path = posixpath.normpath(posixpath.join(target, *parts[end:]))
                    break
            else:
                return None
        return None

    def pythons(self) -> dict[str, set[str]]:
        """Version -> paths, links included."""
        found: dict[str, set[str]] = {}
        for path in (*self.files, *self.links):
            match = _PYTHON.fullmatch(path)
            if match and self.real(path):
                found.setdefault(match.group(1), set()).add(path)
        return found

    def lacks(self, path: str, version: PythonVersion) -> str | None:
        """What this Python misses of what `python -m venv` needs, or None."""
        real = self.real(path) or path
        library = f"{posixpath.dirname(posixpath.dirname(real))}/lib/python{version}".lstrip("/")
        if self.real(f"{library}/ensurepip/__init__.py") is None:
            return "ensurepip"
        bundled = any(file.startswith(f"{library}/ensurepip/_bundled/pip-") for file in self.files)
        shared = any(file.startswith("usr/share/python-wheels/pip-") for file in self.files)
        return None if bundled or shared else "pip's wheel"

    def interpreter(self, version: PythonVersion, path: tuple[str, ...]) -> PurePosixPath | None:
        """The Python that the image's PATH finds first and that can make a virtual environment."""
        candidates = self.pythons().get(str(version), set())
        named = [f"{folder}/python{version}" for folder in path]
        ordered = [name for name in named if name in candidates or self.real(name)]
        ordered += sorted(name for name in candidates - set(ordered) if name.startswith(("usr/", "opt/")))
        for name in ordered:
            if self.lacks(name, version) is None:
                return PurePosixPath("/", name)
        return None

    def nothing(self, version: PythonVersion, reference: str) -> ResolutionFailed:
        pythons = self.pythons()
        if str(version) in pythons:
            path = min(pythons[str(version)])
            lacks = self.lacks(path, version)
            return ResolutionFailed(
                f"{reference} has Python {version} (/{path}) without {lacks}, so it cannot make a virtual environment",
                hint="on Debian and Ubuntu that is the package python3-venv; choose an image that has it, "
                f"such as python:{version}-slim, or a bootstrapped base",
            )
        there = ", ".join(
            f"{found} (/{min(paths)})" for found, paths in sorted(pythons.items(), key=lambda item: _number(item[0]))
        )
        return ResolutionFailed(
            f"{reference} has no Python {version}, " + (f"only {there}" if there else "and no other"),
            hint=f"choose python:{version}-slim, or a bootstrapped base such as {{bootstrap: debian, suite: bookworm}}",
        )


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
