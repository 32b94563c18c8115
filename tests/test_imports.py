"""The direction of imports, what `import fmtutor` costs, and what every module owes its reader."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fmtutor

PACKAGE = Path(fmtutor.__file__).parent

# The level of each module: it may import from lower levels only (design.md).
LEVELS = {
    "checking": 0,
    "notation": 1,
    "manifolds": 1,
    "data": 2,
    "words": 2,
    "paths": 2,
    "predictions": 3,
    "clocks": 4,
    "exponential": 5,
    "networks": 2,
    "solvers": 2,
    "oracles": 3,
    "jumps": 4,
    "finite_law": 5,
    "manifold_oracles": 3,
    "entropic": 2,
    "branching": 2,
    "couplings": 3,
    "gaussian_bridge": 2,
    "exact_bridges": 4,
    "continuity": 3,
    "guidance": 3,
    "flow_maps": 3,
    "losses": 4,
    "few_steps": 5,
    "training": 5,
    "likelihood": 5,
    "metrics": 5,
    "maximum_likelihood": 6,
    "molecules": 6,
    "policies": 6,
    "bridges": 3,
    "bridge_losses": 5,
    "markovian_fitting": 6,
    "images": 7,
}
# No numerical module imports these. They may import whatever they show.
LEAVES = {"plotting", "widgets", "checks", "exercises", "cli", "watching"}


def module_files():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def part(path):
    """The name of the module or subpackage, directly below fmtutor, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """The modules of fmtutor that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            raise AssertionError(f"{path}: relative imports hide their direction")
        if isinstance(node, ast.ImportFrom) and node.module == "fmtutor":
            found |= {alias.name for alias in node.names}
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names.append(node.module)
        found |= {name.split(".")[1] for name in names if name.startswith("fmtutor.")}
    return found


def test_no_module_bears_the_name_of_one_of_the_standard_library():
    # It would take its place for whoever runs a program beside it: `import torch` would fail.
    names = {path.stem for path in module_files()} | {
        path.name for path in PACKAGE.rglob("*") if path.is_dir()
    }
    assert not names & sys.stdlib_module_names


@pytest.mark.parametrize("folder", [PACKAGE, PACKAGE / "widgets"], ids=lambda path: path.name)
def test_torch_can_be_imported_from_inside_the_package(folder):
    subprocess.run([sys.executable, "-c", "import torch"], cwd=folder, check=True)


files = pytest.mark.parametrize("path", module_files(), ids=lambda path: path.stem)


def test_every_module_has_its_place():
    parts = {part(path) for path in module_files()}
    assert parts <= LEVELS.keys() | LEAVES
    assert {"notation", "data", "paths", "oracles", "continuity", "losses", "networks"} <= parts
    assert {"solvers", "training", "metrics", "checks", "plotting"} <= parts


@files
def test_imports_run_one_way(path):
    here = part(path)
    if here in LEAVES:
        return
    for name in imported(path) - {here}:
        assert name not in LEAVES, f"{here} is numerical and must not import {name}"
        assert name in LEVELS, f"{here} imports {name} from the package itself"
        assert LEVELS[name] < LEVELS[here], f"{here} must not import {name}"


def test_the_package_itself_imports_no_heavy_leaf():
    assert imported(PACKAGE / "__init__.py") & LEAVES <= {"checks"}
    assert imported(PACKAGE / "checks.py") == set()


def test_importing_is_light():
    code = "import sys, fmtutor; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "fmtutor.training" in loaded
    for heavy in ("matplotlib", "torchdiffeq", "anywidget", "ipykernel", "sklearn", "torchvision"):
        assert heavy not in loaded, f"import fmtutor loads {heavy}"


@files
def test_all_lists_the_public_names_and_each_has_a_docstring(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    if path.stem.startswith("_"):
        return
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(module.__all__) == len(set(module.__all__))
    own = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == name
    }
    assert own <= set(module.__all__)
    for key in module.__all__:
        value = getattr(module, key)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert inspect.getdoc(value), f"{name}.{key} has no docstring"
        for member, f in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and inspect.isfunction(f):
                assert f.__doc__, f"{name}.{key}.{member} has no docstring"


@files
def test_functions_are_typed_in_full(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None, f"{path.name}: {node.name} has no return type"
            args = node.args
            given = [*args.posonlyargs, *args.args, *args.kwonlyargs]
            for argument in given[1:] if given[:1] and given[0].arg in ("self", "cls") else given:
                assert argument.annotation is not None, f"{path.name}: {node.name}({argument.arg})"


def test_the_public_names_of_the_design():
    promised = """
        CondOT VariancePreserving Cosine BridgePath AffinePath GaussianMixture EmpiricalField
        cfm_loss fm_loss fit FitResult sample check MLP VelocityField
    """
    for name in promised.split():
        assert name in fmtutor.__all__
        assert hasattr(fmtutor, name)
    assert sorted(fmtutor.__all__) == sorted(set(fmtutor.__all__))
    assert all(hasattr(fmtutor, name) for name in fmtutor.__all__)


def test_the_version_is_that_of_the_project():
    import tomllib

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    assert fmtutor.__version__ == project["version"]


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()
