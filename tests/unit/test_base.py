"""The Python inside a base image: found by walking its layers, never guessed."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import cache
from reprobox.console import Console
from reprobox.errors import InvalidInput, RegistryFailed, ResolutionFailed
from reprobox.model import (
    BootstrapBase,
    Digest,
    EnvironmentFile,
    ImageBase,
    Lock,
    LockedBootstrap,
    LockedImage,
    LockedInterpreter,
    LockedTool,
    Platform,
    Project,
    PythonVersion,
)
from reprobox.registry import Descriptor, Manifest, Reference, Registry, parse_reference
from reprobox.resolvers import base, image_tree

Member = tuple[str, bytes | str]
"""A path, and what is there: bytes of a file, or the target of a link."""

PYTHON = b"\x7fELF"


def layer(*members: Member, mode: int = 0o755, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in members:
            entry = tarfile.TarInfo(prefix + path)
            entry.mode = mode
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def python(version: str = "3.11", prefix: str = "usr/local") -> tuple[Member, ...]:
    library = f"{prefix}/lib/python{version}/ensurepip"
    return (
        (f"{prefix}/bin/python{version}", PYTHON),
        (f"{library}/__init__.py", b""),
        (f"{library}/_bundled/pip-24.0-py3-none-any.whl", b"wheel"),
    )


class Shelf(Registry):
    """A registry whose images lie in memory."""

    def __init__(self, images: dict[Platform, Sequence[bytes]], env: Sequence[str] = ()) -> None:
        super().__init__()
        self.env, self.fetched = list(env), 0
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, Manifest] = {}
        self.platforms: dict[Platform, Digest] = {}
        for platform, blobs in images.items():
            entries = [{"digest": str(self.keep(blob)), "size": len(blob), "mediaType": "layer"} for blob in blobs]
            content = {"layers": entries, "for": platform.value}
            data = json.dumps(content).encode()
            self.platforms[platform] = Digest.of(data)
            self.manifests[Digest.of(data)] = Manifest(
                media_type="m", digest=Digest.of(data), data=data, content=content
            )

    def keep(self, blob: bytes) -> Digest:
        self.blobs[Digest.of(blob)] = blob
        return Digest.of(blob)

    def resolve(self, reference: str, platforms: Sequence[Platform]) -> LockedImage:
        return LockedImage(
            reference=reference, digest=Digest.of(b"index"), manifests={p: self.platforms[p] for p in platforms}
        )

    def manifest(self, reference: Reference, digest: Digest | None = None) -> Manifest:
        assert digest
        return self.manifests[digest]

    def config(self, reference: Reference, manifest: Manifest) -> dict[str, object]:
        return {"config": {"Env": self.env}}

    def blob(
        self,
        reference: Reference,
        digest: Digest,
        *,
        size: int | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Path:
        self.fetched += 1
        if on_bytes:
            on_bytes(1)
        return cache.put([self.blobs[digest]])[1]


def project(**changes: object) -> Project:
    whole = Project(
        root=Path("/nowhere"),
        name="p",
        environment=EnvironmentFile(path=PurePosixPath("requirements.in")),
        python=PythonVersion(3, 11),
        base=ImageBase(reference="host.example/python:3.11"),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def find(*layers: bytes, env: Sequence[str] = ()) -> str:
    """The interpreter's path in an image of these layers, from the ground up."""
    shelf = Shelf({Platform.LINUX_64: layers}, env)
    _, found = base.resolve(project(), console=Console(), registry=shelf)
    return str(found.path)


def test_the_python_of_an_image_is_found_and_its_image_locked() -> None:
    shelf = Shelf({Platform.LINUX_64: [layer(*python())]})
    locked, interpreter = base.resolve(project(), console=Console(), registry=shelf)
    assert isinstance(locked, LockedImage)
    assert locked.manifests == shelf.platforms
    assert interpreter == LockedInterpreter(
        version=PythonVersion(3, 11), path=PurePosixPath("/usr/local/bin/python3.11")
    )


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("prefix", ["", "./", "/"])
def test_layers_are_read_plain_and_compressed_however_their_paths_begin(
    pack: Callable[[bytes], bytes], prefix: str
) -> None:
    assert find(pack(layer(*python(), prefix=prefix))) == "/usr/local/bin/python3.11"


def test_the_upper_layers_are_enough_where_they_hold_everything() -> None:
    shelf = Shelf({Platform.LINUX_64: [layer(("a", b"")), layer(*python()), layer(("b", b""))]})
    base.resolve(project(), console=Console(), registry=shelf)
    assert shelf.fetched == 2


def test_debians_python_needs_debians_wheel() -> None:
    binary, library = ("usr/bin/python3.11", PYTHON), ("usr/lib/python3.11/ensurepip/__init__.py", b"")
    wheel = ("usr/share/python-wheels/pip-23.0.1-py3-none-any.whl", b"")
    assert find(layer(wheel), layer(binary, library)) == "/usr/bin/python3.11"
    with pytest.raises(
        ResolutionFailed, match=r"has Python 3.11 \(/usr/bin/python3.11\) without pip's wheel"
    ) as caught:
        find(layer(binary, library))
    assert "python3-venv" in (caught.value.hint or "")
    with pytest.raises(ResolutionFailed, match="without ensurepip"):
        find(layer(binary, wheel))


def test_path_decides_between_two_pythons() -> None:
    both = layer(*python(prefix="usr"), *python(prefix="opt/conda"))
    assert find(both) == "/usr/bin/python3.11"
    assert find(both, env=["A=b", "PATH=/opt/conda/bin:/usr/bin"]) == "/opt/conda/bin/python3.11"


def test_a_python_off_the_path_is_found_below_usr_and_opt_only() -> None:
    assert find(layer(*python(prefix="opt/conda"))) == "/opt/conda/bin/python3.11"
    with pytest.raises(ResolutionFailed):
        find(layer(*python(prefix="home/me")))


def test_a_deleted_python_is_not_found() -> None:
    ground = layer(*python())
    for gone in ("usr/local/bin/.wh.python3.11", "usr/local/.wh.bin", "usr/.wh.local", "usr/local/bin/.wh..wh..opq"):
        with pytest.raises(ResolutionFailed, match=r"has no Python 3\.11, and no other"):
            find(ground, layer((gone, b"")))


def test_a_deletion_does_not_hide_what_comes_with_it_or_after_it() -> None:
    ground = layer(*python())
    assert find(ground, layer(("usr/local/.wh..wh..opq", b""), *python())) == "/usr/local/bin/python3.11"
    assert find(ground, layer(("usr/.wh.local", b"")), layer(*python())) == "/usr/local/bin/python3.11"


def test_an_upper_link_or_file_hides_the_lower_python() -> None:
    ground = layer(*python())
    with pytest.raises(ResolutionFailed, match="and no other"):
        find(ground, layer(("usr/local", "/elsewhere")))
    with pytest.raises(ResolutionFailed, match="and no other"):
        find(ground, layer(("usr/local/bin/python3.11", b"not executable"), mode=0o644))


def test_links_lead_to_the_python_behind_them() -> None:
    linked = layer(("usr/bin/python3.11", "/opt/python/bin/python3.11"), *python(prefix="opt/python"))
    assert find(linked) == "/usr/bin/python3.11"
    merged = layer(("bin", "usr/bin"), *python(prefix="usr"))
    assert find(merged, env=["PATH=/bin"]) == "/bin/python3.11"
    with pytest.raises(ResolutionFailed):
        find(layer(("usr/bin/python3.11", "python3.11")))


def test_a_missing_version_names_the_pythons_there_are() -> None:
    with pytest.raises(ResolutionFailed) as caught:
        find(layer(*python("3.9"), *python("3.12", "usr")))
    assert caught.value.message == (
        "host.example/python:3.11 has no Python 3.11, only 3.9 (/usr/local/bin/python3.9), 3.12 (/usr/bin/python3.12)"
    )
    assert "python:3.11-slim" in (caught.value.hint or "")


def test_platforms_must_agree_on_the_path() -> None:
    shelf = Shelf({Platform.LINUX_64: [layer(*python())], Platform.LINUX_AARCH64: [layer(*python(prefix="usr"))]})
    both = project(platforms=(Platform.LINUX_64, Platform.LINUX_AARCH64))
    with pytest.raises(ResolutionFailed, match=r"different paths: /usr/local/bin/python3.11 \(linux-64\), /usr/bin"):
        base.resolve(both, console=Console(), registry=shelf)


def test_a_layer_in_zstd_is_refused_in_clear_words_where_python_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "compression", None)
    with pytest.raises(ResolutionFailed, match="compressed with zstd, which this Python cannot read"):
        find(b"\x28\xb5\x2f\xfd" + bytes(100))


@pytest.mark.parametrize("blob", [b"neither tar nor gzip" * 100, gzip.compress(layer(*python()))[:100]])
def test_a_damaged_layer_is_an_error(blob: bytes) -> None:
    with pytest.raises(
        RegistryFailed, match=r"the layer sha256:[0-9a-f]+ of host\.example/python:3\.11 cannot be read"
    ):
        find(blob)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_a_layer_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "blob"
    path.write_bytes(data)
    described = Descriptor(media_type="", digest=Digest.of(data), size=len(data))
    with contextlib.suppress(RegistryFailed, ResolutionFailed):
        image_tree.read_layer(path, described, parse_reference("debian"))


def test_a_large_layer_is_not_held_in_memory(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(layer(("big", bytes(30_000_000)), *python()), compresslevel=1))
    tracemalloc.start()
    try:
        image_tree.read_layer(
            blob, Descriptor(media_type="", digest=Digest.of(b""), size=blob.stat().st_size), parse_reference("debian")
        )
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


# --- what is asked at all ---------------------------------------------------------------------


def lock_of(wishes: Project) -> Lock:
    return Lock(
        wants=wishes.wants,
        inputs=(),
        data=(),
        base=LockedImage(reference="kept", digest=Digest.of(b""), manifests={}),
        interpreter=LockedInterpreter(version=PythonVersion(3, 11), path=PurePosixPath("/kept")),
        uv=LockedTool(version="1", wheels={}),
        natives=(),
        variables={},
        epoch=0,
    )


def test_what_is_locked_is_kept_while_nothing_about_it_changed() -> None:
    previous = lock_of(project())
    kept = base.resolve(project(name="other", env={"A": "b"}), console=Console(), previous=previous, registry=Shelf({}))
    assert kept == (previous.base, previous.interpreter)


def test_another_base_is_looked_up() -> None:
    shelf = Shelf({Platform.LINUX_64: [layer(*python())]})
    wishes = project(base=ImageBase(reference="host.example/other"))
    locked, _ = base.resolve(wishes, console=Console(), previous=lock_of(project()), registry=shelf)
    assert isinstance(locked, LockedImage)
    assert locked.reference == "host.example/other"


def test_another_python_is_looked_for_in_the_image_that_is_locked() -> None:
    shelf = Shelf({Platform.LINUX_64: [layer(*python(), *python("3.12"))]})
    locked, interpreter = base.resolve(project(), console=Console(), registry=shelf)
    previous = replace(lock_of(project()), base=locked, interpreter=interpreter)
    shelf.platforms[Platform.LINUX_64] = Digest.of(b"the tag has moved")
    kept, found = base.resolve(
        project(python=PythonVersion(3, 12)), console=Console(), previous=previous, registry=shelf
    )  # fmt: skip
    assert kept == locked
    assert str(found.path) == "/usr/local/bin/python3.12"


def test_a_bootstrapped_base_is_for_one_platform() -> None:
    wishes = project(base=BootstrapBase(distribution="debian", suite="bookworm"), platforms=tuple(Platform))
    with pytest.raises(InvalidInput, match="holds one platform, and `platforms` names 2: linux-64, linux-aarch64"):
        base.resolve(wishes, console=Console())


def test_a_bootstrapped_base_is_handed_to_the_distributions_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    from reprobox.resolvers import distribution  # noqa: PLC0415

    asked: dict[str, object] = {}
    answer = (
        LockedBootstrap(
            distribution="debian", suite="s", platform=Platform.LINUX_64, packages=(), rootfs=Digest.of(b"")
        ),
        LockedInterpreter(version=PythonVersion(3, 11), path=PurePosixPath("/usr/bin/python3.11")),
    )
    monkeypatch.setattr(distribution, "resolve", lambda base, **rest: asked.update(base=base, **rest) or answer)
    wishes = project(base=BootstrapBase(distribution="debian", suite="s"), system=("git",), epoch=7)
    assert base.resolve(wishes, console=Console()) == answer
    assert (asked["system"], asked["epoch"], asked["platform"]) == (("git",), 7, Platform.LINUX_64)
