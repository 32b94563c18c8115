"""What the docstrings promise: labels, references and chapters exist, arguments are named."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

import fmtutor

ROOT = Path(fmtutor.__file__).parent.parent
BOOK = ROOT / "book"
LEAVES = ("exercises", "plotting")
# They owe nothing, but what they say is true.
FREE = ("fmtutor.images", "fmtutor.widgets", "fmtutor.networks.unet")

# What the package's docstring says of an argument wherever it occurs.
SAID_ONCE = {"t", "cond", "seed", "generator"}

SECTIONS = [
    *("Args", "Attributes", "Returns", "Yields", "Raises"),
    *("Equation", "Reference", "Chapter", "Example"),
]
SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):", re.MULTILINE)


def labels():
    text = "\n".join(path.read_text("utf-8") for path in BOOK.glob("*.md"))
    return set(re.findall(r"^\s*:label: (eq-[\w-]+)$|\$\$ \((eq-[\w-]+)\)$", text, re.MULTILINE))


LABELS = {name for pair in labels() for name in pair if name}
KEYS = set(re.findall(r"^@\w+\{([\w-]+),$", (BOOK / "references.bib").read_text("utf-8"), re.M))
CHAPTERS = {
    chapter["file"].removesuffix(".md")
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]
    for chapter in part["chapters"]
}


def modules():
    package = Path(fmtutor.__file__).parent
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if path.stem != "__main__" and parts[1] not in LEAVES:
            yield importlib.import_module(".".join(parts).removesuffix(".__init__"))


def own(module):
    """The public functions and classes that a module defines."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        defined = getattr(value, "__module__", None) == module.__name__
        if defined and (inspect.isclass(value) or inspect.isfunction(value)):
            yield f"{module.__name__.removeprefix('fmtutor.')}.{name}", value


def core():
    return [module for module in modules() if not module.__name__.startswith(FREE)]


def docstrings(module):
    """Every public docstring of a module: its own, of its names, of their methods."""
    yield module.__name__, inspect.getdoc(module)
    for name, value in own(module):
        yield name, inspect.getdoc(value)
        for key, method in vars(value).items() if inspect.isclass(value) else ():
            if not key.startswith("_") and inspect.isfunction(method):
                yield f"{name}.{key}", inspect.getdoc(method) or ""


each = pytest.mark.parametrize("module", [*modules()], ids=lambda module: module.__name__)


def named(doc, section):
    """The comma-separated names after a section's colon."""
    found = re.findall(rf"^{section}: (.+)$", doc, re.MULTILINE)
    return [name.strip() for line in found for name in line.split(",")]


def problems(doc):
    """What is wrong with a docstring by itself."""
    for section, known in (("Equation", LABELS), ("Reference", KEYS), ("Chapter", CHAPTERS)):
        yield from (f"{section}: {name}" for name in named(doc, section) if name not in known)
    order = [SECTIONS.index(section) for section in SECTION.findall(doc)]
    if order != sorted(set(order)):
        yield "the order of " + ", ".join(SECTION.findall(doc))


def unnamed(function, doc, around=""):
    """The arguments of a function that its docstring does not name.

    An `Args:` block names them itself; without one the text does, or that of the module around it.
    A function may leave to another what both take.
    """
    given = set(inspect.signature(function).parameters) - SAID_ONCE
    for other in re.findall(r"not named here are those of `(\w+)`", " ".join(doc.split())):
        given -= set(inspect.signature(NAMES[other]).parameters)
    block = re.search(r"^Args:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
    if block:
        return given - set(re.findall(r"^    (\w+):", block[1], re.MULTILINE))
    if function.__module__.startswith(FREE):
        return set()
    text = doc.partition("Example:")[0] + around
    return {name for name in given if not re.search(rf"(?<!\w){name}(?!\w)", text)}


def test_the_book_is_read():
    assert {"eq-continuity", "eq-flows-ode"} <= LABELS
    assert {"lipman2023", "hairer1993"} <= KEYS
    assert {"quickstart", "images"} <= CHAPTERS


NAMES = {name.rpartition(".")[2]: value for module in core() for name, value in own(module)}


@each
def test_what_a_docstring_refers_to_exists_and_stands_in_order(module):
    found = {name: [*problems(doc)] for name, doc in docstrings(module)}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@each
def test_every_argument_is_named(module):
    found = {
        name: unnamed(value, inspect.getdoc(value), inspect.getdoc(module))
        for name, value in own(module)
        if inspect.isfunction(value)
    }
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_there_is_something_to_check():
    text = "\n".join(doc for module in core() for _, doc in docstrings(module))
    assert len(named(text, "Equation")) > 25
    assert len(named(text, "Reference")) > 25
    assert text.count("\nArgs:\n") > 5


def test_the_package_says_what_is_not_said_again():
    assert all(f"`{name}`" in fmtutor.__doc__ for name in SAID_ONCE)


@pytest.mark.parametrize("module", core(), ids=lambda module: module.__name__)
def test_every_name_has_a_chapter(module):
    if not named(inspect.getdoc(module), "Chapter"):
        missing = [
            name for name, value in own(module) if not named(inspect.getdoc(value), "Chapter")
        ]
        assert not missing


@pytest.mark.parametrize(
    ("doc", "problem"),
    [
        ("Say.\n\nEquation: eq-flows-ode, eq-flows-nothing", "Equation: eq-flows-nothing"),
        ("Say.\n\nReference: nobody1900", "Reference: nobody1900"),
        ("Say.\n\nChapter: conclusions", "Chapter: conclusions"),
        ("Say.\n\nChapter: paths\nEquation: eq-flows-ode", "the order of Chapter, Equation"),
        ("Say.\n\nExample:\n    >>> 1\n\nChapter: paths", "the order of Example, Chapter"),
        ("Say.\n\nArgs:\n    x: A.\n\nArgs:\n    y: B.", "the order of Args, Args"),
    ],
)
def test_the_checks_see_a_wrong_docstring(doc, problem):
    assert [*problems(doc)] == [problem]


@pytest.mark.parametrize(
    ("doc", "missing"),
    [
        ("Say.\n\nArgs:\n    x: Points, with y.", {"y"}),
        ("Say.\n\nArgs:\n    x: Points.\n    y: Others.", set()),
        ("Say how x.\n\nExample:\n    >>> say(x, y)", {"y"}),
        ("Say. Arguments not named here are those of `align_time`.", {"y"}),
    ],
)
def test_the_checks_see_a_missing_argument(doc, missing):
    assert unnamed(lambda x, y, seed=None: None, doc) == missing
