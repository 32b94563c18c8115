"""The coupling explorer: its traits, its picture, and the live figure in a browser."""

import pytest
import torch
from browsing import (
    change,
    control,
    each_changes,
    ink,
    no_buffers,
    numbers,
    pictures_stay,
    poison,
    readout,
    says,
    slide,
)
from traitlets import TraitError

from fmtutor.paths import BridgePath
from fmtutor.widgets import CouplingExplorer
from fmtutor.widgets.coupling_explorer import PAIRINGS, WIDTH


def expected(figure):
    """The numbers of the line of text, from the package."""
    costs = [figure.cost(pairing) for pairing in PAIRINGS]
    if figure.view == "flow":
        return [figure.batch_size, *costs, *map(figure.bending, PAIRINGS)]
    return [figure.batch_size, *costs, *(len(figure.crossings(pairing)) for pairing in PAIRINGS)]


def test_the_defaults_and_what_can_be_set():
    figure = CouplingExplorer()
    assert (figure.batch_size, figure.seed, figure.time, figure.view) == (32, 1, 0.5, "pairs")
    figure.batch_size, figure.time = 8, 0.25
    start = "CouplingExplorer(batch_size=8, marks=True, seed=1, time=0.25, view='pairs')"
    assert repr(figure) == start
    for view in ("pairs", "flow"):
        figure.view = view
        assert figure.picture().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"batch_size": 65}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"time": 1.2}, "time"),
        ({"time": float("nan")}, "time must be finite"),
        ({"view": "lines"}, "view must be one of pairs, flow, but 'lines' came"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        CouplingExplorer(**bad)
    figure = CouplingExplorer()
    before = repr(figure)
    for name, value in bad.items():
        with pytest.raises(TraitError):
            setattr(figure, name, value)
    assert repr(figure) == before
    with pytest.raises(TypeError, match=r"CouplingExplorer takes batch_size, .* but steps came"):
        CouplingExplorer(steps=2)
    with pytest.raises(ValueError, match="pairing must be one of random, optimal"):
        figure.pairs("cheap")


def test_both_pairings_have_the_same_points_and_the_optimal_one_costs_less():
    for seed in range(5):
        figure = CouplingExplorer(seed=seed)
        (x0, x1), (y0, y1) = (figure.pairs(pairing) for pairing in PAIRINGS)
        assert torch.equal(x0, y0)
        assert torch.equal(x1.sort(0).values, y1.sort(0).values)
        products = ((x0[:, None] - x0) * (y1[:, None] - y1)).sum(2)
        assert products.min() >= -1e-12, "no two walkers meet"
        assert figure.cost("optimal") < 0.6 * figure.cost("random")
        assert len(figure.crossings("optimal")) < 0.2 * len(figure.crossings("random"))
        assert figure.bending("optimal") < 0.2 * figure.bending("random")


def test_a_larger_batch_keeps_the_points_of_the_smaller_one():
    small, large = (CouplingExplorer(batch_size=b).batch() for b in (5, 9))
    for few, many in zip(small, large, strict=True):
        assert torch.equal(few, many[:5])
    other = CouplingExplorer(batch_size=5, seed=2).batch()
    assert not torch.equal(small[0], other[0])


def test_crossings_are_on_both_lines(monkeypatch):
    figure = CouplingExplorer(batch_size=3)
    x0 = torch.tensor([[0.0, 0.0], [0.0, 2.0], [5.0, 0.0]], dtype=torch.float64)
    x1 = torch.tensor([[2.0, 2.0], [2.0, 0.0], [5.0, 9.0]], dtype=torch.float64)
    monkeypatch.setattr(figure, "batch", lambda: (x0, x1))
    assert figure.crossings("random").tolist() == [[1.0, 1.0]]
    assert figure.crossings("optimal").shape == (0, 2)


def test_the_field_is_that_of_tubes_around_the_lines():
    figure = CouplingExplorer(batch_size=12)
    x0, x1 = figure.pairs("optimal")
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.full((7,), 0.3, dtype=torch.float64)
    tube = BridgePath(WIDTH)
    logits = [
        tube.log_prob(x, end.expand_as(x), t, x0=start.expand_as(x))
        for start, end in zip(x0, x1, strict=True)
    ]
    field = torch.stack(logits).softmax(0).T @ (x1 - x0)
    torch.testing.assert_close(figure.field("optimal")(x, t), field)


def test_positions_follow_the_view():
    figure = CouplingExplorer(time=0.3)
    x0, x1 = figure.pairs("random")
    torch.testing.assert_close(figure.positions("random"), 0.7 * x0 + 0.3 * x1)
    figure.view, figure.time = "flow", 1.0
    assert torch.equal(figure.positions("random"), figure.flow("random")[-1])


def test_alive_and_as_the_package_computes_it(live):
    figure = CouplingExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert numbers(readout(page)) == pytest.approx(expected(figure), abs=0.0051)
    seen = [ink(page)]
    for batch_size, time, view in ((7, 0.0, "pairs"), (64, 0.74, "flow"), (20, 1.0, "pairs")):
        slide(page, "batch size b", batch_size)
        slide(page, "time t", time)
        control(page, "show").select_option(view)
        page.get_by_role("button", name="New batch").click()
        seen.append(ink(page))
        figure.batch_size, figure.time, figure.view = batch_size, time, view
        figure.seed += 1
        assert numbers(readout(page)) == pytest.approx(expected(figure), abs=0.0051)
        label = page.locator("canvas").get_attribute("aria-label")
        assert (f"time {time:.2f}" in label, "flow" in label) == (True, view == "flow")
    assert len({tuple(s) for s in seen}) == 4
    assert not page.trouble, page.trouble


def test_each_control_changes_the_picture(live):
    page = live(CouplingExplorer())
    each_changes(
        page,
        [
            lambda: page.get_by_role("button", name="New batch").click(),
            lambda: slide(page, "batch size b", 20),
            lambda: slide(page, "time t", 0.8),
            lambda: control(page, "mark crossings").uncheck(),
            lambda: control(page, "show").select_option("flow"),
            lambda: slide(page, "time t", 0.2),
            lambda: control(page, "mark crossings").check(),
        ],
    )


def test_a_batch_by_keyboard(live):
    page = live(CouplingExplorer(time=0.0, batch_size=10))
    size = control(page, "batch size b")
    size.focus()
    page.keyboard.press("ArrowRight")
    says(page, r"b = 11:")
    assert size.get_attribute("aria-valuetext") == "11"
    fresh = page.get_by_role("button", name="New batch")
    fresh.focus()
    page.keyboard.press("Enter")
    second = CouplingExplorer(batch_size=11, seed=2)
    assert numbers(readout(page)) == pytest.approx(expected(second), abs=0.0051)
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(batch_size=0), change(view="lines"), dict.clear]
    pictures_stay(live, lambda: CouplingExplorer(batch_size=4), damages)
