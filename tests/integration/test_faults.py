"""Faults around a real engine: killed, full, read-only, not allowed, at once; nothing is lost and nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Project

from reprobox import image_note

pytestmark = [pytest.mark.docker, pytest.mark.network]
NewProject = Callable[[], Project]
LABEL = "label=io.github.reprobox.run"


def _engine(*words: str) -> set[str]:
    return set(subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split())


def _image(here: Project) -> set[str]:
    """The containers made of this project's images (others may be at work on this engine)."""
    note = image_note.read(here.root, "docker")
    if note is None:
        return set()  # nothing was built here yet
    return _engine("ps", "--all", "--quiet", "--filter", LABEL, "--filter", f"ancestor={note.image.reference}")


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def _mounted(kind: list[str], folder: Path) -> bool:
    return subprocess.run(["mount", *kind, str(folder)], capture_output=True, check=False).returncode == 0


@contextmanager
def _mount(folder: Path, *kind: str) -> Iterator[None]:
    if os.geteuid() != 0 or not _mounted(list(kind), folder):
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own at ``folder``."""
    folder.mkdir(exist_ok=True)
    with _mount(folder, "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs"):
        yield folder


def _fill(folder: Path) -> None:
    """Leave no byte on the disk that holds ``folder``."""
    with (folder / "ballast").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"0" * 65536)
        except OSError:
            pass
        try:
            while True:
                stream.write(b"0")
        except OSError:
            pass


def _unprivileged(here: Project, *words: str, cache: Path, code: int) -> str:
    """What reprobox says as a user to whom permissions apply; root is one without two of its capabilities."""
    dropped = "-dac_override,-dac_read_search"
    setpriv = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*setpriv, *here.command(*words)],
        capture_output=True, text=True, check=False, timeout=120, env=here.env({"XDG_CACHE_HOME": str(cache)}),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@contextmanager
def _mode(path: Path, mode: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.fixture
def recorded(project: NewProject, recorded_project: Path, tmp_path: Path) -> Project:
    """A copy of a project that is locked, built and recorded."""
    root = tmp_path / "recorded"
    shutil.copytree(recorded_project, root, symlinks=True)
    return Project(root)


@pytest.fixture(scope="module")
def recorded_project(locked_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recorded") / "project"
    shutil.copytree(locked_project, root, symlinks=True, ignore=shutil.ignore_patterns(".reprobox"))
    Project(root)("record")
    return root


def _files(here: Project) -> dict[str, bytes]:
    """Everything that a person commits."""
    return {
        str(path.relative_to(here.root)): path.read_bytes()
        for path in sorted(here.root.rglob("*"))
        if path.is_file() and not {".reprobox", ".git"} & set(path.relative_to(here.root).parts)
    }


# --- a read-only checkout, and one of somebody else -------------------------------------------


def test_a_read_only_checkout_is_verified_with_its_state_in_the_cache(recorded: Project, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (recorded.root / ".reprobox").rename(tmp_path / "gone")
    place = {"XDG_CACHE_HOME": str(cache)}
    with _mount(recorded.root, "--bind", "-o", "ro", str(recorded.root)):
        before = _files(recorded)
        recorded("lock", "--check", env=place)
        assert "FROM" in recorded("render", env=place).out
        assert "up to date" in recorded("lock", env=place).out
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reprobox" / "sha256"
        (cache / "reprobox").mkdir(parents=True, exist_ok=True)
        (cache / "reprobox" / "sha256").symlink_to(base)
        found = recorded("verify", env=place)
        assert f"{recorded.root} cannot be written: this checkout's state is kept in {cache}" in found.err
        assert "IDENTICAL" in found.out
        said = recorded("record", env=place, code=2).err
        assert f"the folder {recorded.root} cannot be written: this file system is read-only" in said
        said = recorded("lock", "--upgrade", env=place, code=2).err
        assert "cannot be written: this file system is read-only" in said
        assert _files(recorded) == before


def test_a_folder_that_may_not_be_written_is_checked_and_never_half_changed(recorded: Project, tmp_path: Path) -> None:
    before = _files(recorded)
    cache = tmp_path / "cache"
    with _mode(recorded.root / ".reprobox", 0o555), _mode(recorded.root, 0o555):
        assert "reprobox.lock fits." in _unprivileged(recorded, "lock", "--check", cache=cache, code=0)
        said = _unprivileged(recorded, "lock", "--upgrade", cache=cache, code=2)
        assert f"the folder {recorded.root} cannot be written: this user may not write there" in said
        assert "this user may not write there" in _unprivileged(recorded, "record", cache=cache, code=2)
        said = _unprivileged(recorded, "render", "-o", str(recorded.root), cache=cache, code=2)
        assert f"the folder {recorded.root} cannot be written" in said
    with _mode(cache, 0o000):
        said = _unprivileged(recorded, "lock", "--upgrade", cache=cache, code=2)
        assert "Permission denied" in said
    assert _files(recorded) == before


@pytest.mark.parametrize("name", ["reprobox.yaml", "reprobox.lock", "requirements.lock", "requirements.in"])
def test_a_file_that_may_not_be_read_is_named(recorded: Project, tmp_path: Path, name: str) -> None:
    with _mode(recorded.root / name, 0o000):
        for verb in (["lock", "--check"], ["verify"]):
            said = _unprivileged(recorded, *verb, cache=tmp_path / "cache", code=2)
            assert "Permission denied" in said
            assert name in said


# --- a full disk ------------------------------------------------------------------------------


def test_a_full_disk_while_a_build_is_laid_out_names_the_disk_that_is_full(recorded: Project) -> None:
    (recorded.root / "large.bin").write_bytes(os.urandom(3 << 20))
    recorded.git("add", "--all")
    shutil.rmtree(recorded.root / ".reprobox")
    with _small_disk(recorded.root / ".reprobox", "2m"):
        said = recorded("build", code=2).err
        assert f"cannot lay out the build in {recorded.root}/.reprobox/build: No space left on device" in said
        assert "large.bin)" not in said or f"({recorded.root}/.reprobox" in said
        assert "hint: make room on the disk that holds it" in said
        assert not (recorded.root / ".reprobox" / "build").exists()
    recorded("build")


def test_a_full_disk_while_outputs_are_kept_is_told_and_the_baseline_stays(recorded: Project) -> None:
    before = _files(recorded)
    with _small_disk(recorded.root / ".reprobox" / "runs", "64k"):
        recorded.change(
            "train.py", "out.mkdir()", "out.mkdir(); (out / 'model.bin').write_bytes(b'0' * (1 << 20)); sys.exit()"
        )
        said = recorded("verify", code=2).err
        assert "cannot keep output out/model.bin in" in said
        assert "No space left on device" in said
    assert _files(recorded).keys() == before.keys()
    assert _image(recorded) == set()


def test_a_full_disk_while_locking_leaves_the_old_lock(recorded: Project, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "small", "2m") as disk:
        root = disk / "project"
        shutil.copytree(recorded.root, root, symlinks=True, ignore=shutil.ignore_patterns(".git", ".reprobox"))
        here = Project(root)
        (root / "requirements.in").write_text("idna==3.6\n")
        before = _files(here)
        _fill(disk)
        said = here("lock", code=2).err
        assert "No space left on device" in said
        assert "hint: make room on the disk that holds it" in said
        assert _files(here) == before
        (disk / "ballast").unlink()
        here("lock")


def test_a_full_cache_while_locking_is_named(recorded: Project, tmp_path: Path) -> None:
    before = _files(recorded)
    with _small_disk(tmp_path / "cache", "1m") as cache:
        _fill(cache)
        said = recorded("lock", "--upgrade", env={"XDG_CACHE_HOME": str(cache)}, code=2).err
        assert "No space left on device" in said
        assert str(cache) in said
    assert _files(recorded) == before


# --- killed -----------------------------------------------------------------------------------

SLOW = "import time; time.sleep(300); out.mkdir()"


@pytest.mark.parametrize("verb", ["lock", "render", "build", "run", "record", "verify"])
def test_a_verb_killed_half_way_works_again_and_leaves_nothing(recorded: Project, verb: str) -> None:
    words = {
        "lock": ["lock", "--upgrade", "six"],
        "render": ["render", "-o", str(recorded.root / "rendered")],
        "run": ["run", "--", "sleep", "300"],
    }.get(verb, [verb])
    if verb in {"record", "verify"}:
        recorded.change("train.py", "out.mkdir()", SLOW)
        recorded("build")
    if verb == "build":
        recorded.write("new.txt", str(time.time()))
    before = _files(recorded)
    for wait in [0.4, 0.8] if verb in {"lock", "render", "build"} else [0.0]:
        process = subprocess.Popen(recorded.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            time.sleep(wait)
        else:
            _until(lambda: bool(_image(recorded)))
        process.kill()
        process.wait()
        left = {name: data for name, data in _files(recorded).items() if ".reprobox-new-" not in name}
        if verb in {"lock", "record", "verify", "build", "run"}:
            assert {name: left[name] for name in before} == before
    _until(lambda: not _image(recorded))
    if verb in {"record", "verify"}:
        recorded.change("train.py", SLOW, "out.mkdir()")
    if verb == "run":
        words = ["run", "--", "true"]
    recorded(*words)
    assert not (recorded.root / ".reprobox" / "build").exists()
    if verb == "render":
        assert {path.name for path in (recorded.root / "rendered").iterdir() if ".reprobox-new-" not in path.name} == {
            ".dockerignore", "Dockerfile", "reprobox.base.tar",
        }  # fmt: skip


def test_a_lock_of_which_one_file_was_written_is_noticed_and_made_whole(recorded: Project) -> None:
    half = recorded.root / "requirements.lock"
    recorded.write("requirements.in", "six==1.15.0\n")
    old = (recorded.root / "reprobox.lock").read_bytes()
    recorded("lock")
    (recorded.root / "reprobox.lock").write_bytes(old)
    recorded.write("requirements.in", "six==1.16.0\n")
    assert "lock file requirements.lock" in recorded("lock", "--check", code=1).out
    assert "lock file requirements.lock" in recorded("verify", code=1).err
    recorded("lock")
    recorded("lock", "--check")
    assert "six==1.16.0" in half.read_text()


# --- at once ----------------------------------------------------------------------------------


def test_who_reads_waits_for_another_and_who_writes_is_refused(recorded: Project) -> None:
    program = (
        "import sys, pathlib\nfrom reprobox import files\n"
        "with files.exclusive(pathlib.Path(sys.argv[1])):\n  print('in', flush=True); sys.stdin.read()\n"
    )
    holding = [sys.executable, "-c", program, str(recorded.root)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin and other.stdout and other.stdout.readline() == b"in\n"
        for words in (["lock"], ["record"]):
            said = recorded(*words, code=2).err
            assert f"another reprobox (process {other.pid}) works in this project" in said
        with subprocess.Popen(recorded.command("verify"), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
            assert waiting.stderr
            line = waiting.stderr.readline()
            assert line == f"waiting for another reprobox (process {other.pid}) ...\n".encode()
            other.stdin.close()
            assert b"IDENTICAL" in waiting.communicate()[0]
            assert waiting.returncode == 0


# --- the baseline -----------------------------------------------------------------------------


def test_a_baseline_of_another_lock_is_told_with_both(recorded: Project) -> None:
    assert recorded("verify", "--json").json["notes"] == []
    recorded.write("requirements.in", "six==1.15.0\n")
    recorded("lock")
    found = recorded("verify", "--json").json
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith("the baseline was recorded with lock ")
    assert "note: the baseline was recorded with lock" in recorded("verify").out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda text: text.replace('"version": 2', '"version": 3', 1), "upgrade reprobox"),
        (lambda text: text.replace('"kept": true', '"kept": 1'), "must be true or false"),
        (lambda _: "", "ends too early"),
    ],
)
def test_a_damaged_baseline_is_refused_and_never_replaced(
    recorded: Project, damage: Callable[[str], str], words: str
) -> None:
    path = recorded.root / "reprobox.baseline.json"
    path.write_text(damage(path.read_text()))
    before = _files(recorded)
    for verb in (["verify"], ["record"], ["record", "--force"]):
        assert words in recorded(*verb, code=2).err
    assert _files(recorded) == before


def test_a_baseline_folder_with_links_is_read_by_digest_and_never_written_through(
    recorded: Project, tmp_path: Path
) -> None:
    (kept,) = recorded.root.glob("reprobox.baseline/*/out/model.bin")
    kept.unlink()
    kept.symlink_to("/etc/passwd")
    found = recorded("verify")
    assert "is not the file that was recorded" in found.err
    assert "root:" not in found.out + found.err
    elsewhere = tmp_path / "elsewhere"
    (recorded.root / "reprobox.baseline").rename(elsewhere)
    (recorded.root / "reprobox.baseline").symlink_to(elsewhere)
    recorded.change("train.py", "(seed + i) % 256", "(seed + i + 1) % 256")
    assert "reprobox.baseline is a link" in recorded("record", "--force", code=2).err


# --- a command that misbehaves ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)", 2, "its time-out"),
        ("sys.exit()", 1, "MISSING"),
        ("out.mkdir(); (out / 'model.bin').touch(); import os; os.truncate(out / 'model.bin', 10 << 30); sys.exit()", 2,
         "out/model.bin is larger than 4096 MiB"),
        ("out.mkdir(); import os; os.mkfifo(out / 'model.bin'); sys.exit()", 2, "out/model.bin is a device"),
        ("out.mkdir(); import socket; socket.socket(socket.AF_UNIX).bind('out/model.bin'); sys.exit()", 1, "MISSING"),
        ("print('\\x1b[31mred\\x1b]0;title\\x07'); sys.exit(3)", 2, "red\\x1b]0;title"),
        ("import os\nif os.fork() == 0:\n  os.setsid(); import time; time.sleep(300)\nout.mkdir()", 0, "IDENTICAL"),
        ("print('x' * 1023 * 3, end='')\nout.mkdir(); out.chmod(0o700)", 0, "IDENTICAL"),
    ],
    ids=["deaf", "idle", "sparse", "pipe", "socket", "escapes", "daemon", "private"],
)  # fmt: skip
def test_a_command_that_misbehaves_is_told_and_leaves_no_container(
    recorded: Project, code: str, exit_code: int, words: str
) -> None:
    recorded.change("reprobox.yaml", "timeout: 60", "timeout: 3")
    recorded.change("train.py", "out.mkdir()", code)
    found = recorded("verify", code=exit_code)
    assert words in found.out + found.err
    assert "\x1b" not in found.out + found.err
    assert _image(recorded) == set()


def test_run_ends_with_its_reader_and_leaves_no_container(recorded: Project) -> None:
    command = " ".join(f"'{word}'" for word in recorded.command("run", "--", "yes"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=False, timeout=60, env=recorded.env(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (128 + signal.SIGPIPE, "y\n")
    assert "Traceback" not in done.stderr
    _until(lambda: not _image(recorded))
    closed = subprocess.run(["bash", "-c", f"{command.replace(chr(39) + 'yes' + chr(39), 'true')} >&-"], check=False)
    assert closed.returncode == 0


def test_errors_of_a_verb_with_json_stay_off_stdout(recorded: Project) -> None:
    (recorded.root / "reprobox.lock").write_text("version: 1\n")
    for verb in ("lock", "build", "record", "verify"):
        failed = recorded(verb, "--json", code=2)
        assert failed.out == ""
        assert failed.err.startswith("error: ")
