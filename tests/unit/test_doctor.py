"""What is judged of a machine: each finding, its remedy, the page. Nothing here looks at this machine."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import project as example
from reprobox import doctor, hardware, image_note
from reprobox.doctor import building, docker, gpu, machine, network
from reprobox.doctor import project as project_checks
from reprobox.doctor.diagnosis import Condition, Diagnosis, Examination, absent, ok, problem, warning
from reprobox.errors import InvalidInput, ReproboxError
from reprobox.model import BootstrapBase, Digest, Image
from reprobox.report import doctor as report

OK, WARNING, PROBLEM, ABSENT = Condition.OK, Condition.WARNING, Condition.PROBLEM, Condition.ABSENT
GIB = 1 << 30

# --- texts that the programs really print -----------------------------------------------------

SMI_450 = """\
Wed Jul 29 21:51:11 2020
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 450.57       Driver Version: 450.57       CUDA Version: 11.0     |
|-------------------------------+----------------------+----------------------+
"""
SMI_550 = """\
Wed Jan 24 15:18:40 2024
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.40.07              Driver Version: 550.40.07      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
"""
SMI_610 = """\
Sun Jun  7 08:16:57 2026
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 610.43.02              KMD Version: 610.43.02     CUDA UMD Version: 13.3     |
+-----------------------------------------+------------------------+----------------------+
"""
MODULE = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.182.03  Fri Feb 24 03:29:56 UTC 2023
GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)
"""
OPEN_MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (root@x)  Wed Feb 26\n"
)
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.90"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
BUILDX_DOCKER = """\
Name:          default
Driver:        docker
Last Activity: 2026-11-21 14:37:19 +0000 UTC

Nodes:
Name:             default
Endpoint:         default
Status:           running
BuildKit version: v0.25.1
Platforms:        linux/amd64, linux/amd64/v2
Labels:
 org.mobyproject.buildkit.worker.moby.host-gateway-ip: 172.17.0.1
"""
BUILDX_CONTAINER = """\
Name:          ours
Driver:        docker-container

Nodes:
Name:      ours0
Endpoint:  unix:///var/run/docker.sock
Status:    inactive
"""
INFO: dict[str, Any] = {
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "CgroupVersion": "2",
    "NCPU": 4,
    "MemTotal": 8 * GIB,
    "MemoryLimit": True,
    "CPUSet": True,
    "PidsLimit": True,
    "SecurityOptions": ["name=seccomp,profile=builtin"],
}


# --- engines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "condition", "fact"),
    [
        ("Docker version 28.2.2, build e6534b4\n", OK, "28.2.2"),
        ("podman version 5.4.2\n", PROBLEM, "Podman's stand-in (podman version 5.4.2)"),
        (None, PROBLEM, "not installed"),
    ],
)
def test_the_client(said: str | None, condition: Condition, fact: str) -> None:
    found = docker.judge_client(said)
    assert (found.condition, fact in found.fact) == (condition, True)


def test_a_daemon_is_described_in_two_lines() -> None:
    assert [(one.condition, one.fact) for one in docker.judge_daemon(INFO, local=True)] == [
        (OK, "as root; on this machine; overlayfs, containerd image store; cgroup v2"),
        (OK, "4 CPUs, 8.0 GiB of memory"),
    ]


def test_a_rootless_daemon_elsewhere_that_cannot_limit_is_told_how_to() -> None:
    info = {**INFO, "SecurityOptions": ["name=rootless"], "MemoryLimit": False, "CPUSet": False, "DriverStatus": None}
    kind, _, limits = docker.judge_daemon(info, local=False)
    assert kind.fact.startswith("rootless; on another machine: large inputs are copied there")
    assert "classic image store" in kind.fact
    assert (limits.condition, limits.fact) == (WARNING, "a run's memory and CPUs cannot be limited here")
    assert "Delegate=" in (limits.remedy or "")
    *_, limits = docker.judge_daemon({**INFO, "PidsLimit": False}, local=True)
    assert "kernel's command line" in (limits.remedy or "")


@pytest.mark.parametrize(
    ("code", "said", "condition"),
    [
        (0, "github.com/docker/buildx 0.29.1+ds1 0.29.1+ds1-1\n", OK),
        (0, "github.com/docker/buildx v0.24.0 d0e5e86c8b88ae4865040bc96917c338f4dd673c\n", OK),
        (1, "", PROBLEM),
        (0, "buildah 1.39.3\n", PROBLEM),
    ],
)
def test_buildx(code: int, said: str, condition: Condition) -> None:
    assert docker.judge_buildx(code, said).condition is condition


def test_a_builder_is_read_and_judged() -> None:
    plain = docker.read_builder(BUILDX_DOCKER)
    assert docker.judge_builder(plain, "default") == ok("Builder", "default (driver docker), BuildKit v0.25.1")
    own = docker.read_builder(BUILDX_CONTAINER)
    assert docker.judge_builder(own, "default").fact == "ours (driver docker-container), starts when it is needed"


@pytest.mark.parametrize(
    ("found", "condition", "fact"),
    [
        ("ERROR: no builder \"x\" found", PROBLEM, "buildx shows none: ERROR: no builder"),
        ("", PROBLEM, "no reason given"),
        (docker.Builder(name="x", driver="docker", error="EOF"), PROBLEM, "x (driver docker): EOF"),
        (docker.Builder(name="x", driver="docker", endpoint="far"), PROBLEM, "another daemon: context far, not lab"),
        (docker.Builder(name="x", driver="remote"), WARNING, "over the network"),
    ],
)  # fmt: skip
def test_a_builder_that_will_not_do(found: docker.Builder | str, condition: Condition, fact: str) -> None:
    judged = docker.judge_builder(found, "lab")
    assert (judged.condition, fact in judged.fact) == (condition, True)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_of_buildx_is_read(text: str) -> None:
    docker.read_builder(text)


def _apptainer(**facts: Any) -> list[Diagnosis]:
    return list(machine.judge_apptainer(machine.ApptainerFacts(**facts)))


def test_apptainer_is_optional_and_its_kinds_are_told_apart() -> None:
    assert [one.condition for one in _apptainer(said=None)] == [ABSENT]
    new = _apptainer(said="apptainer version 1.5.1", setuid=True, squashfs="mksquashfs version 4.7.5 (2025/11/11)")
    assert [one.fact for one in new] == ["1.5.1, setuid", "4.7.5"]
    old = _apptainer(said="apptainer version 1.4.5-2", fuse=True, squashfuse=True)
    assert "from 1.5 on not" in old[0].fact
    assert [one.condition for one in old] == [OK, ABSENT]
    assert _apptainer(said="singularity-ce version 4.1.0", setuid=True)[0].fact.startswith("Singularity 4.1.0")
    assert _apptainer(said="apptainer version 1.5.1", fuse=False)[1].fact == "/dev/fuse cannot be used"
    assert _apptainer(said="apptainer version 1.5.1", fuse=True)[1].fact == "squashfuse is not installed"


# --- building ---------------------------------------------------------------------------------


def test_git_and_lfs() -> None:
    assert [one.condition for one in building.judge_git("git version 2.39.5", None, wants_lfs=False)] == [OK]
    assert [one.condition for one in building.judge_git("git version 2.39.5", None, wants_lfs=True)] == [OK, PROBLEM]
    with_lfs = building.judge_git("git version 2.39.5", "git-lfs/3.3.0 (GitHub; linux amd64)", wants_lfs=True)
    assert [one.fact for one in with_lfs] == ["2.39.5", "git-lfs/3.3.0"]
    assert [one.condition for one in building.judge_git(None, None, wants_lfs=True)] == [WARNING]


def test_mmdebstrap_is_needed_only_where_a_base_is_bootstrapped() -> None:
    base = BootstrapBase(distribution="debian", suite="bookworm")
    lacking = {"base": base, "missing": ("mmdebstrap",)}
    assert building.judge_bootstrap(building.Bootstrap(wanted=False, **lacking)).condition is ABSENT
    assert building.judge_bootstrap(building.Bootstrap(wanted=True, **lacking)).condition is PROBLEM
    here = building.Bootstrap(
        base=base, wanted=True, missing=(), version="mmdebstrap 1.3.5", sandbox="root", keys="/keys/debian.gpg"
    )
    assert building.judge_bootstrap(here) == ok("mmdebstrap", "1.3.5, as root, keys in /keys/debian.gpg")


@pytest.mark.parametrize(
    ("answer", "condition", "fact"),
    [
        (200, OK, "http://mirror.example/debian has debian sid"),
        (404, WARNING, "answers 404 for debian sid"),
        ("timed out", WARNING, "cannot be reached: timed out"),
    ],
)
def test_a_mirror(answer: int | str, condition: Condition, fact: str) -> None:
    found = building.judge_mirror("debian sid", "http://mirror.example/debian", answer, "REPROBOX_DEBIAN_MIRROR")
    assert (found.condition, fact in found.fact) == (condition, True)


# --- this machine -----------------------------------------------------------------------------


@pytest.mark.parametrize(("now", "condition"), [(0, PROBLEM), (1577836799, PROBLEM), (1577836800, OK), (2e9, OK)])
def test_a_clock_before_2020_is_a_problem(now: float, condition: Condition) -> None:
    assert machine.judge_clock(now).condition is condition


@pytest.mark.parametrize(
    ("free", "condition"), [(GIB - 1, PROBLEM), (GIB, WARNING), (5 * GIB - 1, WARNING), (5 * GIB, OK), (None, WARNING)]
)
def test_a_disk_that_fills_up(free: int | None, condition: Condition) -> None:
    found = machine.judge_space("Cache", machine.Space(path="/cache", free=free, reason="Permission denied"))
    assert (found.condition, "/cache" in found.fact) == (condition, True)


def test_a_cache_that_cannot_be_written_is_a_problem() -> None:
    space = machine.Space(path="/cache", free=9 * GIB, writable=False)
    assert machine.judge_space("Cache", space, written=True).condition is PROBLEM
    assert machine.judge_space("Docker's data", space).condition is OK


ALL = machine.Namespaces(root=False, user="me")


@pytest.mark.parametrize(
    ("change", "condition", "words"),
    [
        ({}, OK, "me may make them"),
        ({"root": True, "most": "0"}, OK, "this is root"),
        ({"clone": "1", "most": "15000", "apparmor": "0"}, OK, "me may make them"),
        ({"clone": "0"}, WARNING, "unprivileged_userns_clone=1"),
        ({"most": "0"}, WARNING, "user.max_user_namespaces=15000"),
        ({"apparmor": "1"}, WARNING, "apparmor_restrict_unprivileged_userns=0"),
        ({"without_ids": ("/etc/subuid",)}, WARNING, "me has no ids of their own in /etc/subuid as root"),
        ({"without_ids": ("/etc/subuid", "/etc/subgid")}, WARNING, "/etc/subuid and /etc/subgid"),
        ({"newuidmap": False}, WARNING, "uidmap"),
    ],
)
def test_user_namespaces(change: dict[str, Any], condition: Condition, words: str) -> None:
    found = machine.judge_namespaces(machine.Namespaces(**{**vars(ALL), **change}))
    assert found.condition is condition
    assert words in f"{found.fact} {found.remedy}"


# --- network ----------------------------------------------------------------------------------


def test_certificates_are_judged() -> None:
    assert network.judge_bundle(None).condition is OK

    def found(**facts: Any) -> Diagnosis:
        return network.judge_bundle(network.Bundle(variable="SSL_CERT_FILE", path="/ca.pem", **facts))

    assert found(count=3).fact == "SSL_CERT_FILE /ca.pem: 3 certificates"
    assert found(count=3, expired=("Old CA",)).fact.endswith("1 of them expired")
    assert found(count=1, expired=("Old CA",)).condition is PROBLEM
    assert found(reason="No such file or directory").condition is PROBLEM


def test_a_bundle_is_read_or_the_reason_said(tmp_path: Path) -> None:
    whole = ssl.get_default_verify_paths().openssl_cafile
    (tmp_path / "text").write_text("nothing")
    assert network.read_bundle("X", str(tmp_path / "none"), now=0).reason == "No such file or directory"
    assert network.read_bundle("X", str(tmp_path / "text"), now=0).reason == "it holds no certificates in PEM form"
    if Path(whole).is_file():
        assert network.read_bundle("X", whole, now=0).expired == ()
        far = network.read_bundle("X", whole, now=1e11)
        assert 0 < len(far.expired) <= far.count


def test_the_name_of_an_issuer() -> None:
    issuer = ((("countryName", "XX"),), (("organizationName", "Lab"),), (("commonName", "Lab Inspection CA"),))
    assert network.name_of(issuer) == "Lab Inspection CA"
    assert network.name_of(issuer[:2]) == "Lab"
    assert network.name_of(None) == "one without a name"


def test_proxies_are_told_without_their_credentials() -> None:
    found = network.judge_proxies({"https_proxy": "http://me:s3cret@proxy.example:3128", "NO_PROXY": "localhost"})
    assert found.condition is OK
    assert "s3cret" not in found.fact
    assert "proxy.example:3128" in found.fact
    assert network.judge_proxies({}).fact == "none set"
    assert network.judge_proxies({"HTTPS_PROXY": "http://"}).condition is PROBLEM
    assert network.judge_proxies({"HTTPS_PROXY": "proxy.example:3128"}).condition is OK


@pytest.mark.parametrize(
    ("facts", "condition", "words"),
    [
        ({"public": True}, OK, "https://index.example/simple answers"),
        ({"bundle": True, "issuer": "Lab CA"}, OK, "TLS is re-signed by Lab CA: builds get your bundle as a secret"),
        (
            {"bundle": False, "system": True, "issuer": "Lab CA", "system_file": "/etc/ca.crt"},
            WARNING,
            "REPROBOX_CA_BUNDLE=/etc/ca.crt",
        ),
        ({"bundle": False, "system": False}, PROBLEM, "set REPROBOX_CA_BUNDLE to a PEM file"),
        ({"unreachable": "Name or service not known"}, WARNING, "cannot be reached: Name or service not known"),
    ],
)
def test_who_vouches_for_the_index(facts: dict[str, Any], condition: Condition, words: str) -> None:
    trust = network.Trust(host="index.example", **facts)
    found = network.judge_trust("https://index.example/simple", trust, bundle=True)
    assert found.condition is condition
    assert words in f"{found.fact} {found.remedy}"


# --- GPU --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "version", "cuda"),
    [(SMI_450, "450.57", "11.0"), (SMI_550, "550.40.07", "12.4"), (SMI_610, "610.43.02", "13.3"), ("", "", "")],
)
def test_the_header_of_nvidia_smi_is_read_old_and_new(header: str, version: str, cuda: str) -> None:
    found = gpu.read_driver(header, "NVIDIA TITAN V, 7.0\nNVIDIA RTX 5880 Ada Generation, 8.9\n")
    assert (found.version, found.cuda) == (version, cuda)
    assert found.devices == (gpu.Device(name="NVIDIA TITAN V", capability="7.0"),
                             gpu.Device(name="NVIDIA RTX 5880 Ada Generation", capability="8.9"))  # fmt: skip


def test_a_driver_too_old_to_say_the_capability_still_names_its_gpus() -> None:
    found = gpu.read_driver(SMI_450, "TITAN Xp\nTITAN Xp\n")
    assert gpu.judge_driver(found, None).fact == "2 x TITAN Xp; driver 450.57, CUDA up to 11.0"
    none = gpu.read_driver(SMI_550, "No devices were found\n")
    assert gpu.judge_driver(none, None).condition is ABSENT


def test_the_kernels_module_is_read() -> None:
    assert hardware.driver_version(MODULE) == "470.182.03"
    assert hardware.driver_version(OPEN_MODULE) == "570.124.06"
    assert hardware.driver_version("") is None


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text())
def test_any_text_of_nvidia_smi_is_read_and_judged(header: str, devices: str) -> None:
    gpu.judge_driver(gpu.read_driver(header, devices), hardware.driver_version(header))


@pytest.mark.parametrize(
    ("found", "kernel", "condition", "words"),
    [
        (None, None, ABSENT, "no driver (optional)"),
        (None, "470.1", WARNING, "nvidia-smi is not installed"),
        (gpu.Driver(complaint=MISMATCH), "535.1", WARNING, "reboot"),
        (gpu.Driver(complaint=NO_DRIVER), None, WARNING, "modprobe nvidia"),
        (gpu.Driver(version="550.1"), "550.1", ABSENT, "no GPU"),
        (
            gpu.read_driver(SMI_550, "NVIDIA H200, 9.0"),
            "1",
            OK,
            "NVIDIA H200 (compute capability 9.0); driver 550.40.07",
        ),
    ],
)
def test_a_driver(found: gpu.Driver | None, kernel: str | None, condition: Condition, words: str) -> None:
    judged = gpu.judge_driver(found, kernel)
    assert judged.condition is condition
    assert words in f"{judged.fact} {judged.remedy}"


@pytest.mark.parametrize(
    ("installed", "runtimes", "cdi", "condition"),
    [
        (True, ("nvidia", "runc"), False, OK),
        (True, ("runc",), True, OK),
        (True, ("runc",), False, WARNING),
        (False, (), False, WARNING),
    ],
)
def test_a_gpu_in_containers(installed: bool, runtimes: tuple[str, ...], cdi: bool, condition: Condition) -> None:
    assert gpu.judge_toolkit(installed, runtimes, cdi=cdi).condition is condition


# --- project ----------------------------------------------------------------------------------


WARM_START = Path(__file__).parents[2] / "examples/warm-start"


def _project(root: Path) -> dict[str, Diagnosis]:
    return {one.subject: one for one in project_checks.project(root, project_checks.load(root))}


def test_without_a_project_all_is_well(tmp_path: Path) -> None:
    assert [one.condition for one in _project(tmp_path).values()] == [ABSENT]


def test_a_config_with_faults_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text("nam: x\n")
    found = _project(tmp_path)["Project"]
    assert found.condition is PROBLEM
    assert "reprobox.yaml:1" in found.fact


def test_a_project_without_a_lock_is_told_the_next_verbs(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text('name: x\nenvironment: requirements.in\npython: "3.11"\nbase: debian:12\n')
    (tmp_path / "requirements.in").write_text("")
    found = _project(tmp_path)
    assert {name: (one.condition, one.remedy) for name, one in found.items()} == {
        "Project": (OK, None),
        "Lock": (WARNING, "run `reprobox lock`"),
        "Baseline": (ABSENT, "for `reprobox verify`: add `smoke:`"),
        "Image": (ABSENT, "run `reprobox build`"),
    }


def test_a_damaged_lock_and_baseline_are_problems(tmp_path: Path) -> None:
    (tmp_path / "reprobox.lock").write_text("{")
    (tmp_path / "reprobox.baseline.json").write_text("{")
    (tmp_path / "requirements.in").write_text("")
    wanted = example(tmp_path)
    found = {one.subject: one.condition for one in project_checks.project(tmp_path, wanted)}
    assert found["Lock"] is PROBLEM
    assert found["Baseline"] is PROBLEM


def test_the_classes_of_hardware_that_have_a_baseline_are_named(tmp_path: Path) -> None:
    wanted = example(tmp_path)
    found = {one.subject: one for one in project_checks.project(tmp_path, wanted)}
    assert found["Baseline"] == warning("Baseline", "none is recorded", "run `reprobox record`, then commit")
    shutil.copy(WARM_START / "reprobox.baseline.json", tmp_path)
    found = {one.subject: one for one in project_checks.project(tmp_path, wanted)}
    assert found["Baseline"] == ok("Baseline", "recorded for portable x86-64-v3")


def test_the_image_that_was_built_last_is_named(tmp_path: Path) -> None:
    image = Image(engine="docker", reference="warm-start:lock-1", handle="x", digest=Digest.of(b"image"))
    image_note.write(tmp_path, image_note.Note(context=Digest.of(b"context"), image=image))
    found = {one.subject: one for one in project_checks.project(tmp_path, example(tmp_path))}
    assert found["Image"] == ok("Image", "last built: warm-start:lock-1")


# --- the whole --------------------------------------------------------------------------------


def test_no_finding_that_is_not_ok_lacks_its_remedy() -> None:
    """None can be made, so every test here that makes one demands it."""
    for make in (warning, problem, absent):
        assert make("subject", "fact", "remedy").remedy == "remedy"
        with pytest.raises(ValueError, match="subject: what is not well has a remedy"):
            make("subject", "fact", "")
    with pytest.raises(ValueError, match="and only that"):
        Diagnosis(subject="subject", condition=OK, fact="fact", remedy="remedy")


def _check(look: Any, **more: Any) -> doctor.Check:
    return doctor.Check(section="Engines", subject="Docker", look=look, **more)


def test_a_check_that_hangs_is_told_and_not_waited_for() -> None:
    stop = threading.Event()

    def hangs() -> Iterator[Diagnosis]:
        yield ok("Docker client", "here")
        stop.wait(30)

    found = doctor.examine([_check(hangs, needed=True), _check(lambda: [ok("uv", "1")])], deadline=0.2)
    stop.set()
    client, hung, other = found.findings
    assert (client.fact, other.fact) == ("here", "1")
    assert (hung.condition, hung.fact) == (PROBLEM, "no answer within 0.2 s")
    assert hung.remedy


@pytest.mark.parametrize(
    "error", [InvalidInput("it is broken", hint="mend it"), PermissionError(13, "Permission denied")]
)
@pytest.mark.parametrize(("needed", "condition"), [(True, PROBLEM), (False, WARNING)])
def test_a_check_that_fails_is_a_finding(error: Exception, needed: bool, condition: Condition) -> None:
    def fails() -> Iterable[Diagnosis]:
        raise error

    (found,) = doctor.examine([_check(fails, needed=needed)]).findings
    assert found.condition is condition
    assert ("it is broken" if isinstance(error, ReproboxError) else "Permission denied") in found.fact
    assert found.remedy


def test_a_fault_of_ours_is_no_finding() -> None:
    with pytest.raises(ZeroDivisionError):
        doctor.examine([_check(lambda: [ok("x", str(1 // 0))])])


REPORT = Examination(
    sections={
        "Engines": (ok("Docker client", "28.2.2"), problem("Docker daemon", "no \x1b[31mdaemon\nanswers", "start it")),
        "GPU": (absent("NVIDIA", "no driver (optional)", "only for CUDA"), warning("Toolkit", "x " * 60, "y " * 60)),
    }
)


def test_the_page_is_as_wide_as_the_terminal_and_escapes_what_comes_from_outside() -> None:
    page = report.render(REPORT, width=72)
    assert max(map(len, page.splitlines())) <= 72
    assert "\x1b" not in page
    assert page.splitlines()[:5] == [
        "Engines",
        "  ✓  Docker client  28.2.2",
        "  ✗  Docker daemon  no \\x1b[31mdaemon",
        "                    answers",
        "                    -> start it",
    ]
    assert page.endswith("\n1 problem stands in the way of building and running (1 warning)\n")
    assert report.render(REPORT, unicode=False).isascii()
    assert "\x1b[31m" in report.render(REPORT, colour=True)


def test_the_summary_counts() -> None:
    fine = Examination(sections={"A": (ok("x", "y"), warning("x", "y", "z"), warning("x", "y", "z"))})
    assert report.summary(fine) == "nothing stands in the way of building and running (2 warnings)"
    assert (fine.exit_code, REPORT.exit_code) == (0, 1)
    bad = Examination(sections={"A": (problem("x", "y", "z"),) * 2})
    assert report.summary(bad) == "2 problems stand in the way of building and running"


def test_as_json() -> None:
    found = json.loads(json.dumps(report.as_json(REPORT)))
    assert {key: found[key] for key in ("schema", "passes", "exit_code")} == {
        "schema": 1,
        "passes": False,
        "exit_code": 1,
    }
    assert found["findings"][0] == {
        "section": "Engines",
        "subject": "Docker client",
        "condition": "ok",
        "fact": "28.2.2",
        "remedy": None,
    }


def test_the_help_says_the_exit_code() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "reprobox", "doctor", "--help"], capture_output=True, text=True, check=True
    )
    assert "Exit code 1" in said.stdout
