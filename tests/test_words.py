"""The length of the book: what counts as a word, and the bounds that the built pages keep."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import words  # noqa: E402

PAGE = "<body><nav>not these words</nav><article>{}</article><p>nor these</p></body>"


@pytest.mark.parametrize(
    ("inside", "count"),
    [
        ("<p>One, two; the reader’s three-fold 4.</p>", 6),
        ('<h2>Two words<a class="headerlink" href="#x">#</a></h2>', 2),
        ('<p>As <span class="math">\\(x^2 + y\\)</span> says</p>', 3),
        ('<div class="math">a = b</div><p><a href="#">(1)</a> is <b>bold</b></p>', 4),
        ("<p>Seen</p><details><summary>More</summary><p>folded</p></details>", 1),
        ('<p>Seen</p><div class="proof toggle"><div class="cell">x</div></div>', 1),
        ('<div class="cell"><pre>code()</pre><figure><img>caption</figure></div>', 0),
        ('<div class="exercise">Do</div><div class="solution">it</div><table><tr>1</table>', 0),
        ('<p>Before <i id="end">and</i> after</p><p>later</p>', 4),
    ],
)
def test_what_counts(inside, count):
    assert words.count(PAGE.format(inside)) == count


@pytest.mark.parametrize("mark", ['<div id="quick-x">go on</div>', '<span id="quick-x"></span>'])
def test_the_quick_way_ends_at_its_mark(mark):
    inside = f"<section><p>These count.</p>{mark}not<p>these <b>four</b></p></section>words"
    page = PAGE.format(inside)
    assert words.count(page, "quick-x") == 2
    assert words.count(page, "quick-y") == words.count(page) >= 6


def test_a_page_without_an_article_is_refused():
    with pytest.raises(ValueError, match="must have an <article>"):
        words.count("<p>words</p>")


def test_the_pages_are_those_that_are_read_and_not_looked_up():
    pages = words.pages()
    assert {"index", "flows", "images"} < set(pages)
    assert not {"recipe", "reference", "commands", "notation"} & set(pages)
    assert set(words.BOUNDS) <= set(pages)
    assert (words.bound("quickstart"), words.bound("flows"), words.bound("guidance")) == (
        *(1200, 2200),
        3000,
    )


def test_the_command_lists_all_pages_and_fails_where_there_are_too_many_words(tmp_path):
    for name in {*words.pages(), *words.QUICK}:
        text = "word " * (1201 if name == "quickstart" else 10)
        (tmp_path / f"{name}.html").write_text(PAGE.format(text), "utf-8")
    run = [sys.executable, "tools/words.py", str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    too_many = [line.split()[0] for line in done.stdout.splitlines() if "too many" in line]
    assert too_many == ["quickstart"]
    assert f"the quick way         {1201 + 60} of 7000" in done.stdout


@pytest.mark.parametrize("name", words.pages())
def test_a_main_line_keeps_its_bound(site, name):
    assert 0 < words.main_line(site, name) <= words.bound(name)


def test_the_quick_way_is_read_in_two_hours(site):
    quick = words.quick_way(site)
    assert all(quick.values()), quick
    assert sum(quick.values()) <= words.QUICK_BOUND, quick
    # Of these only the opening is on it: the mark is on the page.
    for name in ("flows", "continuity"):
        assert quick[name] < words.main_line(site, name), name
