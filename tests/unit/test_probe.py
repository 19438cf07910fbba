"""The probe's script, run by a real Python as it is inside an image; and what is made of its answer."""

import ast
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprobox import probe
from reprobox.console import Console
from reprobox.engines import Machine
from reprobox.errors import ProbeFailed
from reprobox.model import Completed, Digest, Image
from reprobox.probe import script

IMAGE = Image(engine="fake", reference="x:1", handle="x", digest=Digest.of(b"image"))
ANSWER = {
    "architecture": "x86_64",
    "boot": "boot 1\n",
    "cpuinfo": "model name : A CPU",
    "cpus": 1,
    "gpus": {"devices": []},
    "libraries": {},
    "memory": "max\n",
}


def run(*names, folder=None, code=0):
    """The script, as the probe starts it; ``folder`` holds what can be imported."""
    text = probe.SCRIPT.read_text()
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else ""
    text = text.replace("import ctypes", start + "import ctypes", 1)
    done = subprocess.run([sys.executable, "-I", "-c", text, *names], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done


def package(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    return folder


# --- the script -------------------------------------------------------------------------------


def test_the_script_needs_the_standard_library_alone_and_python_38():
    tree = ast.parse(probe.SCRIPT.read_text(), feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= sys.stdlib_module_names | {"__future__"}


def test_the_script_fits_into_one_argument():
    assert len(probe.SCRIPT.read_bytes()) < 32 * 4096  # MAX_ARG_STRLEN (Linux)


def test_without_libraries_the_machine_is_described():
    found = run()
    assert found["libraries"] == {}
    assert found["architecture"] == os.uname().machine
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert found["boot"] == probe.BOOT.read_text()
    assert found["cpuinfo"].startswith("processor")
    assert "processor\t: 1" not in found["cpuinfo"]


def test_only_locked_libraries_are_reported(tmp_path):
    package(tmp_path, "numpy", "raise SystemExit('was imported')")
    package(tmp_path, "pyarrow", "__version__ = '1'\nruntime_info = lambda: type('Info', (), {'simd_level': 'avx2'})")
    found = run("pyarrow", "requests", folder=tmp_path)
    assert found["libraries"] == {"pyarrow": {"version": "1", "simd": "avx2"}}


def test_a_library_that_cannot_be_imported_has_its_reason(tmp_path):
    package(tmp_path, "numpy", "raise ImportError('\\n\\nlibgfortran.so.5: cannot open\\nmore')")
    package(tmp_path, "pyarrow", "raise SystemExit('no')")
    assert run("numpy", "pyarrow", "torch", "jaxlib", folder=tmp_path)["libraries"] == {
        "numpy": {"error": "ImportError: libgfortran.so.5: cannot open"},
        "pyarrow": {"error": "SystemExit: no"},
        "torch": {"error": "ModuleNotFoundError: No module named 'torch'"},
        "jaxlib": {"error": "it is not installed"},
    }


def test_what_a_library_prints_is_no_part_of_the_answer(tmp_path):
    package(tmp_path, "pyarrow", "import os\nprint('hello')\nos.system('echo there')\nraise ImportError('x')")
    assert run("pyarrow", folder=tmp_path)["libraries"] == {"pyarrow": {"error": "ImportError: x"}}


def test_a_library_that_crashes_is_named_last(tmp_path):
    package(tmp_path, "numpy", "__version__ = '1'")
    package(tmp_path, "pyarrow", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    done = run("numpy", "pyarrow", folder=tmp_path, code=-11)
    assert done.stderr.splitlines()[-1] == "reading pyarrow"


def test_conda_calls_torch_pytorch():
    assert run("pytorch")["libraries"].keys() == {"torch"}


class FakeCuda:
    """libcuda with two GPUs, or none, or a driver that does not fit."""

    def __init__(self, code: int) -> None:
        self.code = code

    def cuInit(self, flags):
        return self.code

    def cuDeviceGetCount(self, count):
        count._obj.value = 2

    def cuDeviceGet(self, device, number):
        device._obj.value = number

    def cuDeviceGetName(self, name, size, device):
        name.value = f"NVIDIA {'AB'[device.value]}".encode()

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 9, 76: 0}[attribute] + device.value


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, [{"name": "NVIDIA A", "capability": "9.0"}, {"name": "NVIDIA B", "capability": "10.1"}]),
        (100, []),
    ],
)
def test_gpus_are_asked_from_the_driver(monkeypatch, code, expected):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(code))
    assert script.gpus()["devices"] == expected


def test_a_driver_that_fails_says_its_code(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeCuda(803))
    assert script.gpus() == {"error": "CUDA's driver answers cuInit with error 803"}


@pytest.mark.gpu
def test_a_real_gpu_has_a_name_and_a_capability():
    found = run()["gpus"]
    if not found.get("devices"):
        pytest.skip(f"no NVIDIA GPU is here: {found}")
    assert all(one["name"] and float(one["capability"]) >= 3 for one in found["devices"])
    assert "NVRM version" in found["driver"]


# --- asking -----------------------------------------------------------------------------------


class Engine:
    """An engine that answers as told, and counts how often it is asked."""

    def __init__(self, answer=None, *, code=0, stderr="", reason=None, identity="here") -> None:
        self.stdout = answer if isinstance(answer, str) else json.dumps(answer or ANSWER)
        self.completed = Completed(exit_code=code, seconds=1, reason=reason)
        self.stderr, self.identity, self.asked = stderr, identity, 0

    def machine(self):
        return Machine(engine="Fake 1", identity=self.identity)

    def run(self, image, job, *, into, listen):
        self.asked += 1
        listen("stderr", self.stderr.encode())
        for half in (self.stdout[:20], self.stdout[20:]):
            listen("stdout", half.encode())
        return self.completed, ()


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "BOOT", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("boot 1\n")

    def ask(engine, image=IMAGE, libraries=("numpy",), cpus=1):
        wanted = probe.job(libraries, cpus=cpus, memory=1 << 30)
        return probe.conditions(engine, image, wanted, memory=tmp_path, console=Console())

    return ask


def test_the_job_runs_the_experiments_own_python_under_its_limits():
    wanted = probe.job(("scipy", "numpy"), cpus=3, memory=7)
    assert wanted.command[:3] == ("/opt/env/bin/python", "-I", "-c")
    assert wanted.command[4:] == ("numpy", "scipy")
    assert (wanted.cpus, wanted.memory, wanted.mounts, wanted.outputs) == (3, 7, (), ())


def test_the_answer_is_kept_and_not_asked_for_again(ask, tmp_path):
    engine = Engine()
    found = ask(engine)
    assert (found.cpu, found.engine) == ("A CPU", "Fake 1")
    assert ask(engine) == found
    assert engine.asked == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_whatever_changed_asks_again(ask, tmp_path):
    engine = Engine()
    ask(engine)
    ask(engine, image=Image(engine="fake", reference="x:1", handle="x", digest=Digest.of(b"other")))
    ask(engine)
    ask(engine, libraries=("numpy", "scipy"))
    ask(engine, libraries=("numpy", "scipy"), cpus=2)
    engine.identity = "there"
    ask(engine, libraries=("numpy", "scipy"), cpus=2)
    (tmp_path / "boot_id").write_text("boot 2\n")
    ask(engine, libraries=("numpy", "scipy"), cpus=2)
    assert engine.asked == 7


def test_a_remote_engine_is_asked_every_time(ask):
    engine = Engine(ANSWER | {"boot": "another machine's\n"})
    ask(engine)
    ask(engine)
    assert engine.asked == 2


def test_an_answer_that_saw_a_gpu_is_not_kept(ask):
    engine = Engine(ANSWER | {"gpus": {"devices": [{"name": "NVIDIA H200", "capability": "9.0"}]}})
    assert ask(engine).gpus == ("NVIDIA H200 (9.0)",)
    ask(engine)
    assert engine.asked == 2


@pytest.mark.parametrize("note", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"key": 1, "answer": null}'])
def test_a_damaged_note_is_no_answer(ask, tmp_path, note):
    engine = Engine()
    ask(engine)
    (tmp_path / probe.NOTE).write_bytes(note)
    ask(engine)
    assert engine.asked == 2


def test_a_crash_names_the_library_and_shows_its_last_words(ask, tmp_path):
    engine = Engine("", code=139, stderr="reading numpy\nreading torch\nIllegal instruction\n")
    with pytest.raises(ProbeFailed) as caught:
        ask(engine)
    assert caught.value.message == (
        "the hardware could not be read inside the image: its Python ended with exit code 139, "
        "while it imported torch\n  reading numpy\n  reading torch\n  Illegal instruction"
    )
    assert caught.value.hint == "try `reprobox run -- python -c 'import torch'`"
    assert not (tmp_path / probe.NOTE).exists()


def test_a_probe_that_was_stopped_says_why(ask):
    with pytest.raises(ProbeFailed, match=r"exit code 137 \(killed: it needed more than 64 MiB of memory\)$"):
        ask(Engine("", code=137, reason="killed: it needed more than 64 MiB of memory"))


def test_an_answer_that_is_not_json_is_shown(ask):
    with pytest.raises(ProbeFailed, match="is not JSON: b'hello'"):
        ask(Engine("hello"))


def test_an_answer_of_another_form_is_refused(ask):
    for answer in ("[]", '{"gpus": 1}', json.dumps(ANSWER | {"memory": "much"}), json.dumps(ANSWER | {"libraries": 3})):
        with pytest.raises(ProbeFailed, match="its hardware cannot be read"):
            ask(Engine(answer))
