"""What an experiment's libraries do on this machine, as one JSON line on stdout. Runs inside the image.

Of the standard library alone, for Python 3.8 and later. Its arguments are the locked packages: of others it says
nothing. A library that cannot be read has its reason under ``error``. What happens while a library is being read
is on stderr, after a line ``reading NAME``: should it end this process, that line says which one it was.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

BLAS = re.compile(r"lib.*(openblas|mkl_rt|blis|flexiblas|atlas)|lib(c?blas)\.so")
OPENBLAS_NAMES = [prefix + "openblas_%s" + suffix for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")]


def text_of(*paths: str) -> str | None:
    """The first of these files that can be read."""
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123 (as short on Python 3.8)
                return stream.read()
        except OSError:
            continue
    return None


def loaded_blas() -> set[str]:
    paths = {line.split(None, 5)[5].strip() for line in (text_of("/proc/self/maps") or "").splitlines() if "/" in line}
    return {path for path in paths if BLAS.match(os.path.basename(path))}  # noqa: PTH119


def describe_blas(path: str) -> dict[str, Any]:
    """A loaded BLAS library; of OpenBLAS also the kernels that it chose and its threads."""
    found: dict[str, Any] = {"file": os.path.basename(path)}  # noqa: PTH119
    library = ctypes.CDLL(path)
    for name in OPENBLAS_NAMES:
        if hasattr(library, name % "get_config"):
            for key, function in (("config", "get_config"), ("core", "get_corename")):
                getattr(library, name % function).restype = ctypes.c_char_p
                found[key] = getattr(library, name % function)().decode()
            found["threads"] = getattr(library, name % "get_num_threads")()
            break
    return found


def said(work: Callable[[], Any]) -> str:
    """What C libraries print on stdout during ``work``: MKL and oneDNN tell their kernels in no other way."""
    kept, catcher = os.dup(1), os.memfd_create("said")
    os.dup2(catcher, 1)
    try:
        work()
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
    os.lseek(catcher, 0, os.SEEK_SET)
    with os.fdopen(catcher, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def mkl_and_onednn(words: str) -> dict[str, str]:
    mode, isa = re.search(r"\bCNR:(\S+)", words), re.search(r"_verbose,.*\bcpu,isa:(.+)", words)
    return {**({"mkl": mode.group(1)} if mode else {}), **({"onednn": isa.group(1)} if isa else {})}


def numpy() -> dict[str, Any]:
    numpy = import_module("numpy")
    try:
        core = import_module("numpy._core._multiarray_umath")
    except ImportError:  # before 2.0
        core = import_module("numpy.core._multiarray_umath")
    square = numpy.ones((4, 4))
    return {
        "version": numpy.__version__,
        "dispatch": list(core.__cpu_dispatch__),
        "enabled": [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)],
        **mkl_and_onednn(said(lambda: square @ square)),
    }


def scipy() -> dict[str, Any]:
    import_module("scipy.linalg")  # loads its BLAS
    return {"version": import_module("scipy").__version__}


def pyarrow() -> dict[str, Any]:
    pyarrow = import_module("pyarrow")
    return {"version": pyarrow.__version__, "simd": pyarrow.runtime_info().simd_level}


def numba() -> dict[str, Any]:
    config, codegen = import_module("numba.core.config"), import_module("numba.core.codegen")
    return {
        "version": import_module("numba").__version__,
        "cpu": config.CPU_NAME or import_module("llvmlite.binding").get_host_cpu_name(),
        "features": config.CPU_FEATURES if config.CPU_FEATURES is not None else codegen.get_host_cpu_features(),
    }


def torch() -> dict[str, Any]:
    torch = import_module("torch")

    def work() -> None:
        torch.ones(4, 4) @ torch.ones(4, 4)
        if torch.backends.mkldnn.is_available():
            torch.ones(1, 1, 4, 4).to_mkldnn().relu()

    capability = re.search(r"CPU capability usage: (.+)", torch.__config__.show())
    return {
        "version": torch.__version__,
        **({"capability": capability.group(1)} if capability else {}),
        "threads": torch.get_num_threads(),
        **mkl_and_onednn(said(work)),
    }


READERS = {"numpy": numpy, "scipy": scipy, "pyarrow": pyarrow, "numba": numba, "torch": torch}
"""In an order that has each library load its own BLAS: of those below, all but torch import numpy."""
CONDA_NAMES = {"torch": "pytorch"}
VERSION_ONLY = ("jaxlib", "tensorflow", "tensorflow-cpu")
"""Importing them takes seconds, and they do not say what they chose."""


def libraries(locked: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for name, reader in READERS.items():
        if not {name, CONDA_NAMES.get(name)} & locked:
            continue
        print("reading", name, file=sys.stderr, flush=True)
        try:
            found[name] = reader()
            loaded = loaded_blas()
            if loaded - seen:
                found[name]["blas"] = [describe_blas(path) for path in sorted(loaded - seen)]
            seen |= loaded
        except (Exception, SystemExit) as error:
            lines = str(error).split("\n")
            found[name] = {"error": f"{type(error).__name__}: {next(filter(str.strip, lines), '').strip()}"[:300]}
    for name in VERSION_ONLY:
        if name in locked:
            try:
                found[name] = {"version": importlib.metadata.version(name)}
            except importlib.metadata.PackageNotFoundError:
                found[name] = {"error": "it is not installed"}
    return found


def gpus() -> dict[str, Any]:
    """The GPUs that CUDA shows here, asked from the driver itself: no library of the image is needed."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:  # the engine handed none in
        return {"devices": []}
    code = cuda.cuInit(0)
    if code == 100:  # CUDA_ERROR_NO_DEVICE (cuda.h)
        return {"devices": []}
    if code:
        return {"error": f"CUDA's driver answers cuInit with error {code}"}
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    devices = []
    for number in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        cuda.cuDeviceGet(ctypes.byref(device), number)
        cuda.cuDeviceGetName(name, len(name), device)
        for value, attribute in ((major, 75), (minor, 76)):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_* (cuda.h)
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        devices.append({"name": name.value.decode(), "capability": f"{major.value}.{minor.value}"})
    return {"devices": devices, "driver": text_of("/proc/driver/nvidia/version")}


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints while it is imported is no part of the answer
    os.environ.update(MKL_VERBOSE="1", ONEDNN_VERBOSE="1", DNNL_VERBOSE="1")
    found = {
        "architecture": platform.machine(),
        "boot": text_of("/proc/sys/kernel/random/boot_id"),
        "cpuinfo": (text_of("/proc/cpuinfo") or "").split("\n\n")[0],
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": gpus(),
        "libraries": libraries(set(sys.argv[1:])),
        "memory": text_of("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    }
    with answer:
        answer.write(json.dumps(found, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
