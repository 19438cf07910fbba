"""Profiles -> variables, and the hardware on which their bits are expected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import determinism
from reprobox.determinism import CpuFacts, describe, hardware_class, read_cpu, variables
from reprobox.errors import InvalidInput, ReproboxError
from reprobox.model import Determinism, HardwareClass, Platform

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
BASE = {
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "SOURCE_DATE_EPOCH": "7",
    "TZ": "UTC",
}


def of(profile=Determinism.PORTABLE, *, packages=(), platform=Platform.LINUX_64, cpus=4, env=None):
    return variables(profile, packages=dict(packages), platform=platform, cpus=cpus, env=env or {}, epoch=7)


def cpu(flags=HASWELL, name="A CPU"):
    return CpuFacts(name=name, family="6", model="63", flags=frozenset(flags.split()))


def test_off_fixes_locale_zone_and_time_only():
    assert of(Determinism.OFF, packages={"torch": "2.5.0", "numpy": "2.4.0"}) == BASE


def test_pinned_without_libraries_sets_the_generic_pools_to_the_cpus():
    assert of(Determinism.PINNED) == BASE | {
        "MKL_CBWR": "AUTO",
        "MKL_DYNAMIC": "FALSE",
        "MKL_NUM_THREADS": "4",
        "OMP_DYNAMIC": "FALSE",
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "PYTHONHASHSEED": "0",
        "RAYON_NUM_THREADS": "4",
    }


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("numba", {"NUMBA_NUM_THREADS": "4"}),
        ("NumExpr", {"NUMEXPR_NUM_THREADS": "4"}),
        ("polars", {"POLARS_MAX_THREADS": "4"}),
        ("joblib", {"LOKY_MAX_CPU_COUNT": "4"}),
        ("tokenizers", {"TOKENIZERS_PARALLELISM": "false"}),
        ("torch", {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),
        ("cupy_cuda12x", {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),
        (
            "tensorflow-cpu",
            {
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
                "TF_NUM_INTEROP_THREADS": "4",
                "TF_NUM_INTRAOP_THREADS": "4",
            },
        ),
        ("requests", {}),
    ],
)
def test_pinned_sets_a_librarys_variables_only_where_it_is_locked(package, expected):
    without, with_it = of(Determinism.PINNED), of(Determinism.PINNED, packages={package: "1.0"})
    assert {name: with_it[name] for name in with_it.keys() - without.keys()} == expected


def test_portable_is_single_threaded_whatever_the_cpus():
    found = of(cpus=8, packages={"numba": "0.60", "polars": "1.0", "tensorflow": "2.21.0"})
    assert {value for name, value in found.items() if "NUM_THREADS" in name or "MAX_THREADS" in name} == {"1"}


def test_portable_holds_blas_to_avx2_kernels_without_asking_the_lock():
    found = of()
    assert found["OPENBLAS_CORETYPE"] == "Haswell"
    assert found["MKL_CBWR"] == "COMPATIBLE"


@pytest.mark.parametrize(
    ("version", "features"),
    [
        ("2.4.0", "X86_V4 AVX512_ICL AVX512_SPR"),
        ("2.4.0rc1", "X86_V4 AVX512_ICL AVX512_SPR"),
        ("3.0", "X86_V4 AVX512_ICL AVX512_SPR"),
        (
            "2.3.5",
            "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
        ),
        ("2.2.6", "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"),
        ("1.26.4", "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"),
    ],
)
def test_portable_names_numpys_features_as_its_version_does(version, features):
    assert of(packages={"numpy": version})["NPY_DISABLE_CPU_FEATURES"] == features
    assert "NPY_DISABLE_CPU_FEATURES" not in of(Determinism.PINNED, packages={"numpy": version})


@pytest.mark.parametrize(
    ("package", "version", "expected"),
    [
        ("torch", "2.13.0+cpu", {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
        ("tensorflow", "2.21.0", {"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "0"}),
        ("jaxlib", "0.4.36", {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}),
        ("pyarrow", "26.0.1", {"ARROW_USER_SIMD_LEVEL": "AVX2"}),
        (
            "numba",
            "0.68.1",
            {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"},
        ),
    ],
)
def test_portable_holds_each_locked_library_to_avx2(package, version, expected):
    pinned = of(Determinism.PINNED, packages={package: version})
    portable = of(packages={package: version})
    alone = {"MKL_CBWR", "OPENBLAS_CORETYPE"}
    assert {name: portable[name] for name in portable.keys() - pinned.keys() - alone} == expected


def test_portable_refuses_a_jaxlib_that_would_abort_on_the_flag():
    with pytest.raises(InvalidInput) as caught:
        of(packages={"jaxlib": "0.4.30"})
    assert caught.value.message == (
        "`determinism: portable` cannot hold jaxlib 0.4.30 to x86-64-v3: that needs 0.4.36 or later"
    )
    assert caught.value.hint == "require a later jax, or use `determinism: pinned`"


def test_a_version_that_cannot_be_read_is_refused():
    with pytest.raises(InvalidInput, match="numpy is locked with a version that cannot be read: 'new'"):
        of(packages={"numpy": "new"})


def test_portable_on_aarch64_is_not_supported_yet():
    with pytest.raises(InvalidInput, match="not supported yet on linux-aarch64, only on linux-64"):
        of(platform=Platform.LINUX_AARCH64)
    with pytest.raises(InvalidInput, match="not supported yet on linux-aarch64"):
        hardware_class(Determinism.PORTABLE, Platform.LINUX_AARCH64, cpu())
    assert of(Determinism.PINNED, platform=Platform.LINUX_AARCH64)["OMP_NUM_THREADS"] == "4"


def test_the_users_own_variables_win():
    found = of(env={"OMP_NUM_THREADS": "2", "TZ": "Europe/Paris", "MINE": "1"})
    assert (found["OMP_NUM_THREADS"], found["TZ"], found["MINE"]) == ("2", "Europe/Paris", "1")


@given(
    profile=st.sampled_from(Determinism),
    packages=st.dictionaries(st.sampled_from(["numpy", "torch", "numba", "jaxlib", "polars"]), st.just("2.4.0")),
)
@settings(max_examples=50, deadline=None)
def test_variables_are_sorted_and_do_not_depend_on_the_order_of_packages(profile, packages):
    found = of(profile, packages=packages)
    assert list(found) == sorted(found)
    assert found == of(profile, packages=dict(reversed(packages.items())))


def test_a_cpu_is_read_from_its_first_processor():
    found = read_cpu(CPUINFO)
    assert (found.name, found.family, found.model) == ("Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz", "6", "63")
    assert found.level == "x86-64-v3"


def test_an_arm_cpu_is_named_by_implementer_and_part():
    found = read_cpu("processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd0c\n")
    assert found.name == "ARM implementer 0x41 part 0xd0c"
    assert found.level is None
    facts = hardware_class(Determinism.PINNED, Platform.LINUX_AARCH64, found).facts
    assert facts == {"architecture": "aarch64", "cpu": "ARM implementer 0x41 part 0xd0c"}


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_some_cpu(text):
    assert read_cpu(text).name


def test_the_level_is_the_highest_that_is_whole():
    assert cpu("lm sse2").level == "x86-64-v1"
    assert cpu(HASWELL.replace(" movbe", "")).level == "x86-64-v2"
    assert cpu(HASWELL + " avx512f avx512bw avx512cd avx512dq avx512vl").level == "x86-64-v4"
    assert cpu("lm sse2 avx512f avx512bw avx512cd avx512dq avx512vl").level == "x86-64-v1"


def test_a_portable_class_is_the_instruction_set_alone():
    one = hardware_class(Determinism.PORTABLE, Platform.LINUX_64, cpu(name="Intel"))
    two = hardware_class(Determinism.PORTABLE, Platform.LINUX_64, cpu(HASWELL + " avx512f", name="AMD"))
    assert one == two == HardwareClass(facts={"architecture": "x86_64", "instructions": "x86-64-v3"})
    assert describe(one) == "portable x86-64-v3"


def test_portable_refuses_a_cpu_without_the_pinned_instructions():
    with pytest.raises(ReproboxError) as caught:
        hardware_class(Determinism.PORTABLE, Platform.LINUX_64, cpu("lm sse2 " + HASWELL.replace(" fma", "")))
    assert caught.value.message == "`determinism: portable` needs a CPU with x86-64-v3; A CPU lacks fma"
    assert "pinned" in caught.value.hint


@pytest.mark.parametrize("profile", [Determinism.OFF, Determinism.PINNED])
def test_other_classes_name_the_cpu_and_what_it_shows(profile):
    found = hardware_class(profile, Platform.LINUX_64, cpu())
    assert found.facts == {"architecture": "x86_64", "cpu": "A CPU family 6 model 63", "instructions": "x86-64-v3"}
    assert describe(found) == "A CPU family 6 model 63, x86-64-v3"
    hidden = hardware_class(profile, Platform.LINUX_64, cpu(HASWELL.replace(" avx2", "")))
    assert hidden != found


def test_a_class_of_other_facts_is_described_by_its_name():
    assert describe(HardwareClass(facts={"gpu": "H200"})) == "h200"


def test_a_machine_without_cpuinfo_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(determinism, "CPUINFO", tmp_path / "none")
    with pytest.raises(InvalidInput, match="cannot tell which CPU this is: No such file"):
        determinism.this_cpu()


def test_this_machine_has_a_cpu():
    assert determinism.this_cpu().name
