"""What `reprobox init` never does, what it survives, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from folders import FOLDERS, cli, init, make, said, words_of
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import config
from reprobox.draft import compose, look
from reprobox.draft.facts import Findings, Note, Place
from reprobox.errors import InvalidInput
from reprobox.report import drafted as report
from reprobox.workflow import drafting

# --- what is never done ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reprobox.yaml", "reprobox.yml"])
def test_a_config_that_is_there_is_never_overwritten(name: str, tmp_path: Path) -> None:
    make(tmp_path, {**FOLDERS["requirements"], name: "mine"})
    done = cli(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} is there already, and is not overwritten" in done.stderr
    assert (tmp_path / name).read_text() == "mine"


def test_a_dangling_link_in_the_place_of_the_config_is_not_written_through(tmp_path: Path) -> None:
    root = make(tmp_path / "p", FOLDERS["requirements"])
    (root / "reprobox.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="is there already"):
        drafting.init(root)
    assert not (tmp_path / "elsewhere").exists()


def test_names_that_are_taken_are_left_alone(tmp_path: Path) -> None:
    files = {**FOLDERS["poetry"], "constraints.txt": "mine\n"}
    (tmp_path / "requirements.in").mkdir(parents=True)
    project, done = init(tmp_path, files)
    assert done.written == ("reprobox-constraints.txt", "reprobox-requirements.in", "reprobox.yaml")
    assert str(project.environment.path) == "reprobox-requirements.in"
    assert (tmp_path / "constraints.txt").read_text() == "mine\n"


def test_a_draft_that_cannot_be_written_whole_is_not_written_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, FOLDERS["pipenv"])
    seen = compose.draft

    def slow(findings: Findings, *, name: str | None = None) -> compose.Draft:
        (tmp_path / "reprobox.yaml").write_text("written meanwhile")
        return seen(findings, name=name)

    monkeypatch.setattr(compose, "draft", slow)
    with pytest.raises(InvalidInput, match=r"reprobox\.yaml is there already"):
        drafting.init(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Pipfile",
        "Pipfile.lock",
        "analyse.py",
        "reprobox.yaml",
    ]
    assert (tmp_path / "reprobox.yaml").read_text() == "written meanwhile"


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("numpy==9.9\n")
    root = make(tmp_path / "p", {"main.py": ""})
    (root / "requirements.txt").symlink_to(tmp_path / "secret.txt")
    (root / "other.py").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "environment.yml").symlink_to(root / "environment.yml")
    _, done = init(root, {})
    assert "link out of this folder" in said(done, "requirements.txt")
    assert "circle" in said(done, "environment.yml")
    assert "9.9" not in (root / "requirements.in").read_text()


HOSTILE: dict[str, bytes] = {
    "binary": b"\x00\x01\x02" * 100,
    "latin-1": "# caf\xe9\n".encode("latin-1"),
    "deep-toml": b"a = " + b"[" * 50_000,
    "deep-json": b"[" * 100_000,
    "deep-yaml": b"- " * 5_000 + b"x",
    "bomb": b"a: &a [x,x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121)),
    "tabs": b"a:\n\t- b\n",
    "object": b"!!python/object/apply:os.system ['touch pwned']\n",
    "types": b'{"default": [1], "cells": {"x": 1}, "metadata": 3}',
    "empty": b"",
    "open": b'"""',
}  # fmt: skip
READ = ["pyproject.toml", "poetry.lock", "uv.lock", "pylock.toml", "Pipfile", "Pipfile.lock", "setup.py", "setup.cfg",
        "environment.yml", "pixi.toml", "Dockerfile", "x.def", "x.ipynb", "runtime.txt", ".python-version", "apt.txt",
        "requirements.txt", "README.md", "Makefile", "bad.py"]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_files_that_hold_something_else_are_survived(kind: str, tmp_path: Path) -> None:
    for name in READ:
        (tmp_path / name).write_bytes(HOSTILE[kind])
    (tmp_path / "main.py").write_text("import numpy\n")
    done = drafting.init(tmp_path)
    config.load(tmp_path)
    assert not (tmp_path / "pwned").exists()
    if kind not in {"empty", "types"}:
        assert done.draft.unseen


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=400), name=st.sampled_from(READ))
def test_no_bytes_stop_a_look(data: bytes, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / name).write_bytes(data)
    (root / "main.py").write_text("import numpy\n")
    draft = compose.draft(look.look(root))
    config.loads(draft.files["reprobox.yaml"].encode(), root=root)


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    _, done = init(tmp_path, {"requirements.txt": "six\n", "pyproject.toml": 'a = 1\n[project\nname = "x"\n'})
    assert "is not TOML" in said(done, "pyproject.toml:2")
    assert done.exit_code == 1


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    _, done = init(tmp_path, {"requirements.txt": "six\n", "environment.yml": "#" * 300_000})
    assert said(done, "environment.yml") == "is larger than 256 KiB; it was not read"


def test_a_device_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "environment.yml")
    _, done = init(tmp_path, {"requirements.txt": "six\n"})
    assert said(done, "environment.yml") == "is not a file"


def test_files_whose_names_are_no_text_are_left_out(tmp_path: Path) -> None:
    for name in (b"bad\xff.py", b"new\nline.py", b"x\xff.def", b"requirements-\xff.txt"):
        with open(os.fsencode(tmp_path) + b"/" + name, "w") as file:  # noqa: PTH123 (a path of bytes)
            file.write("import torch\nopen('a.txt', 'w')\n")
    project, _ = init(tmp_path, {"main.py": "import numpy\n"})
    assert words_of(tmp_path, "requirements.in") == ["numpy"]
    assert project.smoke is None


def test_a_script_of_python_2_is_named(tmp_path: Path) -> None:
    _, done = init(tmp_path, {"requirements.txt": "six\n", "old.py": "x = 1\nprint 'a'\n"})
    assert "is not Python 3" in said(done, "old.py:2")


def test_credentials_of_a_remote_or_an_index_are_in_no_file(tmp_path: Path) -> None:
    root = make(tmp_path / "folder", {**FOLDERS["pipenv"], "environment.yml": ""})
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    url = "https://me:hunter2@host.example/lab/Cold-Start.git"
    subprocess.run(["git", "-C", str(root), "remote", "add", "origin", url], check=True)
    done = cli(root, "--json")
    project = config.load(root)
    assert project.name == "cold-start"
    everything = done.stdout + done.stderr + "".join(
        path.read_text() for path in root.iterdir() if path.is_file() and path.name not in {"Pipfile", "Pipfile.lock"}
    )  # fmt: skip
    assert "hunter2" not in everything


def test_a_credential_in_a_pip_line_is_left_out_and_named(tmp_path: Path) -> None:
    line = "--extra-index-url https://me:hunter2@index.example/simple"
    _, done = init(tmp_path, {"environment.yml": f"dependencies:\n  - pip:\n    - six\n    - {line}\n"})
    assert words_of(tmp_path, "requirements.in") == ["six"]
    assert "holds credentials" in said(done, "environment.yml:4")
    assert "hunter2" not in (tmp_path / "requirements.in").read_text() + str(done.draft)


def test_a_subfolder_of_a_checkout_is_not_named_after_the_repository(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    url = "https://host.example/lab/everything.git"
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", url], check=True)
    project, _ = init(tmp_path / "Warm Start", FOLDERS["requirements"])
    assert project.name == "warm-start"


def test_in_another_repositorys_hook_the_name_is_still_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "theirs"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
        url = f"https://host.example/lab/{name}-remote.git"
        subprocess.run(["git", "-C", str(tmp_path / name), "remote", "add", "origin", url], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs" / ".git"))
    project, _ = init(tmp_path / "mine", FOLDERS["requirements"])
    assert project.name == "mine-remote"


# --- the command line ------------------------------------------------------------------------------


def test_the_report_names_what_was_found_where_and_what_comes_next(tmp_path: Path) -> None:
    make(tmp_path, FOLDERS["docker"])
    done = cli(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Found:"
    assert "  Dockerfile:2      the system packages libgomp1, git" in lines
    assert lines[-2:] == ["Wrote requirements.in, reprobox.yaml.", "next: reprobox lock"]
    assert max(map(len, lines)) <= 80


def test_the_report_as_json_says_the_same(tmp_path: Path) -> None:
    make(tmp_path, FOLDERS["conda"])
    done = cli(tmp_path, "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 1
    assert facts["written"] == ["requirements.in", "reprobox.yaml"]
    assert facts["complete"] is False
    assert facts["refused"] is None
    assert {"file": "notes.ipynb", "line": None, "text": "Python 3.10", "lacking": False} not in facts["found"]
    assert any(note["file"] == "environment.yml" and note["lacking"] for note in facts["not_in_the_draft"])


def test_a_name_is_taken_as_given_or_refused_with_one_that_is_allowed(tmp_path: Path) -> None:
    make(tmp_path, FOLDERS["requirements"])
    refused = cli(tmp_path, "--name", "My Thing")
    assert refused.returncode == 2
    assert "write --name my-thing" in refused.stderr
    assert not (tmp_path / "reprobox.yaml").exists()
    assert cli(tmp_path, "--name", "my-thing").returncode == 0
    assert config.load(tmp_path).name == "my-thing"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = cli(tmp_path / "none")
    assert done.returncode == 2
    assert "there is no folder" in done.stderr


def test_a_folders_own_text_cannot_move_the_cursor() -> None:
    note = Note(place=Place(file="x\x1b[2J.yml", line=1), text="is not YAML: \x1b[2J\r")
    text = report.render(compose.Draft(files={}, found=(note,), unseen=(note,)), ["reprobox.yaml"])
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_wheel_is_an_archive_and_no_text(tmp_path: Path) -> None:
    root = make(tmp_path, {"main.py": ""})
    with zipfile.ZipFile(root / "requirements.txt", "w") as archive:
        archive.writestr("x", "y")
    done = drafting.init(root)
    assert "not utf-8" in said(done, "requirements.txt").lower() or "NUL" in said(done, "requirements.txt")
