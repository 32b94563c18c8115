"""The strips of two data points: traits, picture, and the live figure in a browser."""

import math
import re

import pytest
import torch
from browsing import (
    PHONE,
    change,
    control,
    drag,
    ink,
    numbers,
    pictures_stay,
    reaches,
    readout,
    rests,
    says,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor import sample
from fmtutor.widgets import StripExplorer
from fmtutor.widgets.strip_explorer import END


def expected(figure):
    """Return what the line of text says, from the package."""
    weights, velocities, mean, variance = figure.meeting()
    return [figure.time, figure.place, *weights.tolist(), *velocities.tolist(), mean, variance]


def same(page, figure):
    """Whether the line of text is that of a state."""
    return numbers(readout(page)) == pytest.approx(expected(figure), abs=0.0051, rel=0.0051)


def knob(page, name):
    """Return a point to drag."""
    return page.get_by_role("slider", name=name, exact=True)


def told(page, name):
    """Return the place that a point to drag tells to those who do not see it, once all is drawn."""
    settled(page.locator(".fm-figure"))
    return numbers(knob(page, name).get_attribute("aria-valuetext"))


def spot(page, time, place):
    """Return where on the screen a time and a place are: on the straight line of two handles."""
    boxes = [knob(page, f"data point {k}").bounding_box() for k in (1, 2)]
    (_, low), (_, high) = (told(page, f"data point {k}") for k in (1, 2))
    (right, down), (_, up) = (
        (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes
    )
    looked, box = told(page, "the place looked at"), knob(page, "the place looked at")
    middle = box.bounding_box()["x"] + box.bounding_box()["width"] / 2
    width = (right - middle) / (1 - looked[0])
    return right - (1 - time) * width, down + (place - low) / (high - low) * (up - down)


def test_the_defaults_and_what_can_be_set():
    figure = StripExplorer()
    figure.points = [2, -1]
    assert repr(figure) == (
        "StripExplorer(arrows=True, place=0.25, points=(2.0, -1.0), shown='both', sigma_min=0, "
        "time=0.5)"
    )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"time": 0.99}, "time"),
        ({"sigma_min": 0.6}, "sigma_min"),
        ({"place": math.nan}, "place must be finite"),
        ({"points": (0.0, 2.1)}, r"points must be two numbers from -2 to 2, but \(0.0, 2.1\) came"),
        ({"points": (0.0, 1.0, 1.5)}, "points"),
        ({"points": (0.0, math.inf)}, "must be finite"),
        ({"shown": "third"}, "shown must be one of both, first, second, but 'third' came"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        StripExplorer(**bad)


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"StripExplorer takes arrows, .* but width came"):
        StripExplorer(width=2)


@pytest.mark.parametrize("sigma_min", [0.0, 0.3])
def test_what_meets_is_what_the_formula_says(sigma_min):
    """For points at ±1: weights by a sigmoid, velocities 2/σ apart, as σ − tσ' = 1."""
    x, t = 0.2, 0.6
    sigma = 1 - (1 - sigma_min) * t
    weights, velocities, mean, variance = StripExplorer(
        place=x, time=t, sigma_min=sigma_min
    ).meeting()
    share = 1 / (1 + math.exp(-2 * t * x / sigma**2))
    assert weights.tolist() == pytest.approx([1 - share, share])
    assert (velocities[1] - velocities[0]).item() == pytest.approx(2 / sigma)
    assert mean == pytest.approx((weights @ velocities).item())
    assert variance == pytest.approx(4 * share * (1 - share) / sigma**2)


def test_the_density_shown_has_mass_one_and_is_the_mean_of_both_strips():
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None]
    t = torch.full((2001,), 0.7, dtype=torch.float64)
    both, *parts = (
        StripExplorer(shown=name).log_density(x, t).exp() for name in ("both", "first", "second")
    )
    torch.testing.assert_close(both, (parts[0] + parts[1]) / 2)
    for p, mean in ((both, 0.0), (parts[0], -0.7), (parts[1], 0.7)):
        assert torch.trapezoid(p, x[:, 0]).item() == pytest.approx(1)
        assert torch.trapezoid(p * x[:, 0], x[:, 0]).item() == pytest.approx(mean)


def test_a_picture_of_every_state():
    states = [
        {},
        {"shown": "first"},
        {"shown": "second"},
        {"arrows": False},
        {"points": (0.5, 0.5), "sigma_min": 0.5, "time": END},
    ]
    pictures = {StripExplorer(**state).picture() for state in states}
    assert len(pictures) == len(states)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_alive_and_as_the_package_computes_it(live):
    figure = StripExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert same(page, figure)
    seen = [ink(page)]
    for label, trait, value in (
        ("time t", "time", 0.0),
        ("time t", "time", END),
        ("width at t = 1", "sigma_min", 0.3),
    ):
        slide(page, label, value)
        setattr(figure, trait, value)
        assert same(page, figure), (label, value)
        seen.append(ink(page))
    for name in ("first", "second"):
        control(page, "density").select_option(name)
        assert same(page, figure), "the line of text is that of the place"
        seen.append(ink(page))
    control(page, "arrows of the field").uncheck()
    seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == len(seen), "each changes the picture"
    page.get_by_role("button", name="Reset").click()
    assert same(page, StripExplorer())
    assert ink(page) == seen[0]
    assert not page.trouble, page.trouble


def test_points_and_place_are_dragged_by_mouse_and_by_keyboard(live):
    page = live(StripExplorer())
    for name in ("the place looked at", "data point 2"):
        before = ink(page)
        drag(knob(page, name), 60, -40)
        page.mouse.move(0, 0)
        assert ink(page) != before, name
    (time, place), (one, second) = (told(page, n) for n in ("the place looked at", "data point 2"))
    assert time > 0.6
    assert place > 0.5
    assert second > 1.3
    assert one == 1, "a data point stays at time 1"
    assert same(page, StripExplorer(points=(-1, second), time=time, place=place))
    # A point that moves along one line takes both pairs of arrows.
    knob(page, "data point 1").focus()
    for key in ("ArrowUp", "ArrowRight", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert told(page, "data point 1") == [1, -1.3]
    assert knob(page, "data point 1").get_attribute("aria-valuenow") == "-1.3"
    for _ in range(3):
        page.keyboard.press("Shift+ArrowDown")
    assert told(page, "data point 1") == [1, -2], "it stops where a point may be"
    knob(page, "the place looked at").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    figure = StripExplorer(
        points=(-2, second), time=round(time - 0.05, 2), place=round(place - 0.05, 2)
    )
    assert same(page, figure)
    assert not page.trouble, page.trouble


def test_a_mouse_looks_where_it_is_and_a_click_stays_there(live):
    page = live(StripExplorer())
    first = readout(page)
    page.mouse.move(*spot(page, 0.8, -0.6))
    says(page, r"^t = 0\.(79|80|81), x = −0\.")
    assert told(page, "the place looked at") == [0.5, 0.25], "the handle stays"
    time, place, *_ = numbers(readout(page))
    assert readout(page) != first
    # The line rounds the place; what it says of the place is exact to that rounding.
    found, wanted = numbers(readout(page)), expected(StripExplorer(time=time, place=place))
    assert found == pytest.approx(wanted, rel=0.05, abs=0.05)
    page.mouse.move(2, 2)
    says(page, f"^{re.escape(first)}$")
    page.mouse.click(*spot(page, 0.3, 1.2))
    page.mouse.move(2, 2)
    assert told(page, "the place looked at") == pytest.approx([0.3, 1.2], abs=0.04)
    time, place = told(page, "the place looked at")
    assert same(page, StripExplorer(time=time, place=place))
    assert not page.trouble, page.trouble


def test_a_tap_looks_there(live):
    page = live(StripExplorer(), size=PHONE, has_touch=True)
    page.touchscreen.tap(*spot(page, 0.25, -0.8))
    time, place = told(page, "the place looked at")
    assert [time, place] == pytest.approx([0.25, -0.8], abs=0.03)
    assert same(page, StripExplorer(time=time, place=place))
    assert not page.trouble, page.trouble


def test_a_page_that_narrows_while_the_figure_is_out_of_view_stays_narrow(live):
    """A figure out of view does not draw: its points stand where they were on the wide page."""
    page = live(StripExplorer())
    page.evaluate("() => (document.querySelector('#after').style.marginTop = '5000px')")
    page.evaluate("() => scrollTo(0, 6000)")
    rests(page.locator(".fm-figure"))
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
    assert not page.trouble, page.trouble


def test_the_place_follows_the_field(live):
    start = StripExplorer(time=0.8)
    page = live(start)
    time, button = control(page, "time t"), page.locator("button.fm-button").first
    figure = page.locator(".fm-figure")
    assert rests(figure) == settled(figure), "nothing moves by itself"
    button.click()
    reaches(page, "time t", "v > 0.84")
    button.filter(has_text=re.compile("^Pause")).click()
    assert rests(figure) == settled(figure)
    button.click()
    says(page, r"t = 0\.98")
    button.filter(has_text=re.compile("^Follow")).wait_for()
    x = torch.tensor([[start.place]], dtype=torch.float64)
    end = sample(start.marginal, x, method="rk4", steps=400, t0=0.8, t1=END).item()
    assert told(page, "the place looked at") == pytest.approx([END, end], abs=0.02)
    button.click()  # from the end it begins anew
    reaches(page, "time t", "v < 0.95")
    button.click()
    assert 0.8 <= float(time.input_value()) < 0.95
    assert not page.trouble, page.trouble


def test_what_changes_elsewhere_is_drawn_too(live):
    figure = StripExplorer()
    page = live(figure, figure)  # two views of one figure
    seen = [ink(page, 1)]
    page.get_by_label("width at t = 1", exact=True).first.fill("0.4")
    seen.append(ink(page, 1))
    control(page, "density").first.select_option("second")
    seen.append(ink(page, 1))
    knob(page, "data point 1").first.press("Shift+ArrowUp")
    seen.append(ink(page, 1))
    assert len({tuple(s) for s in seen}) == 4
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        change(points=[1.0]),
        change(points=[1.0, None]),
        change(points=[1.0, 3.0]),
        change(sigma_min=None),
        change(sigma_min=-0.1),
        change(time=1),
        change(place=None),
        change(shown="third"),
        change(_settings={}),
        dict.clear,
    ]
    pictures_stay(live, StripExplorer, damages)


def test_extreme_states_fit_their_line(live):
    states = [
        StripExplorer(points=(0.5, 0.5), time=END, place=-2.4),  # two points at one place
        StripExplorer(points=(-2, 2), time=END, place=0.0),  # the largest variance
        StripExplorer(points=(-2, -1.9), time=END, place=-2.4, sigma_min=0.5),
    ]
    page = live(*states)
    for k, state in enumerate(states):
        wanted = pytest.approx(expected(state), abs=0.0051, rel=0.0051)
        # Each has drawn; those that are out of view by now do not draw again.
        assert numbers(page.locator(".fm-figure .fm-readout").nth(k).inner_text()) == wanted
    assert not page.trouble, page.trouble
