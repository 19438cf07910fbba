"""A daemon that dies, a disk that is full, a registry that refuses or lies, inputs that nobody may read."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from conftest import ROOT, Project

from reprobox import image_note
from reprobox.console import Console
from reprobox.engines import Supplies, docker_context
from reprobox.engines.docker import Docker
from reprobox.errors import BuildFailed, HashMismatch, RegistryFailed, ReproboxError
from reprobox.model import Context, Digest, Image, Job, Platform

pytestmark = [pytest.mark.docker]
NewProject = Callable[[], Project]


class Daemon:
    """A second Docker daemon that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"

    def start(self) -> None:
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([ROOT / ".ci/engine", "another", str(self.folder)], stdout=log, stderr=log)
        _until(lambda: self.docker("info").returncode == 0)

    def kill(self) -> None:
        self._process.kill()  # and the kernel all that runs in its namespaces
        self._process.wait()

    def docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "--host", self.address, *words], capture_output=True, text=True, check=False, timeout=60
        )


@contextlib.contextmanager
def _daemon(memory: str = "") -> Iterator[Daemon]:
    """With ``memory`` (a size) the daemon's folder is a file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("a second Docker daemon needs root")
    folder = Path(tempfile.mkdtemp(prefix="reprobox-", dir="/tmp"))  # a socket's path must be short
    if memory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={memory}", "tmpfs", str(folder)], check=True)
    daemon = Daemon(folder)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.kill()
        if memory:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


def _dies(here: Project, daemon: Daemon, env: dict[str, str], words: list[str], moment: str) -> str:
    """Kill the daemon when ``moment`` stands in what reprobox says; returns all that it says. Exit code 2."""
    log = here.root.parent / "said.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(here.command("-v", *words), stdout=stream, stderr=stream, env=here.env(env))
        _until(lambda: moment in log.read_text() or process.poll() is not None, 300)
        assert process.poll() is None, log.read_text()
        daemon.kill()
        assert process.wait(timeout=120) == 2, log.read_text()
    said = log.read_text()
    assert "Traceback" not in said
    return said


@pytest.mark.network
def test_a_daemon_that_dies_loses_nothing_and_serves_again_after_its_restart(
    project: NewProject, tmp_path: Path
) -> None:
    """The daemon is that of a context, which only Docker's own configuration names; it has no network."""
    here = project()
    here("record")
    here.change("train.py", "import json,", "import os, time, json,")
    here.change("train.py", "seed =", "print('alive', flush=True)\ntime.sleep(float(os.environ.get('X', 0)))\nseed =")
    reference = here("build", "--json").json["image"]["reference"]
    kept = {image_note.place(here.root, "docker"), here.root / "reprobox.baseline.json"}
    before = {path: path.read_bytes() for path in kept}

    env = {"DOCKER_CONFIG": str(tmp_path / "docker"), "DOCKER_CONTEXT": "lab"}
    plugins = Path.home() / ".docker" / "cli-plugins"
    (tmp_path / "docker").mkdir()
    if plugins.is_dir():
        (tmp_path / "docker" / "cli-plugins").symlink_to(plugins)
    with _daemon() as daemon:
        made = ["docker", "context", "create", "lab", "--docker", f"host={daemon.address}"]
        subprocess.run(made, check=True, env={**os.environ, "DOCKER_CONFIG": env["DOCKER_CONFIG"]}, capture_output=True)
        assert "went away during the build" in _dies(here, daemon, env, ["build"], "#0 building with")
        assert {path: path.read_bytes() for path in kept} == before

        daemon.start()
        saved = subprocess.run(["docker", "save", reference], check=True, capture_output=True).stdout
        subprocess.run(["docker", "--host", daemon.address, "load"], input=saved, check=True, capture_output=True)
        slow = ["run", "--", "sh", "-c", "X=300 python train.py 0"]
        assert "went away while the command ran" in _dies(here, daemon, env, slow, "alive")
        assert "no Docker daemon answers" in here("verify", env=env, code=2).err
        assert {path: path.read_bytes() for path in kept} == before

        daemon.start()
        here("verify", env=env)
        assert {path: path.read_bytes() for path in kept} == before


# --- what goes wrong inside a build -----------------------------------------------------------

CONFIG = json.dumps(
    {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": f"sha256:{hashlib.sha256(CONFIG).hexdigest()}",
            "size": len(CONFIG),
        },
        "layers": [],
    }
).encode()


class _Registry(http.server.BaseHTTPRequestHandler):
    """Answers as the first component of the repository's name says: a status, or bytes that are not the right ones."""

    default_request_version = "HTTP/1.1"  # a TLS greeting gets an HTTP answer, after which Docker speaks plain HTTP

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        mood = [*self.path.split("/"), "", "", ""][2]
        status, body = (int(mood), b"{}") if mood.isdecimal() else (200, b"{}")
        if mood == "lie":
            body = MANIFEST if "/manifests/" in self.path else CONFIG
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _build(folder: Path, dockerfile: str, files: dict[str, bytes] | None = None) -> Image:
    context = Context(
        platform=Platform.LINUX_64,
        epoch=0,
        dockerfile=dockerfile,
        dockerignore="",
        files={PurePosixPath(name): data for name, data in (files or {}).items()},
        links={},
        executables=frozenset(),
        labels={},
        digest=Digest.of(b""),
    )
    return Docker().build(context, reference="reprobox-fault:1", supplies=Supplies(staging=folder), console=Console())


@pytest.mark.parametrize(
    ("repository", "kind", "said"),
    [
        ("401/x", RegistryFailed, "refuses .*401 Unauthorized"),
        ("403/x", RegistryFailed, "refuses .*403 Forbidden"),
        ("404/x", RegistryFailed, "does not have"),
        ("429/x", RegistryFailed, "wants fewer requests"),
        ("500/x", RegistryFailed, "out of order .*500"),
        ("lie/x", HashMismatch, "sent other bytes than .*: expected sha256:a{64}, got sha256:"),
    ],
)
def test_a_registry_that_refuses_or_lies_during_the_build_is_named(
    registry: str, repository: str, kind: type[ReproboxError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said) as caught:
        _build(tmp_path / "staging", f"FROM {registry}/{repository}@sha256:{'a' * 64}\n")
    assert registry in caught.value.message
    assert caught.value.hint


def test_a_registry_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryFailed, match=r"cannot reach 127\.0\.0\.1:1 "):
        _build(tmp_path / "staging", f"FROM 127.0.0.1:1/x@sha256:{'a' * 64}\n")


def test_a_program_of_another_cpu_is_said_so(tmp_path: Path) -> None:
    other = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00\x01\x00\x00\x00" + bytes(64)  # e_machine: RISC-V
    dockerfile = "FROM scratch\nCOPY --chmod=755 program /bin/sh\nRUN true\n"
    with pytest.raises(BuildFailed, match="cannot run programs of the image's platform"):
        _build(tmp_path / "staging", dockerfile, {"program": other})


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _daemon(memory="40m") as daemon:
        monkeypatch.setenv("DOCKER_HOST", daemon.address)
        with pytest.raises(BuildFailed, match="no space is left in its data folder /var/lib/docker") as caught:
            _build(tmp_path / "staging", "FROM scratch\nCOPY big /\n", {"big": os.urandom(60 << 20)})
        assert "docker system df" in (caught.value.hint or "")


def test_an_image_in_another_daemon_than_the_one_it_is_looked_for_in_is_said_so() -> None:
    with pytest.raises(BuildFailed, match="built the image, but not in the Docker daemon at"):
        Docker()._handle("reprobox-never-built:1")


# --- runs -------------------------------------------------------------------------------------

LARGE = """\
import os, pathlib
data = pathlib.Path("data/deep/large.bin")
print(len(data.read_bytes()), os.access(data, os.W_OK))
(data.parent / "index").write_text("an index beside the data")
"""


@pytest.mark.network
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_large_input_is_read_whatever_its_mode_and_its_folder_can_be_written(mode: int, project: NewProject) -> None:
    here = project()
    here.change("reprobox.yaml", "timeout: 60", "timeout: 60\n  inputs: [data/deep/large.bin]")
    place = here.root / "data" / "deep" / "large.bin"
    place.parent.mkdir(parents=True)
    with place.open("wb") as stream:
        stream.truncate(51 << 20)
    place.chmod(mode)
    here("lock")
    assert here("run", "--", "python", "-c", LARGE).out.split() == [str(51 << 20), "False"]
    assert (place.stat().st_mode & 0o777, [path.name for path in place.parent.iterdir()]) == (mode, ["large.bin"])


SURROUNDINGS = """\
import os, pathlib, resource
words = [line for line in pathlib.Path("/etc/resolv.conf").read_text().splitlines() if line and line[0] != "#"]
sizes = [os.statvfs(place).f_blocks * os.statvfs(place).f_frsize >> 20 for place in ("/tmp", "/var/tmp", "/home/user")]
print(words, sizes, resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.network
def test_name_servers_limits_and_sizes_are_not_the_hosts(project: NewProject) -> None:
    here = project()
    here.change("reprobox.yaml", "timeout: 60", "timeout: 60\n  memory: 300MiB")
    said = here("run", "--", "python", "-c", SURROUNDINGS).out.strip()
    assert said == "['nameserver 127.0.0.1', 'options ndots:1'] [300, 300, 300] (4096, 4096) (0, 0)"


@pytest.mark.network
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_may_be_silent_for_longer_than_a_daemon_may(
    project: NewProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project()("build", "--json").json["image"]
    image = Image(**{**made, "digest": Digest.parse(made["digest"])})
    monkeypatch.setattr(docker_context, "PATIENCE", 2)
    heard: list[bytes] = []
    silent = Job(command=("python", "-c", "import time; time.sleep(6); print('awake')"))
    completed, _ = Docker().run(image, silent, into=tmp_path / "out", listen=lambda _, data: heard.append(data))
    assert (completed.exit_code, b"".join(heard)) == (0, b"awake\n")
    gc.collect()  # docker-py leaves the socket of an attached stream to the collector


@pytest.mark.network
def test_two_experiments_at_once_run_on_cpus_of_their_own(project: NewProject) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one CPU")
    one, other = project(), project()
    one("build")
    script = "import os, time; print(os.sched_getaffinity(0), flush=True); time.sleep(20)"
    both = [
        subprocess.Popen(here.command("run", "--", "python", "-c", script), stdout=subprocess.PIPE, text=True)
        for here in (one, other)
    ]
    try:
        cpus = [process.stdout.readline() for process in both if process.stdout]
    finally:
        for process in both:
            process.terminate()
            process.communicate()
    assert len(set(cpus)) == 2, cpus
    assert all(len(line.split(",")) == 1 for line in cpus)
