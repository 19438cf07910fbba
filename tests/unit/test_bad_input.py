"""What a user may have in the place of a file, and how it is told: exit code 2, one message, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reprobox import baseline, cli, config, lockfile
from reprobox.errors import InvalidConfig, InvalidInput

CONFIG = """\
name: x
environment: requirements.in
python: "3.11"
base: {bootstrap: debian, suite: bookworm}
"""
SMOKE = "smoke:\n  command: [python, train.py]\n  outputs: [out]\n"


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """What stands on stderr, where the exit code is 2 and nothing stands on stdout. What hangs is a failure."""

    def run(root: Path, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["reprobox", "-C", str(root), *words])
        signal.alarm(30)
        try:
            code = cli._main()
        finally:
            signal.alarm(0)
        said = capsys.readouterr()
        assert (code, said.out) == (2, ""), said
        assert "Traceback" not in said.err
        return said.err

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "reprobox.yaml").write_text(CONFIG)
    (root / "requirements.in").write_text("")
    return root


# --- the folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["build"], ["verify"], ["record"], ["lock"], ["run", "--", "true"]])
def test_a_folder_without_a_project_is_left_as_it_was(refused: Refused, tmp_path: Path, verb: list[str]) -> None:
    assert "there is no reprobox.yaml in" in refused(tmp_path, *verb)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_and_one_that_is_a_file_have_their_own_words(
    refused: Refused, tmp_path: Path
) -> None:
    assert "there is no folder" in refused(tmp_path / "none", "build")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(tmp_path / "file", "build")


def test_a_folder_deeper_than_a_path_may_be_long_is_told(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    try:
        for _ in range(25):
            os.mkdir("d" * 200)  # noqa: PTH102
            os.chdir("d" * 200)
        deep = subprocess.run(
            [sys.executable, "-P", "-m", "reprobox", "build"], capture_output=True, text=True, check=False, timeout=30
        )
    finally:
        os.chdir(tmp_path)
        shutil.rmtree("d" * 200)
        os.chdir("/")
    assert (deep.returncode, deep.stdout) == (2, "")
    assert "File name too long" in deep.stderr
    assert "Traceback" not in deep.stderr


def test_a_folder_whose_name_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff \n'\"$x"
    os.mkdir(odd)  # noqa: PTH102
    done = subprocess.run(
        [sys.executable, "-m", "reprobox", "-C", odd, "build"], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no reprobox.yaml in")


# --- files that are none ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reprobox.yaml", "reprobox.lock", "requirements.in"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling", "circle"])
def test_what_is_no_file_is_told_without_waiting_for_it(refused: Refused, project: Path, name: str, kind: str) -> None:
    path = project / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "dangling": "nowhere", "circle": name}[kind])
    assert name in refused(project, "lock", "--check") or name == "requirements.in"
    if (name, kind) != ("reprobox.lock", "dangling"):  # no lock is one that is yet to be made
        assert name in refused(project, "lock")


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock", "pylock.toml"])
def test_an_environment_file_of_another_kind_is_no_pipe_either(refused: Refused, project: Path, name: str) -> None:
    (project / "reprobox.yaml").write_text(CONFIG.replace("requirements.in", name))
    os.mkfifo(project / name)
    assert f"{name}, which environment: names, is no regular file" in refused(project, "lock")


def test_a_baseline_that_is_a_pipe_is_not_waited_for(project: Path) -> None:
    os.mkfifo(project / baseline.BASELINE_FILE)
    with pytest.raises(InvalidInput, match="Not a regular file"):
        baseline.read(project)


def test_files_beyond_measure_are_not_read_to_their_end(project: Path) -> None:
    for name in ("reprobox.yaml", "reprobox.lock", "reprobox.baseline.json"):
        with (project / name).open("wb") as stream:
            stream.truncate(1 << 40)
    began = time.monotonic()
    with pytest.raises(InvalidConfig, match="larger than 256 KiB"):
        config.load(project)
    with pytest.raises(InvalidInput, match="Larger than 16 MiB"):
        lockfile.read(project)
    with pytest.raises(InvalidInput, match="Larger than 64 MiB"):
        baseline.read(project)
    assert time.monotonic() - began < 10


# --- reprobox.yaml ----------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: x\n\tpython: y\n", "indent with spaces, not with tabs"),
        (b"name: x\nname: y\n", "the key stands twice, first on line 1"),
        (BOMB.encode(), "values with its aliases written out"),
        (b"a: " + b"[" * 10_000, "nested too deeply"),
        (b"a: " + b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b"a: " + b"{a: " * 10_000, "nested too deeply"),
        (b"name: \xe9\n", "the text is not UTF-8"),
        ("name: x\n".encode("utf-16"), "the text is not UTF-8"),
        (b"name: a\0b\n", "character U+0000 is not allowed"),
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (CONFIG.replace("name: x", "name: x\nenviroment: y").encode(), "did you mean `environment`?"),
    ],
)
def test_a_broken_config_is_one_message(refused: Refused, project: Path, content: bytes, words: str) -> None:
    (project / "reprobox.yaml").write_bytes(content)
    assert words in refused(project, "build")


@pytest.mark.parametrize(
    ("outputs", "more", "words"),
    [
        ("[requirements.in]", "", "requirements.in is an output, and requirements.in names the packages"),
        ("[train.py]", "", "train.py is an output, and train.py is what the command runs"),
        ("[src]", "  control: [python, src/other.py]\n", "src is an output, and src/other.py is what the control runs"),
        ("[data]", "  inputs: [data/x.csv]\n", "data/x.csv is input, and data is output"),
    ],
)
def test_an_output_that_the_run_needs_is_refused(
    refused: Refused, project: Path, outputs: str, more: str, words: str
) -> None:
    (project / "reprobox.yaml").write_text(CONFIG + SMOKE.replace("[out]", outputs) + more)
    assert words in refused(project, "lock", "--check")


def test_an_output_that_the_command_is_told_by_its_arguments_is_none_that_it_needs(project: Path) -> None:
    (project / "reprobox.yaml").write_text(CONFIG + SMOKE.replace("train.py", "train.py, out/model.npz"))
    assert config.load(project).smoke is not None


@pytest.mark.parametrize("name", ["PATH", "HOME"])
def test_a_variable_of_the_image_itself_is_refused(refused: Refused, project: Path, name: str) -> None:
    (project / "reprobox.yaml").write_text(CONFIG + f"env: {{{name}: /x}}\n")
    assert f"{name} is the image's own" in refused(project, "lock", "--check")


# --- the environment file ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"six # \xe9\n", "requirements.in:1: not utf-8: byte 0xe9"),
        (b"si\0x\n", "requirements.in"),
        (b"six ==\n", "requirements.in:1"),
    ],
)
def test_a_broken_requirements_file_is_told_with_its_line(
    refused: Refused, project: Path, content: bytes, words: str
) -> None:
    (project / "requirements.in").write_bytes(content)
    assert words in refused(project, "lock")


def test_a_pyproject_nested_beyond_measure_is_told(refused: Refused, project: Path) -> None:
    (project / "reprobox.yaml").write_text(CONFIG.replace("requirements.in", "pyproject.toml"))
    (project / "pyproject.toml").write_text("a = " + "[" * 10_000)
    assert "pyproject.toml: not TOML: values are nested too deeply" in refused(project, "lock")


def test_an_environment_file_that_is_a_link_out_of_the_project_is_refused(
    refused: Refused, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.txt").write_text("six\n")
    (project / "requirements.in").unlink()
    (project / "requirements.in").symlink_to("../outside.txt")
    assert "requirements.in lies outside the project" in refused(project, "lock")
