"""Profiles -> variables."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox.determinism import variables
from reprobox.errors import InvalidInput
from reprobox.model import Determinism, Platform

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
