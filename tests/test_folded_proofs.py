"""Blocks that fold away: the script that folds them needs a title in each."""

import io
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

EXTENSIONS = Path(__file__).resolve().parents[1] / "book" / "extensions"

PAGE = """\
Page
====

.. prf:proof::
   :class: dropdown

   *First,* a step.

   Then another.

.. prf:proof::
   :class: dropdown

   A second one.

.. prf:proof::

   In the open.

.. prf:lemma:: One
   :class: dropdown

   It has a title.
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(EXTENSIONS)])
    (tmp_path / "index.rst").write_text(PAGE, "utf-8")
    out = tmp_path / "out"
    app = Sphinx(
        tmp_path, None, out, out, "html", status=None, warning=io.StringIO(),
        confoverrides={"extensions": ["sphinx_proof", "folded_proofs"]},
    )  # fmt: skip
    app.build()
    return BeautifulSoup((out / "index.html").read_text("utf-8"), "html.parser")


def test_a_folded_proof_has_a_title_and_an_open_one_stays(page):
    folded, second, in_the_open, lemma = page.select("div.proof")
    assert folded.select_one("p.admonition-title").get_text() == "Proof"
    assert folded.get_text(" ", strip=True) == "Proof First, a step. Then another."
    assert [block.get("id") for block in (folded, second)] == [None, None]  # not one for both
    assert not in_the_open.select(".admonition-title")
    assert in_the_open.get_text(" ", strip=True) == "Proof. In the open."
    assert len(lemma.select(".admonition-title")) == 1


def test_every_folded_block_of_the_site_has_a_title(site):
    bare = {
        page.stem
        for page in site.glob("*.html")
        for block in BeautifulSoup(page.read_text("utf-8"), "html.parser").select(
            ".admonition.dropdown"
        )
        if block.find(class_="admonition-title", recursive=False) is None
    }
    assert not bare, f"the script that folds stops on these pages: {sorted(bare)}"
