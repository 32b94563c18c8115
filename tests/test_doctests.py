"""The examples in the docstrings, run after `import torch` and `from fmtutor import *`.

The names of an example's own module are there, too.
"""

import doctest
import importlib
import inspect
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

import fmtutor

# The modules of which every public name has an example.
DONE = ("checks", "data", "exercises.grading", "exercises.results", "plotting")

PACKAGE = Path(fmtutor.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


def public(module):
    return {name: getattr(module, name) for name in module.__all__}


@pytest.fixture(autouse=True)
def figures_are_closed():
    with mpl.rc_context():
        yield
    plt.close("all")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name):
    module = importlib.import_module(name)
    known = {"torch": torch, **public(fmtutor), **public(module)}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report = []
    for example in doctest.DocTestFinder().find(module, globs=known):
        runner.run(example, out=report.append)
    assert runner.tries > 0
    assert not runner.failures, "".join(report)


def owed():
    """The public functions and classes of the modules that are done, but errors."""
    for name in DONE:
        for key, value in public(importlib.import_module(f"fmtutor.{name}")).items():
            error = inspect.isclass(value) and issubclass(value, Exception)
            if (inspect.isclass(value) or inspect.isfunction(value)) and not error:
                yield pytest.param(value, id=f"{name}.{key}")


@pytest.mark.parametrize("value", list(owed()))
def test_every_public_name_has_an_example(value):
    assert ">>> " in inspect.getdoc(value)
