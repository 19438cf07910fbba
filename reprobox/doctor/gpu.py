"""NVIDIA: driver, devices, the toolkit that hands them to a container -> diagnoses. A machine without is well."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reprobox import proc
from reprobox.doctor.diagnosis import Diagnosis, absent, ok, warning
from reprobox.engines import docker_context
from reprobox.errors import ProgramMissing, ReproboxError
from reprobox.hardware import driver_version

_PATIENCE = 5.0
_KERNEL_SIDE = Path("/proc/driver/nvidia/version")
_CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
_TOOLKIT = "install nvidia-container-toolkit, then: nvidia-ctk runtime configure --runtime=docker; restart Docker"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU; ``capability`` is None where the driver is too old to say it."""

    name: str
    capability: str | None


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What nvidia-smi says: the driver's version, the newest CUDA that it runs, its GPUs; or its complaint."""

    version: str = ""
    cuda: str = ""
    devices: tuple[Device, ...] = ()
    complaint: str = ""


def gpu() -> Iterator[Diagnosis]:
    kernel = None
    if _KERNEL_SIDE.exists():
        kernel = driver_version(_KERNEL_SIDE.read_text(encoding="utf-8", errors="replace")) or "of no known version"
    driver = _ask_driver()
    yield judge_driver(driver, kernel)
    if driver is None or not driver.devices:
        return
    cdi = any(path for folder in _CDI_FOLDERS if folder.is_dir() for path in folder.glob("*nvidia*"))
    try:
        _, info = docker_context.ask(docker_context.active(), patience=_PATIENCE)
        runtimes = tuple(sorted(info.get("Runtimes") or ()))
    except ReproboxError:
        runtimes = ()
    yield judge_toolkit(shutil.which("nvidia-ctk") is not None, runtimes, cdi=cdi)


def _ask_driver() -> Driver | None:
    """None: nvidia-smi is not installed. Drivers before 510 know no compute_cap."""
    try:
        whole = proc.run(["nvidia-smi"], check=False, timeout=_PATIENCE)
        if whole.code:
            return Driver(complaint=(whole.text.strip() or whole.tail).strip())
        for fields in ("name,compute_cap", "name"):
            asked = proc.run(
                ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], check=False, timeout=_PATIENCE
            )
            if asked.code == 0:
                break
    except ProgramMissing:
        return None
    return read_driver(whole.text, asked.text if asked.code == 0 else "")


def read_driver(header: str, devices: str) -> Driver:
    """The texts of `nvidia-smi` and of its query for names and, where it can, compute capabilities; pure.

    From driver 610 on the header says "KMD Version" and "CUDA UMD Version".
    """
    version = re.search(r"(?:Driver|KMD) Version:\s*([\d.]+)", header)
    cuda = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", header)
    found = []
    for line in devices.splitlines():
        name, _, capability = line.partition(",")
        if name.strip() and name.strip() != "No devices were found":
            known = re.fullmatch(r"\d+\.\d+", capability.strip())
            found.append(Device(name=name.strip(), capability=known[0] if known else None))
    return Driver(version=version[1] if version else "", cuda=cuda[1] if cuda else "", devices=tuple(found))


def judge_driver(found: Driver | None, kernel: str | None) -> Diagnosis:
    """``kernel`` is the version of the kernel's module, None where it is not loaded."""
    if found is None:
        if kernel is None:
            return absent("NVIDIA", "no driver (optional)", "only for CUDA: install NVIDIA's driver")
        return warning("NVIDIA", f"driver {kernel} is loaded, nvidia-smi is not installed", "install nvidia-utils")
    if found.complaint:
        line = found.complaint.splitlines()[0]
        if "version mismatch" in found.complaint:
            return warning("NVIDIA", f"{line} (kernel {kernel or 'unknown'})", "reboot: the driver was upgraded")
        return warning("NVIDIA", line, "load the driver (modprobe nvidia), or install it again")
    if not found.devices:
        return absent("NVIDIA", f"driver {found.version}, no GPU", "only for CUDA: give this machine a GPU")
    kinds: dict[Device, int] = {}
    for device in found.devices:
        kinds[device] = kinds.get(device, 0) + 1
    told = ", ".join(
        f"{f'{count} x ' if count > 1 else ''}{device.name}"
        + (f" (compute capability {device.capability})" if device.capability else "")
        for device, count in kinds.items()
    )
    return ok("NVIDIA", f"{told}; driver {found.version}, CUDA up to {found.cuda or 'unknown'}")


def judge_toolkit(installed: bool, runtimes: tuple[str, ...], *, cdi: bool) -> Diagnosis:
    """Whether Docker can hand a GPU on: by NVIDIA's runtime, or by CDI."""
    ways = [word for word, there in (("NVIDIA's runtime", "nvidia" in runtimes), ("CDI", cdi)) if there]
    if ways:
        return ok("GPU in containers", f"by {' and '.join(ways)}")
    if installed:
        return warning("GPU in containers", "Docker does not know nvidia-container-toolkit, which is here", _TOOLKIT)
    return warning("GPU in containers", "nvidia-container-toolkit is not installed", _TOOLKIT)
