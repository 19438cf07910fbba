from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples import digest
from reprobox import cache, files
from reprobox.errors import Busy, HashMismatch, InvalidInput
from reprobox.resources import templates


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.write_whole(path, b"old")
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    files.write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"cannot write .*file/f"):
        files.write_whole(tmp_path / "file" / "f", b"")


def test_the_state_folder_hides_itself_from_git(tmp_path: Path) -> None:
    assert (files.state_folder(tmp_path) / ".gitignore").read_text() == "*\n"


def test_only_one_process_works_in_a_project_and_a_dead_one_blocks_nobody(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\nfrom reprobox import files\n"
        "with files.exclusive(pathlib.Path(sys.argv[1])):\n  print('in', flush=True); time.sleep(600)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline() == b"in\n"
    with pytest.raises(Busy, match=f"process {other.pid}"), files.exclusive(tmp_path):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with files.exclusive(tmp_path):
        pass


def test_the_cache_keeps_bytes_under_their_digest() -> None:
    found, path = cache.put([b"ab", b"c"])
    assert found == digest("abc")
    assert cache.get(found) == path


def test_the_cache_keeps_nothing_of_other_bytes_than_expected() -> None:
    with pytest.raises(HashMismatch, match="wheel is not what the lock names"):
        cache.put([b"evil"], expected=digest("good"), what="wheel")
    assert cache.get(digest("good")) is None
    assert cache.get(digest("evil")) is None


def test_a_damaged_cache_file_counts_as_absent() -> None:
    found, path = cache.put([b"abc"])
    path.write_bytes(b"abd")
    assert cache.get(found) is None
    assert not path.exists()


def test_the_templates_are_found() -> None:
    assert (templates() / "uv.Dockerfile.j2").is_file()


# --- new files --------------------------------------------------------------------------------


def test_a_new_file_replaces_nothing_not_even_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("old", "link"):
        with pytest.raises(InvalidInput, match=f"{name} is there already"):
            files.write_new(tmp_path / name, b"new")
    assert (tmp_path / "old").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"old", "link"}
    with pytest.raises(InvalidInput, match="cannot work in"):
        files.write_new(tmp_path / "old" / "f", b"new")


def test_a_kill_while_a_new_file_is_written_leaves_no_part_of_it(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\nfrom reprobox import files\nos.fsync = lambda _: os._exit(9)\n"
        "files.write_new(pathlib.Path(sys.argv[1], 'f'), b'whole')\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 9
    assert not (tmp_path / "f").exists()


def test_a_file_system_without_hard_links_gets_new_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    files.write_new(tmp_path / "f", b"new")
    with pytest.raises(InvalidInput, match="f is there already"):
        files.write_new(tmp_path / "f", b"newer")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"new")]
