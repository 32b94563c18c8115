"""What `fmtutor` does without a command; the commands are tested in test_images_cli.py."""

import tomllib
from pathlib import Path

import pytest

import fmtutor
from fmtutor.cli import main

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


@pytest.mark.parametrize("given", [[], ["-h"], ["--help"]])
def test_alone_it_prints_its_help(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: fmtutor")
    assert not said.err
    for word in ("pack", "train", "sample", "evaluate", "plot", "--version"):
        assert word in said.out


def test_its_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fmtutor {fmtutor.__version__}\n"


@pytest.mark.parametrize("given", [["paint"], ["--paint"]])
def test_what_it_does_not_know_is_wrong_usage(given, capsys):
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    assert "usage: fmtutor" in capsys.readouterr().err


def test_a_command_is_handed_on(tmp_path, capsys):
    assert main(["sample", str(tmp_path / "none")]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err


def test_the_installed_command_is_this_one():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    assert project["scripts"] == {"fmtutor": "fmtutor.cli:main"}
