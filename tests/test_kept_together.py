"""A formula and the punctuation behind it stay on one line."""

import sys
from pathlib import Path

import pytest
from docutils import nodes

sys.path.append(str(Path(__file__).resolve().parents[1] / "book" / "extensions"))

from kept_together import keep_together


@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        (["So ", "$x", "."], ["x."]),
        (["$x", ", and (", "$y", "); then ", "$z", ": all."], ["x,", "y);", "z:"]),
        (["In ", "$x", " alone, or ", "$y", "-fold ", "$z"], []),
        (["$x", "$y", "."], ["y."]),
        (["$x", ".", "$x", ", once more"], ["x.", "x,"]),
    ],
)
def test_punctuation_is_kept_with_its_formula_and_no_word_is_lost(parts, kept):
    made = [nodes.math(p[1:], p[1:]) if p[0] == "$" else nodes.Text(p) for p in parts]
    paragraph = nodes.paragraph("", "", *made)
    before = paragraph.astext()
    keep_together(None, paragraph)
    assert [node.astext() for node in paragraph.findall(nodes.inline)] == kept
    assert all(node["classes"] == ["fm-together"] for node in paragraph.findall(nodes.inline))
    assert paragraph.astext() == before
