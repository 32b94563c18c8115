"""The posterior explorer: its traits, its picture, and the live figure in a browser."""

import math
import re

import pytest
import torch
from browsing import (
    change,
    control,
    decimals,
    drag,
    ink,
    pictures_stay,
    reaches,
    readout,
    rests,
    says,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor import CondOT, EmpiricalField, sample
from fmtutor.data import moons
from fmtutor.widgets import PosteriorExplorer
from fmtutor.widgets.posterior_explorer import DATA, END


def expected(figure):
    """Return what the line of text says, from the package."""
    largest = figure.weights().max().item()
    return [figure.time, figure.effective_number(), largest, *figure.velocity().tolist()]


def same(page, figure):
    """Whether the line of text is that of a state."""
    return decimals(readout(page)) == pytest.approx(expected(figure), abs=0.0051)


def knob(page, name):
    """Return a point to drag."""
    return page.get_by_role("slider", name=name, exact=True)


def place(page, name):
    """Return where a point to drag is."""
    return tuple(decimals(knob(page, name).get_attribute("aria-valuetext")))


def test_the_defaults_and_what_can_be_set():
    figure = PosteriorExplorer()
    assert (figure.point, figure.time, figure.data) == ((1.0, 0.7), 0.4, DATA)
    torch.testing.assert_close(torch.tensor(DATA), moons(12, seed=3), atol=0.0051, rtol=0)
    figure.data = [[0, 1], [2, -1]]
    figure.point = [0, 0]
    assert figure.data == ((0.0, 1.0), (2.0, -1.0))
    assert repr(figure) == (
        "PosteriorExplorer(clouds=False, data=((0.0, 1.0), (2.0, -1.0)), field=False, "
        "point=(0.0, 0.0), time=0.4)"
    )


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"time": 1.0}, "time"),
        ({"time": math.nan}, "time must be finite"),
        ({"point": (4.0, 0.0)}, r"point must lie in \[-3.4, 3.8\] x .* \(4.0, 0.0\) came"),
        ({"point": (0.0,)}, "point"),
        ({"data": ()}, "data must be 1 to 24 points, but 0 came"),
        ({"data": ((0.0, 0.0),) * 25}, "but 25 came"),
        ({"data": ((0.0, 0.0), (0.0, math.nan))}, "data must lie in"),
        ({"data": ((0.0, 0.0), (0.0,))}, r"data must hold pairs of numbers, not \(0.0,\)"),
        ({"data": (1.0, 2.0)}, "data must hold pairs of numbers, not 1.0"),
        ({"data": 3}, "data"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        PosteriorExplorer(**bad)
    figure = PosteriorExplorer()
    before = repr(figure)
    with pytest.raises(TraitError):
        setattr(figure, *next(iter(bad.items())))
    assert repr(figure) == before


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"PosteriorExplorer takes clouds, .* but speed came"):
        PosteriorExplorer(speed=2)


def test_the_numbers_of_two_points_are_those_of_the_formula():
    a = torch.tensor([1.0, 0.5], dtype=torch.float64)
    figure = PosteriorExplorer(data=((1.0, 0.5), (-1.0, -0.5)), point=(0.2, 0.1), time=0.5)
    s = (0.5 / 0.25 * a @ torch.tensor([0.2, 0.1], dtype=torch.float64)).item()
    share = math.exp(s) / (math.exp(s) + math.exp(-s))
    assert figure.weights().tolist() == pytest.approx([share, 1 - share])
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert figure.effective_number() == pytest.approx(math.exp(entropy))
    mean = a * math.tanh(s)
    torch.testing.assert_close(figure.velocity(), 2 * (mean - 0.2 * a))
    figure.time = 0.0
    assert figure.effective_number() == pytest.approx(2.0)
    figure.time = END
    assert figure.effective_number() == pytest.approx(1.0, abs=1e-6)


def test_a_picture_of_every_state():
    pictures = {PosteriorExplorer(time=t).picture() for t in (0.0, 0.4, END)}
    pictures |= {PosteriorExplorer(data=(DATA[0],), point=DATA[0]).picture()}
    assert len(pictures) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_alive_and_as_the_package_computes_it(live):
    figure = PosteriorExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert page.locator(".fm-handle").count() == 13
    assert same(page, figure)
    seen = [ink(page)]
    for time in (0.0, 0.7, END):
        slide(page, "time t", time)
        figure.time = time
        assert same(page, figure), time
        seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 4, "the slider changes the picture"
    for box in ("cloud of each data point", "field elsewhere"):
        control(page, box).check()
        assert ink(page)[0] > seen[-1][0], box
        assert same(page, figure), "the line of text is that of the particle"
        seen.append(ink(page))
    assert not page.trouble, page.trouble


def test_what_changes_elsewhere_is_drawn_too(live):
    figure = PosteriorExplorer()
    page = live(figure, figure)  # two views of one figure
    seen = [ink(page, 1)]
    for box in ("cloud of each data point", "field elsewhere"):
        control(page, box).first.check()
        seen.append(ink(page, 1))
    slide_first = page.get_by_label("time t", exact=True).first
    slide_first.fill("0.6")
    seen.append(ink(page, 1))
    knob(page, "data point 1").first.focus()
    page.keyboard.press("Shift+ArrowLeft")
    seen.append(ink(page, 1))
    assert len({tuple(s) for s in seen}) == 5
    assert not page.trouble, page.trouble


def test_the_discs_are_those_of_the_particle_with_the_field_drawn_too(live):
    page = live(PosteriorExplorer(point=(-2.1, 0.6), time=0.85, field=True))
    left, right = page.locator(".fm-canvas").evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " const n = [0, 0];"
        " for (let i = 0; i < d.length; i += 4)"
        "   if (d[i + 3] > 60 && d[i] > d[i + 2] + 120)"
        "     n[(i / 4) % c.width < c.width / 2 ? 0 : 1]++;"
        " return n; }"
    )
    assert left > 10 * right


def test_particle_and_data_are_dragged_by_mouse_and_by_keyboard(live):
    page = live(PosteriorExplorer(time=0.5))
    for name in ("x, the particle", "data point 10"):
        before = ink(page)
        drag(knob(page, name), -70, -30)
        assert ink(page) != before, name
    data = [list(point) for point in DATA]
    point, data[9] = place(page, "x, the particle"), place(page, "data point 10")
    assert point[0] < 0.6 < 0.8 < point[1]
    assert data[9][0] < 2.2
    assert same(page, PosteriorExplorer(time=0.5, point=point, data=data))
    knob(page, "data point 6").focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowRight")
    knob(page, "x, the particle").focus()
    page.keyboard.press("ArrowLeft")
    data[5], point = (1.0, 0.35), (round(point[0] - 0.1, 2), point[1])
    assert same(page, PosteriorExplorer(time=0.5, point=point, data=data))
    page.get_by_role("button", name="Reset").click()
    assert same(page, PosteriorExplorer(time=0.5))
    assert place(page, "data point 10") == DATA[9]
    assert not page.trouble, page.trouble


def test_the_particle_follows_the_field(live):
    start = PosteriorExplorer(time=0.7)
    page = live(start)
    time, button = control(page, "time t"), page.locator("button.fm-button").first
    figure = page.locator(".fm-figure")
    assert rests(figure) == settled(figure), "nothing moves by itself"
    button.focus()
    page.keyboard.press("Enter")
    reaches(page, "time t", "v > 0.75")
    assert button.inner_text() == "Pause"
    page.keyboard.press("Enter")
    assert rests(figure) == settled(figure)
    page.keyboard.press("Enter")
    says(page, r"t = 0\.98")
    button.filter(has_text=re.compile("^Follow")).wait_for()
    x = torch.tensor([start.point], dtype=torch.float64)
    field = EmpiricalField(CondOT(), start.marginal.data)
    end = sample(field, x, method="rk4", steps=400, t0=0.7, t1=END)[0]
    assert place(page, "x, the particle") == pytest.approx(end.tolist(), abs=0.02)
    button.click()  # from the end it begins anew
    reaches(page, "time t", "v < 0.9")
    button.click()
    assert 0.7 <= float(time.input_value()) < 0.9
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        change(data=[]),
        change(point=[1.0, None]),
        change(_settings={}),
        change(time=1),
        dict.clear,
    ]
    pictures_stay(live, PosteriorExplorer, damages)


def test_huge_values_and_one_point_leave_it_alive(live):
    page = live(
        PosteriorExplorer(),
        PosteriorExplorer(data=((0.5, 0.5),), point=(0.5, 0.5)),
        damage=lambda state: next(
            m["state"].update(data=[[1e200, 0.0], [0.0, 1e9]])
            for m in state.values()
            if len(m["state"].get("data", ())) == 12
        ),
    )
    assert "effective number of data points 1.00, largest weight 1.00" in readout(page, 1)
    assert page.locator(".fm-handle").count() == 5
    assert not page.trouble, page.trouble
