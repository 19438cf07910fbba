"""This checkout's state: where it is kept, who works on it, and what is left of those who were killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reprobox import cache, files, image_note
from reprobox.console import Console
from reprobox.errors import Busy, InvalidInput
from reprobox.image_note import Note
from reprobox.model import Digest, Image
from reprobox.workflow import turns

HOLD = (
    "import sys, time, pathlib\nfrom reprobox import files\n"
    "with files.exclusive(pathlib.Path(sys.argv[1])):\n  print('in', flush=True); time.sleep(float(sys.argv[2]))\n"
)


def _age(path: Path) -> None:
    os.utime(path, (time.time() - 3600,) * 2)


def test_a_checkout_that_cannot_be_written_has_its_state_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    state = files.state_folder(tmp_path)
    assert state.is_relative_to(cache.folder() / "projects")
    assert list(tmp_path.iterdir()) == []
    assert files.state_folder(tmp_path / "other").name != state.name

    class Listener(Console):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    with turns.at_work(tmp_path, Listener()):
        pass
    assert notes == [f"{tmp_path} cannot be written: this checkout's state is kept in {state}"]
    with pytest.raises(InvalidInput, match=f"the folder {tmp_path} cannot be written: this user may not"):
        files.require_writable(tmp_path, hint="")


def test_a_link_in_the_place_of_the_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".reprobox").symlink_to("elsewhere")
    with pytest.raises(InvalidInput, match=r"\.reprobox is a link"):
        files.state_folder(tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_that_came_with_a_checkout_is_never_written_through(tmp_path: Path) -> None:
    root, precious = tmp_path / "checkout", tmp_path / "precious"
    (root / ".reprobox").mkdir(parents=True)
    precious.write_text("1")
    (root / ".reprobox" / "busy").symlink_to(precious)
    (root / ".reprobox" / ".gitignore").symlink_to(tmp_path / "made")
    with pytest.raises(InvalidInput, match=r"\.reprobox/busy is a link"), files.exclusive(root):
        pass
    assert precious.read_text() == "1"
    assert not (tmp_path / "made").exists()


def test_what_is_removed_is_never_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("1")
    (tmp_path / "runs").symlink_to("precious")
    files.remove(tmp_path / "runs")
    assert (tmp_path / "precious" / "data").read_text() == "1"
    assert not (tmp_path / "runs").is_symlink()


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InvalidInput, match="this user has no home folder"):
        files.cache_folder()


# --- several at once --------------------------------------------------------------------------


def test_who_may_wait_is_told_for_whom_and_then_works(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), "1.5"], stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline() == b"in\n"
    told: list[str] = []
    with files.exclusive(tmp_path, waiting=told.append):
        assert other.wait(5) == 0
    other.stdout.close()
    assert told == [f"another reprobox (process {other.pid})"]


def test_the_number_of_a_process_that_is_gone_is_not_told(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), "600"], stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline() == b"in\n"
    (tmp_path / ".reprobox" / "busy").write_text("4194305")  # one more than the largest number Linux gives
    with pytest.raises(Busy, match="another reprobox works in this project"), files.exclusive(tmp_path):
        pass
    other.kill()
    other.wait()
    other.stdout.close()


def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(InvalidInput, match=r"cannot work in .*: No locks available"), files.exclusive(tmp_path):
        pass


# --- what killed processes leave --------------------------------------------------------------


def test_what_a_killed_process_left_is_swept_up_and_what_is_at_work_is_not(tmp_path: Path) -> None:
    with files.scratch(tmp_path, "x-") as at_work:
        _age(at_work)
        for name in ("x-left", "x-young", "y-other"):
            (tmp_path / name).mkdir()
        for name in ("x-left", "y-other"):
            _age(tmp_path / name)
        with files.scratch(tmp_path, "x-"):
            assert at_work.is_dir()
        assert {path.name for path in tmp_path.iterdir()} == {at_work.name, "x-young", "y-other"}
    assert {path.name for path in tmp_path.iterdir()} == {"x-young", "y-other"}


def test_a_file_that_a_killed_process_began_is_swept_up_at_the_next_write(tmp_path: Path) -> None:
    (tmp_path / f"{files.UNFINISHED}abc").write_text("half")
    _age(tmp_path / f"{files.UNFINISHED}abc")
    files.write_whole(tmp_path / "f", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_what_a_killed_process_left_in_the_cache_is_swept_up() -> None:
    left = cache.folder() / "tmp" / "incoming-abc"
    left.mkdir(parents=True)
    (left / "file").write_bytes(b"half")
    _age(left)
    cache.put([b"abc"])
    assert list((cache.folder() / "tmp").iterdir()) == []


# --- the note of the image --------------------------------------------------------------------


def test_a_note_of_an_image_that_was_edited_is_not_believed(tmp_path: Path) -> None:
    image = Image(engine="docker", reference="x:1", handle="sha256:1", digest=Digest.of(b"image"))
    note = Note(context=Digest.of(b"context"), image=image)
    image_note.write(tmp_path, note)
    assert image_note.read(tmp_path, "docker") == note
    assert image_note.read(tmp_path, "another") is None
    place = image_note.place(tmp_path, "docker")
    text = place.read_text()
    place.write_text(text.replace(str(image.digest), str(Digest.of(b"evil"))))
    assert image_note.read(tmp_path, "docker") is None
    for damage in ("[]", "{}", text[:-5], '{"checksum": 1}', "[" * 100_000):
        place.write_text(damage)
        assert image_note.read(tmp_path, "docker") is None
    place.unlink()
    os.mkfifo(place)
    assert image_note.read(tmp_path, "docker") is None
