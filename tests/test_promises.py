"""What the landing page promises of the text, held against the sources of the chapters."""

import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import notebooks  # noqa: E402

PAGES = [notebooks.BOOK / name for name in notebooks.toc_files()]
BLOCK = re.compile(r"^\s*`{3,}\{prf:(\w+)\}.*\n(?:\s*:label: (\S+))?", re.MULTILINE)
PROVED = {"theorem", "proposition", "lemma"}  # a corollary may say why within itself


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_each_theorem_is_followed_by_its_proof(page):
    blocks = [m.groups() for m in BLOCK.finditer(page.read_text("utf-8"))]
    blocks = [b for b in blocks if b[0] in PROVED | {"proof"}] + [("end", None)]
    unproved = [
        label
        for (kind, label), (following, _) in pairwise(blocks)
        if kind in PROVED and following != "proof"
    ]
    assert not unproved


def test_each_fact_of_analysis_has_a_source_and_a_check():
    text = (notebooks.BOOK / "analysis.md").read_text("utf-8")
    facts = re.split(r"^```\{prf:property\}", text, flags=re.MULTILINE)[1:]
    assert len(facts) > 8
    for fact in facts:
        statement, _, rest = fact.partition("\n```\n")
        name = statement.split("\n")[0].strip()
        assert "{cite}`" in statement, f"{name} has no source"
        assert "*Example.*" in rest, f"{name} has no example"
        assert "check(" in rest, f"{name} has no check"
