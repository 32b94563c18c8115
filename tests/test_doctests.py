"""The examples in the docstrings, run after `import torch` and `from fmtutor import *`.

The samplers of `fmtutor.data` and the names of an example's own module are there, too.
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
import fmtutor.data

# The modules of which every public name has an example, beside what `fmtutor` itself names.
DONE = (
    *("checking", "checks", "continuity", "couplings", "data", "guidance", "likelihood", "losses"),
    *("manifold_oracles", "manifolds.flat", "manifolds.product", "manifolds.protocol"),
    *("manifolds.rotations", "manifolds.sphere", "networks.tangent", "paths.geodesic"),
    *("maximum_likelihood", "metrics", "networks.embedding", "networks.mlp"),
    *("networks.mlp_divergence", "notation", "oracles", "paths.affine", "paths.bridge", "solvers"),
    *("training", "exercises.grading", "exercises.results", "plotting"),
)

PACKAGE = Path(fmtutor.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


def public(module):
    return {name: getattr(module, name) for name in module.__all__}


@pytest.fixture(autouse=True)
def nothing_is_left():
    with mpl.rc_context(), torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    plt.close("all")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name):
    module = importlib.import_module(name)
    known = {"torch": torch, **public(fmtutor), **public(fmtutor.data), **public(module)}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report = []
    for example in doctest.DocTestFinder().find(module, globs=known):
        runner.run(example, out=report.append)
    assert runner.tries > 0
    assert not runner.failures, "".join(report)


def owed():
    """The public functions and classes of these modules, but errors and protocols."""
    found = {f"fmtutor.{key}": value for key, value in public(fmtutor).items()}
    for name in DONE:
        module = public(importlib.import_module(f"fmtutor.{name}"))
        found |= {f"{name}.{key}": value for key, value in module.items()}
    for name, value in found.items():
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        error = inspect.isclass(value) and issubclass(value, Exception)
        if not error and not getattr(value, "_is_protocol", False):
            yield pytest.param(value, id=name)


@pytest.mark.parametrize("value", list(owed()))
def test_every_public_name_has_an_example(value):
    assert ">>> " in inspect.getdoc(value)
