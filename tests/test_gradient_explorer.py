"""The gradient explorer: its traits, its losses, and the live figure in a browser."""

import math
import re

import pytest
import torch
from browsing import change, control, drag, ink, pictures_stay, readout, slide
from traitlets import TraitError

from fmtutor import CondOT, cfm_loss
from fmtutor.widgets import GradientExplorer
from fmtutor.widgets.gradient_explorer import BATCHES


def expected(figure):
    """The numbers of the read-out, from the package."""
    theta = torch.tensor(figure.theta, dtype=torch.float64)
    fm, cfm, batch = figure.marginal(), figure.conditional(), figure.batch()
    parts = [[q.loss(theta), *q.gradient(theta).tolist()] for q in (fm, cfm, batch)]
    return [*parts[0], *parts[1], parts[1][0] - parts[0][0], *parts[2]]


def found(page):
    return [float(v) for v in re.findall(r"-?\d+\.\d+", readout(page).replace("−", "-"))]


def near(figure):
    return pytest.approx(expected(figure), abs=5.1e-3)


def test_the_defaults_and_what_can_be_set():
    figure = GradientExplorer()
    assert repr(figure) == "GradientExplorer(samples=32, seed=0, theta=(1.2, 0.2), time=0.6)"
    figure.theta = [0, 1]
    assert figure.theta == (0.0, 1.0)
    with pytest.raises(TypeError, match="GradientExplorer takes samples, seed, theta, time"):
        GradientExplorer(t=0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"theta": (2.0, 1.0)},
        {"theta": (0.0, 3.0)},
        {"theta": (0.0, float("nan"))},
        {"theta": (0.0,)},
        {"time": 0.95},
        {"time": float("nan")},
        {"samples": 3},
        {"samples": 513},
        {"seed": -1},
    ],
)
def test_bad_values_are_refused(bad):
    (name,) = bad
    figure = GradientExplorer()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=name):
        setattr(figure, name, bad[name])
    assert getattr(figure, name) == before


@pytest.mark.parametrize("time", [0.0, 0.3, 0.6])
def test_the_gap_is_constant_and_the_gradient_is_common(time):
    figure = GradientExplorer(time=time)
    fm, cfm = figure.marginal(), figure.conditional()
    for theta in ((1.2, 0.2), (0.0, 1.0), (-1.0, 2.0)):
        at = torch.tensor(theta, dtype=torch.float64)
        torch.testing.assert_close(fm.gradient(at), cfm.gradient(at), atol=1e-9, rtol=0)
        assert cfm.loss(at) - fm.loss(at) == pytest.approx((cfm.c - fm.c).item(), abs=1e-9)
    # The scatter of the target: E (1 − tanh²) / (1 − t)², as an exercise of the chapter derives.
    x, weights = figure._nodes()
    spread = 1 - torch.tanh(time * x / (1 - time) ** 2).square()
    gap = (weights.sum(0) @ spread).item() / (1 - time) ** 2
    assert (cfm.c - fm.c).item() == pytest.approx(gap, abs=1e-9)
    exact = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert fm.loss(exact) == pytest.approx(0, abs=1e-9)
    assert cfm.c.item() == pytest.approx(2, abs=1e-6), "E (x1 − x0)² is 2 at every time"


def test_a_batch_is_the_loss_of_the_package_and_its_gradient_autograds():
    figure = GradientExplorer(samples=64, seed=3, time=0.4)
    x, u = figure.draw(5)
    x0, x1 = x - 0.4 * u, x + 0.6 * u
    assert set(x1.round(decimals=9).tolist()) == {-1.0, 1.0}
    theta = torch.tensor([0.7, -0.3], dtype=torch.float64, requires_grad=True)

    def family(x, t):
        return theta[0] + theta[1] * figure.field(x[:, 0])[:, None]

    loss = cfm_loss(family, x1[:, None], x0=x0[:, None], t=0.4, path=CondOT())
    loss.backward()
    batch = figure.batch(5)
    assert batch.loss(theta.detach()) == pytest.approx(loss.item(), abs=1e-9)
    torch.testing.assert_close(batch.gradient(theta.detach()), theta.grad, atol=1e-9, rtol=0)


def test_the_batches_scatter_about_the_exact_gradient():
    figure = GradientExplorer()
    theta = torch.tensor(figure.theta, dtype=torch.float64)
    several = torch.stack([figure.batch(k).gradient(theta) for k in range(BATCHES)])
    error = several.std(0) / math.sqrt(BATCHES)
    off = (several.mean(0) - figure.conditional().gradient(theta)).abs()
    assert (off < 4 * error).all()
    assert several.std(0).min() > 0.1


def test_the_picture_follows_the_state():
    states = {}, {"theta": (0.0, 1.0)}, {"seed": 1}, {"samples": 64}, {"time": 0.3}
    assert len({GradientExplorer(**state).picture() for state in states}) == 5


def test_alive_and_as_the_package_computes_it(live):
    page = live(GradientExplorer())
    assert page.locator(".fm-figure .fm-control").count() == GradientExplorer()._controls
    assert found(page) == near(GradientExplorer())
    seen = [ink(page)]
    slide(page, "time t", 0.25)
    assert found(page) == near(GradientExplorer(time=0.25))
    seen.append(ink(page))
    slide(page, "samples", 128)
    assert found(page) == near(GradientExplorer(time=0.25, samples=128))
    seen.append(ink(page))
    page.get_by_role("button", name="Draw new samples").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    seen.append(ink(page))
    assert found(page) == near(GradientExplorer(time=0.25, samples=128, seed=2))
    assert len({tuple(s) for s in seen}) == 4, "each control changes the picture"
    control(page, "time t").focus()
    page.keyboard.press("ArrowRight")
    assert found(page) == near(GradientExplorer(time=0.3, samples=128, seed=2))
    assert not page.trouble, page.trouble


def test_the_parameters_are_dragged_and_moved_by_keys(live):
    page = live(GradientExplorer())
    knob = page.get_by_role("slider", name="parameters")
    before, start = ink(page), found(page)
    knob.focus()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowUp"):
        page.keyboard.press(key)
    assert ink(page) != before
    assert found(page) == near(GradientExplorer(theta=(1.1, 0.8)))
    drag(knob, -500, 0)  # it stays in the plane
    assert found(page)[1] < 0, "it has moved past the minimum"
    assert knob.get_attribute("aria-valuetext") == "−1.80, 0.80"
    assert found(page)[6] == start[6], "the gap is the same everywhere"
    assert not page.trouble, page.trouble


def test_where_the_parameters_are_right_the_gradient_is_that_of_the_noise(live):
    page = live(GradientExplorer(theta=(0.0, 1.0)))
    assert found(page) == near(GradientExplorer(theta=(0.0, 1.0)))
    assert readout(page).startswith("FM 0.00 ∇(0.00,\u00a00.00)")
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [change(theta=[None, "x"]), change(samples=0), change(_settings=None)]
    pictures_stay(live, GradientExplorer, damages)
