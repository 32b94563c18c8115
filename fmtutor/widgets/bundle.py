"""A figure's program and style, put together from their files.

A widget's program is one ES module: it has no address that an import could be relative to, and a
page without a network has none to fetch from. So the modules that a figure imports are put before
it, each once and after those that it imports itself.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

__all__ = ["joined_module", "joined_style", "needed_modules"]

_IMPORT = re.compile(r'^import\s*\{[^}]*\}\s*from\s*"\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default\b)", re.MULTILINE)
_TOP_NAME = re.compile(
    r"^(?:export )?(?:async )?(?:function\*?|class|const|let) (\w+)", re.MULTILINE
)
_DOCUMENTATION = re.compile(r"^ */\*\*.*?\*/\n", re.MULTILINE | re.DOTALL)


@cache
def _read(name: str) -> str:
    return resources.files("fmtutor.widgets").joinpath(name).read_text("utf-8")


def needed_modules(name: str) -> list[str]:
    """Return the modules that one needs, itself the last, each after those that it imports.

    Args:
        name: The stem of a file in `js/`.

    Raises:
        ValueError: If modules import each other in a circle.
    """
    order: list[str] = []

    def visit(module: str, above: tuple[str, ...]) -> None:
        if module in above:
            raise ValueError(f"modules import in a circle: {' -> '.join((*above, module))}")
        if module in order:
            return
        for imported in _IMPORT.findall(_read(f"js/{module}.js")):
            visit(imported, (*above, module))
        order.append(module)

    visit(name, ())
    return order


@cache
def joined_module(name: str) -> str:
    """Return a figure and all that it imports as one ES module, without the documentation.

    Args:
        name: The stem of the figure's file in `js/`.

    Returns:
        The source.

    Raises:
        ValueError: If a module imports in another form than `import { a } from "./b.js";`, or two
            modules have a name in common.
    """
    owner: dict[str, str] = {}
    parts = []
    for module in needed_modules(name):
        source = _IMPORT.sub("", _read(f"js/{module}.js"))
        if re.search(r"^import\b", source, re.MULTILINE):
            raise ValueError(
                f'{module}.js must import by `import {{ ... }} from "./NAME.js";` alone'
            )
        for top in _TOP_NAME.findall(source):
            if top in owner:
                raise ValueError(f"{owner[top]}.js and {module}.js both have the name {top}")
            owner[top] = module
        parts.append(_EXPORT.sub("", _DOCUMENTATION.sub("", source)).strip())
    return "\n".join(parts) + "\n"


@cache
def joined_style(name: str) -> str:
    """Return base.css, with a figure's own style sheet behind it where it has one."""
    own = resources.files("fmtutor.widgets").joinpath(f"{name}.css")
    return _read("base.css") + (own.read_text("utf-8") if own.is_file() else "")
