from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import digest
from reprobox.engines.staging import lay_out, take_out
from reprobox.errors import OutputRefused, ReproboxError
from reprobox.model import Context, Platform


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def _chunks(data: bytes, size: int = 700) -> Iterator[bytes]:
    yield from (data[at : at + size] for at in range(0, len(data), size))


def test_a_file_comes_out_with_its_digest(tmp_path: Path) -> None:
    archive = _tar((_member("a.json"), b"{}"))
    (output,) = take_out(PurePosixPath("out/a.json"), _chunks(archive), tmp_path)
    assert (output.path, output.digest, output.size) == (PurePosixPath("out/a.json"), digest("{}"), 2)
    assert (tmp_path / "out/a.json").read_bytes() == b"{}"


def test_a_folder_comes_out_file_by_file(tmp_path: Path) -> None:
    archive = _tar((_member("out", tarfile.DIRTYPE), b""), (_member("out/b"), b"1"), (_member("out/c/d"), b"2"))
    taken = take_out(PurePosixPath("x/out"), _chunks(archive), tmp_path)
    assert [str(output.path) for output in taken] == ["x/out/b", "x/out/c/d"]


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (_member("out/a", tarfile.SYMTYPE, "/etc/passwd"), "a link to /etc/passwd"),
        (_member("out/a", tarfile.LNKTYPE, "out/b"), "a hard link to out/b"),
        (_member("out/a", tarfile.CHRTYPE), "a device"),
        (_member("out/a", tarfile.FIFOTYPE), "a device"),
        (_member("out/../../a"), "leaves its folder"),
        (_member("/etc/a"), "leaves its folder"),
        (_member("elsewhere"), "leaves its folder"),
    ],
)
def test_what_is_not_a_plain_file_inside_is_refused(tmp_path: Path, member: tarfile.TarInfo, words: str) -> None:
    with pytest.raises(OutputRefused, match=words):
        take_out(PurePosixPath("out"), _chunks(_tar((member, b""))), tmp_path)
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_more_bytes_than_the_bound_are_refused_before_they_are_written(tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match="larger than 1 MiB"):
        take_out(PurePosixPath("big"), _chunks(_tar((_member("big"), b"0" * (1 << 20 | 1)))), tmp_path, limit=1 << 20)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 600))
def test_no_bytes_of_an_engine_give_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int
) -> None:
    with contextlib.suppress(ReproboxError):
        take_out(PurePosixPath("out"), _chunks(data, size), tmp_path_factory.mktemp("x"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4000))
def test_an_archive_that_is_cut_is_refused_or_gives_only_whole_files(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    content = bytes(range(256)) * 10
    archive = _tar((_member("out/a"), content))[:cut]
    try:
        taken = take_out(PurePosixPath("out"), _chunks(archive), tmp_path_factory.mktemp("x"))
    except OutputRefused:
        return
    assert all(output.size == len(content) for output in taken)


def _context(root: Path, **changes: object) -> Context:
    (root / "train.py").write_text("print()\n")
    values: dict[str, object] = {
        "platform": Platform.LINUX_64,
        "epoch": 0,
        "dockerfile": "FROM scratch\n",
        "dockerignore": "",
        "files": {PurePosixPath("src/train.py"): root / "train.py", PurePosixPath("requirements.lock"): b"x\n"},
        "links": {PurePosixPath("src/alias.py"): "train.py"},
        "executables": frozenset(),
        "labels": {},
        "digest": digest("c"),
    }
    return Context(**{**values, **changes})  # type: ignore[arg-type]


def test_a_context_is_laid_out_anew_and_alone(tmp_path: Path) -> None:
    place = tmp_path / "staging"
    (place / "context").mkdir(parents=True)
    (place / "context" / "left.over").write_text("old")
    lay_out(_context(tmp_path), place)
    found = sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())
    assert found == [
        "Dockerfile",
        "Dockerfile.dockerignore",
        "context/requirements.lock",
        "context/src/alias.py",
        "context/src/train.py",
    ]
    assert (place / "context/src/alias.py").readlink() == Path("train.py")


def test_a_context_whose_file_vanished_is_an_error_with_its_name(tmp_path: Path) -> None:
    context = _context(tmp_path)
    (tmp_path / "train.py").unlink()
    with pytest.raises(ReproboxError, match=r"No such file.*train\.py"):
        lay_out(context, tmp_path / "staging")
