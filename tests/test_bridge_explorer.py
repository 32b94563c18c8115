"""The bridge explorer: its traits, its picture, and the live figure in a browser."""

import pytest
import torch
from browsing import control, ink, numbers, readout, slide
from traitlets import TraitError

from fmtutor.entropic import entropic_plan
from fmtutor.widgets import BridgeExplorer
from fmtutor.widgets.bridge_explorer import COUPLINGS, LIMIT


def expected(figure):
    """The numbers of the line of text, from the package."""
    return [figure.cost(), figure.moved("ODE"), figure.moved("SDE")]


def test_the_defaults_and_what_can_be_set():
    figure = BridgeExplorer()
    assert (figure.coupling, figure.sigma, figure.time) == ("entropic", 0.8, 0.5)
    for coupling in COUPLINGS:
        figure.coupling = coupling
        assert figure.picture().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"sigma": 0.1}, "sigma"),
        ({"sigma": float("nan")}, "sigma must be finite"),
        ({"time": 1.5}, "time"),
        ({"seed": -1}, "seed"),
        ({"coupling": "cheap"}, "coupling must be one of random, optimal, entropic"),
        ({"sources": ((0.0, 0.0),)}, "sources must be three pairs"),
        ({"targets": ((0.0, 0.0), (9.0, 0.0), (0.0, 0.0))}, "targets must be three pairs"),
        ({"targets": ((0.0, 0.0), (1.0,), (0.0, 0.0))}, "targets must be three pairs"),
        ({"pen": "both"}, "pen must be one of off, source, target"),
        ({"drawn_source": ((0.0, 0.0),) * 19}, "drawn_source must be at most 18 pairs"),
        ({"drawn_target": ((0.0, 3.3),)}, "drawn_target must be at most 18 pairs"),
        ({"drawn_target": ((0.0, float("nan")),)}, "drawn_target must be at most 18 pairs"),
        ({"drawn_source": (1.0, 2.0)}, "drawn_source must be at most 18 pairs"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        BridgeExplorer(**bad)
    with pytest.raises(ValueError, match="kind must be ODE or SDE"):
        BridgeExplorer().ways("flow")


def test_each_coupling_is_a_plan_and_the_optimal_one_is_the_cheapest():
    costs = {}
    for coupling in COUPLINGS:
        figure = BridgeExplorer(coupling=coupling)
        plan = figure.plan()
        torch.testing.assert_close(plan.sum(1), torch.full((18,), 1 / 18, dtype=plan.dtype))
        assert (plan.sum(0) - 1 / 18).abs().sum() < 2e-4
        costs[coupling] = figure.cost()
    assert costs["optimal"] < costs["entropic"] < costs["random"]


def test_a_drawing_takes_the_place_of_the_clusters():
    clusters, points = BridgeExplorer(), [(0, 1), (-1.5, 0.25), (2, -2), (3.2, 3.2)]
    figure = BridgeExplorer(drawn_source=points)
    assert figure.drawn_source == ((0.0, 1.0), (-1.5, 0.25), (2.0, -2.0), (3.2, 3.2))
    x0, x1 = figure.ends()
    assert x0.tolist() == [list(map(float, points[k % 4])) for k in range(18)]
    assert torch.equal(x1, clusters.ends()[1])
    assert figure.picture() != clusters.picture()
    x0, x1 = BridgeExplorer(drawn_target=points[:1]).ends()
    assert torch.equal(x0, clusters.ends()[0])
    assert (x1 == torch.tensor([0.0, 1.0])).all()
    figure.drawn_source = ()
    assert torch.equal(figure.ends()[0], clusters.ends()[0])
    for coupling in COUPLINGS:  # with more on one point than on another
        figure = BridgeExplorer(drawn_source=points, drawn_target=points[1:], coupling=coupling)
        plan = figure.plan()
        torch.testing.assert_close(plan.sum(1), torch.full((18,), 1 / 18, dtype=plan.dtype))
        assert figure.ways("SDE").isfinite().all()


def test_both_equations_arrive_at_the_target():
    for coupling in COUPLINGS:
        figure = BridgeExplorer(coupling=coupling)
        _, x1 = figure.ends()
        for kind in ("ODE", "SDE"):
            nearest = torch.cdist(figure.ways(kind)[-1], x1).min(1).values
            assert nearest.max() < 1.2, (coupling, kind)  # the ends are 0.3 wide


def test_the_plan_converges_wherever_the_clusters_are_put():
    g = torch.Generator().manual_seed(0)
    for _ in range(40):
        centres = LIMIT * (2 * torch.rand(2, 3, 2, generator=g) - 1)
        figure = BridgeExplorer(sources=centres[0].tolist(), targets=centres[1].tolist())
        figure.coupling, figure.sigma = "entropic", 0.3
        assert figure.plan().isfinite().all()
    crossed = BridgeExplorer(sources=((0, 3.2), (0, 0), (0, -3.2)), sigma=0.3)
    crossed.targets = ((3.2, 0), (0, 0), (-3.2, 0))
    x0, x1 = crossed.ends()
    assert entropic_plan(x0, x1, 0.18, tol=1e-4).isfinite().all()


def test_alive_and_as_the_package_computes_it(live):
    figure = BridgeExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert numbers(readout(page)) == pytest.approx(expected(figure), abs=0.0151)
    seen = [ink(page)]
    for coupling, sigma, time in (
        ("random", 0.5, 0.0),
        ("optimal", 1.5, 0.74),
        ("entropic", 0.3, 1.0),
    ):
        slide(page, "noise σ", sigma)
        slide(page, "time t", time)
        control(page, "pairs").select_option(coupling)
        page.get_by_role("button", name="New noise").click()
        seen.append(ink(page))
        figure.coupling, figure.sigma, figure.time = coupling, sigma, time
        figure.seed += 1
        assert numbers(readout(page)) == pytest.approx(expected(figure), abs=0.0151)
        label = page.locator("canvas").get_attribute("aria-label")
        assert f"time {time:.2f}" in label
        assert f"noise {sigma:.2f}" in label
    assert len({tuple(s) for s in seen}) == 4
    assert not page.trouble, page.trouble


def stroke(page, *places):
    """Draw with the mouse through places of the canvas, as shares of its width and height."""
    box = page.locator("canvas").bounding_box()
    at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in places]
    page.mouse.move(*at[0])
    page.mouse.down()
    for place in at[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def test_a_reader_draws_with_the_pen(live):
    figure = BridgeExplorer()
    page = live(figure)
    knobs, clear = page.locator(".fm-handle:visible"), page.get_by_role("button", name="Clear")
    assert knobs.count() == 6
    assert clear.is_disabled()
    before = numbers(readout(page))
    stroke(page, (0.1, 0.25), (0.2, 0.9))  # the pen is away
    assert numbers(readout(page)) == before
    control(page, "pen").select_option("source")
    assert "Draw the source" in readout(page)
    assert knobs.count() == 0, "nothing is in the way of the pen"
    stroke(page, (0.08, 0.3), (0.08, 0.9))
    source = numbers(readout(page))
    assert source != before
    assert clear.is_enabled()
    control(page, "pen").select_option("target")
    stroke(page, (0.75, 0.3), (0.95, 0.3), (0.95, 0.9))  # in the other panel
    both, seen = numbers(readout(page)), ink(page)
    assert both != source
    control(page, "pen").select_option("off")
    assert numbers(readout(page)) == both
    assert ink(page) == seen
    assert knobs.count() == 0, "the clusters are not there to be dragged"
    stroke(page, (0.1, 0.5), (0.2, 0.5))
    assert numbers(readout(page)) == both
    clear.click()
    assert numbers(readout(page)) == before
    assert knobs.count() == 6
    assert clear.is_disabled()
    assert not page.trouble, page.trouble


def test_drawings_from_python_are_as_the_package_computes_them(live):
    settings = {
        "drawn_source": ((-2.5, 2.5), (-2.5, 1.25), (-2.5, 0.0), (-2.5, -1.5), (-2.0, -2.5)),
        "drawn_target": tuple((2.0 + 0.05 * k, 2.4 - 0.3 * k) for k in range(18)),
    }
    for coupling, sigma in (("entropic", 0.3), ("optimal", 0.8), ("random", 1.2)):
        figure = BridgeExplorer(coupling=coupling, sigma=sigma, **settings)
        page = live(figure)
        assert numbers(readout(page)) == pytest.approx(expected(figure), abs=0.0151)
        assert not page.trouble, page.trouble
