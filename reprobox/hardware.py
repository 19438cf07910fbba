"""What was read inside the container -> Conditions -> the class of hardware that gives the same bits. Pure.

``portable`` is a promise about the libraries, so it is held against what they do: a library that runs kernels beyond
x86-64-v3 all the same is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprobox.determinism import PORTABLE_LEVEL, require_x86
from reprobox.errors import ReproboxError
from reprobox.model import Conditions, Determinism, HardwareClass, Platform

_LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("x86-64-v2", frozenset({"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"})),
    ("x86-64-v3", frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"})),
    ("x86-64-v4", frozenset({"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"})),
)
"""The psABI's levels in the words of /proc/cpuinfo; each one holds those before it (abm is LZCNT, pni is SSE3)."""

_STATE = ("blas", "cpu", "mkl", "onednn", "simd")
"""Of a library's facts, those that tell classes apart; its version and threads come from the lock."""

_PINS = {
    ("numpy", "simd"): "NPY_DISABLE_CPU_FEATURES",
    ("numba", "cpu"): "NUMBA_CPU_NAME",
    ("numba", "simd"): "NUMBA_CPU_FEATURES",
    ("pyarrow", "simd"): "ARROW_USER_SIMD_LEVEL",
    ("torch", "onednn"): "ONEDNN_MAX_CPU_ISA",
    ("torch", "simd"): "ATEN_CPU_CAPABILITY",
}
"""Which variable of ``portable`` decides a fact; where BLAS comes from, OPENBLAS_CORETYPE and MKL_CBWR do."""

_BEYOND = re.compile(r"AVX-?512|AVX10|AMX|X86_V[4-9]", re.IGNORECASE)
_PORTABLE_CORES = frozenset({"atom", "core2", "dunnington", "haswell", "nehalem", "penryn", "prescott", "sandybridge"})
"""OpenBLAS's kernels that any x86-64-v3 CPU can run; Zen's too, but only where they were asked for."""
_FIXED = ", the only one built in"
_XEON_PHI = frozenset({"AVX512_KNL", "AVX512_KNM"})
_PORTABLE_TARGETS = frozenset({"generic", "haswell", "x86-64", "x86-64-v2", "x86-64-v3"})
"""Names of CPUs, as LLVM knows them, whose code any x86-64-v3 CPU can run."""
_UNREADABLE = "not readable"
_NO_LIMIT = 1 << 60
"""Bytes from which on a cgroup's memory limit means none (version 1 says 2**63 less a page)."""


@dataclass(frozen=True, kw_only=True)
class CpuFacts:
    """A CPU as its kernel describes it. ``family``, ``model`` and ``flags`` in the words of /proc/cpuinfo."""

    name: str
    family: str = ""
    model: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def words(self) -> str:
        """Its name, family and model on one line."""
        parts = [f"{word} {value}" for word, value in (("family", self.family), ("model", self.model)) if value]
        return " ".join([self.name, *parts])

    @property
    def level(self) -> str | None:
        """The highest x86-64 level that this CPU has in full, such as x86-64-v3; None for other architectures."""
        if not {"lm", "sse2"} <= self.flags:
            return None
        reached = "x86-64-v1"
        for level, needed in _LEVELS:
            if not needed <= self.flags:
                break
            reached = level
        return reached


# --- reading ----------------------------------------------------------------------------------


def read_answer(answer: Any, *, engine: str) -> Conditions:
    """What the probe's script printed, as JSON values -> Conditions; ``engine`` is the engine's name and version.

    Raises KeyError, TypeError or ValueError where it is no such answer.
    """
    cpu = read_cpu(answer["cpuinfo"])
    memory = (answer["memory"] or "max").strip()
    gpus = answer["gpus"]
    return Conditions(
        engine=engine,
        architecture=str(answer["architecture"]),
        cpu=cpu.words,
        instructions=cpu.level,
        lacking=() if answer["architecture"] == "aarch64" else portable_lacks(cpu),
        cpus=int(answer["cpus"]),
        memory=None if memory == "max" or int(memory) > _NO_LIMIT else int(memory),
        gpus=tuple(f"{one['name']} ({one['capability']})" for one in gpus.get("devices", ()))
        or ((f"{_UNREADABLE}: {gpus['error']}",) if "error" in gpus else ()),
        gpu_driver=driver_version(gpus.get("driver") or ""),
        libraries={name: _library(one) for name, one in sorted(answer["libraries"].items())},
    )


def read_cpu(text: str) -> CpuFacts:
    """The text of /proc/cpuinfo -> what it says about its first CPU. Unknown words are passed over."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip().lower(), " ".join(value.split()))
    arm = [f"{word} {fields[f'cpu {word}']}" for word in ("implementer", "part") if fields.get(f"cpu {word}")]
    return CpuFacts(
        name=fields.get("model name") or " ".join(["ARM", *arm] if arm else ["unknown CPU"]),
        family=fields.get("cpu family", ""),
        model=fields.get("model", ""),
        flags=frozenset((fields.get("flags") or fields.get("features") or "").split()),
    )


def portable_lacks(cpu: CpuFacts) -> tuple[str, ...]:
    """The flags of the level that ``determinism: portable`` needs which an x86-64 CPU has not, sorted."""
    needed = frozenset[str]().union(*(flags for level, flags in _LEVELS if level <= PORTABLE_LEVEL))
    return tuple(sorted(needed - cpu.flags))


def driver_version(text: str) -> str | None:
    """The text of /proc/driver/nvidia/version -> the driver's version, such as 550.54.14."""
    match = re.search(r"NVRM version:.*?\s(\d{3,}(?:\.\d+)+)\s", text)
    return match.group(1) if match else None


def _library(answer: Mapping[str, Any]) -> dict[str, str]:
    """What the script says of one library -> facts by name, in words."""
    if "error" in answer:
        return {"error": str(answer["error"])}
    facts = {key: str(answer[key]) for key in ("cpu", "mkl", "onednn", "simd", "threads", "version") if key in answer}
    if "dispatch" in answer:
        facts["simd"] = _numpy_simd(answer["dispatch"], answer["enabled"])
    if "capability" in answer:
        facts["simd"] = str(answer["capability"])
    if "features" in answer:
        features = set(str(answer["features"]).split(","))
        facts["simd"] = next(
            (word for word in ("AVX512F", "AVX2", "AVX") if f"+{word.lower()}" in features), "baseline"
        )
    if blas := answer.get("blas"):
        facts["blas"] = " and ".join(sorted({_blas(one) for one in blas}))
        if versions := sorted({found.group(1) for one in blas if (found := _OPENBLAS.search(one.get("config", "")))}):
            facts["blas version"] = " and ".join(versions)
        if threads := sorted({str(one["threads"]) for one in blas if "threads" in one}):
            facts["blas threads"] = " and ".join(threads)
    return dict(sorted(facts.items()))


_OPENBLAS = re.compile(r"^OpenBLAS (\S+)")


def _blas(answer: Mapping[str, Any]) -> str:
    if "core" not in answer:
        return re.sub(r"[-_.]?[0-9a-f]{8}(?=\.)", "", str(answer["file"]))  # the wheel's own hash in the file's name
    return f"OpenBLAS {answer['core']}" + ("" if "DYNAMIC_ARCH" in answer["config"] else _FIXED)


def _numpy_simd(dispatch: list[str], enabled: list[str]) -> str:
    """The highest kernels that numpy may choose, and what is switched off below them."""
    if not enabled:
        return "baseline"
    below = dispatch[: dispatch.index(enabled[-1])]
    off = [name for name in below if name not in enabled and name not in _XEON_PHI]
    return enabled[-1] + (f" without {' '.join(off)}" if off else "")


# --- classes ----------------------------------------------------------------------------------


def hardware_class(
    profile: Determinism, platform: Platform, conditions: Conditions, *, env: Mapping[str, str]
) -> HardwareClass:
    """The machines that are expected to give the same bits as the one of ``conditions``.

    ``portable``: all that have the pinned instruction set; raises ReproboxError where this one has not, or where a
    library does not keep to it (``env``: the user's own variables, which may be why). Else those of the same CPU
    model and GPUs on which the libraries choose the same kernels.
    """
    gpu = _gpus(conditions)
    if profile is Determinism.PORTABLE:
        require_x86(platform)
        _require_portable(conditions, env)
        facts = {"architecture": platform.machine, "instructions": PORTABLE_LEVEL}
        return HardwareClass(facts=facts | ({"gpu": gpu} if conditions.gpus else {}))
    facts = {"architecture": platform.machine, "cpu": conditions.cpu, "gpu": gpu}
    if conditions.instructions:
        facts["instructions"] = conditions.instructions
    for name, library in conditions.libraries.items():
        if "error" in library:
            facts[name] = _UNREADABLE
        facts |= {f"{name} {key}": library[key] for key in _STATE if key in library}
    return HardwareClass(facts=dict(sorted(facts.items())))


def _gpus(conditions: Conditions) -> str:
    counted = {name: conditions.gpus.count(name) for name in sorted(conditions.gpus)}
    return " and ".join(name if count == 1 else f"{count} x {name}" for name, count in counted.items()) or "none"


def _require_portable(conditions: Conditions, env: Mapping[str, str]) -> None:
    if conditions.lacking:
        raise ReproboxError(
            f"`determinism: portable` needs a CPU with {PORTABLE_LEVEL}; {conditions.cpu} lacks "
            + ", ".join(conditions.lacking),
            hint="run it on a CPU of 2013 or later (Haswell, Zen), or use `determinism: pinned`",
        )
    broken, ours = [], set()
    for name, library in conditions.libraries.items():
        for key in _STATE:
            if key not in library or _is_portable(key, library[key], env):
                continue
            variable = "MKL_CBWR" if key == "mkl" else _PINS.get((name, key), "OPENBLAS_CORETYPE")
            broken.append(f"\n  {name} {library.get('version', '')}: {key} is {library[key]}")
            if variable in env:
                ours.add(variable)
                broken[-1] += f" (`env:` sets {variable} to {env[variable]!r})"
    if broken:
        raise ReproboxError(
            f"`determinism: portable` is not in effect; this goes beyond {PORTABLE_LEVEL} or follows the CPU:"
            + "".join(broken),
            hint=f"take {', '.join(sorted(ours))} out of `env:` in reprobox.yaml and run `reprobox lock`, "
            "or use `determinism: pinned`"
            if ours
            else "require another version, whose kernels can be chosen, or use `determinism: pinned`",
        )


def _is_portable(key: str, value: str, env: Mapping[str, str]) -> bool:
    """Whether every x86-64-v3 CPU runs the kernels that a library's fact names, and no others."""
    if key == "mkl":
        return value.partition(",")[0] == "COMPATIBLE"
    if key == "cpu":
        return value in _PORTABLE_TARGETS
    if key == "blas":
        asked = env.get("OPENBLAS_CORETYPE", "Haswell").lower()
        return all(_is_portable_blas(one, asked) for one in value.split(" and "))
    return not _BEYOND.search(value)


def _is_portable_blas(value: str, asked: str) -> bool:
    core = value.removeprefix("OpenBLAS ").removesuffix(_FIXED).lower()
    if not value.startswith("OpenBLAS ") or value.endswith(_FIXED):
        return not value.startswith("OpenBLAS ") or core in _PORTABLE_CORES
    return core == asked and core in _PORTABLE_CORES | {"zen"}


def unread(conditions: Conditions) -> tuple[str, ...]:
    """What a reader should know could not be read, one sentence each."""
    found = [
        f"what {name} does on this hardware could not be read: {library['error']}"
        for name, library in conditions.libraries.items()
        if "error" in library
    ]
    found += [
        f"which kernels {name}'s BLAS runs could not be read: {one}"
        for name, library in conditions.libraries.items()
        for one in library.get("blas", "").split(" and ")
        if one and not one.startswith("OpenBLAS ") and not ("mkl" in one and "mkl" in library)
    ]
    found += [f"the GPU is {text}" for text in conditions.gpus if text.startswith(_UNREADABLE)]
    return tuple(found)


# --- words ------------------------------------------------------------------------------------


def describe(hardware: HardwareClass, *, beside: HardwareClass | None = None) -> str:
    """A hardware class in the reader's words: ``portable x86-64-v3``, or the CPU and what it can do.

    Where ``beside``, another class, would be described alike, the facts that tell them apart are named too.
    """
    facts = hardware.facts
    if "cpu" in facts:
        text = ", ".join([facts["cpu"], facts.get("instructions", facts.get("architecture", ""))])
    elif "instructions" in facts:
        text = f"portable {facts['instructions']}"
    else:
        return hardware.name
    if facts.get("gpu", "none") != "none":
        text += f", {facts['gpu']}"
    if beside and beside.facts != facts and describe(beside) == text:
        apart = [f"{key} {value}" for key, value in sorted(facts.items()) if beside.facts.get(key) != value]
        return f"{text}, with {', '.join(apart) or 'fewer facts'}"
    return text


def differences(here: HardwareClass, there: HardwareClass) -> tuple[str, ...]:
    """In what two classes differ, fact by fact: ``numpy blas: OpenBLAS SkylakeX here, OpenBLAS Haswell there``."""
    if ("cpu" in here.facts) != ("cpu" in there.facts):
        words = {True: "one CPU model", False: "portable"}
        return (f"determinism: {words['cpu' in here.facts]} here, {words['cpu' in there.facts]} there",)
    return tuple(
        f"{key}: {here.facts.get(key, 'nothing')} here, {there.facts.get(key, 'nothing')} there"
        for key in sorted(here.facts.keys() | there.facts.keys())
        if here.facts.get(key) != there.facts.get(key)
    )
