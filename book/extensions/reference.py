"""Sphinx extension: what joins the reference, made from the docstrings, with the chapters.

- The last lines of a docstring (`Chapter:`, `Equation:`, `Reference:`) become links.
- What stands between single backticks is a link where it names an entry, else code.
- Types in signatures lead to their entries, those of Python and torch to their documentation.
- Code of the package that a chapter shows leads to its entry.
- `.. command:: train` lists the options of a command, from its parser.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.directives.code import LiteralInclude
from sphinx.ext.napoleon import Config as Style
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.docutils import SphinxDirective, SphinxRole

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "fmtutor"
STYLE: Any = Style(napoleon_use_ivar=True)

# How the last lines of a docstring are written in reStructuredText.
ROLES = {"Chapter": "doc", "Equation": "eq", "Reference": "cite:t"}
LINE = re.compile(rf"({'|'.join(ROLES)}): (.+)")

# What reStructuredText would take for markup (`*`, `|`), outside of code, formulas and examples.
MARKUP = re.compile(
    r"``[^`]+``|`[^`]*`|^( *)\.\. math::.*(?:\n(?:\1 +.*| *$))*|^ *>>>.*(?:\n *\S.*)*"
    r"|(?<!\\)([*|])",
    re.MULTILINE,
)

PYTHON = "https://docs.python.org/3/library"
TORCH = "https://docs.pytorch.org/docs/stable"
PLOT = "https://matplotlib.org/stable/api/_as_gen"
TRAITS = "https://traitlets.readthedocs.io/en/stable/api.html"
# How modules abbreviate names that Sphinx cannot follow, since it sees the annotation's text only.
SHORT = {"Tensor": "torch.Tensor", "nn.Module": "torch.nn.Module"}
# Where an outer name is documented: the first pattern that fits.
OUTER = [
    (r"None|True|False", f"{PYTHON}/constants.html#{{0}}"),
    (r"int|float|bool|callable|type", f"{PYTHON}/functions.html#{{0}}"),
    (r"str|bytes|list|tuple|dict|set", f"{PYTHON}/stdtypes.html#{{0}}"),
    (r"\w+(Error|Exception)|KeyboardInterrupt", f"{PYTHON}/exceptions.html#{{0}}"),
    (r"(abc|collections(\.abc)?|functools|pathlib|typing)\.\w+", f"{PYTHON}/{{1}}.html#{{0}}"),
    (r"torch\.(device|dtype)", f"{TORCH}/tensor_attributes.html#{{0}}"),
    (r"torch\.Tensor", f"{TORCH}/tensors.html#{{0}}"),
    (r"torch\..+", f"{TORCH}/generated/{{0}}.html"),
    (r"matplotlib\..+", f"{PLOT}/{{0}}.html"),
    (r"traitlets\..+", f"{TRAITS}#{{0}}"),
]


def google(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Read a docstring in Google's style.

    napoleon, as an extension, takes what stands before the first colon of a constant's docstring
    for its type, and overlooks the sections of a property's.
    """
    if what not in ("data", "attribute"):
        kind = "method" if what == "property" else what
        lines[:] = GoogleDocstring(lines, STYLE, app, kind, name, thing, options).lines()


def last_lines(
    _app: Sphinx, what: str, _name: str, thing: object, _options: object, lines: list[str]
) -> None:
    """Turn `Chapter: paths` and its like into fields with links; let the text be plain text.

    A class or a function that names no chapter has that of its module.
    """
    around = sys.modules.get(getattr(thing, "__module__", None) or "")
    chapter = re.search(r"^Chapter: .+$", getattr(around, "__doc__", None) or "", re.MULTILINE)
    named = any(line.startswith("Chapter: ") for line in lines)
    if what in ("class", "function") and chapter and not named:
        lines += ["", chapter[0]]
    for i, line in enumerate(lines):
        if found := LINE.fullmatch(line):
            word, keys = found.groups()
            links = ", ".join(f":{ROLES[word]}:`{key.strip()}`" for key in keys.split(","))
            # A field is told from the text before it by an empty line.
            lines[i] = f"\n:{word}: {links}"
        # A derivative, before Sphinx makes an apostrophe of it.
        lines[i] = re.sub(r"(?<=[α-ω])'", "′", lines[i])
    text = MARKUP.sub(lambda found: f"\\{found[2]}" if found[2] else found[0], "\n".join(lines))
    lines[:] = text.split("\n")


def skip_fields(
    _app: Sphinx, _what: str, _name: str, value: object, _skip: bool, _options: object
) -> bool | None:
    """Leave out the fields of a named tuple, which its docstring describes."""
    return True if (getattr(value, "__doc__", "") or "").startswith("Alias for field") else None


def skip_signature(
    _app: Sphinx, _what: str, _name: str, _value: object, _options: object, signature: str, _r: str
) -> tuple[str, str] | None:
    """Leave out a signature that says nothing: a live figure takes its traits, by name."""
    says_nothing = re.fullmatch(r"\(\*args: t\.Any, \*\*kwargs: t\.Any\)", signature or "")
    return ("", "") if says_nothing else None


class Named(SphinxRole):
    """Text between single backticks: a link to an entry of that name, else code."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        code = nodes.literal(self.rawtext, self.text, classes=["code"])
        if not re.fullmatch(r"[A-Za-z_][\w.]*", self.text):
            return [code], []
        link = addnodes.pending_xref("", code, refdomain="py", reftype="obj", word=True)
        link["reftarget"], link["refdoc"] = self.text, self.env.docname
        return [link], []


class LinkedInclude(LiteralInclude):
    """A `literalinclude` that says where the reference has what it shows."""

    def run(self) -> list[nodes.Node]:
        shown = super().run()
        path = Path(self.env.relfn2path(self.arguments[0])[1]).resolve()
        if "pyobject" not in self.options or not path.is_relative_to(ROOT / PACKAGE):
            return shown
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        name = self.options["pyobject"]
        link = addnodes.pending_xref("", nodes.literal("", name), refdomain="py", reftype="obj")
        link["reftarget"], link["refdoc"] = f"{module}.{name}", self.env.docname
        link["shown"] = True
        words = nodes.paragraph("", "In the reference: ", link, classes=["fm-entry"])
        return [*shown, words]


def entry(names: Iterable[str], target: str) -> str | None:
    """The documented name that ends like the target.

    A class is documented where readers import it from, `fmtutor.paths.CondOT`, and known to Python
    where it is written, `fmtutor.paths.affine.CondOT`. A method is found with its class only.
    """
    names = sorted((name for name in names if name.startswith(f"{PACKAGE}.")), key=len)
    parts = target.removeprefix(f"{PACKAGE}.").split(".")
    classes = (i for i, part in enumerate(parts) if part.lstrip("_")[:1].isupper())
    modules = next(classes, len(parts) - 1)
    endings = ("." + ".".join(parts[start:]) for start in range(modules + 1))
    return next((name for ending in endings for name in names if name.endswith(ending)), None)


def outer_address(target: str) -> str | None:
    """Where Python, torch or another library documents a name."""
    name = re.sub(r"\._\w+", "", SHORT.get(target, target))  # matplotlib.axes._axes.Axes
    fitting = (address for pattern, address in OUTER if re.fullmatch(pattern, name))
    return next((a.format(name, name.rpartition(".")[0]) for a in fitting), None)


def find_entry(app: Sphinx, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Resolve a name of Python that is not documented under exactly this name."""
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"]
    objects = env.get_domain("py").objects
    # A word in a docstring is taken for a name only where it can be imported: `x0` is an argument.
    kinds = ("class", "data", "exception", "function") if node.get("word") else None
    names = [name for name, item in objects.items() if not kinds or item.objtype in kinds]
    found, around = entry(names, target), target
    while node.get("shown") and not found and "." in around:
        around = around.rpartition(".")[0]  # of a private function: what it is a part of
        found = entry(names, around)
    if found:
        page, anchor = objects[found][:2]
        address = f"{app.builder.get_relative_uri(node['refdoc'], page)}#{anchor}"
        return nodes.reference("", "", content, internal=True, refuri=address, reftitle=found)
    if node.get("word") or target.startswith(f"{PACKAGE}."):  # not for users: nothing to lead to
        return content
    if outer := outer_address(target):
        return nodes.reference("", "", content, internal=False, refuri=outer, reftitle=target)
    return None


class Command(SphinxDirective):
    """The options of a command of `fmtutor`, from its parser."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from fmtutor.cli import parser

        name = self.arguments[0]
        self.env.note_dependency(str(ROOT / PACKAGE / "images" / "cli.py"))
        self.env.note_dependency(str(ROOT / PACKAGE / "images" / "config.py"))
        node = nodes.Element()
        lines = StringList([*describe(name, commands(parser())[name])], source=name)
        self.state.nested_parse(lines, self.content_offset, node)
        return [*node.children]


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (several,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(several.choices)


def describe(name: str, parser: argparse.ArgumentParser) -> Iterable[str]:
    """A command and its options in reStructuredText."""
    formatter = parser._get_formatter()
    yield from [f".. program:: fmtutor {name}", "", plain(parser.description or ""), ""]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = formatter._format_args(action, action.dest.upper())
        forms = [f"{form} {value}".strip() for form in action.option_strings] or [value]
        said = formatter._expand_help(action) if action.help else ""
        yield from [f".. option:: {', '.join(forms)}", "", f"   {plain(said)}", ""]
    if parser.epilog:
        yield from [
            ".. code-block:: text",
            "",
            *(f"   {line}" for line in parser.epilog.strip("\n").split("\n")),
            "",
        ]


def plain(text: str) -> str:
    """Text that reStructuredText leaves as it is, on one line, with options as code."""
    text = " ".join(text.removesuffix(" (default: None)").split())
    escaped = re.sub(r"([\\*`|_])", r"\\\1", text)
    return re.sub(r"(?<!\S)(--[\w-]+)|\\`(\w+)\\`", r"``\1\2``", escaped)


def set_version(_app: Sphinx, config: Config) -> None:
    """The site's version, in its footer and for other books' links, is the package's."""
    config.version = config.release = metadata.version(PACKAGE)
    config.html_theme_options["extra_footer"] = f"<p>{PACKAGE} {config.version}</p>"


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autodoc")
    app.add_role("named", Named())
    app.add_directive("literalinclude", LinkedInclude, override=True)
    app.add_directive("command", Command)
    app.connect("config-inited", set_version)
    app.connect("autodoc-process-docstring", google, priority=500)
    app.connect("autodoc-process-docstring", last_lines, priority=600)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-signature", skip_signature)
    app.connect("missing-reference", find_entry)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
