"""Live figures on a page that Sphinx built: the picture, the space, the host."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import DESKTOP, SHIFTS, says, serve, settled, watch
from myst_nb.core.render import get_mime_priority

from fmtutor.widgets import FlowPlayer

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import notebooks  # noqa: E402

CONFIG = """
title: Tiny
only_build_toc_files: true
execute: {execute_notebooks: force}
sphinx:
  local_extensions: {live_figures: book/extensions}
  config:
    extensions: [myst_nb, jupyter_book, sphinx_comments, sphinx_external_toc, live_figures]
    html_static_path: [assets]
    html_css_files: [custom.css]
    nb_ipywidgets_js: {}
    html_favicon: assets/favicon.svg
    html_context: {default_mode: auto}
"""

PAGE = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# Tiny

```{code-cell} ipython3
---
mystnb: {image: {alt: Dots along a spiral.}, figure: {caption: A spiral., name: fig-spiral}}
---
from fmtutor.widgets import FlowPlayer

FlowPlayer(datasets=("spiral",), particles=100)
```

See {numref}`fig-spiral`.

```{code-cell} ipython3
FlowPlayer("moons", datasets=("moons",), particles=50)
```
"""

PLAIN = "# Plain\n\nWords.\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("book")
    (root / "_config.yml").write_text(CONFIG)
    book = root / "book"
    book.mkdir()
    (book / "_toc.yml").write_text(
        "{format: jb-book, root: index.md, chapters: [{file: plain.md}]}\n"
    )
    (book / "index.md").write_text(PAGE)
    (book / "plain.md").write_text(PLAIN)
    for folder in ("extensions", "assets"):
        shutil.copytree(ROOT / "book" / folder, book / folder)
    # The extension serves the style sheet from the package beside it.
    shutil.copytree(ROOT / "fmtutor" / "widgets", root / "fmtutor" / "widgets")
    command = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "build", "-W", "book/"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "_build" / "html"


def test_the_page_holds_picture_space_and_view(built):
    page = (built / "index.html").read_text("utf-8")
    places = page.split('<div class="fm-live"')[1:]
    assert len(places) == 2
    for place in places:
        order = [place.index(mark) for mark in ("<img", "fm-reserved", "<noscript", "widget-view")]
        assert order == sorted(order)
    assert 'alt="Dots along a spiral."' in places[0]
    assert page.count('<span class="fm-control">') == 2 * FlowPlayer._controls.default_value
    assert (built / "_static" / "base.css").is_file()
    assert "widgets.mjs" in page
    assert "https://cdn" not in re.sub(r"<link[^>]*>", "", page)


def test_a_page_without_figures_loads_nothing_for_them(built):
    page = (built / "plain.html").read_text("utf-8")
    assert "widgets.mjs" not in page
    assert "base.css" not in page


def test_a_printed_book_takes_the_picture():
    for builder in ("latex", "text", "gettext"):
        priority = get_mime_priority(builder, [])
        assert "application/vnd.jupyter.widget-view+json" not in priority
    assert "image/png" in get_mime_priority("latex", [])


@pytest.fixture
def page(browser, built):
    with serve(built) as address:
        context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
        opened = context.new_page()
        watch(opened, address)
        opened.address = address
        yield opened
        context.close()


def test_the_built_page_comes_to_life_without_a_shift(page):
    page.goto(page.address, wait_until="load")
    place = page.locator(".fm-live").first
    settled(place.locator(".fm-figure"))
    assert not place.locator("img").is_visible()
    assert page.evaluate(SHIFTS) < 0.005
    assert not page.trouble, page.trouble


def test_the_space_is_reserved_to_the_pixel(live):
    figure = FlowPlayer(datasets=("spiral",), particles=50)
    page, held = live(figure), live(figure, alive=False)
    held.route("**/widgets.mjs", lambda route: route.abort())
    held.reload()
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert held.locator(".fm-figure").count() == 0

    def below(page, width):
        page.set_viewport_size({"width": width, "height": 900})
        return page.locator("#after").bounding_box()["y"]

    places = {width: below(page, width) for width in (375, 560, 1280)}
    assert len(set(places.values())) == 3
    assert {width: below(held, width) for width in places} == pytest.approx(places, abs=0.5)


def test_without_scripts_there_is_picture_and_sentence(live):
    page = live(FlowPlayer(datasets=("spiral",)), alive=False, java_script_enabled=False)
    assert page.locator(".fm-picture img").is_visible()
    assert page.locator("noscript p").is_visible()
    assert not page.locator(".fm-controls").is_visible()


def test_with_the_network_off_it_works(live):
    page = live(FlowPlayer(datasets=("spiral", "moons"), particles=50))
    page.context.set_offline(True)
    page.get_by_label("data", exact=True).select_option("moons")
    says(page, r"t = 1\.00")
    assert not page.trouble, page.trouble


def test_a_figure_waits_until_the_reader_comes_near_and_draws_before_it_computes(live):
    """How quick that is, benchmarks/figures.py measures."""
    figures = [FlowPlayer(datasets=("spiral",), particles=800, time=1.0) for _ in range(2)]
    page = live(*figures, above=5000, alive=False)
    page.evaluate("() => new Promise((done) => requestIdleCallback(done))")
    assert page.locator(".fm-figure").count() == 0, "nothing is done for what is far away"
    # The first words that each figure says.
    page.evaluate("""() => {
      window.words = [];
      new MutationObserver((records) => {
        for (const { target, addedNodes } of records)
          if (target.matches('.fm-figure .fm-readout') && addedNodes.length)
            words.push(target.textContent);
      }).observe(document.body, { childList: true, subtree: true });
    }""")
    page.locator(".fm-live").first.scroll_into_view_if_needed()
    page.wait_for_function("() => words.length > 0")
    # A frame comes before all 800 particles have gone all their ways, and others follow.
    assert re.match(r"t = 0\.\d\d: ", page.evaluate("() => words[0]"))
    says(page, r"t = 1\.00: ")
    assert page.evaluate("() => words.length") > 2
    assert not page.trouble, page.trouble


def test_one_broken_figure_leaves_the_other_alive(live):
    good, bad = (FlowPlayer(datasets=("spiral",), particles=50) for _ in range(2))

    def damage(state):
        state[bad.model_id]["state"]["_esm"] = "this is no module"

    page = live(good, bad, damage=damage, alive=False)
    page.locator("p.fm-sentence").filter(has_text="could not come to life").wait_for()
    page.locator(".fm-figure .fm-readout:not(:empty)").wait_for()
    assert page.locator(".fm-live").nth(1).locator("img").is_visible()
    assert not page.locator(".fm-live").nth(0).locator("img").is_visible()


@pytest.mark.parametrize("broken", ["{", ""])
def test_a_state_that_is_no_json_leaves_the_pictures(live, live_server, broken):
    page = live(FlowPlayer(datasets=("spiral",)), alive=False)
    name = page.url.rsplit("/", 1)[1]
    text = (live_server.folder / name).read_text("utf-8")
    other = f"broken-{len(broken)}.html"
    state = re.search(r'widget-state\+json">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(state)
    (live_server.folder / other).write_text(text.replace(state, broken), "utf-8")
    page.goto(live_server.address + other)
    page.locator("p.fm-sentence").filter(has_text="could not come to life").wait_for()
    assert page.locator(".fm-picture img").is_visible()


def test_a_fault_while_it_runs_brings_the_picture_back(live):
    page = live(FlowPlayer(datasets=("spiral",), particles=50))
    page.evaluate("() => { CanvasRenderingContext2D.prototype.fill = () => { throw Error('x'); } }")
    page.get_by_label("trails").click()
    page.locator("p.fm-sentence").filter(has_text="could not come to life").wait_for()
    assert page.locator(".fm-picture img").is_visible()
    assert [t.startswith("warning: A live figure stopped") for t in page.trouble] == [True]


def test_the_tracked_notebook_keeps_the_text_alone(tmp_path, monkeypatch):
    (tmp_path / "index.md").write_text(PAGE)
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    written = json.loads(notebooks.execute(tmp_path / "index.md"))
    assert written["metadata"].keys() == notebooks.METADATA.keys()
    outputs = [o for c in written["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    assert [list(output["data"]) for output in outputs] == [["text/plain"]] * 2
    assert outputs[0]["data"]["text/plain"][0].startswith("FlowPlayer(arrows=False")
    (tmp_path / "index.ipynb").write_text(json.dumps(written))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "-c",
         str(ROOT / "pyproject.toml"), "--confcutdir", str(ROOT), str(tmp_path / "index.ipynb")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "3 passed" in run.stdout  # the figure's two, and the one that installs the package
