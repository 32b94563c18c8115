"""The mutation testing of tools/mutants.py: the faults that it makes, and where it puts them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import mutants  # noqa: E402


def faults(source):
    return [mutant.after for mutant in mutants.mutants(source, "x.py")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = 2", ["a = 3", "a = 1"]),
        ("a = True", ["a = False"]),
        ("a = 'rk4'", ["a = 'rk4?'"]),
        ("a = -b", ["a = b"]),
        ("a = b + c", ["a = b - c"]),
        ("a = b / c", ["a = b * c"]),
        ("a = b ** c", ["a = b * c"]),
        ("a = b and c", ["a = b or c"]),
        ("a = b < c", ["a = b <= c", "a = b >= c"]),
        ("a += b", ["a -= b"]),
        ("a = b if c else d", ["a = b if not c else d"]),
        ("a = f(b, c=d)", ["a = b", "a = f(c=d)", "a = f(b)"]),
        ("a = b.sqrt()", ["a = b"]),
        ("import torch\na = torch.sqrt(b)", ["a = b", "a = torch.sqrt()"]),
        ("a = Path(b)", ["a = Path()"]),
        ("a = len(b)", []),
        ("a = f(b, 'its name')", ["a = b", "a = f('its name')"]),
        ("f(b)", ["pass", "b", "f()"]),
        ("with f():\n    a", ["if True:"]),
        (
            "def f(a: int = 3):\n    return a",
            ["def f(a: int=4):", "def f(a: int=2):", "return None"],
        ),
    ],
)
def test_the_faults_of_each_kind(source, expected):
    assert faults(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "import a as b",
        "def f(a: Literal['x', 3]) -> Literal[4]:\n    '''Return 5.'''",
        "@dataclass(frozen=True)\nclass A:\n    a: int",
        "__all__ = ['a']",
        "raise ValueError(f'{a + 1} came')",
    ],
)
def test_words_are_left_alone(source):
    assert faults(source) == []


@pytest.mark.parametrize(
    ("name", "module", "tests"),
    [
        ("data", "fmtutor.data", "test_data.py"),
        ("nowhere", "fmtutor.nowhere", "test_nowhere.py"),
        ("networks/unet", "fmtutor.networks.unet", "test_networks_unet.py"),
        ("paths/nowhere", "fmtutor.paths.nowhere", "test_paths.py"),
    ],
)
def test_a_module_of_a_subpackage_has_its_own_tests_or_those_of_the_whole(name, module, tests):
    assert mutants.module_name(name) == module
    assert mutants.test_file(name) == ROOT / "tests" / tests


ORIGINAL = """
from dataclasses import dataclass
from functools import lru_cache

@lru_cache
def corners(sides=4):
    return sides + 0

@dataclass(frozen=True)
class Square:
    side: float = 2.0

    def area(self):
        return self.side**2

SQUARES = {"unit": Square(1.0)}

def area(side=3.0):
    def inside():
        return Square(side).area()

    return inside()
"""


def test_a_table_of_another_module_is_left_as_it_is(monkeypatch):
    source = "from shelf import TABLE"
    shelf, module = ModuleType("shelf"), ModuleType("shapes")
    shelf.TABLE = {"unit": 1}
    module.__file__ = "shapes.py"
    monkeypatch.setitem(sys.modules, "shelf", shelf)
    exec(source, vars(module))
    mutants.graft(module, compile(source, "shapes.py", "exec"))
    assert shelf.TABLE == {"unit": 1}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("**2", "**3", (8.0, 27.0, 1.0)),
        ("= 2.0", "= 5.0", (25.0, 9.0, 1.0)),
        ("=3.0", "=4.0", (4.0, 16.0, 1.0)),
        ("(1.0)", "(7.0)", (4.0, 9.0, 49.0)),
        ("", "", (4.0, 9.0, 1.0)),
    ],
)
def test_a_fault_reaches_all_who_hold_an_object_of_the_module(old, new, expected, monkeypatch):
    module = ModuleType("shapes")
    monkeypatch.setitem(sys.modules, "shapes", module)
    module.__file__ = "shapes.py"
    exec(ORIGINAL, vars(module))
    Square, area, unit = module.Square, module.area, module.SQUARES["unit"]
    mutants.graft(module, compile(ORIGINAL.replace(old, new), "shapes.py", "exec"))
    assert (Square().area(), area(), unit.area()) == expected


def test_a_fault_reaches_a_function_that_remembers(monkeypatch):
    module = ModuleType("shapes")
    monkeypatch.setitem(sys.modules, "shapes", module)
    module.__file__ = "shapes.py"
    exec(ORIGINAL, vars(module))
    corners = module.corners
    assert corners() == 4
    mutants.graft(module, compile(ORIGINAL.replace("sides + 0", "sides - 1"), "shapes.py", "exec"))
    assert corners() == 3
