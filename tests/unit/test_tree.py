"""Which files are the project's: git checkouts, plain folders, and everything that is refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import tree
from reprobox.errors import InvalidInput, ProgramFailed, ProgramMissing
from reprobox.model import (
    Digest,
    EnvironmentFile,
    ImageBase,
    Output,
    Project,
    ProjectTree,
    PythonVersion,
    Smoke,
)

FILES = {"train.py": b"print(1)\n", "requirements.in": b"numpy\n", "data/digits.npz": b"\0\1\2", "lib/a.py": b"a = 1\n"}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.fixture(autouse=True)
def _git_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of the person who runs the tests, and no repository above the test's folder."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name, value in (("NAME", "Ada"), ("EMAIL", "ada@lab.example"), ("DATE", "2020-01-01T00:00:00Z")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)


def project(root: Path, *, inputs: Iterable[str] = (), outputs: Iterable[str] = ("out",)) -> Project:
    return Project(
        root=root,
        name="demo",
        environment=EnvironmentFile(path=PurePosixPath("requirements.in")),
        python=PythonVersion(3, 11),
        base=ImageBase(reference="debian:bookworm-slim"),
        smoke=Smoke(
            command=("python", "train.py"),
            inputs=tuple(PurePosixPath(path) for path in inputs),
            outputs=tuple(Output(path=PurePosixPath(path)) for path in outputs),
        ),
    )


def fill(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(root: Path) -> Path:
    if not (root / ".git").exists():
        git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A", "-f")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")
    return root


def names(found: ProjectTree) -> list[str]:
    return [str(file.path) for file in found.files]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return commit(fill(tmp_path / "project", FILES))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return fill(tmp_path / "project", FILES)


@pytest.fixture(params=["git", "plain"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = fill(tmp_path / "project", FILES)
    return commit(root) if request.param == "git" else root


def add(root: Path) -> None:
    """Make git know of what is new, where there is git."""
    if (root / ".git").exists():
        git(root, "add", "-A", "-f")


# --- which files ------------------------------------------------------------------------------


def test_a_checkout_and_a_plain_folder_of_the_same_files_are_the_same_tree(tmp_path: Path) -> None:
    one = tree.read(project(commit(fill(tmp_path / "one", FILES))))
    other = tree.read(project(fill(tmp_path / "other", FILES)))
    assert one.files == other.files
    assert names(one) == ["data/digits.npz", "lib/a.py", "requirements.in", "train.py"]
    assert one.files[0].digest == Digest.of(b"\0\1\2")
    assert one.files[0].size == 3
    assert (other.dirty, other.revision) == (False, None)
    assert (one.dirty, one.revision) == (False, git(tmp_path / "one", "rev-parse", "HEAD"))


def test_untracked_files_are_not_the_projects(checkout: Path) -> None:
    fill(checkout, {"notes.txt": b"", "lib/b.py": b""})
    assert names(tree.read(project(checkout))) == sorted(FILES)


def test_tracked_files_are_as_they_are_in_the_work_tree(checkout: Path) -> None:
    fill(checkout, {"train.py": b"print(2)\n"})
    (checkout / "lib/a.py").unlink()
    found = tree.read(project(checkout))
    assert found.dirty
    assert names(found) == ["data/digits.npz", "requirements.in", "train.py"]
    assert found.files[-1].digest == Digest.of(b"print(2)\n")


def test_a_staged_file_makes_the_tree_dirty_and_an_untracked_one_does_not(checkout: Path) -> None:
    fill(checkout, {"new.py": b""})
    assert not tree.read(project(checkout)).dirty
    git(checkout, "add", "new.py")
    assert tree.read(project(checkout)).dirty


def test_a_repository_without_a_commit_has_no_revision(plain: Path) -> None:
    git(plain, "init", "-q")
    git(plain, "add", "-A")
    found = tree.read(project(plain))
    assert (found.revision, found.dirty) == (None, True)
    assert names(found) == sorted(FILES)


def test_only_the_files_below_the_projects_folder_are_seen(tmp_path: Path) -> None:
    root = fill(tmp_path / "whole", {"other.py": b"", "sub/project/train.py": b"", "sub/project/lib/a.py": b""})
    commit(root)
    found = tree.read(project(root / "sub/project"))
    assert names(found) == ["lib/a.py", "train.py"]
    fill(root, {"other.py": b"changed"})
    assert not tree.read(project(root / "sub/project")).dirty
    fill(root, {"sub/project/train.py": b"changed"})
    assert tree.read(project(root / "sub/project")).dirty


def test_a_folder_replaced_by_a_link_takes_its_tracked_files_with_it(checkout: Path) -> None:
    fill(checkout, {"elsewhere/a.py": b"other"})
    (checkout / "lib/a.py").unlink()
    (checkout / "lib").rmdir()
    (checkout / "lib").symlink_to("elsewhere")
    assert "lib/a.py" not in names(tree.read(project(checkout)))


def test_a_file_replaced_by_a_folder_is_gone(checkout: Path) -> None:
    (checkout / "train.py").unlink()
    fill(checkout, {"train.py/x": b""})
    assert "train.py" not in names(tree.read(project(checkout)))


def test_a_hooks_variables_do_not_lead_elsewhere(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert names(tree.read(project(checkout))) == sorted(FILES)


def test_a_checkout_where_nothing_is_tracked_is_refused(plain: Path) -> None:
    git(plain, "init", "-q")
    with pytest.raises(InvalidInput, match="git tracks no file in"):
        tree.read(project(plain))


def test_a_plain_folder_is_read_without_what_nobody_commits(plain: Path) -> None:
    fill(
        plain,
        {
            "lib/__pycache__/a.pyc": b"",
            ".venv/bin/python": b"",
            "venv/x": b"",
            ".mypy_cache/x": b"",
            ".pytest_cache/x": b"",
            ".ruff_cache/x": b"",
            ".ipynb_checkpoints/x": b"",
            "lib/.git": b"gitdir: x",
            "out/model.npz": b"",
            "lib/out/kept.txt": b"",
            ".hidden": b"",
        },
    )
    assert names(tree.read(project(plain))) == sorted([*FILES, ".hidden", "lib/out/kept.txt"])


def test_without_git_installed_a_plain_folder_is_read_all_the_same(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(plain))
    assert names(tree.read(project(plain))) == sorted(FILES)


def test_without_git_installed_a_checkout_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    with pytest.raises(ProgramMissing, match="git is not installed") as caught:
        tree.read(project(checkout))
    assert "install git" in str(caught.value.hint)


def test_another_users_checkout_is_refused_in_gits_words(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ProgramFailed, match="dubious ownership") as caught:
        tree.read(project(checkout))
    assert "safe.directory" in str(caught.value)
    assert "the checkout belongs to another user" in str(caught.value.hint)


@pytest.mark.parametrize("damage", ["gitdir: /nowhere\n", None])
def test_a_damaged_checkout_is_no_plain_folder(plain: Path, damage: str | None) -> None:
    if damage:
        (plain / ".git").write_text(damage, encoding="utf-8")
    else:
        (plain / ".git").mkdir()
    with pytest.raises(ProgramFailed, match="not a git repository") as caught:
        tree.read(project(plain))
    assert "damaged or points nowhere" in str(caught.value.hint)


def test_a_damaged_index_is_refused_in_gits_words(checkout: Path) -> None:
    (checkout / ".git/index").write_bytes(b"damaged")
    with pytest.raises(ProgramFailed, match="index file") as caught:
        tree.read(project(checkout))
    assert caught.value.hint == "git must be able to read this checkout"


def test_an_empty_git_folder_further_up_is_no_repository(plain: Path) -> None:
    (plain.parent / ".git").mkdir()
    assert names(tree.read(project(plain))) == sorted(FILES)


# --- reprobox's own ---------------------------------------------------------------------------

OWN = {
    "reprobox.yaml": b"name: x\n",
    "reprobox.lock": b"",
    "requirements.lock": b"",
    "build-requirements.lock": b"",
    "conda-lock.yml": b"",
    "conda-linux-64.lock": b"",
    "reprobox.baseline.json": b"{}",
    "reprobox.baseline/linux/out.json": b"{}",
    "reprobox.base.tar": b"",
    "Dockerfile": b"# rendered by reprobox: x\nFROM scratch\n",
    ".dockerignore": b"# rendered by reprobox\n",
    "apptainer.def": b"# rendered by reprobox\n",
    ".reprobox/state.json": b"{}",
}


def test_reproboxs_own_files_do_not_change_the_tree(either: Path) -> None:
    before = tree.read(project(either))
    fill(either, OWN)
    add(either)
    after = tree.read(project(either))
    assert after == before
    assert after.digest == before.digest


def test_a_changed_lock_does_not_make_the_tree_dirty(checkout: Path) -> None:
    fill(checkout, OWN)
    commit(checkout)
    fill(checkout, dict.fromkeys(OWN, b"# rendered by reprobox, again\n"))
    assert not tree.read(project(checkout)).dirty


def test_a_changed_lock_does_not_make_the_tree_of_a_folder_inside_a_repository_dirty(tmp_path: Path) -> None:
    inner = fill(tmp_path / "whole/inner", FILES | OWN)
    commit(tmp_path / "whole")
    fill(inner, {"reprobox.lock": b"changed"})
    assert not tree.read(project(inner)).dirty


def test_a_dockerfile_of_the_users_own_is_the_projects(either: Path) -> None:
    fill(either, {"Dockerfile": b"FROM scratch\n# rendered by reprobox\n", "sub/Dockerfile": OWN["Dockerfile"]})
    add(either)
    found = names(tree.read(project(either)))
    assert "Dockerfile" in found
    assert "sub/Dockerfile" in found


def test_a_conda_lock_that_is_the_environment_is_the_projects(either: Path) -> None:
    fill(either, {"conda-lock.yml": b""})
    add(either)
    asked = project(either)
    object.__setattr__(asked, "environment", EnvironmentFile(path=PurePosixPath("conda-lock.yml")))
    assert "conda-lock.yml" in names(tree.read(asked))
    assert "conda-lock.yml" not in names(tree.read(project(either)))


# --- one tree, one digest ---------------------------------------------------------------------

paths = st.lists(st.text(alphabet="abZ._-é ~", min_size=1, max_size=3).filter(lambda part: part.strip(".")), max_size=2)
folders = st.dictionaries(
    paths.map(lambda parts: "/".join(["f", *parts, "x"])), st.tuples(st.binary(max_size=4), st.booleans()), max_size=6
)


@settings(max_examples=30, deadline=None)
@given(folders, st.randoms(use_true_random=False), st.sampled_from([0o000, 0o022, 0o077]))
def test_a_shuffled_twin_under_another_umask_is_the_same_tree(
    files: dict[str, tuple[bytes, bool]], shuffle: random.Random, umask: int
) -> None:
    def make(root: Path, order: list[str]) -> ProjectTree:
        for name in order:
            data, executable = files[name]
            fill(root, {name: data})
            mode = 0o777 if executable else 0o666
            (root / name).chmod(mode & ~umask if root.name == "twin" else mode & ~0o022)
        return tree.read(project(root))

    with tempfile.TemporaryDirectory() as folder:
        order = sorted(files)
        one = make(Path(folder, "one"), order) if files else ProjectTree(files=())
        shuffle.shuffle(order)
        twin = make(Path(folder, "twin"), order) if files else ProjectTree(files=())
    assert one == twin
    assert one.digest == twin.digest
    assert [str(file.path).encode() for file in one.files] == sorted(str(file.path).encode() for file in one.files)


def test_the_order_is_that_of_the_paths_bytes(plain: Path) -> None:
    fill(plain, {"a/b": b"", "a-b": b"", "a.b": b"", "é": b"", "z": b"", "Z": b""})
    found = names(tree.read(project(plain)))
    assert found == sorted(found, key=str.encode)
    assert found.index("a-b") < found.index("a.b") < found.index("a/b")


def test_only_the_owners_executable_bit_counts(either: Path) -> None:
    before = tree.read(project(either)).digest
    (either / "train.py").chmod(0o655)
    assert tree.read(project(either)).digest == before
    (either / "train.py").chmod(0o755)
    after = tree.read(project(either))
    assert after.digest != before
    assert after.files[-1].executable


@pytest.mark.parametrize("change", ["content", "name", "new"])
def test_every_change_changes_the_digest(either: Path, change: str) -> None:
    before = tree.read(project(either)).digest
    if change == "content":
        fill(either, {"train.py": b"print(3)\n"})
    elif change == "name":
        (either / "train.py").rename(either / "test.py")
    else:
        fill(either, {"empty": b""})
    add(either)
    assert tree.read(project(either)).digest != before


# --- links, and what is no file ---------------------------------------------------------------


def test_a_link_inside_the_tree_is_kept_as_a_link(either: Path) -> None:
    (either / "lib/b.py").symlink_to("../train.py")
    (either / "gone").symlink_to("not-there")
    (either / "folder").symlink_to("lib")
    add(either)
    found = {str(file.path): file for file in tree.read(project(either)).files}
    link = found["lib/b.py"]
    assert (link.link, link.executable, link.size) == ("../train.py", False, 11)
    assert link.digest == Digest.of(b"../train.py")
    assert found["gone"].link == "not-there"
    assert found["folder"].link == "lib"
    assert "folder/a.py" not in found


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/hostname", r"the link lib/b\.py is absolute: /etc/hostname"),
        ("../../x", r"the link lib/b\.py leads out of the project: \.\./\.\./x"),
        ("../..", "leads out of the project"),
        ("up/../../x", "leads out of the project"),
        ("a\nb", "points to a name with a line break"),
        (b"caf\xe9", "points to a name that is not UTF-8"),
    ],
)
def test_a_link_that_leads_out_of_the_tree_is_refused(either: Path, target: str | bytes, words: str) -> None:
    (either / "lib/up").symlink_to("..")
    (either / "lib/b.py").symlink_to(os.fsdecode(target))
    add(either)
    with pytest.raises(InvalidInput, match=words):
        tree.read(project(either))


def test_a_pipe_is_refused(plain: Path) -> None:
    os.mkfifo(plain / "lib/pipe")
    with pytest.raises(InvalidInput, match="not a file, folder or link: lib/pipe"):
        tree.read(project(plain))


def test_a_tracked_file_that_became_a_pipe_is_refused(checkout: Path) -> None:
    (checkout / "train.py").unlink()
    os.mkfifo(checkout / "train.py")
    with pytest.raises(InvalidInput, match=r"not a file, folder or link: train\.py"):
        tree.read(project(checkout))


@pytest.mark.parametrize(
    ("name", "words"), [(b"caf\xe9", "not UTF-8"), (b"a\nb", "line break"), (b"a\rb", "line break")]
)
def test_a_name_that_cannot_be_told_is_refused(either: Path, name: bytes, words: str) -> None:
    Path(os.fsdecode(os.fsencode(either) + b"/lib/" + name)).write_bytes(b"")
    add(either)
    with pytest.raises(InvalidInput, match=words):
        tree.read(project(either))


def test_a_file_that_cannot_be_read_is_named(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refuse(path: Path, *arguments: object, **named: object) -> object:
        if path.name == "train.py":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidInput, match=r"cannot read train\.py: Permission denied"):
        tree.read(project(either))


def test_a_file_that_changes_while_it_is_read_is_refused(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def grown(handle: int) -> os.stat_result:
        values = list(real(handle))
        values[6] += 1
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", grown)
    with pytest.raises(InvalidInput, match="changed while it was read"):
        tree.read(project(either))


# --- LFS and submodules -----------------------------------------------------------------------


def test_an_lfs_pointer_is_refused(either: Path) -> None:
    fill(either, {"data/model.bin": POINTER})
    add(either)
    with pytest.raises(InvalidInput, match=r"data/model\.bin is a git LFS pointer") as caught:
        tree.read(project(either))
    assert caught.value.hint == "run `git lfs pull`"


def test_a_larger_file_that_begins_like_a_pointer_is_a_file(either: Path) -> None:
    fill(either, {"data/model.bin": POINTER + b"x" * 1024})
    add(either)
    assert "data/model.bin" in names(tree.read(project(either)))


@pytest.fixture
def with_submodule(checkout: Path, tmp_path: Path) -> Path:
    library = commit(fill(tmp_path / "library", {"code.py": b"x = 1\n", "deep/y.py": b"", "reprobox.lock": b""}))
    git(checkout, "submodule", "--quiet", "add", str(library), "vendor/library")
    return commit(checkout)


def test_the_files_of_a_submodule_are_the_projects(with_submodule: Path) -> None:
    fill(with_submodule, {"vendor/library/untracked": b""})
    found = tree.read(project(with_submodule))
    inside = [name for name in names(found) if name.startswith("vendor")]
    assert inside == ["vendor/library/code.py", "vendor/library/deep/y.py", "vendor/library/reprobox.lock"]
    assert not found.dirty
    fill(with_submodule, {"vendor/library/code.py": b"x = 2\n"})
    assert tree.read(project(with_submodule)).dirty


def test_a_changed_submodule_makes_the_tree_dirty_though_git_is_told_to_ignore_it(with_submodule: Path) -> None:
    git(with_submodule, "config", "submodule.vendor/library.ignore", "all")
    fill(with_submodule, {"vendor/library/code.py": b"x = 2\n"})
    assert tree.read(project(with_submodule)).dirty


def test_a_submodule_that_is_not_here_is_refused(with_submodule: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(with_submodule), "clone")
    with pytest.raises(InvalidInput, match="the submodule vendor/library is not here") as caught:
        tree.read(project(tmp_path / "clone"))
    assert "git submodule update --init" in str(caught.value.hint)


# --- inputs -----------------------------------------------------------------------------------


def test_a_small_untracked_input_is_the_projects(checkout: Path) -> None:
    fill(checkout, {"data/more.npz": b"more", "data/not-declared.npz": b""})
    found = tree.read(project(checkout, inputs=["data/more.npz", "data/digits.npz"]))
    assert names(found) == sorted([*FILES, "data/more.npz"])
    assert not found.dirty


def test_a_large_input_is_left_out_unless_it_is_tracked(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "SMALL_INPUT", 4)
    fill(either, {"data/large.npz": b"12345"})
    assert "data/large.npz" not in names(tree.read(project(either, inputs=["data/large.npz"])))
    if (either / ".git").exists():
        add(either)
        assert "data/large.npz" in names(tree.read(project(either, inputs=["data/large.npz"])))


def test_an_untracked_input_may_be_a_link_to_where_the_data_is(either: Path, tmp_path: Path) -> None:
    fill(tmp_path, {"store/big.npz": b"big"})
    (either / "data/big.npz").symlink_to(tmp_path / "store/big.npz")
    (found,) = (f for f in tree.read(project(either, inputs=["data/big.npz"])).files if "big" in str(f.path))
    assert (found.link, found.digest) == (None, Digest.of(b"big"))


def test_an_input_behind_a_link_of_the_projects_is_refused(either: Path) -> None:
    (either / "store").symlink_to("data")
    add(either)
    fill(either, {"data/new.npz": b""})
    with pytest.raises(InvalidInput, match=r"the input store/new\.npz is reached through the link store"):
        tree.read(project(either, inputs=["store/new.npz"]))


def test_missing_inputs_are_named(either: Path) -> None:
    with pytest.raises(InvalidInput, match=r"smoke\.inputs names what does not exist: data/a, data/b"):
        tree.read(project(either, inputs=["data/b", "data/digits.npz", "data/a"]))


def test_of_many_missing_inputs_five_are_named(either: Path) -> None:
    with pytest.raises(InvalidInput, match="a0, a1, a2, a3, a4 and 2 more"):
        tree.read(project(either, inputs=[f"a{number}" for number in range(7)]))


@pytest.mark.parametrize(("name", "words"), [("data", "is a folder"), ("pipe", "is not a regular file")])
def test_an_input_that_is_no_file_is_refused(either: Path, name: str, words: str) -> None:
    os.mkfifo(either / "pipe")
    with pytest.raises(InvalidInput, match=words):
        tree.read(project(either, inputs=[name]))


def test_an_input_that_is_a_link_to_nothing_is_refused(either: Path) -> None:
    (either / "data/gone").symlink_to("nowhere")
    with pytest.raises(InvalidInput, match="cannot read data/gone: No such file"):
        tree.read(project(either, inputs=["data/gone"]))


# --- the memory of digests --------------------------------------------------------------------


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds from now, so that files written by the test are no longer fresh."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 10 * 10**9)


def remembered(root: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads((root / ".reprobox/digests.json").read_bytes())
    return found


@pytest.mark.usefixtures("later")
def test_an_unchanged_file_is_not_read_twice(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tree.read(project(either))
    assert sorted(remembered(either)) == sorted(FILES)

    def fail(*_: object) -> Digest:
        raise AssertionError("read again")

    monkeypatch.setattr(tree._Digests, "_read", fail)
    assert tree.read(project(either)) == first


@pytest.mark.usefixtures("later")
def test_a_changed_file_is_read_again_though_size_and_time_are_the_same(either: Path) -> None:
    tree.read(project(either))
    status = (either / "train.py").stat()
    fill(either, {"train.py": b"print(9)\n"})
    os.utime(either / "train.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert tree.read(project(either)).files[-1].digest == Digest.of(b"print(9)\n")


def test_a_file_of_just_now_is_not_remembered(either: Path) -> None:
    tree.read(project(either))
    assert not (either / ".reprobox").exists()


@pytest.mark.usefixtures("later")
def test_a_file_with_a_time_to_come_is_not_remembered(either: Path) -> None:
    ahead = time.time_ns() + 10**12
    os.utime(either / "train.py", ns=(ahead, ahead))
    tree.read(project(either))
    assert "train.py" not in remembered(either)


@pytest.mark.usefixtures("later")
def test_a_file_that_is_gone_is_forgotten(either: Path) -> None:
    tree.read(project(either))
    (either / "train.py").unlink()
    tree.read(project(either))
    assert "train.py" not in remembered(either)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff",
        b"[]",
        b"3",
        b"[" * 100_000,
        b'{"train.py": 3}',
        b'{"train.py": [1,2,3,4,5,"x"]}',
        b'{"train.py": [1]}',
    ],
)
def test_a_damaged_memory_is_ignored(either: Path, damage: bytes) -> None:
    first = tree.read(project(either))
    (either / ".reprobox/digests.json").write_bytes(damage)
    assert tree.read(project(either)) == first
    assert sorted(remembered(either)) == sorted(FILES)


@pytest.mark.usefixtures("later")
def test_a_checkout_that_cannot_be_written_is_read_all_the_same(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: Path) -> Path:
        raise InvalidInput(f"cannot keep state in {root}")

    first = tree.read(project(either))
    (either / ".reprobox/digests.json").unlink()
    monkeypatch.setattr(tree, "state_folder", refuse)
    assert tree.read(project(either)) == first
    assert not (either / ".reprobox/digests.json").exists()


@pytest.mark.usefixtures("later")
def test_the_state_does_not_show_in_git(checkout: Path) -> None:
    tree.read(project(checkout))
    assert (checkout / ".reprobox/digests.json").exists()
    assert git(checkout, "status", "--porcelain") == ""


@pytest.mark.usefixtures("later")
def test_digests_of_named_files_come_from_the_same_memory(plain: Path) -> None:
    paths = [PurePosixPath("train.py"), PurePosixPath("data/digits.npz")]
    found = tree.digests(plain, paths)
    assert found == {path: Digest.of(FILES[str(path)]) for path in paths}
    assert sorted(remembered(plain)) == ["data/digits.npz", "train.py"]
    with pytest.raises(InvalidInput, match="cannot read missing: No such file"):
        tree.digests(plain, [PurePosixPath("missing")])


@pytest.mark.usefixtures("later")
def test_the_digest_of_a_large_input_stays_remembered(either: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "SMALL_INPUT", 4)
    fill(either, {"data/large.npz": b"12345"})
    tree.digests(either, [PurePosixPath("data/large.npz")])
    tree.read(project(either, inputs=["data/large.npz"]))
    assert "data/large.npz" in remembered(either)
