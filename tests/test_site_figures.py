"""The live figures on the pages of the built site, which `make book` builds."""

import json
import re
from functools import partial
from operator import itemgetter

import pytest
from browsing import PATIENCE, settled, watch
from figure_cases import CASES
from ipywidgets.embed import dependency_state

from fmtutor import widgets

STATE = re.compile(
    r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', re.S
)

VIEW = re.compile(
    r'<script type="application/vnd.jupyter.widget-view\+json">\s*\{[^<]*?"model_id": "(\w+)"'
)

# The key that changes a control: towards its other end from the last value.
KEY = """
({ type, value, max, selectedIndex, length }) => {
  if (type === 'checkbox') return 'Space';
  if (type === 'range') return value === max ? 'ArrowLeft' : 'ArrowRight';
  return selectedIndex === length - 1 ? 'ArrowUp' : 'ArrowDown';
}
"""

# Each page with its figures, as the chapter makes them, from its top.
FIGURES = {
    "bridges": [widgets.BridgeExplorer],
    "continuity": [widgets.ContinuityExplorer],
    "couplings": [widgets.CouplingExplorer],
    "discrete": [widgets.TokenExplorer, widgets.SpellingExplorer],
    "diffusion": [widgets.DiffusionExplorer],
    "few_steps": [widgets.JumpExplorer],
    "guidance": [widgets.GuidanceExplorer],
    "images": [widgets.DigitPainter],
    "index": [partial(widgets.FlowPlayer, "spiral")],
    "manifolds": [widgets.GlobeExplorer],
    "marginal": [widgets.StripExplorer, widgets.PosteriorExplorer],
    "memorisation": [partial(widgets.PosteriorExplorer, time=0.85)],
    "molecules": [widgets.MoleculeExplorer],
    "policies": [widgets.RoomExplorer],
    "objectives": [widgets.GradientExplorer],
    "paths": [widgets.PathExplorer],
    "playground": [widgets.Playground],
    "quickstart": [partial(widgets.FlowPlayer, "eight Gaussians")],
    "sampling": [widgets.SolverLab],
    "scale": [widgets.ResolutionExplorer],
}
PLACES = [(name, k) for name, figures in FIGURES.items() for k in range(len(figures))]


def test_every_figure_has_its_page(site):
    made = {type(make()).__name__ for figures in FIGURES.values() for make in figures}
    assert made == set(CASES)
    pages = {page.stem for page in site.glob("*.html") if 'class="fm-live"' in page.read_text()}
    assert pages == set(FIGURES)


@pytest.mark.parametrize(("name", "index"), PLACES)
def test_the_page_has_the_figure_that_the_other_tests_look_at(site, name, index):
    """Program, style, numbers and first values are those of the package as it is now."""
    text = (site / f"{name}.html").read_text("utf-8")
    (found,) = STATE.findall(text)
    models = json.loads(found)["state"]
    shown = [model for model in VIEW.findall(text) if "_esm" in models[model]["state"]]
    assert len(shown) == len(FIGURES[name])
    seen, figure = models[shown[index]], FIGURES[name][index]()
    state = dependency_state([figure], drop_defaults=False)[figure.model_id]
    wanted = json.loads(json.dumps(state))
    for key in ("_esm", "_css", *figure.public_traits()):
        assert seen["state"][key] == wanted["state"][key], key
    # ipywidgets lists them in an order of its own in each process.
    packed = [sorted(m.get("buffers", []), key=itemgetter("path")) for m in (seen, wanted)]
    assert packed[0] == packed[1]


def walk_by_keyboard(page, figure, case):
    """Change every control and knob of a figure by keyboard: each must change what is seen."""
    before = settled(figure)
    # First, since a control may put them away.
    for label in (*case.knobs, *case.upright):
        knob = figure.get_by_role("slider", name=label, exact=True)
        told = knob.get_attribute("aria-valuetext")
        knob.press("Shift+ArrowLeft")
        after = settled(figure)
        assert after != before, label
        before = after
        assert knob.get_attribute("aria-valuetext") != told, label
    controls = figure.locator("input, select")
    assert controls.count() > 0
    for place in controls.all():
        label = place.get_attribute("aria-label") or place.locator("xpath=..").inner_text()
        assert label, "a control without a name"
        if label in case.unseen or place.is_disabled():
            continue
        place.focus()
        if place.get_attribute("type") == "text":
            page.keyboard.press("ControlOrMeta+A")
            page.keyboard.type("st..")
            page.keyboard.press("Enter")
        else:
            page.keyboard.press(place.evaluate(KEY))
        after = settled(figure)
        assert after != before, label
        before = after
    assert all(figure.locator("button:not(.fm-handle)").all_inner_texts()), "each has its words"


@pytest.fixture(scope="module")
def page(browser, address):
    """A page that goes from figure to figure."""
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    watch(page, address)
    # The browser fetches the page's icon when it likes, also after the network is gone; and setting
    # the formulas takes most of a page's time.
    for file in ("favicon.svg", "mathjax/tex-chtml.js"):
        page.route(f"**/_static/{file}*", lambda route: route.fulfill(body=""))
    yield page
    context.close()


@pytest.mark.parametrize(("name", "index"), PLACES)
def test_it_works_by_keyboard_with_the_network_off(page, address, name, index):
    page.context.set_offline(False)
    page.goto("about:blank")
    page.trouble.clear()
    page.goto(f"{address}{name}.html", wait_until="networkidle")
    page.context.set_offline(True)
    place = page.locator(".fm-live").nth(index)
    place.scroll_into_view_if_needed()
    figure = place.locator(".fm-figure")
    walk_by_keyboard(page, figure, CASES[type(FIGURES[name][index]()).__name__])
    assert not page.trouble, page.trouble
