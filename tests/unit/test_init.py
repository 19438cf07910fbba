"""`reprobox init`: what each kind of folder gives, and that every draft is a valid reprobox.yaml."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from folders import DOCKERFILE, FOLDERS, PIPFILE_LOCK, POETRY_LOCK, init, make, said, words_of
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from reprobox import config
from reprobox.draft import compose, look, requirements, stand
from reprobox.draft.facts import Command, Fact, Findings, Line, Place, PythonSaid, Script
from reprobox.draft.imports import distribution_of
from reprobox.draft.specifiers import from_conda, from_poetry
from reprobox.errors import InvalidInput
from reprobox.model import BootstrapBase, ImageBase
from reprobox.report import drafted as report
from reprobox.workflow import drafting

# --- every draft --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(FOLDERS))
def test_every_draft_is_a_valid_config_that_the_offline_part_of_lock_takes(kind: str, tmp_path: Path) -> None:
    project, done = init(tmp_path / kind, FOLDERS[kind])
    assert done.refused is None
    assert (tmp_path / kind / str(project.environment.path)).is_file()
    assert done.written[-1] == "reprobox.yaml"


@pytest.mark.parametrize("kind", sorted(FOLDERS))
def test_a_draft_is_the_same_each_time_and_says_nothing_of_the_machine(kind: str, tmp_path: Path) -> None:
    first, second = (make(tmp_path / where / "same", FOLDERS[kind]) for where in ("a", "b"))
    assert compose.draft(look.look(first)) == compose.draft(look.look(second))
    assert str(tmp_path) not in "".join(compose.draft(look.look(first)).files.values())


@pytest.mark.parametrize("kind", sorted(FOLDERS))
def test_every_key_of_a_draft_says_where_it_comes_from(kind: str, tmp_path: Path) -> None:
    init(tmp_path, FOLDERS[kind])
    text = (tmp_path / "reprobox.yaml").read_text()
    keys = [line for line in text.splitlines() if line and not line.startswith(("#", "system:", "smoke:"))]
    assert [line for line in keys if " # " not in line and "  # control" not in line] == []


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(max_size=40),
    place=st.text(min_size=1, max_size=40),
    words=st.lists(st.text(alphabet=st.characters(exclude_categories=("C",)), min_size=1), min_size=1, max_size=4),
    output=st.from_regex(r"[\w '\"#:-]{1,12}(/[\w .{}\[\]&!]{1,12})?", fullmatch=True),
)
def test_no_text_of_a_folder_breaks_a_draft(name: str, place: str, words: list[str], output: str) -> None:
    where = Place(file=place, line=3)
    path = str(PurePosixPath(output))
    paths = [path] if path != "." and ".." not in PurePosixPath(path).parts else []
    findings = Findings(
        folder=name,
        names=(Fact(value=name, place=where),),
        system=(Fact(value="libgomp1", place=where),),
        commands=(Command(words=("python", *words), place=where),),
        scripts=(Script(path=words[0], outputs=tuple(Fact(value=path, place=where) for path in paths)),),
    )
    draft = compose.draft(findings)
    project = config.loads(draft.files["reprobox.yaml"].encode(), root=Path("/nowhere"))
    assert (project.smoke is not None) == bool(paths)
    if project.smoke:
        assert project.smoke.command == ("python", *words)
        assert [str(each.path) for each in project.smoke.outputs] == paths


def test_the_projects_one_program_is_its_command(tmp_path: Path) -> None:
    text = '[project]\nname = "heat"\nversion = "1"\ndependencies = ["numpy"]\n[project.scripts]\nheat = "heat:main"\n'
    init(tmp_path / "one", {"pyproject.toml": text, "src/heat.py": "def main(): ...\n"})
    assert "#   command: [heat]" in (tmp_path / "one/reprobox.yaml").read_text()
    init(tmp_path / "two", {"pyproject.toml": text + 'cold = "heat:main"\n', "src/heat.py": ""})
    assert "[heat]" not in (tmp_path / "two/reprobox.yaml").read_text()


# --- the environment ------------------------------------------------------------------------------


def test_a_requirements_file_is_taken_as_it_is(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["requirements"])
    assert str(project.environment.path) == "requirements.txt"
    assert done.written == ("reprobox.yaml",)
    assert done.exit_code == 0


def test_a_compiled_requirements_file_is_preferred_to_its_source(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["compiled"])
    assert str(project.environment.path) == "requirements.txt"
    assert said(done, "requirements.in") == "not used: requirements.txt names the packages"


def test_without_a_compiled_one_the_source_is_preferred(tmp_path: Path) -> None:
    project, _ = init(tmp_path, {"requirements.in": "numpy\n", "requirements.txt": "numpy\npandas\n"})
    assert str(project.environment.path) == "requirements.in"


def test_a_uv_lock_comes_before_everything_else(tmp_path: Path) -> None:
    project, _ = init(tmp_path, FOLDERS["uv"])
    assert str(project.environment.path) == "uv.lock"


def test_a_uv_lock_without_its_pyproject_is_not_taken(tmp_path: Path) -> None:
    project, done = init(tmp_path, {"uv.lock": "version = 1\n", "requirements.txt": "six\n"})
    assert str(project.environment.path) == "requirements.txt"
    assert "pyproject.toml beside it" in said(done, "uv.lock")


def test_extras_and_groups_are_shown_as_comments(tmp_path: Path) -> None:
    init(tmp_path, FOLDERS["pyproject"])
    text = (tmp_path / "reprobox.yaml").read_text()
    assert "# environment: {file: pyproject.toml, extras: [gpu]}" in text
    assert "# environment: {file: pyproject.toml, groups: [dev]}" in text


def test_a_pyproject_that_names_no_packages_is_not_the_environment(tmp_path: Path) -> None:
    files = {"pyproject.toml": "[tool.black]\nline-length = 100\n", "requirements.txt": "six\n"}
    project, _ = init(tmp_path, files)
    assert str(project.environment.path) == "requirements.txt"


def test_requirements_for_development_and_tests_are_not_the_environment(tmp_path: Path) -> None:
    files = {"requirements-dev.txt": "pytest\n", "test-requirements.txt": "", "run.py": "import numpy\n"}
    project, done = init(tmp_path, files)
    assert str(project.environment.path) == "requirements.in"
    assert "by its name" in said(done, "requirements-dev.txt")


def test_poetrys_direct_dependencies_are_pinned_and_the_rest_constrained_by_its_lock(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["poetry"])
    assert words_of(tmp_path, "requirements.in") == [
        "-c constraints.txt", "numpy==1.26.4", "scipy[all]==1.10.1", "old==0.3.1 ; sys_platform == 'linux'",
    ]  # fmt: skip
    assert words_of(tmp_path, "constraints.txt") == ["six==1.16.0"]
    assert project.name == "deep-forest"
    assert done.exit_code == 1
    assert "comes by git" in said(done, "pyproject.toml:10")


def test_the_python_for_a_poetry_lock_is_the_newest_that_its_wheels_are_for(tmp_path: Path) -> None:
    project, _ = init(tmp_path, FOLDERS["poetry"])
    assert str(project.python) == "3.10"


def test_without_a_lock_poetrys_carets_become_ranges_and_src_wants_the_project_installed(tmp_path: Path) -> None:
    init(tmp_path, FOLDERS["poetry-src"])
    assert words_of(tmp_path, "requirements.in") == [
        "numpy>=1.24,<2", "scipy[all]>=1.10,<1.11", "old==0.3.1 ; sys_platform == 'linux'", "-e .",
    ]  # fmt: skip


def test_poetry_2s_project_table_keeps_the_versions_of_its_lock(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": '[project]\nname = "x"\ndependencies = ["numpy (>=1.24)"]\n[tool.poetry]\n',
        "poetry.lock": POETRY_LOCK,
    }
    init(tmp_path, files)
    assert words_of(tmp_path, "requirements.in")[1:] == ["numpy==1.26.4"]


def test_a_pipfile_is_pinned_by_its_lock(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["pipenv"])
    assert words_of(tmp_path, "requirements.in") == [
        "--extra-index-url https://lab.index.example/simple", "-c constraints.txt", "requests==2.31.0", "pandas>=2",
    ]  # fmt: skip
    assert words_of(tmp_path, "constraints.txt") == ["idna==3.6 ; python_version >= '3.5'"]
    assert str(project.python) == "3.12"
    assert "the package index private is left out" in said(done, "Pipfile:10")


def test_a_pipfile_lock_alone_is_a_list_of_pins(tmp_path: Path) -> None:
    init(tmp_path, {"Pipfile.lock": PIPFILE_LOCK})
    assert words_of(tmp_path, "requirements.in") == ["idna==3.6 ; python_version >= '3.5'", "requests==2.31.0"]


def test_a_setup_py_is_read_and_never_run(tmp_path: Path) -> None:
    files = {"setup.py": "open('ran', 'w')\nfrom setuptools import setup\nsetup(python_requires='<3.11')\n"}
    project, _ = init(tmp_path, files)
    assert not (tmp_path / "ran").exists()
    assert words_of(tmp_path, "requirements.in") == ["-e ."]
    assert str(project.python) == "3.10"


def test_the_pip_part_of_an_environment_yml_is_drafted(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["environment"])
    assert words_of(tmp_path, "requirements.in") == ["numpy==1.26.4", "pandas>=2"]
    assert str(project.python) == "3.11"
    assert done.exit_code == 0


def test_conda_packages_are_named_as_missing_and_stand_as_comments(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["conda"])
    text = (tmp_path / "requirements.in").read_text()
    assert words_of(tmp_path, "requirements.in") == ["einops==0.7.0", "umap-learn==0.5.5"]
    assert "# numpy==1.26.4.*  # environment.yml:3: conda" in text
    assert "# torch  # environment.yml:4: conda" in text
    assert "# cudatoolkit 11.8  # environment.yml:5: conda, not a Python package" in text
    assert "cannot be locked by this version: numpy, torch, cudatoolkit" in said(done, "environment.yml:3")
    assert str(project.python) == "3.12"
    assert done.exit_code == 1


def test_a_repository_in_the_pip_part_stays_a_comment_and_is_named(tmp_path: Path) -> None:
    files = {"environment.yml": "dependencies:\n- pip:\n  - six\n  - git+https://host.example/x.git\n"}
    _, done = init(tmp_path, files)
    assert words_of(tmp_path, "requirements.in") == ["six"]
    assert "a lock cannot hold this" in said(done, "environment.yml:4")
    assert done.refused is None


def test_pixis_pypi_packages_are_drafted(tmp_path: Path) -> None:
    _, done = init(tmp_path, FOLDERS["pixi"])
    assert words_of(tmp_path, "requirements.in") == ["six", "boltons>=23"]
    assert done.exit_code == 1


def test_what_a_dockerfile_installs_beside_the_requirements_is_added(tmp_path: Path) -> None:
    project, _ = init(tmp_path, FOLDERS["docker"])
    assert str(project.environment.path) == "requirements.in"
    assert words_of(tmp_path, "requirements.in") == ["-r requirements.txt", "wandb==0.16.0"]
    assert (tmp_path / "requirements.txt").read_text() == "numpy\n"


def test_what_a_dockerfile_installs_beside_a_pyproject_is_named_as_missing(tmp_path: Path) -> None:
    files = {**FOLDERS["pyproject"], "Dockerfile": "FROM debian:12\nRUN pip install numpy && pip install . wandb\n"}
    _, done = init(tmp_path, files)
    assert said(done, "Dockerfile:2") == "installs wandb too, which pyproject.toml does not name"
    assert done.exit_code == 1


def test_imports_are_guessed_without_the_standard_library_and_the_folders_own(tmp_path: Path) -> None:
    init(tmp_path, FOLDERS["notebook"])
    text = (tmp_path / "requirements.in").read_text()
    assert words_of(tmp_path, "requirements.in") == ["umap-learn==0.5.5", "numpy", "opencv-python-headless", "torch"]
    assert "opencv-python-headless  # Figure 1.ipynb:11: imports cv2" in text
    assert "Guesses" in text


def test_modules_are_known_by_a_short_table_and_nothing_is_made_up() -> None:
    names = ["sklearn.svm", "PIL", "yaml", "google.cloud.storage", "google.colab.drive", "google.protobuf", "os.path"]
    found = [distribution_of(name) for name in names]
    assert found == ["scikit-learn", "pillow", "pyyaml", "google-cloud-storage", None, "protobuf", None]


def test_a_repository_as_a_requirement_is_named_and_left_as_a_comment(tmp_path: Path) -> None:
    files = {"Dockerfile": "FROM debian:12\nRUN pip install git+https://me:hunter2@host.example/x.git\n", "a.py": ""}
    init(tmp_path, files)
    text = (tmp_path / "requirements.in").read_text()
    assert "# git+https://***@host.example/x.git" in text


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ('["pip", "install", "numpy>=1.20"]', "numpy>=1.20"),
        ("--mount=type=cache,target=/c \\\n  --network=default \\\n  pip install numpy==1.0", "numpy==1.0"),
    ],
)
def test_a_run_of_any_form_is_drafted_as_it_stands(tmp_path: Path, run: str, line: str) -> None:
    init(tmp_path, {"Dockerfile": f"FROM debian:12\nRUN {run}\n", "a.py": ""})
    assert line in [text.partition("  #")[0] for text in (tmp_path / "requirements.in").read_text().splitlines()]


def test_a_requirements_file_that_no_lock_can_hold_is_said_at_once(tmp_path: Path) -> None:
    _, done = init(tmp_path, {"requirements.txt": "x @ git+https://host.example/x.git\n"})
    assert done.refused is not None
    assert "requirements.txt:1" in done.refused.message
    assert done.exit_code == 1
    assert "next: correct that" in report.render(done.draft, done.written, refused=done.refused)


def test_a_folder_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing here to draft"):
        drafting.init(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_nothing_readable_in_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(InvalidInput, match=r"pyproject.toml:1: is not TOML"):
        drafting.init(tmp_path)


# --- Python and base -------------------------------------------------------------------------------


def test_a_python_image_gives_version_and_base(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["docker"])
    assert project.base == ImageBase(reference="python:3.10-slim")
    assert str(project.python) == "3.10"
    assert said(done, "Dockerfile:1") == "Python 3.10 | the base python:3.10-slim"


def test_a_distributions_image_becomes_its_bootstrapped_suite(tmp_path: Path) -> None:
    project, _ = init(tmp_path, FOLDERS["definition"])
    assert project.base == BootstrapBase(distribution="debian", suite="bookworm")
    assert str(project.python) == "3.11"


def test_without_a_word_about_it_python_is_a_choice_and_called_one(tmp_path: Path) -> None:
    project, _ = init(tmp_path, {"requirements.txt": "six\n"})
    assert str(project.python) == "3.11"
    assert "# a choice: bookworm's own" in (tmp_path / "reprobox.yaml").read_text()


def _say(value: str, *, exact: bool = True, file: str = "x") -> PythonSaid:
    return PythonSaid(value=value, place=Place(file=file), exact=exact)


@pytest.mark.parametrize(
    ("pythons", "image", "python", "base"),
    [
        ([], None, "3.11", "{bootstrap: debian, suite: bookworm}"),
        ([_say("3.12.4")], None, "3.12", "{bootstrap: ubuntu, suite: noble}"),
        ([_say("3.9")], None, "3.9", "python:3.9-slim"),
        ([_say(">=3.12,<4", exact=False)], None, "3.13", "{bootstrap: debian, suite: trixie}"),
        ([_say(">=3.14", exact=False)], None, "3.14", "python:3.14-slim"),
        ([_say(">=3.11", exact=False), _say("3.9")], None, "3.11", "{bootstrap: debian, suite: bookworm}"),
        ([_say("2.7.18"), _say("3.10")], None, "3.10", "{bootstrap: ubuntu, suite: jammy}"),
        ([_say("3.9")], "python:3.12.1-bookworm", "3.12", "python:3.12.1-bookworm"),
        ([], "host.example/lab/python:3.11", "3.11", "host.example/lab/python:3.11"),
        ([], "python:3.10-alpine", "3.10", "{bootstrap: ubuntu, suite: jammy}"),
        ([], "python:latest", "3.11", "{bootstrap: debian, suite: bookworm}"),
        ([], "pytorch/pytorch:2.1.0", "3.11", "{bootstrap: debian, suite: bookworm}"),
        ([], "ubuntu:22.04", "3.10", "{bootstrap: ubuntu, suite: jammy}"),
        ([], "nvidia/cuda:12.4.1-runtime-ubuntu24.04", "3.12", "{bootstrap: ubuntu, suite: noble}"),
        ([], "python:${VERSION}", "3.11", "{bootstrap: debian, suite: bookworm}"),
        ([_say(">=3.12", exact=False), _say("<3.9", exact=False)], None, "3.13", "{bootstrap: debian, suite: trixie}"),
        ([_say(">=4", exact=False)], None, "3.11", "{bootstrap: debian, suite: bookworm}"),
        ([_say(">=3.12", exact=False)], "python:3.10", "3.13", "{bootstrap: debian, suite: trixie}"),
    ],
)
def test_python_and_base_fit_each_other(pythons: list[PythonSaid], image: str | None, python: str, base: str) -> None:
    images = [Fact(value=image, place=Place(file="Dockerfile", line=1))] if image else []
    chosen = stand.choose(pythons, images)
    assert (chosen.python, chosen.base) == (python, base)


def test_pythons_that_disagree_are_told(tmp_path: Path) -> None:
    _, done = init(tmp_path, {"requirements.txt": "six\n", ".python-version": "3.12\n", "runtime.txt": "python-3.9\n"})
    assert said(done, "runtime.txt:1") == "says Python 3.9; 3.12 was taken (.python-version:1)"


def test_an_image_that_is_not_taken_is_named() -> None:
    chosen = stand.choose([], [Fact(value="pytorch/pytorch:2.1", place=Place(file="Dockerfile", line=1))])
    assert "pytorch/pytorch:2.1 was not taken" in chosen.notes[0].text
    chosen = stand.choose([], [Fact(value="nvidia/cuda:12.4.1-ubuntu22.04", place=Place(file="Dockerfile", line=1))])
    assert "no `cuda:` yet" in chosen.notes[0].text
    assert chosen.notes[0].lacking


def test_a_dockerfile_that_reprobox_rendered_says_nothing_about_the_project(tmp_path: Path) -> None:
    rendered = {
        "Dockerfile": f"# rendered by reprobox\n{DOCKERFILE}",
        "apptainer.def": "# rendered by reprobox\nBootstrap: docker\nFrom: python:3.9\n",
    }
    project, _ = init(tmp_path, {"requirements.txt": "six\n", **rendered})
    assert project.base == BootstrapBase(distribution="debian", suite="bookworm")


def test_system_packages_come_from_apt_without_versions_and_without_python_itself(tmp_path: Path) -> None:
    project, _ = init(tmp_path / "docker", FOLDERS["docker"])
    assert project.system == ("libgomp1", "git")
    project, _ = init(tmp_path / "binder", FOLDERS["binder"])
    assert project.system == ("libgl1",)


def test_python_packages_from_apt_are_named_as_missing(tmp_path: Path) -> None:
    files = {"requirements.txt": "six\n", "Dockerfile": "FROM debian:12\nRUN apt-get install -y python3-numpy\n"}
    project, done = init(tmp_path, files)
    assert project.system == ()
    assert "python3-numpy" in said(done, "Dockerfile:2")
    assert done.exit_code == 1


# --- the experiment --------------------------------------------------------------------------------


def test_the_command_of_a_dockerfile_is_taken_with_paths_of_the_folder(tmp_path: Path) -> None:
    project, _ = init(tmp_path, FOLDERS["docker"])
    assert project.smoke is not None
    assert project.smoke.command == ("python", "train.py", "--epochs", "3")
    assert [str(output.path) for output in project.smoke.outputs] == ["out/model.npz", "out/log.txt"]
    assert project.smoke.control == ("python", "train.py", "--epochs", "3", "--seed", "8")


def test_the_runscript_of_a_definition_file_is_taken(tmp_path: Path) -> None:
    project, _ = init(tmp_path, FOLDERS["definition"])
    assert project.smoke is not None
    assert project.smoke.command == ("python", "run.py", "--seed", "3")
    assert project.smoke.control == ("python", "run.py", "--seed", "4")


def test_a_readmes_line_is_a_command_but_without_outputs_the_section_stays_a_comment(tmp_path: Path) -> None:
    project, done = init(tmp_path, FOLDERS["environment"])
    text = (tmp_path / "reprobox.yaml").read_text()
    assert project.smoke is None
    assert "#   command: [python, fit.py, --seed=4]" in text
    assert "#   control: [python, fit.py, --seed=5]" in text
    assert "what it writes cannot be seen" in said(done, "fit.py")


def test_a_module_that_is_run_by_its_name_is_looked_into(tmp_path: Path) -> None:
    files = {
        "net/__init__.py": "",
        "net/fit.py": "open('m.json', 'w')\n",
        "Dockerfile": "FROM debian:12\nCMD python -m net.fit",
    }
    project, _ = init(tmp_path, files)
    assert project.smoke is not None
    assert [str(output.path) for output in project.smoke.outputs] == ["m.json"]


def test_the_commented_section_is_valid_once_it_is_uncommented(tmp_path: Path) -> None:
    init(tmp_path, FOLDERS["environment"])
    head, _, section = (tmp_path / "reprobox.yaml").read_text().partition("# smoke:")
    lines = [line.removeprefix("# ") for line in f"# smoke:{section}".splitlines()]
    project = config.loads((head + "\n".join(lines)).encode(), root=tmp_path)
    assert project.smoke is not None


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ('["bash"]', None),
        ('["jupyter", "lab"]', None),
        ("python -c 'print(1)'", None),
        ("python train.py > log.txt", None),
        ("python $SCRIPT", None),
        ("python missing.py", None),
        ("python setup.py install", None),
        ("uv run python -u train.py", ("python", "-u", "train.py")),
        ("python -m train", ("python", "-m", "train")),
        ("./code/train.py", None),
        ('["/usr/bin/python3.11", "/srv/train.py", "a b"]', ("python", "train.py", "a b")),
    ],
)
def test_only_commands_that_start_a_script_of_the_folder_are_taken(
    words: str, taken: tuple[str, ...] | None, tmp_path: Path
) -> None:
    root = make(tmp_path, {"train.py": "", "setup.py": "", "Dockerfile": f"FROM debian:12\nCMD {words}\n"})
    assert next((command.words for command in look.look(root).commands), None) == taken


def test_a_makefiles_recipe_is_a_command(tmp_path: Path) -> None:
    root = make(tmp_path, {"fit.py": "", "Makefile": "all:\n\t@$(PYTHON) fit.py --fast\n"})
    assert look.look(root).commands[0].words == ("python", "fit.py", "--fast")


@pytest.mark.parametrize(
    ("source", "outputs"),
    [
        ("open('out/a.txt', 'w')", ["out/a.txt"]),
        ("open('in/a.txt')", []),
        ("open('a.bin', mode='xb')", ["a.bin"]),
        ("np.save('out/x', a)", ["out/x.npy"]),
        ("df.to_csv('out/x.csv', index=False)", ["out/x.csv"]),
        ("torch.save(model, os.path.join('out', 'm.pt'))", ["out/m.pt"]),
        ("from pathlib import Path\nP = Path('out')\n(P / 'a' / 'b.json').write_text('')", ["out/a/b.json"]),
        ("import sys\nopen(sys.argv[1], 'w')", []),
        ("open(f'out/{n}.txt', 'w')", []),
        ("open('/tmp/x.txt', 'w')\nopen('../x', 'w')\nopen('~/x', 'w')", []),
        ("P = 'a.txt'\nP = 'b.txt'\nopen(P, 'w')", []),
        ("for p in x:\n    open(p, 'w')", []),
        ("os.makedirs('out')\nopen(f'out/{n}.txt', 'w')", ["out"]),
        ("from pathlib import Path\no = Path('out')\no.mkdir()\nplot(o / 'fig.svg')", ["out/fig.svg"]),
    ],
)
def test_outputs_are_the_literal_paths_that_a_script_writes(source: str, outputs: list[str], tmp_path: Path) -> None:
    root = make(tmp_path, {"run.py": source + "\n"})
    (script,) = look.look(root).scripts
    assert [fact.value for fact in script.outputs] == outputs


def test_outputs_inside_each_other_and_reproboxs_own_files_are_left_out(tmp_path: Path) -> None:
    source = (
        "import shutil\nopen('reprobox.lock', 'w')\nopen('Dockerfile', 'w')\nopen('a.x', 'w')\nopen('a.x/b', 'w')\n"
    )
    project, _ = init(tmp_path, {"run.py": source})
    assert project.smoke is not None
    assert [str(output.path) for output in project.smoke.outputs] == ["a.x"]


def test_several_scripts_that_may_start_it_are_named(tmp_path: Path) -> None:
    main = "if __name__ == '__main__':\n    pass\n"
    _, done = init(tmp_path, {"a.py": main, "b.py": main})
    assert "which script starts the experiment cannot be seen here: a.py, b.py" in said(done, "a.py")


# --- specifiers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poetry", "pep440"),
    [
        ("^1.2.3", ">=1.2.3,<2"), ("^1.2", ">=1.2,<2"), ("^1", ">=1,<2"), ("^0.2.3", ">=0.2.3,<0.3"),
        ("^0.0.3", ">=0.0.3,<0.0.4"), ("^0.0", ">=0.0,<0.1"), ("^0", ">=0,<1"), ("~1.2.3", ">=1.2.3,<1.3"),
        ("~1.2", ">=1.2,<1.3"), ("~1", ">=1,<2"), ("*", ""), ("1.2.*", "==1.2.*"), ("1.2.3", "==1.2.3"),
        ("=1.2", "==1.2"), (">=1.2,<2.0", ">=1.2,<2.0"), (">= 1.2, < 2", ">=1.2,<2"), (">=1 <2", ">=1,<2"),
        ("~=1.4", "~=1.4"), ("^1.0b2", ">=1.0b2,<2"), ("^1.2,!=1.3", ">=1.2,<2,!=1.3"), ("1.2 || 1.3", None),
        ("nonsense", None), ("2.1.0+cu118", "==2.1.0+cu118"),
    ],
)  # fmt: skip
def test_poetrys_constraints_become_pep_440(poetry: str, pep440: str | None) -> None:
    assert from_poetry(poetry) == pep440


@settings(max_examples=200, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    other=st.lists(st.integers(0, 30), min_size=1, max_size=4),
)
def test_a_caret_allows_what_keeps_the_first_number_that_is_not_zero(numbers: list[int], other: list[int]) -> None:
    text = from_poetry("^" + ".".join(map(str, numbers)))
    assert text is not None
    first = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
    low, candidate = Version(".".join(map(str, numbers))), Version(".".join(map(str, other)))
    same = [*other, 0, 0, 0, 0][: first + 1] == numbers[: first + 1]
    assert SpecifierSet(text).contains(candidate) == (candidate >= low and same)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_no_text_breaks_a_specifier(text: str) -> None:
    for read in (from_poetry, from_conda):
        read(text)


def test_condas_equals_sign_leaves_the_last_number_open() -> None:
    assert [from_conda(text) for text in ("=1.26", "1.26.*", "==1.26.4", ">=1,<2", "1|2")] == [
        "==1.26.*", "==1.26.*", "==1.26.4", ">=1,<2", None,
    ]  # fmt: skip


def test_a_line_is_asked_for_once() -> None:
    place = Place(file="Dockerfile", line=1)
    lines = tuple(Line(text=text, place=place) for text in ("Numpy==1", "numpy==2", "pip", "-r a.txt", "-r a.txt"))
    choice = requirements.choose(Findings(folder="x", installs=lines))
    assert [line for line in choice.files["requirements.in"].splitlines() if not line.startswith("#")] == [
        "Numpy==1  # Dockerfile:1", "-r a.txt  # Dockerfile:1",
    ]  # fmt: skip
