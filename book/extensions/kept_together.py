"""Sphinx extension: a formula keeps the punctuation that follows it on its line.

To a browser a formula in the text is a box, and a line may break behind a box: a full stop would
then stand alone at the start of the next line.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx

PUNCTUATION = re.compile(r"[.,;:!?)\]’”]+")


def keep_together(app: Sphinx, doctree: nodes.document) -> None:
    """Put each formula that is followed by punctuation into one inline element with it."""
    for formula in list(doctree.findall(nodes.math)):
        after = formula.parent.index(formula) + 1
        rest = formula.parent[after] if after < len(formula.parent) else None
        if isinstance(rest, nodes.Text) and (mark := PUNCTUATION.match(rest)):
            both = nodes.inline(classes=["fm-together"])
            formula.parent[after] = nodes.Text(rest[mark.end() :])
            formula.replace_self(both)
            both += [formula, nodes.Text(mark[0])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", keep_together)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
