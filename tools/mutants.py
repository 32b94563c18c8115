"""Mutation testing: put one small fault at a time into a module, and see whether its tests notice.

pytest collects the unit tests once. Each mutant is a fork of that process, in which the code of the
mutated module takes the place of the code that the collected tests hold. So a mutant costs no
import of torch: milliseconds where the first test fails, the time of the module's tests where none
does. CONTRIBUTING.md says what is mutated, and why the known survivors are harmless; pyproject.toml
names the modules and the score that they must reach. A module of a subpackage is named by its path,
like paths/affine.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import dataclasses
import inspect
import math
import os
import resource
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutants"]
SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
MEMORY = 8 * 2**30  # bytes that a mutant may allocate


# Making mutants.


class Mutant(NamedTuple):
    line: int
    before: str
    after: str
    code: CodeType


def mutants(source: str, filename: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines, no two alike."""
    tree = ast.parse(source)
    imported, seen = imported_names(tree), {ast.dump(tree)}
    for statement, node, parent, field, index in places(tree):
        before = first_line(statement)
        for other in replacements(node, parent, imported):
            put(parent, field, index, ast.copy_location(other, node))
            if (text := ast.dump(tree)) not in seen:
                seen.add(text)
                after = first_line(other if node is statement else statement)
                code = compile(ast.fix_missing_locations(tree), filename, "exec")
                yield Mutant(statement.lineno, before, after, code)
            put(parent, field, index, node)


def places(parent: ast.AST, statement: ast.stmt | None = None) -> Iterator[tuple[Any, ...]]:
    """Yield (statement, node, parent, field, index) for every node that may be mutated."""
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "bases", "decorator_list"):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(node, ast.AST) or only_words(node):
                continue
            inside = node if isinstance(node, ast.stmt) else statement
            yield inside, node, parent, field, index
            yield from places(node, inside)


def only_words(node: ast.AST) -> bool:
    """Whether a node is an import, a docstring, `__all__`, or the error that is raised."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Raise() | ast.JoinedStr():
            return True
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
    return False


def imported_names(tree: ast.Module) -> set[str]:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def put(parent: ast.AST, field: str, index: int, node: ast.AST) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[index] = node
    else:
        setattr(parent, field, node)


def first_line(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]


def replacements(node: ast.AST, parent: ast.AST, imported: set[str]) -> Iterator[ast.AST]:
    """Yield the faults that can be put in the place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(number) | float(number)):
            yield ast.Constant(number + 1)
            yield ast.Constant(number - 1)
        case ast.Constant(value=str(text)) if not isinstance(parent, ast.Call):
            yield ast.Constant(text + "?")
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield operand
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            yield from (changed(node, op=swap()) for swap in SWAPS.get(type(node.op), ()))
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                for swap in SWAPS[type(op)]:
                    yield changed(node, ops=[*ops[:i], swap(), *ops[i + 1 :]])
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            # The negation of a comparison is made above, that of a negation below.
            if not isinstance(test, ast.Compare | ast.UnaryOp):
                yield changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.With(body=body):
            yield ast.If(ast.Constant(True), body, [])
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Call():
            yield from call_replacements(node, imported)


def call_replacements(node: ast.Call, imported: set[str]) -> Iterator[ast.AST]:
    """Drop one argument of a call, or the call around what it is applied to."""
    match node.func:
        case ast.Name(id=name) if name in dir(builtins):
            return
        case ast.Attribute(value=value) if not (
            isinstance(value, ast.Name) and value.id in {*imported, "self"}
        ):
            yield value
        case ast.Name(id=name) if name[0].isupper():
            pass
        case _ if node.args and not isinstance(node.args[0], ast.Starred):
            yield node.args[0]
    for i, argument in enumerate(node.args):
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            yield changed(node, args=[*node.args[:i], *node.args[i + 1 :]])
    for i in range(len(node.keywords)):
        yield changed(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    return type(node)(**(dict(ast.iter_fields(node)) | fields))


# Putting a mutant in the place of the module.


def graft(module: ModuleType, code: CodeType) -> None:
    """Run the code of a module and hand what it defines to all who hold the module's objects."""
    new = {"__name__": module.__name__, "__file__": module.__file__}
    exec(code, new)
    for name, value in new.items():
        if name.startswith("__"):
            continue
        if getattr(value, "__module__", None) == module.__name__ or isinstance(value, dict):
            replace(getattr(module, name), value)
        else:
            setattr(module, name, value)


def replace(old: Any, new: Any) -> None:
    """Make an object behave like another one, in place, for every reference to it."""
    if new is old:  # a table of another module, imported by both
        return
    if hasattr(old, "cache_clear"):  # what was computed before there was a fault
        old.cache_clear()
    old, new = inspect.unwrap(old), inspect.unwrap(new)
    if inspect.isfunction(new):
        old.__code__, old.__defaults__ = new.__code__, new.__defaults__
        old.__kwdefaults__ = new.__kwdefaults__
    elif inspect.isclass(new):
        fields = getattr(new, "__dataclass_fields__", {})
        for name, value in vars(new).items():
            if inspect.isfunction(value):
                replace(vars(old)[name], value)
            elif name in fields:
                setattr(old, name, value)
    elif isinstance(new, dict):
        for key, value in [*new.items()]:
            if key in old:
                replace(old[key], value)
                new[key] = old[key]
        old.clear()
        old.update(new)
    elif dataclasses.is_dataclass(new):
        for field in dataclasses.fields(new):
            object.__setattr__(old, field.name, getattr(new, field.name))


# Running them.


def module_name(name: str) -> str:
    """Return the importable name of a module: fmtutor.paths.affine for paths/affine."""
    return f"fmtutor.{name.replace('/', '.')}"


def test_file(name: str) -> Path:
    """Return the tests of a module: tests/test_paths_affine.py, or those of the whole of paths/."""
    own = ROOT / "tests" / f"test_{name.replace('/', '_')}.py"
    folder, inside, _ = name.rpartition("/")
    return test_file(folder) if inside and not own.exists() else own


class Runner:
    """A pytest plugin that does not run the collected tests once, but once on every mutant."""

    def __init__(self, modules: list[str]) -> None:
        self.modules = modules
        self.failed = ""
        self.score: dict[str, tuple[int, int]] = {}

    def pytest_configure(self) -> None:
        # One failing example is enough: it need be neither shrunk nor explained.
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", settings.default, phases=phases)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        session.config.pluginmanager.unregister(name="terminalreporter")
        for name in self.modules:
            items = [item for item in session.items if item.path == test_file(name)]
            self.score[name] = self.module(import_module(module_name(name)), items)
        return True

    def module(self, module: ModuleType, items: list[pytest.Item]) -> tuple[int, int]:
        """Run the tests of a module on all its mutants, the fast tests first."""
        path, start = Path(str(module.__file__)), time.perf_counter()
        source = path.read_text("utf-8")
        # Unmutated, for the times of the tests, and because what they import stays imported.
        graft(module, compile(source, path, "exec"))
        seconds = dict(self.run(items))
        if self.failed:
            raise pytest.UsageError(f"without any mutant, {self.failed} fails")
        items.sort(key=seconds.__getitem__)
        limit, killed, total = math.ceil(10 + 5 * sum(seconds.values())), 0, 0
        for mutant in mutants(source, str(path)):
            total += 1
            if self.survives(module, mutant, items, limit):
                print(f"{path.name}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}")
            else:
                killed += 1
        took = time.perf_counter() - start
        print(f"{path.name}: {killed} of {total} killed in {took:.0f} s\n", flush=True)
        return killed, total

    def run(self, items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, float]]:
        """Run tests until one fails, and yield the seconds that each took."""
        for item in items:
            start = time.process_time()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            yield item, time.process_time() - start
            if self.failed:
                break

    def survives(
        self, module: ModuleType, mutant: Mutant, items: list[pytest.Item], limit: int
    ) -> bool:
        """Run tests on a mutant in a process of its own, for `limit` seconds of it at most."""
        sys.stdout.flush()
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.dup2(nowhere, sys.stderr.fileno())
            graft(module, mutant.code)
            all(self.run(items))
            os._exit(bool(self.failed))
        finally:  # an error: the mutant could not even be defined
            os._exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=CONFIG["modules"])
    modules = parser.parse_args().modules
    os.chdir(ROOT)
    runner = Runner(modules)
    files = dict.fromkeys(str(test_file(name)) for name in modules)
    options = ["-q", "-q", "-s", "--assert=plain", "--tb=no", "-p", "no:cacheprovider"]
    status = pytest.main([*options, *files], plugins=[runner])
    if status:
        return int(status)
    for name, (killed, total) in runner.score.items():
        print(f"{name:24} {killed:5} of {total:5} killed: {100 * killed / total:.1f} %")
    killed, total = (sum(column) for column in zip(*runner.score.values(), strict=True))
    print(f"{'all':24} {killed:5} of {total:5} killed: {100 * killed / total:.1f} %")
    return int(100 * killed < CONFIG["minimum"] * total)


if __name__ == "__main__":
    sys.exit(main())
