"""One list of dependencies in three places: pyproject.toml is the source, two files follow it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

# What conda-forge calls otherwise.
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}


def by_name(requirements):
    parsed = map(Requirement, requirements)
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


RUNTIME = by_name(PROJECT["dependencies"])
BOOK = by_name(EXTRAS["book"]) | by_name(EXTRAS["notebooks"]) | by_name(EXTRAS["images"])
EVERY = RUNTIME | BOOK | by_name(EXTRAS["dev"])


def constraints():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return by_name(line for line in lines if line and not line.startswith("#"))


def environment():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    conda = [entry for entry in dependencies if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [e for e in conda if not e.startswith("python=")], pip


def conda_name(name):
    return CONDA_NAMES.get(name, name)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_constraints_pin_every_dependency(name):
    pins = constraints()
    assert name in pins, f"constraints.txt does not pin {name}"
    (pin,) = pins[name].specifier
    assert pin.operator == "=="
    assert EVERY[name].specifier.contains(pin.version), f"{pins[name]} is outside {EVERY[name]}"


def test_constraints_are_exact_versions():
    for requirement in constraints().values():
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert "+" not in pin.version, f"{requirement} names a build that no registry has"


@pytest.mark.parametrize("name", sorted(RUNTIME | BOOK))
def test_conda_environment_has_every_dependency(name):
    conda, pip = environment()
    listed = by_name(conda) | by_name(entry for entry in pip if not entry.startswith("--"))
    assert conda_name(name) in listed, f"environment.yml lacks {name}"
    found, wanted = listed[conda_name(name)].specifier, EVERY[name].specifier
    assert found == wanted, f"environment.yml asks for {name}{found}, pyproject.toml for {wanted}"


def test_conda_environment_lists_nothing_else():
    conda, pip = environment()
    wanted = {conda_name(name) for name in EVERY} | {"pip"}
    assert set(by_name(conda)) <= wanted
    assert "--editable ." in pip, "Binder must find the package"


def test_wheel_carries_the_type_marker_and_data_files():
    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert "fmtutor/py.typed" in packed
    data = (".js", ".mjs", ".css", ".json", ".npy", ".safetensors", ".png")
    files = (path for path in (ROOT / "fmtutor").rglob("*") if path.suffix in data)
    missing = {path.relative_to(ROOT).as_posix() for path in files} - packed
    assert not missing, f"the wheel lacks {sorted(missing)}"


def test_every_command_of_continuous_integration_exists():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    files = [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / ".ci" / "run"]
    for file in files:
        text = file.read_text("utf-8")
        for target in re.findall(r"\bmake ([a-z]+)$", text, re.MULTILINE):
            assert f"\n{target}: " in makefile, f"{file.name} asks for `make {target}`"
        for script in re.findall(r"\.ci/\w+|book/extensions/\w+\.py", text):
            assert (ROOT / script).is_file(), f"{file.name} runs {script}"
        if file.suffix == ".yml":
            jobs = yaml.safe_load(text)["jobs"]
            for job in jobs.values():
                needed = job.get("needs", [])
                assert {*([needed] if isinstance(needed, str) else needed)} <= jobs.keys()
