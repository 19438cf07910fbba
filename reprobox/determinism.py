"""A profile -> the variables that pin an experiment.

``off`` fixes locale, zone and time. ``pinned`` adds hash seed and thread counts: the same bits on the same CPU model.
``portable`` runs single-threaded and holds every library to the kernels of x86-64-v3 (AVX2, FMA): the same bits on
any CPU that has them. Variables of one library are set only where the lock holds that library, with the names that
its locked version knows: most libraries pass silently over a name or value that they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from packaging.version import InvalidVersion, Version

from reprobox.errors import InvalidInput
from reprobox.model import Determinism, Platform

PORTABLE_LEVEL = "x86-64-v3"

_TORCH = frozenset({"pytorch", "torch"})
_TENSORFLOW = frozenset({"tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly", "tf-nightly-cpu"})
_JAX = frozenset({"jaxlib"})
_CUPY = re.compile(r"cupy(-cuda\d+x)?")

_XLA_MAX_ISA_SINCE = Version("0.4.36")
"""jaxlib 0.4.31 has no --xla_cpu_max_isa and aborts on it; 0.4.36 has it (read in the wheels)."""

_NUMPY_X86_LEVELS_SINCE = Version("2.4.0.dev0")
"""numpy 2.3.5 dispatches AVX512F, AVX512_SKX, ...; 2.4.0 by x86-64 level (read from __cpu_dispatch__ in the wheels)."""
_NUMPY_SPR_SINCE = Version("2.3.0.dev0")
"""numpy 2.2.6's wheels do not dispatch AVX512_SPR, those of 2.3.0 do."""


# --- variables --------------------------------------------------------------------------------


def variables(
    profile: Determinism,
    *,
    packages: Mapping[str, str],
    platform: Platform,
    cpus: int,
    env: Mapping[str, str],
    epoch: int,
) -> dict[str, str]:
    """The environment variables of an experiment, sorted by name.

    ``packages`` are the locked ones, name to version; ``cpus`` the threads that ``pinned`` allows; ``env`` the
    user's own variables, which win; ``epoch`` in seconds. Raises InvalidInput where ``portable`` cannot be kept:
    on another architecture, or for a locked library that cannot be held to x86-64-v3.
    """
    locked = {_normal(name): version for name, version in packages.items()}
    found = _always(epoch)
    if profile is not Determinism.OFF:
        threads = 1 if profile is Determinism.PORTABLE else cpus
        found |= _pinned(locked, threads)
    if profile is Determinism.PORTABLE:
        require_x86(platform)
        found |= _portable(locked)
    return dict(sorted((found | dict(env)).items()))


def _always(epoch: int) -> dict[str, str]:
    return {
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",  # the image is read-only
        "PYTHONNOUSERSITE": "1",  # packages of a mounted home folder stay out
        "PYTHONUNBUFFERED": "1",  # the last words of a run that was stopped are in its log
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": "UTC",
    }


def _pinned(locked: Mapping[str, str], threads: int) -> dict[str, str]:
    count = str(threads)
    found = {
        "MKL_CBWR": "AUTO",  # else MKL's result depends on where memory happens to lie
        "MKL_DYNAMIC": "FALSE",
        "MKL_NUM_THREADS": count,
        "OMP_DYNAMIC": "FALSE",
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "PYTHONHASHSEED": "0",
        "RAYON_NUM_THREADS": count,
    }
    for name, variables in {
        "joblib": {"LOKY_MAX_CPU_COUNT": count},
        "numba": {"NUMBA_NUM_THREADS": count},
        "numexpr": {"NUMEXPR_NUM_THREADS": count},
        "polars": {"POLARS_MAX_THREADS": count},
        "tokenizers": {"TOKENIZERS_PARALLELISM": "false"},
    }.items():
        if name in locked:
            found |= variables
    if _TENSORFLOW & locked.keys():
        found |= {"TF_NUM_INTEROP_THREADS": count, "TF_NUM_INTRAOP_THREADS": count}
    if (_TORCH | _TENSORFLOW | _JAX) & locked.keys() or any(_CUPY.fullmatch(name) for name in locked):
        found["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return found


def _portable(locked: Mapping[str, str]) -> dict[str, str]:
    """What holds each library to x86-64-v3. BLAS comes with many packages and with the base, so it always is."""
    found = {
        "MKL_CBWR": "COMPATIBLE",  # the one branch that is the same on CPUs of every maker
        "OPENBLAS_CORETYPE": "Haswell",
    }
    if "numpy" in locked:
        found["NPY_DISABLE_CPU_FEATURES"] = _numpy_features(locked["numpy"])
    if _TORCH & locked.keys():
        found["ATEN_CPU_CAPABILITY"] = "avx2"
    if (_TORCH | _TENSORFLOW) & locked.keys():
        found["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    if _TENSORFLOW & locked.keys():
        found["TF_ENABLE_ONEDNN_OPTS"] = "0"
    if "numba" in locked:
        # the name alone leaves the host's AVX-512 on: numba adds the host's features to it
        found |= {"NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe", "NUMBA_CPU_NAME": "haswell"}
    if "pyarrow" in locked:
        found["ARROW_USER_SIMD_LEVEL"] = "AVX2"
    if "jaxlib" in locked:
        if _version("jaxlib", locked["jaxlib"]) < _XLA_MAX_ISA_SINCE:
            raise InvalidInput(
                f"`determinism: portable` cannot hold jaxlib {locked['jaxlib']} to {PORTABLE_LEVEL}: "
                f"that needs {_XLA_MAX_ISA_SINCE} or later",
                hint="require a later jax, or use `determinism: pinned`",
            )
        found["XLA_FLAGS"] = "--xla_cpu_max_isa=AVX2"
    return found


def _numpy_features(text: str) -> str:
    """The kernels beyond x86-64-v3 that numpy's wheels of this version choose from, by that version's names."""
    version = _version("numpy", text)
    if version >= _NUMPY_X86_LEVELS_SINCE:
        return "X86_V4 AVX512_ICL AVX512_SPR"
    older = "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
    return f"{older} AVX512_SPR" if version >= _NUMPY_SPR_SINCE else older


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(package: str, text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise InvalidInput(
            f"{package} is locked with a version that cannot be read: {text!r}", hint="run `reprobox lock`"
        ) from error


def require_x86(platform: Platform) -> None:
    """Raises InvalidInput where ``portable`` is not supported on ``platform``."""
    if platform is not Platform.LINUX_64:
        raise InvalidInput(
            f"`determinism: portable` is not supported yet on {platform.value}, only on {Platform.LINUX_64.value}",
            hint="use `determinism: pinned`, or leave the platform out",
        )
