"""Lock, build, record, verify, as a user runs them, on a real Docker."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Project

from reprobox import image_note, lockfile
from reprobox.model import Digest, LockedFile

pytestmark = [pytest.mark.docker, pytest.mark.network]
NewProject = Callable[[], Project]

OUTPUTS = "    - out/model.bin\n    - {path: out/metrics.json, ignore: [$.seconds]}\n"
SURROUNDINGS = """\
import json, os, pathlib, socket, time

def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError:
        return False
    return True

def reachable():
    try:
        socket.create_connection(("192.0.2.1", 80), 1)
    except OSError:
        return False
    return True

home = os.environ["HOME"]
print(json.dumps({
    "uid": os.getuid(),
    "cwd": os.getcwd(),
    "host": socket.gethostname(),
    "umask": os.umask(0),
    "network": reachable(),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "zone": time.tzname[0],
    "cpus": len(os.sched_getaffinity(0)),
    "home": home,
    "seed": os.environ.get("PYTHONHASHSEED"),
    "host_variable": os.environ.get("PLANTED"),
    "listing": sorted(os.listdir()),
    "writable": [path for path in ("/", "/opt/env", "/usr", "/work", "/tmp", home) if writable(path)],
}))
"""


def _ours() -> set[str]:
    listed = ["docker", "ps", "--all", "--quiet", "--filter", "label=io.github.reprobox.run"]
    return set(subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split())


def _volumes() -> set[str]:
    return set(
        subprocess.run(["docker", "volume", "ls", "-q"], capture_output=True, text=True, check=True).stdout.split()
    )


def _statuses(found: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {finding["path"]: finding["status"] for finding in found["findings"]}


def test_from_lock_to_verdict(project: NewProject) -> None:
    here = project()
    before = _volumes()
    assert here("lock", "--check").out == "reprobox.lock fits.\n"
    assert here("build", "--json").json["built"] is True
    assert here("build", "--json").json["built"] is False
    no_baseline = here("verify", code=2)
    assert "NO_BASELINE" in no_baseline.out
    recorded = here("record")
    assert "reprobox.baseline.json" in recorded.out
    here("record")
    verdict = here("verify", "--control", "--runs", "2", "--json").json
    assert _statuses(verdict) == {
        "out/model.bin": "IDENTICAL",
        "out/metrics.json": "SAME_CONTENT",
        "(control)": "CONTROL_DIFFERS",
    }
    assert _ours() == set()
    assert _volumes() == before


def test_one_flipped_bit_is_different(project: NewProject) -> None:
    here = project()
    here("record")
    here.change("train.py", "(seed + i) % 256", "(seed + i) % 256 ^ (i == 700)")
    found = here("verify", code=1)
    assert "DIFFERENT" in found.out
    assert "700" in found.out
    changed = here("record", code=1)
    assert "DIFFERENT" in changed.out
    here("verify", code=1)
    here("record", "--force")
    here("verify")


def test_a_failing_command_is_run_failed(project: NewProject) -> None:
    here = project()
    here("record")
    here.change("train.py", "out.mkdir()", "sys.exit('no more data')")
    found = here("verify", "--json", code=2)
    assert _statuses(found.json) == {"(run)": "RUN_FAILED"}
    assert "last words:\n  no more data" in found.err


def test_a_command_that_the_image_lacks_is_run_failed(project: NewProject) -> None:
    here = project()
    here.change("reprobox.yaml", '[python, train.py, "0"]', "[no-such-program]")
    found = here("verify", "--json", code=2).json
    assert _statuses(found) == {"(run)": "RUN_FAILED"}
    assert "the image has no program no-such-program" in found["findings"][0]["detail"]
    assert "no program nothing-here" in here("run", "--", "nothing-here", code=127).err


def test_a_command_that_hangs_is_stopped_at_its_time_out(project: NewProject) -> None:
    here = project()
    here.change("reprobox.yaml", "timeout: 60", "timeout: 2")
    here.change("train.py", "out.mkdir()", "import time; time.sleep(600)")
    found = here("verify", code=2)
    assert "time-out" in found.out
    assert _ours() == set()


def test_outputs_that_differ_from_run_to_run_are_unstable(project: NewProject) -> None:
    here = project()
    here("record")
    here.change("train.py", "(seed + i) % 256", "__import__('os').urandom(1)[0]")
    assert _statuses(here("verify", "--runs", "3", "--json", code=1).json)["out/model.bin"] == "UNSTABLE"
    baseline = (here.root / "reprobox.baseline.json").read_bytes()
    assert "UNSTABLE" in here("record", "--force", code=1).out
    assert (here.root / "reprobox.baseline.json").read_bytes() == baseline


def test_missing_and_extra_outputs_have_their_own_words(project: NewProject) -> None:
    here = project()
    here.change(
        "reprobox.yaml", "    - out/model.bin\n    - {path: out/metrics.json, ignore: [$.seconds]}\n", "    - out\n"
    )
    here.change("train.py", '__import__("time").time()', "1")
    here("record")
    here.change("train.py", '"model.bin"', '"weights.bin"')
    found = _statuses(here("verify", "--json", code=1).json)
    assert found == {"out/metrics.json": "IDENTICAL", "out/model.bin": "MISSING", "out/weights.bin": "EXTRA"}


def test_a_control_that_changes_nothing_is_not_recorded(project: NewProject) -> None:
    here = project()
    here.change("train.py", "int(sys.argv[1])", "0")
    found = here("record", code=1)
    assert "CONTROL_UNCHANGED" in found.out
    assert not (here.root / "reprobox.baseline.json").exists()


def test_an_edited_rule_has_no_baseline(project: NewProject) -> None:
    here = project()
    here("record")
    here.change("reprobox.yaml", "[$.seconds]", "[$.seconds, $.accuracy]")
    found = _statuses(here("verify", "--json", code=2).json)
    assert found["out/metrics.json"] == "NO_BASELINE"


def test_a_link_to_a_system_file_is_refused(project: NewProject) -> None:
    here = project()
    here.change("train.py", "out.mkdir()", "out.mkdir(); (out / 'model.bin').symlink_to('/etc/passwd'); sys.exit()")
    assert "a link to /etc/passwd" in here("verify", code=2).err


def test_too_many_outputs_are_refused_and_the_container_is_gone(project: NewProject) -> None:
    here = project()
    here.change("train.py", "out.mkdir()", "out.mkdir(); [(out / str(n)).touch() for n in range(12000)]; sys.exit()")
    here.change(
        "reprobox.yaml", "    - out/model.bin\n    - {path: out/metrics.json, ignore: [$.seconds]}\n", "    - out\n"
    )
    assert "more than 10000 files" in here("verify", code=2).err
    assert _ours() == set()


def test_the_projects_own_dockerignore_is_a_file_like_any_other(project: NewProject) -> None:
    here = project()
    here.write(".dockerignore", "*\n")
    assert here("run", "--", "ls", "-A").out.split() == [".dockerignore", "requirements.in", "train.py"]


def test_a_missing_smoke_input_is_named_before_anything_is_resolved(project: NewProject) -> None:
    here = project()
    here.change("reprobox.yaml", "timeout: 60", "timeout: 60\n  inputs: [data.csv]")
    assert "data.csv" in here("lock", code=2).err


def test_a_folder_that_is_a_link_is_refused(project: NewProject) -> None:
    here = project()
    here.change("train.py", "out.mkdir()", "pathlib.Path('/tmp/x').mkdir(); out.symlink_to('/tmp/x')")
    here.change("train.py", 'write_text(json.dumps({"accuracy"', 'write_text(json.dumps({"a"')
    assert "out is a link" in here("verify", code=2).err


def test_a_run_is_sealed_and_its_surroundings_are_fixed(project: NewProject) -> None:
    here = project()
    said = here("run", "--", "python", "-c", SURROUNDINGS, env={"PLANTED": "1"}).json
    assert said == {
        "uid": 1000,
        "cwd": "/work",
        "host": "reprobox",
        "umask": 0o022,
        "network": False,
        "interfaces": ["lo"],
        "zone": "UTC",
        "cpus": 1,
        "home": "/home/user",
        "seed": "0",
        "host_variable": None,
        "listing": ["requirements.in", "train.py"],
        "writable": ["/work", "/tmp", "/home/user"],
    }


def test_run_returns_its_commands_own_code_and_words(project: NewProject) -> None:
    here = project()
    done = here("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.out, done.err.splitlines()[-1]) == ("out\n", "err")


def test_more_memory_than_allowed_is_said(project: NewProject) -> None:
    here = project()
    here.change("reprobox.yaml", "timeout: 60", "timeout: 60\n  memory: 64MiB")
    here.change("train.py", "out.mkdir()", "x = b'1' * (1 << 30)")
    assert "more than 64 MiB of memory" in here("verify", code=2).out


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_reprobox_the_container_is_gone(project: NewProject, how: signal.Signals) -> None:
    here = project()
    here("record")
    here.change("train.py", "out.mkdir()", "import time; time.sleep(300)")
    here("build")
    before = _volumes()
    process = subprocess.Popen(here.command("verify"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _until(lambda: len(_ours()) == 1)
    process.send_signal(how)
    process.wait(timeout=30)
    _until(lambda: not _ours())
    _until(lambda: _volumes() == before)
    here.change("train.py", "import time; time.sleep(300)", "out.mkdir()")
    here("verify")


def test_two_at_once_in_one_project_are_told(project: NewProject) -> None:
    here = project()
    here.change("train.py", "out.mkdir()", "import time; time.sleep(300)")
    process = subprocess.Popen(here.command("verify"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until(lambda: bool(_ours()))
        assert f"process {process.pid}" in here("record", code=2).err
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_stale_lock_stops_the_build_with_every_reason(project: NewProject) -> None:
    here = project()
    here.write("requirements.in", "six==1.16.0\nidna\n")
    here.change("reprobox.yaml", "timeout: 60", "timeout: 60\nepoch: 5")
    for verb in ("build", "verify"):
        said = here(verb, code=1).err
        assert "environment file requirements.in" in said
        assert "epoch: the lock has 1577836800, the project has 5" in said
    assert here("lock", "--check", code=1).out.count("\n  ") == 2


def test_a_failed_build_leaves_the_old_image_and_says_why(project: NewProject) -> None:
    here = project()
    here("build")
    old = image_note.place(here.root, "docker").read_bytes()
    lock = here.root / "requirements.lock"
    lock.write_text(lock.read_text().replace("--hash=sha256:", "--hash=sha256:" + "0" * 8, 1)[:-9] + "\n")
    _relock(here)
    assert "six==1.16.0 is not what the lock names: expected sha256:00000000" in here("build", code=2).err
    assert image_note.place(here.root, "docker").read_bytes() == old


def _relock(here: Project) -> None:
    """Make reprobox.lock name the changed native lock, as an attacker would."""
    made = lockfile.read(here.root)
    digest = Digest.of_file(here.root / "requirements.lock")
    made = dataclasses.replace(made, natives=(LockedFile(name="requirements.lock", digest=digest),))
    (here.root / "reprobox.lock").write_bytes(lockfile.dumps(made))


def test_no_daemon_is_said_so(project: NewProject, tmp_path: Path) -> None:
    here = project()
    said = here("build", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, code=2).err
    assert "no Docker daemon answers" in said


def test_a_tree_that_is_dirty_or_clean_gives_one_image(project: NewProject) -> None:
    here = project()
    first = here("build", "--json").json["image"]["digest"]
    here.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "x")
    os.utime(here.root / "train.py", (1, 1))
    (here.root / "untracked.txt").write_text("not the project's\n")
    assert here("build", "--json").json == {"image": here("build", "--json").json["image"], "built": False}
    assert here("build", "--json").json["image"]["digest"] == first


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def test_json_is_all_that_stands_on_stdout(project: NewProject) -> None:
    here = project()
    for words in (["lock", "--json"], ["build", "--json"], ["verify", "--json"]):
        json.loads(here(*words, code=None).out)
