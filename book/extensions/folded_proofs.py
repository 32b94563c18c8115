"""Sphinx extension: proofs that fold away.

The button of a folded block stands in its title. A proof has none: sphinx-proof writes "Proof. "
in front of its first line, and the script that folds, which finds no title, stops and leaves
every block of the page open. Here a folded proof gets its title. It also loses its id, which all
proofs of a page share: the script finds a block by it.
"""

from docutils import nodes
from sphinx.application import Sphinx

TITLE = "Proof"


def give_titles(app: Sphinx, doctree: nodes.document) -> None:
    """Turn the first word of each folded proof into its title."""
    for block in doctree.findall(nodes.admonition):
        if {"proof", "dropdown"} <= set(block["classes"]) and not isinstance(
            block.next_node(), nodes.title
        ):
            first = next(iter(block.findall(nodes.Text)), None)
            if first is not None and first.startswith(f"{TITLE}. "):
                first.parent.replace(first, nodes.Text(first.removeprefix(f"{TITLE}. ")))
                block.insert(0, nodes.title("", TITLE))
                block["ids"] = []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", give_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
