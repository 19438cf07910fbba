"""Real answers of the probe -> Conditions, and the machines on which their bits are expected.

The answers in answers/ were printed in real images by the probe's script: ``new`` by numpy 2.4, scipy, pyarrow, numba
and torch, ``old`` by numpy 1.24 and scipy 1.10, each under `determinism: pinned` and `portable`; ``emulated`` is
``new`` on qemu's Haswell.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox.errors import InvalidInput, ReproboxError
from reprobox.hardware import (
    CpuFacts,
    describe,
    differences,
    driver_version,
    hardware_class,
    read_answer,
    read_cpu,
    unread,
)
from reprobox.model import Determinism, HardwareClass, Platform

ANSWERS = Path(__file__).with_name("answers")
HASWELL = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss syscall nx "
    "pdpe1gb rdtscp lm constant_tsc pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx "
    "f16c rdrand hypervisor lahf_lm abm bmi1 avx2 smep bmi2 erms invpcid"
)
CPUINFO = f"""processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 63
model name\t: Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz
flags\t\t: {HASWELL}

processor\t: 1
model name\t: another
flags\t\t: none
"""
XEON = "Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz family 6 model 63"
NO_GPU = {"devices": []}
H200 = {"name": "NVIDIA H200", "capability": "9.0"}


def recorded(name):
    return json.loads((ANSWERS / f"{name}.json").read_text())


def answer(*, cpuinfo=CPUINFO, gpus=NO_GPU, memory="1073741824\n", architecture="x86_64", **libraries):
    return {
        "architecture": architecture,
        "boot": "a\n",
        "cpuinfo": cpuinfo,
        "cpus": 2,
        "gpus": gpus,
        "libraries": libraries,
        "memory": memory,
    }


def read(value):
    return read_answer(value, engine="Docker 28.5.2")


def of(value, profile=Determinism.PINNED, platform=Platform.LINUX_64, **env):
    return hardware_class(profile, platform, read(value), env=env)


def portable(value, **env):
    return of(value, Determinism.PORTABLE, **env)


def openblas(core="Haswell", config="OpenBLAS 0.3.31 DYNAMIC_ARCH NO_AFFINITY", file="libopenblas.so"):
    return {"version": "1", "blas": [{"file": file, "config": config, "core": core, "threads": 1}]}


# --- reading ----------------------------------------------------------------------------------


def test_a_cpu_is_read_from_its_first_processor():
    found = read_cpu(CPUINFO)
    assert found.words == XEON
    assert found.level == "x86-64-v3"


def test_an_arm_cpu_is_named_by_implementer_and_part():
    text = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd0c\n"
    found = of(answer(cpuinfo=text, architecture="aarch64"), platform=Platform.LINUX_AARCH64)
    assert found.facts == {"architecture": "aarch64", "cpu": "ARM implementer 0x41 part 0xd0c", "gpu": "none"}
    assert read(answer(cpuinfo=text, architecture="aarch64")).plain.keys() == {
        "architecture",
        "cpu",
        "cpus",
        "engine",
        "memory",
    }


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_some_cpu(text):
    assert read_cpu(text).name


def test_the_level_is_the_highest_that_is_whole():
    def level(flags):
        return CpuFacts(name="", flags=frozenset(flags.split())).level

    assert level("lm sse2") == "x86-64-v1"
    assert level(HASWELL.replace(" movbe", "")) == "x86-64-v2"
    assert level(HASWELL + " avx512f avx512bw avx512cd avx512dq avx512vl") == "x86-64-v4"
    assert level("lm sse2 avx512f avx512bw avx512cd avx512dq avx512vl") == "x86-64-v1"


@pytest.mark.parametrize(
    ("text", "memory"),
    [("max\n", None), ("1073741824\n", 1 << 30), ("9223372036854771712\n", None), (None, None)],
)
def test_the_memory_limit_is_read_from_either_version_of_cgroups(text, memory):
    assert read(answer(memory=text)).memory == memory


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
            "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
            "535.104.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  "
            "(dvs-builder@U16-I2-C05-15-2)  Thu Feb 22 01:44:30 UTC 2024\n",
            "550.54.14",
        ),
        ("", None),
        ("GCC version:  gcc version 11.4.0\n", None),
    ],
)
def test_the_driver_is_read_from_what_its_kernel_module_says(text, version):
    assert driver_version(text) == version


# --- real answers -----------------------------------------------------------------------------


def test_new_libraries_are_read():
    found = read(recorded("new-pinned"))
    assert (found.cpu, found.instructions, found.cpus) == ("AMD EPYC family 26 model 2", "x86-64-v4", 1)
    assert found.libraries == {
        "numba": {"cpu": "znver5", "simd": "AVX512F", "version": "0.68.1"},
        "numpy": {
            "blas": "OpenBLAS SkylakeX",
            "blas threads": "1",
            "blas version": "0.3.31.188.0",
            "simd": "AVX512_ICL",
            "version": "2.4.6",
        },
        "pyarrow": {"simd": "avx512", "version": "26.0.1"},
        "scipy": {
            "blas": "OpenBLAS SkylakeX",
            "blas threads": "1",
            "blas version": "0.3.30",
            "version": "1.17.1",
        },
        "torch": {
            "mkl": "AUTO",
            "onednn": "Intel AVX-512 with Intel DL Boost and bfloat16 support",
            "simd": "AVX512",
            "threads": "1",
            "version": "2.13.0+cpu",
        },
    }


def test_portable_is_in_effect_in_new_libraries():
    found = recorded("new-portable")
    assert read(found).libraries["numpy"]["simd"] == "X86_V3"
    assert read(found).libraries["torch"]["onednn"] == "Intel AVX2"
    assert portable(found).facts == {"architecture": "x86_64", "instructions": "x86-64-v3"}


def test_portable_is_in_effect_in_old_libraries():
    found = recorded("old-portable")
    assert read(found).libraries["numpy"] == {
        "blas": "OpenBLAS Haswell",
        "blas threads": "1",
        "blas version": "0.3.21",
        "simd": "AVX2",
        "version": "1.24.4",
    }
    assert portable(found).facts == {"architecture": "x86_64", "instructions": "x86-64-v3"}


def test_a_pinned_class_holds_what_each_library_does():
    assert of(recorded("old-pinned")).facts == {
        "architecture": "x86_64",
        "cpu": "AMD EPYC family 26 model 2",
        "gpu": "none",
        "instructions": "x86-64-v4",
        "numpy blas": "OpenBLAS Cooperlake",
        "numpy simd": "AVX512_ICL",
        "scipy blas": "OpenBLAS Barcelona",
    }


def test_another_cpu_is_another_pinned_class_and_the_same_portable_one():
    here, there = recorded("new-pinned"), recorded("emulated")
    assert "numpy simd: AVX512_ICL here, X86_V3 there" in differences(of(here), of(there))
    assert portable(recorded("new-portable")) == portable(there)


@pytest.mark.parametrize("name", ["new-pinned", "old-pinned"])
def test_libraries_that_follow_the_cpu_are_not_portable(name):
    with pytest.raises(ReproboxError, match=r"not in effect(.|\n)*\n  numpy [0-9.]+: simd is AVX512_ICL"):
        portable(recorded(name))


@given(st.sampled_from(["new-pinned", "old-pinned"]), st.data())
@settings(max_examples=100, deadline=None)
def test_an_answer_with_a_part_missing_is_refused_or_read(name, data):
    found = recorded(name)
    del found[data.draw(st.sampled_from(sorted(found)))]
    try:
        read(found)
    except (KeyError, TypeError, ValueError):
        assert "boot" in found
    else:
        assert "boot" not in found


# --- classes ----------------------------------------------------------------------------------


def test_a_portable_class_is_the_instruction_set_alone():
    avx512 = CPUINFO.replace("invpcid", "invpcid avx512f").replace("Intel", "AMD")
    one, two = portable(answer()), portable(answer(cpuinfo=avx512))
    assert one == two == HardwareClass(facts={"architecture": "x86_64", "instructions": "x86-64-v3"})
    assert describe(one) == "portable x86-64-v3"


def test_portable_refuses_a_cpu_without_the_pinned_instructions():
    with pytest.raises(ReproboxError) as caught:
        portable(answer(cpuinfo=CPUINFO.replace(" fma", "")))
    assert caught.value.message == f"`determinism: portable` needs a CPU with x86-64-v3; {XEON} lacks fma"
    assert "pinned" in caught.value.hint


def test_portable_on_aarch64_has_no_class():
    with pytest.raises(InvalidInput, match="not supported yet on linux-aarch64"):
        of(answer(), Determinism.PORTABLE, Platform.LINUX_AARCH64)


@pytest.mark.parametrize("profile", [Determinism.OFF, Determinism.PINNED])
def test_other_classes_name_the_cpu_and_what_it_shows(profile):
    found = of(answer(), profile)
    assert found.facts == {"architecture": "x86_64", "cpu": XEON, "gpu": "none", "instructions": "x86-64-v3"}
    assert describe(found) == f"{XEON}, x86-64-v3"
    assert of(answer(cpuinfo=CPUINFO.replace(" avx2", "")), profile) != found


def test_gpus_are_part_of_every_class():
    two = answer(gpus={"devices": [H200, H200], "driver": "NVRM version: NVIDIA UNIX x86_64  580.1.2  x"})
    assert read(two).gpu_driver == "580.1.2"
    assert of(two).facts["gpu"] == "2 x NVIDIA H200 (9.0)"
    assert portable(two).facts["gpu"] == "2 x NVIDIA H200 (9.0)"
    assert describe(portable(two)) == "portable x86-64-v3, 2 x NVIDIA H200 (9.0)"
    assert differences(of(answer()), of(two)) == ("gpu: none here, 2 x NVIDIA H200 (9.0) there",)


def test_a_driver_that_fails_is_not_the_same_as_no_gpu():
    broken = answer(gpus={"error": "CUDA's driver answers cuInit with error 803"})
    assert of(broken) != of(answer())
    assert unread(read(broken)) == ("the GPU is not readable: CUDA's driver answers cuInit with error 803",)


def test_a_library_that_cannot_be_read_is_said_and_makes_a_class_of_its_own():
    found = answer(torch={"error": "OSError: libgomp.so.1: cannot open shared object file"})
    assert of(found).facts["torch"] == "not readable"
    assert unread(read(found)) == (
        "what torch does on this hardware could not be read: OSError: libgomp.so.1: cannot open shared object file",
    )
    assert portable(found) == portable(answer())


def test_kernels_switched_off_in_the_middle_make_another_class():
    dispatch = ["AVX2", "AVX512F", "AVX512_KNL", "AVX512_SKX", "AVX512_ICL"]

    def simd(*enabled):
        numpy = {"version": "1.26.4", "dispatch": dispatch, "enabled": list(enabled)}
        return of(answer(numpy=numpy)).facts["numpy simd"]

    assert simd("AVX2", "AVX512F", "AVX512_SKX", "AVX512_ICL") == "AVX512_ICL"
    assert simd("AVX2", "AVX512F", "AVX512_ICL") == "AVX512_ICL without AVX512_SKX"
    assert simd() == "baseline"


def test_a_class_of_other_facts_is_described_by_its_name():
    assert describe(HardwareClass(facts={"architecture": "x86_64"})) == "x86_64"


# --- portable, in effect ----------------------------------------------------------------------


def test_portable_broken_by_the_users_own_variable_names_it():
    with pytest.raises(ReproboxError) as caught:
        portable(answer(numpy=openblas("SkylakeX")), OPENBLAS_CORETYPE="SkylakeX")
    assert caught.value.message == (
        "`determinism: portable` is not in effect; this goes beyond x86-64-v3 or follows the CPU:\n"
        "  numpy 1: blas is OpenBLAS SkylakeX (`env:` sets OPENBLAS_CORETYPE to 'SkylakeX')"
    )
    assert caught.value.hint == (
        "take OPENBLAS_CORETYPE out of `env:` in reprobox.yaml and run `reprobox lock`, or use `determinism: pinned`"
    )


def test_portable_broken_by_a_library_itself_asks_for_another_version():
    with pytest.raises(ReproboxError) as caught:
        portable(answer(pyarrow={"version": "1", "simd": "avx512"}))
    assert caught.value.message.endswith("\n  pyarrow 1: simd is avx512")
    assert caught.value.hint == ("require another version, whose kernels can be chosen, or use `determinism: pinned`")


@pytest.mark.parametrize(
    ("libraries", "env"),
    [
        ({"numpy": openblas("SkylakeX")}, {}),
        ({"numpy": openblas("Zen")}, {}),
        ({"numpy": openblas("Zen")}, {"OPENBLAS_CORETYPE": ""}),
        ({"numpy": openblas("Haswell")}, {"OPENBLAS_CORETYPE": "Nope"}),
        ({"numpy": openblas("SkylakeX", config="OpenBLAS 0.3.31 NO_AFFINITY")}, {}),
        ({"numpy": {"version": "3", "dispatch": ["X86_V4"], "enabled": ["X86_V4"]}}, {}),
        ({"numpy": {"version": "3", "dispatch": [], "enabled": [], "mkl": "AUTO"}}, {"MKL_CBWR": "NOPE"}),
        ({"torch": {"version": "2", "capability": "AVX512"}}, {}),
        ({"torch": {"version": "2", "mkl": "OFF"}}, {}),
        ({"torch": {"version": "2", "mkl": "AUTO,STRICT"}}, {}),
        ({"torch": {"version": "2", "onednn": "Intel AVX-512 with Intel DL Boost"}}, {}),
        ({"torch": {"version": "2", "onednn": "Intel AVX10.2 with Intel AMX"}}, {}),
        ({"numba": {"version": "1", "cpu": "znver5", "features": "+avx2"}}, {}),
        ({"numba": {"version": "1", "cpu": "haswell", "features": "+avx2,+avx512f"}}, {}),
        ({"numba": {"version": "1", "cpu": "skylake-avx512", "features": ""}}, {"NUMBA_CPU_NAME": "skylake-avx512"}),
    ],
)
def test_kernels_that_follow_the_cpu_are_not_portable(libraries, env):
    with pytest.raises(ReproboxError, match="not in effect"):
        portable(answer(**libraries), **env)
    assert of(answer(**libraries), **env)


@pytest.mark.parametrize(
    ("libraries", "env"),
    [
        ({"numpy": openblas("Zen")}, {"OPENBLAS_CORETYPE": "ZEN"}),
        ({"numpy": openblas("Prescott", config="OpenBLAS 0.3.31 NO_AFFINITY")}, {}),
        ({"numpy": {"version": "2", "dispatch": ["X86_V3"], "enabled": []}}, {}),
        ({"torch": {"version": "2", "capability": "DEFAULT", "mkl": "COMPATIBLE", "onednn": "Intel SSE4.1"}}, {}),
        ({"torch": {"version": "2", "mkl": "COMPATIBLE,STRICT"}}, {}),
        ({"jaxlib": {"version": "0.10"}}, {}),
    ],
)
def test_kernels_that_every_such_cpu_runs_are_portable(libraries, env):
    assert portable(answer(**libraries), **env).name == "x86_64-x86-64-v3"


def test_a_blas_that_does_not_say_its_kernels_is_warned_of():
    found = read(answer(numpy={"version": "2", "dispatch": [], "enabled": [], "blas": [{"file": "libblis.so.4"}]}))
    assert unread(found) == ("which kernels numpy's BLAS runs could not be read: libblis.so.4",)
    mkl = {"version": "2", "dispatch": [], "enabled": [], "mkl": "AUTO", "blas": [{"file": "libmkl_rt.so.2"}]}
    assert unread(read(answer(numpy=mkl))) == ()


# --- words ------------------------------------------------------------------------------------


def test_classes_are_told_apart_fact_by_fact():
    here, there = of(answer(numpy=openblas("SkylakeX"))), of(answer(numpy=openblas("Haswell")))
    assert differences(here, there) == ("numpy blas: OpenBLAS SkylakeX here, OpenBLAS Haswell there",)
    assert differences(here, of(answer())) == ("numpy blas: OpenBLAS SkylakeX here, nothing there",)
    assert differences(here, portable(answer())) == ("determinism: one CPU model here, portable there",)
    assert differences(here, here) == ()


def test_classes_of_one_cpu_are_described_by_what_tells_them_apart():
    here, there = of(answer(numpy=openblas("SkylakeX"))), of(answer(numpy=openblas("Haswell")))
    assert describe(there, beside=here) == f"{XEON}, x86-64-v3, with numpy blas OpenBLAS Haswell"
    assert describe(of(answer()), beside=here) == f"{XEON}, x86-64-v3, with fewer facts"
    assert describe(portable(answer()), beside=here) == "portable x86-64-v3"


words = st.text("aA ._-/é", max_size=4)


@given(st.lists(st.dictionaries(st.sampled_from(["cpu", "gpu", "numpy blas"]), words, min_size=1), max_size=8))
@settings(max_examples=200, deadline=None)
def test_classes_with_a_gpu_fact_never_share_a_folder(each):
    classes = [HardwareClass(facts={"architecture": "x86_64", "gpu": "none", **facts}) for facts in each]
    names = {one.name: one.facts for one in classes}
    assert all(names[one.name] == one.facts for one in classes)
    assert all("/" not in name and name.startswith("x86_64") and len(name) < 100 for name in names)


def test_the_classes_that_were_recorded_before_keep_their_names():
    old = {"architecture": "x86_64", "cpu": "AMD EPYC family 26 model 2", "instructions": "x86-64-v4"}
    assert HardwareClass(facts=old).name == "x86_64-amd-epyc-family-26-model-2-x86-64-v4"
