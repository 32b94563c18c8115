"""The reference: that it has every public name, and how the names of Python become links."""

import pkgutil
import re
import sys
import warnings
import zlib
from importlib import import_module
from pathlib import Path

import pytest

import fmtutor
from fmtutor.cli import parser

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "book" / "extensions"))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of Sphinx
    import reference
    from sphinx.pycode import ModuleAnalyzer

PAGE = (ROOT / "book" / "reference.md").read_text("utf-8")
COMMANDS = (ROOT / "book" / "commands.md").read_text("utf-8")
LISTED = re.findall(r"automodule:: (\S+)", PAGE)
# What a user of the package does not import: see the page's first paragraph.
LEFT_OUT = re.compile(
    r"fmtutor\.(checking|cli|exercises.*|widgets\..*"
    r"|images\.(cli|__main__|arguments|batches|board|chunks|commands|data|download|evaluation|features|folder|inputs|journal"
    r"|judge|launch|parallel|prepare|processes|published|resume|run|shards))"
)


def modules():
    found = pkgutil.walk_packages(fmtutor.__path__, "fmtutor.")
    return [import_module(info.name) for info in found if not LEFT_OUT.fullmatch(info.name)]


def shown(module):
    """Whether the page lists a module, or a package that hands its names on."""
    package = module.__name__.rpartition(".")[0]
    return module.__name__ in LISTED or package in LISTED


def test_the_page_lists_every_module_once():
    missing = [m.__name__ for m in modules() if hasattr(m, "__all__") and not shown(m)]
    assert not missing, f"book/reference.md lacks {missing}"
    assert len(LISTED) == len(set(LISTED))


def test_the_package_hands_on_nothing_that_the_page_lacks():
    public = {id(getattr(import_module(name), key)) for name in LISTED for key in names(name)}
    for key in fmtutor.__all__:
        assert id(getattr(fmtutor, key)) in public, f"book/reference.md lacks {key}"


def names(module):
    return import_module(module).__all__


@pytest.mark.parametrize("module", LISTED)
def test_every_constant_has_a_docstring_below_it(module):
    # Without one it has no entry.
    described = {name for _, name in ModuleAnalyzer.for_module(module).find_attr_docs()}
    plain = {key for key in names(module) if not callable(getattr(import_module(module), key))}
    assert plain <= described


def inventory(path):
    content = path.read_bytes()
    head = b"".join(content.splitlines(keepends=True)[:4])
    lines = zlib.decompress(content[len(head) :]).decode("utf-8").splitlines()
    # A title of two lines makes a line of its own, which is no entry.
    entries = (line.split(" ")[:2] for line in lines)
    return head.decode(), {tuple(entry) for entry in entries if len(entry) == 2}


def test_other_books_can_link_to_every_name(site):
    head, entries = inventory(site / "objects.inv")
    assert f"# Version: {fmtutor.__version__}\n" in head
    python = {name for name, kind in entries if kind.startswith("py:")}
    assert not {f"{module}.{name}" for module in LISTED for name in names(module)} - python


NAMES = ["fmtutor.paths.CondOT", "fmtutor.paths.CondOT.sample", "fmtutor.solvers.sample",
         "fmtutor.networks.MLP.forward", "fmtutor.networks", "torch.Tensor"]  # fmt: skip


def test_an_entry_leads_to_its_own_chapter_or_that_of_its_module():
    def chapters(what, thing, *lines):
        lines = [*lines]
        reference.last_lines(None, what, "f", thing, None, lines)
        return [line.strip() for line in lines if ":Chapter:" in line]

    assert chapters("function", fmtutor.sample, "Follow.") == [":Chapter: :doc:`sampling`"]
    assert chapters("class", fmtutor.CondOT, "The path.") == [":Chapter: :doc:`paths`"]
    own = "Chapter: flows"
    assert chapters("function", fmtutor.sample, "Follow.", "", own) == [":Chapter: :doc:`flows`"]
    assert chapters("method", fmtutor.CondOT.sample, "Return the point.") == []


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("CondOT", "fmtutor.paths.CondOT"),
        ("fmtutor.paths.affine.CondOT", "fmtutor.paths.CondOT"),
        ("fmtutor.paths.affine.CondOT.sample", "fmtutor.paths.CondOT.sample"),
        ("sample", "fmtutor.solvers.sample"),
        ("fmtutor.networks", "fmtutor.networks"),
        # Not another class's method of this name.
        ("fmtutor.networks.unet.Block.forward", None),
        ("Tensor", None),
        ("dOT", None),
    ],
)
def test_an_entry_is_found_by_its_end(target, found):
    assert reference.entry(NAMES, target) == found


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("int", "https://docs.python.org/3/library/functions.html#int"),
        ("None", "https://docs.python.org/3/library/constants.html#None"),
        ("ValueError", "https://docs.python.org/3/library/exceptions.html#ValueError"),
        ("pathlib.Path", "https://docs.python.org/3/library/pathlib.html#pathlib.Path"),
        (
            "collections.abc.Callable",
            "https://docs.python.org/3/library/collections.abc.html#collections.abc.Callable",
        ),
        ("Tensor", "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor"),
        (
            "torch.dtype",
            "https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.dtype",
        ),
        (
            "nn.Module",
            "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html",
        ),
        (
            "matplotlib.axes._axes.Axes",
            "https://matplotlib.org/stable/api/_as_gen/matplotlib.axes.Axes.html",
        ),
        ("Tensr", None),
        ("nowhere.Tensor", None),
    ],
)
def test_outer_names_lead_to_their_documentation(target, address):
    assert reference.outer_address(target) == address


def test_the_last_lines_of_a_docstring_become_links():
    lines = ["Return σ'x0.", "", "Equation: eq-path", "Reference: a2020, b2021", "Chapter: paths"]
    reference.last_lines(None, "function", "f", None, None, lines)
    assert [line for line in lines if line] == [
        "Return σ′x0.",
        ":Equation: :eq:`eq-path`",
        ":Reference: :cite:t:`a2020`, :cite:t:`b2021`",
        ":Chapter: :doc:`paths`",
    ]
    assert lines[lines.index(":Equation: :eq:`eq-path`") - 1] == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("v(x, t, *cond), p_t(x|x1)", r"v(x, t, \*cond), p_t(x\|x1)"),
        ("`f(*cond)` and ``a | b`` * c", r"`f(*cond)` and ``a | b`` \* c"),
        ("`f(x,\n*cond)` * c", "`f(x,\n*cond)` \\* c"),
        (r":param \*labels: more", r":param \*labels: more"),
        (".. math:: p(x|y) * 2\n   |z|\n\nand |z|", ".. math:: p(x|y) * 2\n   |z|\n\nand \\|z\\|"),
        (">>> 2 * 3\n6 | 7\n\na * b", ">>> 2 * 3\n6 | 7\n\na \\* b"),
    ],
)
def test_text_is_text_and_code_is_code(text, read):
    lines = text.split("\n")
    reference.last_lines(None, "function", "f", None, None, lines)
    assert "\n".join(lines) == read


@pytest.mark.parametrize("what", ["data", "attribute"])
def test_the_docstring_of_a_constant_is_left_as_it_is(what):
    lines = ["Draws the times: `(x1, generator) -> t`."]
    reference.google(None, what, "f", None, None, lines)
    assert lines == ["Draws the times: `(x1, generator) -> t`."]


def test_the_page_of_commands_has_every_command_and_option():
    every = reference.commands(parser())
    assert re.findall(r"command:: (\S+)", COMMANDS) == [*every]
    for name, command in every.items():
        text = "\n".join(reference.describe(name, command))
        options = [o for action in command._actions for o in action.option_strings]
        for option in set(options) - {"-h", "--help"}:
            assert re.search(rf"^\.\. option:: (.*, )?{option}( |,|$)", text, re.MULTILINE)


def test_plain_text_stays_as_it_is():
    assert reference.plain("a *b* _c_ ` d\n  go on with --out x-y") == (
        r"a \*b\* \_c\_ \` d go on with ``--out`` x-y"
    )
    assert reference.plain("Twice the `width`. (default: None)") == "Twice the ``width``."
    assert reference.plain("The width. (default: 2)") == "The width. (default: 2)"
