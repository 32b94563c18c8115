"""The live figures on the pages of the built site, which `make book` builds."""

import json
import re

import pytest
from browsing import PATIENCE, says, settled, watch
from figure_cases import CASES, walk_by_keyboard

from fmtutor import widgets

STATE = re.compile(
    r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', re.S
)

# Each page with its figure, as the chapter makes it.
FIGURES = {
    "continuity": lambda: widgets.ContinuityExplorer(),
    "couplings": lambda: widgets.CouplingExplorer(),
    "guidance": lambda: widgets.GuidanceExplorer(),
    "images": lambda: widgets.DigitPainter(),
    "index": lambda: widgets.FlowPlayer("spiral"),
    "marginal": lambda: widgets.PosteriorExplorer(),
    "objectives": lambda: widgets.GradientExplorer(),
    "paths": lambda: widgets.PathExplorer(),
    "playground": lambda: widgets.Playground(),
    "quickstart": lambda: widgets.FlowPlayer("eight Gaussians"),
    "sampling": lambda: widgets.SolverLab(),
}


def test_every_figure_has_its_page(site):
    assert {type(make()).__name__ for make in FIGURES.values()} == set(CASES)
    pages = {page.stem for page in site.glob("*.html") if 'class="fm-live"' in page.read_text()}
    assert pages == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_the_page_has_the_figure_that_the_other_tests_look_at(site, name):
    """Program, style, numbers and first values are those of the package as it is now."""
    (found,) = STATE.findall((site / f"{name}.html").read_text("utf-8"))
    models = [model for model in json.loads(found)["state"].values() if "_esm" in model["state"]]
    figure = FIGURES[name]()
    wanted = json.loads(json.dumps(figure.get_state(), default=lambda _buffer: "in a buffer"))
    (seen,) = models
    traits = {key: wanted[key] for key in figure.public_traits()}
    assert {key: seen["state"][key] for key in traits} == traits
    assert seen["state"]["_esm"] == wanted["_esm"]
    assert seen["state"]["_css"] == wanted["_css"]


@pytest.mark.parametrize("name", FIGURES)
def test_it_works_by_keyboard_with_the_network_off(browser, address, name):
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    watch(page, address)
    page.goto(f"{address}{name}.html", wait_until="networkidle")
    page.evaluate("() => window.MathJax?.startup?.promise")
    context.set_offline(True)
    figure = page.locator(".fm-live .fm-figure")
    page.locator(".fm-live").scroll_into_view_if_needed()
    figure.locator(".fm-readout:not(:empty)").wait_for()
    if name == "playground":
        says(page, "energy distance")  # the worker has answered
    settled(figure)
    walk_by_keyboard(page, figure, CASES[type(FIGURES[name]()).__name__])
    assert not page.trouble, page.trouble
    context.close()
