"""The verbs on an engine that is no engine: what is built, what is found, what is recorded, and which exit code."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples import lock, project
from examples import tree as example_tree
from reprobox import config, files, image_note, lockfile, probe, recipe, render, tree
from reprobox.console import Console
from reprobox.engines import Listener, Machine, Supplies
from reprobox.engines.docker import Docker
from reprobox.errors import BuildFailed, InvalidInput
from reprobox.model import (
    Completed,
    Context,
    Digest,
    Image,
    Job,
    LockedFile,
    OutputFile,
    Platform,
    Status,
    SystemPackage,
)
from reprobox.resolvers import java_keystore, pylock
from reprobox.workflow import building, proving

CONFIG = """\
name: warm-start
environment: requirements.in
python: "3.11"
base: {bootstrap: debian, suite: bookworm}
smoke: {command: [python, train.py], outputs: [{path: out/a.json, ignore: [$.seconds]}]}
"""
IMAGE_CONFIG = """\
name: warm-start
environment: requirements.in
python: "3.11"
base: registry.example:5000/python:3.11-slim
smoke:
  command: [python, train.py]
  control: [python, train.py, --seed, "2"]
  outputs: [out/a.bin]
"""
ANSWER = {
    "architecture": "x86_64", "boot": "b", "cpuinfo": "model name : A CPU\nflags : avx2", "cpus": 1,
    "gpus": {"devices": []}, "libraries": {}, "memory": "max\n",
}  # fmt: skip


class FakeEngine:
    """The engine port, kept in memory: images by reference, and an experiment that says what it is told to say."""

    name = "fake"

    def __init__(self) -> None:
        self.images: dict[str, str] = {}
        self.built = self.probed = 0
        self.says: Callable[[Job], bytes | None] = lambda job: b"2" if "--seed" in job.command else b"1"
        self.fault: Exception | None = None

    def probe(self) -> str:
        self.probed += 1
        return "Fake 1"

    def machine(self) -> Machine:
        return Machine(engine="Fake 1", identity="here")

    def holds(self, image: Image) -> bool:
        return self.images.get(image.reference) == image.handle

    def build(self, context: Context, *, reference: str, supplies: Supplies, console: Console) -> Image:
        if self.fault:
            raise self.fault
        supplies.check()
        self.built += 1
        self.images[reference] = handle = str(context.digest)
        return Image(engine=self.name, reference=reference, handle=handle, digest=context.digest)

    def run(self, image: Image, job: Job, *, into: Path, listen: Listener) -> tuple[Completed, tuple[OutputFile, ...]]:
        if not job.outputs:
            listen("stdout", json.dumps(ANSWER).encode())
            return Completed(exit_code=0, seconds=1), ()
        if (data := self.says(job)) is None:
            return Completed(exit_code=3, seconds=1), ()
        stored = into / job.outputs[0]
        stored.parent.mkdir(parents=True)
        stored.write_bytes(data)
        output = OutputFile(path=job.outputs[0], digest=Digest.of(data), size=len(data), stored=stored)
        return Completed(exit_code=0, seconds=1), (output,)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project on a base image, locked."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "reprobox.yaml").write_text(IMAGE_CONFIG)
    (folder / "requirements.in").write_text("numpy\n")
    (folder / "requirements.lock").write_text(pylock.HEADER)
    (folder / "train.py").write_text("print()\n")
    wanted = config.load(folder)
    natives = (LockedFile(name="requirements.lock", digest=Digest.of(pylock.HEADER.encode())),)
    (folder / "reprobox.lock").write_bytes(
        lockfile.dumps(dataclasses.replace(lock(wanted, image=True), natives=natives))
    )
    return folder


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def build(root: Path, engine: FakeEngine) -> building.Built:
    return building.build(root, engine=engine, console=Console())


# --- build ------------------------------------------------------------------------------------


def test_an_image_is_built_once_and_then_found(root: Path, engine: FakeEngine) -> None:
    first, second = build(root, engine), build(root, engine)
    assert (first.fresh, second.fresh, engine.built) == (True, False, 1)
    assert first.image == second.image
    assert engine.probed == 1
    (root / "train.py").write_text("print(2)\n")
    assert build(root, engine).fresh


def test_a_renamed_project_is_not_up_to_date_under_its_old_name(root: Path, engine: FakeEngine) -> None:
    build(root, engine)
    (root / "reprobox.yaml").write_text(IMAGE_CONFIG.replace("warm-start", "cold-start"))
    built = build(root, engine)
    assert built.fresh
    assert built.image.reference.startswith("cold-start:")


def test_an_image_that_is_gone_is_built_again(root: Path, engine: FakeEngine) -> None:
    first = build(root, engine)
    engine.images.clear()
    again = build(root, engine)
    assert again.fresh
    assert again.image == first.image


def test_a_note_that_came_with_the_checkout_says_nothing(root: Path, engine: FakeEngine) -> None:
    prepared = building.prepare(config.load(root))
    evil = Image(engine="fake", reference=prepared.reference, handle="evil", digest=Digest.of(b"evil"))
    engine.images[evil.reference] = evil.handle
    image_note.write(root, image_note.Note(context=prepared.digest, image=evil))
    place = image_note.place(root, "fake")
    (root / ".reprobox").mkdir()
    place.rename(root / ".reprobox" / place.name)  # whole, as its author's reprobox would have written it
    built = build(root, engine)
    assert built.fresh
    assert built.image != evil


def test_nothing_that_is_believed_later_is_kept_in_the_checkout(root: Path, engine: FakeEngine) -> None:
    proving.record(root, force=False, engine=engine, console=Console())
    kept = {path.name for path in files.memory_place(root).iterdir()}
    assert kept == {"image-fake.json", probe.NOTE}
    assert not kept & {path.name for path in root.rglob("*")}


def test_a_failed_build_leaves_the_old_note(root: Path, engine: FakeEngine) -> None:
    build(root, engine)
    place = image_note.place(root, "fake")
    old = place.read_bytes()
    (root / "train.py").write_text("print(2)\n")
    engine.fault = BuildFailed("no")
    with pytest.raises(BuildFailed):
        build(root, engine)
    assert place.read_bytes() == old
    assert not (root / ".reprobox" / "build").exists()


@pytest.mark.parametrize("verb", ["build", "verify", "record"])
def test_the_config_is_read_once(root: Path, engine: FakeEngine, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    load = config.load
    monkeypatch.setattr(config, "load", lambda place: loads.append(place) or load(place))
    more: Any = {"verify": {"runs": 1, "control": False}, "record": {"force": False}, "build": {}}[verb]
    getattr(building if verb == "build" else proving, verb)(root, engine=engine, console=Console(), **more)
    assert loads == [root]


def test_docker_starts_no_process_where_the_files_are_no_longer_those_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise InvalidInput("the files changed")

    started: list[object] = []
    monkeypatch.setattr("reprobox.proc.run", lambda *words, **_: started.append(words))
    wanted = project(tmp_path, image=True)
    made = recipe.make(wanted, lock(wanted, image=True), Platform.LINUX_64)
    context = dataclasses.replace(render.context(made, tree=example_tree(), root=tmp_path, natives={}), files={})
    supplies = Supplies(staging=tmp_path / "build", check=refuse)
    with pytest.raises(InvalidInput, match="the files changed"):
        Docker().build(context, reference="x:1", supplies=supplies, console=Console())
    assert started == []


def test_the_contexts_digest_moves_with_the_program_that_runs_after_distribution_packages(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = SystemPackage(name="git", version="1", architecture="amd64", file="pool/git.deb", digest=Digest.of(b"git"))
    plain = building.prepare(config.load(root))
    prepared = dataclasses.replace(plain, recipe=dataclasses.replace(plain.recipe, system=(added,)))
    before = dataclasses.replace(prepared).digest
    (tmp_path / "java_keystore.py").write_bytes(java_keystore.PATH.read_bytes() + b"\n")
    monkeypatch.setattr(java_keystore, "PATH", tmp_path / "java_keystore.py")
    assert dataclasses.replace(prepared).digest != before


# --- record and verify ------------------------------------------------------------------------


def record(root: Path, engine: FakeEngine, *, force: bool = False) -> tuple[proving.Recorded, int]:
    done = proving.record(root, force=force, engine=engine, console=Console())
    return done, 0 if done.accepted else done.verdict.exit_code


def verify(root: Path, engine: FakeEngine, *, runs: int = 1) -> tuple[str, int]:
    found = proving.verify(root, runs=runs, control=False, engine=engine, console=Console())
    (status,) = {finding.status.value for finding in found.findings}
    return status, found.exit_code


def in_turn(*data: bytes) -> Callable[[Job], bytes]:
    left = list(data)
    return lambda _: left.pop(0)


def test_what_was_recorded_is_identical_and_anything_else_is_not(root: Path, engine: FakeEngine) -> None:
    assert verify(root, engine) == ("NO_BASELINE", 2)
    done, code = record(root, engine)
    assert (done.written, code) == (True, 0)
    assert verify(root, engine) == ("IDENTICAL", 0)
    assert record(root, engine)[0].written is False
    engine.says = lambda job: b"4" if "--seed" in job.command else b"3"
    assert verify(root, engine) == ("DIFFERENT", 1)
    done, code = record(root, engine)
    assert (done.written, code) == (False, 1)
    done, code = record(root, engine, force=True)
    assert (done.written, code) == (True, 0)
    assert verify(root, engine) == ("IDENTICAL", 0)


def test_an_experiment_that_fails_is_no_answer(root: Path, engine: FakeEngine) -> None:
    record(root, engine)
    engine.says = lambda _: None
    assert verify(root, engine) == ("RUN_FAILED", 2)
    done, code = record(root, engine, force=True)
    assert (done.written, code) == (False, 2)


def test_a_failed_run_names_what_the_image_does_not_hold(root: Path, engine: FakeEngine) -> None:
    engine.says = lambda _: None
    (root / "out").mkdir(exist_ok=True)
    output = config.load(root).smoke.outputs[0].path  # type: ignore[union-attr]
    (root / output).parent.mkdir(exist_ok=True)
    (root / output).write_text("of the last time")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / "helper.py").write_text("")
    done, _ = record(root, engine)
    assert done.verdict.notes == (
        f"declared outputs are not in the image, nor is a folder that is one: {output}; "
        "let the command make the folder",
        "not in the image, since git does not track it: helper.py",
    )


def test_the_last_words_are_told_in_whole_lines_and_without_colours(tmp_path: Path) -> None:
    heard: list[str] = []
    hear = proving._by_line(heard.append)
    for stream, data in (("stdout", b"a"), ("stderr", b"x\ny"), ("stdout", b"b\nc\n"), ("stderr", b"z")):
        hear(stream, data)
    assert heard == ["x", "ab", "c"]
    (tmp_path / "log").write_bytes(b"\x1b[31mred\x1b[0m\n" * 20)
    assert proving._tail(tmp_path / "log") == "\n".join(["  red"] * 12)


def test_an_unstable_experiment_is_told_and_not_recorded(root: Path, engine: FakeEngine) -> None:
    engine.says = in_turn(b"1", b"2", b"3")
    done, code = record(root, engine, force=True)
    assert Status.UNSTABLE in {finding.status for finding in done.verdict.findings}
    assert (done.written, code) == (False, 1)
    engine.says = lambda job: b"2" if "--seed" in job.command else b"1"
    record(root, engine)
    engine.says = in_turn(b"1", b"2")
    assert verify(root, engine, runs=2) == ("UNSTABLE", 1)


# --- looks and refusals -----------------------------------------------------------------------


def test_a_look_at_what_is_built_already_imports_nothing_slow(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text(CONFIG)
    (tmp_path / "requirements.in").write_text("numpy\n")
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\n")
    wanted = config.load(tmp_path)  # remembered from here on, as after any `reprobox lock`
    (tmp_path / "reprobox.lock").write_bytes(lockfile.dumps(dataclasses.replace(lock(wanted), wants=wanted.wants)))
    program = f"""
import pathlib, sys
from reprobox import cli, config
from reprobox.workflow import building
prepared = building.prepare(config.load(pathlib.Path({str(tmp_path)!r})))
prepared.digest, prepared.reference, building.engine()
print(*{{name.partition(".")[0] for name in sys.modules}}, *{{"http.client", "ssl"}} & sys.modules.keys())
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    slow = {"docker", "http.client", "jinja2", "jsonpath", "pydantic", "requests", "rich", "ssl", "urllib3", "uv"}
    assert slow & set(loaded) == set()


def test_a_file_edited_while_a_build_is_prepared_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("")
    (tmp_path / "train.py").write_text("print(1)\n")
    wanted = project(tmp_path)
    prepared: Any = SimpleNamespace(project=wanted, tree=tree.read(wanted))
    building._require_unchanged(prepared)
    (tmp_path / "train.py").write_text("print(2)\n")
    with pytest.raises(InvalidInput, match="files changed while the build was being prepared"):
        building._require_unchanged(prepared)
