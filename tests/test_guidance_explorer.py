"""The guidance explorer: its traits, its particles, and the live figure in a browser."""

import re

import pytest
import torch
from browsing import change, control, ink, no_buffers, pictures_stay, poison, readout, slide
from traitlets import TraitError

from fmtutor import CondOT, guided
from fmtutor.widgets import GuidanceExplorer
from fmtutor.widgets.guidance_explorer import clusters

FEW = {"particles": 150}


def expected(figure):
    """The numbers of the read-out, from the package."""
    rows = [(s, figure.result(s)) for s in (1.0, figure.scale)]
    return [figure.time, *(v for s, r in rows for v in (s, 100 * r.share, r.spread))]


def found(page):
    return [float(v) for v in re.findall(r"\d+\.\d+", readout(page))]


def agrees(page, **state):
    """Whether the read-out is the package's, to the digits that are shown."""
    wanted = expected(GuidanceExplorer(**{**FEW, **state}))
    digits = (2, 1, 1, 2, 1, 1, 2)
    pairs = zip(found(page), wanted, digits, strict=True)
    return all(abs(seen - value) < 0.51 * 10**-d for seen, value, d in pairs)


def test_the_defaults_and_what_can_be_set():
    figure = GuidanceExplorer()
    assert repr(figure) == (
        "GuidanceExplorer(arrows=False, label='0', particles=400, scale=3, time=1)"
    )
    figure.label, figure.scale = "2", 0
    assert (figure.label, figure.scale) == ("2", 0.0)
    with pytest.raises(TypeError, match=r"GuidanceExplorer takes arrows, label, .* but y came"):
        GuidanceExplorer(y=1)


@pytest.mark.parametrize(
    "bad",
    [
        {"label": "3"},
        {"label": 1},
        {"scale": -0.5},
        {"scale": 8.5},
        {"scale": float("nan")},
        {"time": 1.1},
        {"particles": 0},
        {"particles": 1001},
    ],
)
def test_bad_values_are_refused(bad):
    (name,) = bad
    figure = GuidanceExplorer()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=name):
        setattr(figure, name, bad[name])
    assert getattr(figure, name) == before


def test_the_scale_buys_fidelity_and_the_law_is_not_kept():
    figure = GuidanceExplorer()
    shares = [figure.result(s).share for s in (0.0, 1.0, 3.0)]
    assert shares[0] == pytest.approx(0.4, abs=0.1)
    assert shares[1] > 0.9
    assert shares == sorted(shares)
    one = GuidanceExplorer(label="1")
    assert one.result(3.0).spread < 0.8 * one.result(1.0).spread
    assert figure.result(3.0).spread > 1.1 * figure.result(1.0).spread, "pushed apart"
    assert torch.equal(figure.positions(), figure.positions(3.0))
    start = GuidanceExplorer(time=0.0)
    assert torch.equal(start.positions(0.0), start.positions(8.0))


def test_the_field_is_that_of_the_package_and_the_clusters_those_of_the_chapter():
    figure = GuidanceExplorer(label="2")
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.full((20,), 0.4, dtype=torch.float64)
    fields = [clusters(labels).velocity(CondOT()) for labels in ((2,), (0, 1, 2))]
    assert torch.equal(figure._field(2.5)(x, t), guided(*fields, 2.5)(x, t))
    assert [len(clusters((y,)).stds) for y in range(3)] == [2, 1, 1]
    assert clusters().weights.tolist() == pytest.approx([0.2, 0.2, 0.3, 0.3])


def test_the_picture_follows_the_state():
    states = {}, {"scale": 1.0}, {"label": "1"}, {"time": 0.5}, {"arrows": True}
    assert len({GuidanceExplorer(**FEW, **state).picture() for state in states}) == 5


def test_alive_and_as_the_package_computes_it(live):
    page = live(GuidanceExplorer(**FEW))
    assert page.locator(".fm-figure .fm-control").count() == GuidanceExplorer()._controls
    assert agrees(page)
    seen = [ink(page)]
    slide(page, "scale s", 6.5)
    assert agrees(page, scale=6.5)
    seen.append(ink(page))
    slide(page, "time t", 0.5)
    assert agrees(page, scale=6.5, time=0.5)
    seen.append(ink(page))
    control(page, "label").select_option("2")
    seen.append(ink(page))
    assert agrees(page, scale=6.5, time=0.5, label="2")
    assert "label 2" in page.locator("canvas").get_attribute("aria-label")
    control(page, "arrows of the field").check()
    seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 5, "each control changes the picture"
    assert not page.trouble, page.trouble


def test_the_slider_of_the_scale_by_keyboard(live):
    page = live(GuidanceExplorer(time=0.3, **FEW))
    control(page, "scale s").focus()
    page.keyboard.press("ArrowLeft")
    assert agrees(page, time=0.3, scale=2.5)
    page.keyboard.press("Home")
    assert agrees(page, time=0.3, scale=0.0)
    # Between two steps, too.
    slide(page, "time t", 0.74)
    assert agrees(page, time=0.74, scale=0.0)
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(particles=0), change(label="7")]
    pictures_stay(live, lambda: GuidanceExplorer(**FEW), damages)
