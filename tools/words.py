"""Count what a reader reads: the words of the main line of each built page, and of the quick way.

    python tools/words.py                 the site in _build/html
    python tools/words.py SITE            another one

Not counted is what folds, cells and their outputs, exercises, tables and figures; a formula is one
word. The last part of `_toc.yml`, which is looked up, has no bound of its own. Exits with 1 where
more words were found than a bound allows.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
LOOKED_UP = "Back matter"  # the part of `_toc.yml` that is no main line

BOUNDS = {"quickstart": 1200, "flows": 2200, "continuity": 2200, "paths": 2200}
BOUND = 3000  # of every other page
# The way of two hours. A page that has the mark `quick-NAME` belongs to it up to there.
QUICK = ("quickstart", "flows", "continuity", "marginal", "objectives", "training", "recipe")
QUICK_BOUND = 7000

ASIDE = (
    "details, .toggle, .dropdown, .cell, .exercise, .solution, .bibliography, .fm-live, "
    "pre, table, figure, script, style, a.headerlink, .eqno"
)
WORD = re.compile(r"[\w’'-]+")


def pages() -> list[str]:
    """The names of the pages with a main line, in reading order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    parts = [part for part in toc["parts"] if part["caption"] != LOOKED_UP]
    files = [toc["root"], *(entry["file"] for part in parts for entry in part["chapters"])]
    return [Path(file).stem for file in files]


def bound(name: str) -> int:
    """The number of words that the main line of a page may have."""
    return BOUNDS.get(name, BOUND)


def count(html: str, mark: str | None = None) -> int:
    """Count the words of a page's main line, up to the element with the id `mark` if it has one."""
    article = BeautifulSoup(html, "html.parser").find("article")
    if not isinstance(article, Tag):
        raise ValueError("the page must have an <article>, but has none")
    end = article.find(id=mark) if mark else None
    for later in [end, *end.next_elements] if isinstance(end, Tag) else []:
        later.extract()
    for aside in article.select(ASIDE):
        aside.extract()
    for formula in article.select(".math"):
        formula.replace_with(" formula ")
    return len(WORD.findall(article.get_text(" ")))


def main_line(site: Path, name: str) -> int:
    """Count the words of the main line of a built page."""
    return count((site / f"{name}.html").read_text("utf-8"))


def quick_way(site: Path) -> dict[str, int]:
    """Count the words of the quick way, page by page."""
    texts = {name: (site / f"{name}.html").read_text("utf-8") for name in QUICK}
    return {name: count(text, f"quick-{name}") for name, text in texts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", nargs="?", type=Path, default=SITE, help="default: _build/html")
    site = parser.parse_args().site
    quick = quick_way(site)
    rows = [(name, main_line(site, name), bound(name)) for name in pages()]
    rows.append(("the quick way", sum(quick.values()), QUICK_BOUND))
    for name, words, most in rows:
        print(f"{name:<20}{words:>6} of {most}{'   too many' if words > most else ''}")
    print("the quick way is", ", ".join(f"{name} {words}" for name, words in quick.items()))
    sys.exit(any(words > most for _, words, most in rows))


if __name__ == "__main__":
    main()
