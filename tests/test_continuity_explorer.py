"""The continuity explorer: its traits, its ledger, and the live figure in a browser."""

import re

import pytest
import torch
from browsing import (
    change,
    control,
    drag,
    drawn,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    readout,
    slide,
)
from traitlets import TraitError

from fmtutor.widgets import ContinuityExplorer
from fmtutor.widgets.continuity_explorer import STEPS

FLIP = "flip the sign of the field"


def expected(figure, time=None):
    """The numbers of the read-out, from the package."""
    balance = figure.balance(time)
    time = figure.time if time is None else time
    net = balance.inflow - balance.outflow
    return [time, balance.mass, balance.inflow, balance.outflow, net, balance.rate]


def found(page):
    """The numbers of the read-out; the minus between in and out is a word, the others are signs."""
    text = readout(page).replace(" − out", " less out").replace("−", "-")
    return [float(value) for value in re.findall(r"-?\d+\.\d+", text)]


def test_the_defaults_and_what_can_be_set():
    figure = ContinuityExplorer()
    assert (figure.interval, figure.time, figure.flipped) == ((0.6, 1.6), 0.5, False)
    assert repr(figure) == "ContinuityExplorer(flipped=False, interval=(0.6, 1.6), time=0.5)"
    figure.interval = [-1, 2]
    assert figure.interval == (-1.0, 2.0)
    assert ContinuityExplorer(interval=(-3.4, 3.8)).balance().mass > 0.99


@pytest.mark.parametrize(
    "bad",
    [
        {"interval": (1.0, 0.0)},
        {"interval": (1.0, 1.1)},
        {"interval": (-4.0, 0.0)},
        {"interval": (0.0, 4.0)},
        {"interval": (0.0, float("nan"))},
        {"interval": (0.0,)},
        {"time": 1.01},
        {"time": float("nan")},
        {"flipped": "no"},
    ],
)
def test_bad_values_are_refused(bad):
    (name,) = bad
    figure = ContinuityExplorer()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=name):
        setattr(figure, name, bad[name])
    assert getattr(figure, name) == before
    with pytest.raises(TraitError):
        ContinuityExplorer(**bad)
    with pytest.raises(TypeError, match="ContinuityExplorer takes flipped, interval, time"):
        ContinuityExplorer(sign=1)


@pytest.mark.parametrize("interval", [(0.6, 1.6), (-2.0, -1.0), (-3.4, 3.8)])
@pytest.mark.parametrize("time", [0.0, 0.3, 0.9])
def test_the_ledger_balances_with_the_right_sign_only(interval, time):
    figure = ContinuityExplorer(interval=interval)
    balance = figure.balance(time)
    assert balance.inflow - balance.outflow == pytest.approx(balance.rate, abs=1e-12)
    times = torch.tensor([time], dtype=torch.float64)
    x = torch.linspace(*interval, 4001).double()
    area = torch.trapezoid(figure.density(x[:, None], times), x)
    assert balance.mass == pytest.approx(area.item(), abs=1e-6)
    figure.flipped = True
    wrong = figure.balance(time)
    assert wrong.inflow - wrong.outflow == pytest.approx(-balance.rate, abs=1e-12)
    assert (wrong.mass, wrong.rate) == (balance.mass, balance.rate)


def test_the_account_is_the_mass_or_its_mirror_image():
    figure = ContinuityExplorer()
    mass = figure.mass(torch.linspace(0, 1, STEPS + 1).double())
    torch.testing.assert_close(figure.account(), mass, atol=1e-4, rtol=0)
    figure.flipped = True
    torch.testing.assert_close(figure.account(), 2 * mass[0] - mass, atol=1e-4, rtol=0)


def test_the_picture_follows_the_state():
    pictures = {
        ContinuityExplorer(**state).picture()
        for state in ({}, {"time": 0.9}, {"flipped": True}, {"interval": (-2, 0)})
    }
    assert len(pictures) == 4


def test_alive_and_as_the_package_computes_it(live):
    figure = ContinuityExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert found(page) == pytest.approx(expected(figure), abs=5.1e-4)
    seen = [ink(page)]
    for time in (0.0, 0.25, 1.0):
        slide(page, "time t", time)
        assert found(page) == pytest.approx(expected(figure, time), abs=5.1e-4), time
        assert "= rate of change" in readout(page)
        seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 4, "the slider changes the picture"
    assert not page.trouble, page.trouble


def test_a_wrong_sign_breaks_the_balance(live):
    page = live(ContinuityExplorer(time=0.8))
    before = ink(page)
    control(page, FLIP).check()
    assert ink(page) != before
    figure = ContinuityExplorer(time=0.8, flipped=True)
    assert found(page) == pytest.approx(expected(figure), abs=5.1e-4)
    assert "≠ rate of change" in readout(page)
    control(page, FLIP).uncheck()
    assert ink(page) == before
    assert "= rate of change" in readout(page)
    assert not page.trouble, page.trouble


def test_the_ends_are_dragged_and_moved_by_keys(live):
    page = live(ContinuityExplorer())
    left, right = (page.get_by_role("slider", name=f"{n}") for n in ("left end a", "right end b"))
    before = ink(page)
    left.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    assert ink(page) != before
    assert found(page) == pytest.approx(
        expected(ContinuityExplorer(interval=(0.0, 1.6))), abs=5.1e-4
    )
    right.focus()
    for _ in range(6):
        page.keyboard.press("Shift+ArrowLeft")
    drawn(page)
    # The ends keep their order and their distance.
    assert left.get_attribute("aria-valuetext").startswith("0.00")
    assert right.get_attribute("aria-valuetext").startswith("0.20")
    left.focus()
    page.keyboard.press("Shift+ArrowRight")
    drawn(page)
    assert left.get_attribute("aria-valuetext").startswith("0.00")
    box = right.bounding_box()
    drag(right, 60, 30)
    assert right.bounding_box()["x"] == pytest.approx(box["x"] + 60, abs=1.5)
    assert right.bounding_box()["y"] == pytest.approx(box["y"], abs=0.1)
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(interval=[1.0, 1.0])]
    pictures_stay(live, ContinuityExplorer, damages)
