"""The path explorer: its traits, its picture, and the live figure in a browser."""

import math

import pytest
import torch
from browsing import change, control, decimals, drag, drawn, ink, pictures_stay, readout, slide
from traitlets import TraitError

from fmtutor import CondOT, Cosine, VariancePreserving
from fmtutor.widgets import PathExplorer
from fmtutor.widgets.path_explorer import PLANE, SCHEDULES


def expected(figure):
    """Return what the line of text says, from the package: t, α, σ, x_t, u_t."""
    s = figure.sample()
    schedule = figure.path.alpha(s.t).item(), figure.path.sigma(s.t).item()
    return [figure.time, *schedule, *s.xt[0].tolist(), *s.ut[0].tolist()]


def test_the_defaults_and_what_can_be_set():
    figure = PathExplorer()
    assert (figure.schedule, figure.sigma_min, figure.time) == ("CondOT", 0.0, 0.4)
    assert figure.path == CondOT()
    figure.sigma_min = 0.25
    assert figure.path == CondOT(0.25)
    figure.x0 = [1, -0.5]
    assert figure.x0 == (1.0, -0.5)
    assert PathExplorer(schedule="Cosine").path == Cosine()
    assert PathExplorer(schedule="VariancePreserving").path == VariancePreserving()
    assert "schedule='CondOT', sigma_min=0.25, time=0.4" in repr(figure)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"schedule": "Sine"}, "schedule must be one of CondOT, Cosine.*'Sine' came"),
        ({"time": 1.01}, "time"),
        ({"time": float("nan")}, "time must be finite"),
        ({"sigma_min": -0.1}, "sigma_min"),
        ({"sigma_min": 0.6}, "sigma_min"),
        ({"x0": (9.0, 0.0)}, r"x0 must lie in \[-2.3, 4.3\] x \[-2.4, 2.4\].*\(9.0, 0.0\) came"),
        ({"x1": (0.0, -3.0)}, "x1 must lie in"),
        ({"x1": (0.0, math.inf)}, "finite"),
        ({"x0": (1.0,)}, "x0"),
        ({"x0": "ab"}, "x0"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        PathExplorer(**bad)
    figure = PathExplorer()
    before = repr(figure)
    with pytest.raises(TraitError):
        setattr(figure, *next(iter(bad.items())))
    assert repr(figure) == before


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"PathExplorer takes particles, .* but speed came"):
        PathExplorer(speed=2)


def test_the_particle_and_the_cloud_at_known_places():
    figure = PathExplorer(x0=(-1.0, 0.5), x1=(3.0, 1.0), time=0.25)
    s = figure.sample()
    assert s.xt.tolist() == [[0.0, 0.625]]
    assert s.ut.tolist() == [[4.0, 0.5]]
    mean, width = figure.cloud()
    assert (mean.tolist(), width) == ([0.75, 0.25], 0.75)
    figure.sigma_min = 0.5
    assert figure.cloud(1.0)[1] == 0.5
    figure.schedule = "Cosine"
    assert figure.cloud(1.0)[1] == 0.0
    torch.testing.assert_close(figure.sample(0.0).ut[0], 0.5 * math.pi * figure.cloud(1.0)[0])
    figure.schedule = "VariancePreserving"
    with pytest.raises(ValueError, match="no finite limit"):
        figure.sample(1.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_picture_of_every_state(schedule):
    pictures = {
        PathExplorer(schedule=schedule, time=t, parts=p, particles=p).picture()
        for t, p in ((0.0, True), (0.4, True), (0.4, False), (1.0, True))
    }
    assert len(pictures) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_alive_and_as_the_package_computes_it(live):
    figure = PathExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    seen = [ink(page)]
    for schedule, time, sigma_min in (
        ("CondOT", 0.75, 0.3),
        ("Cosine", 0.2, 0.3),
        ("VariancePreserving", 0.85, 0.3),
        ("Cosine", 1.0, 0.3),
    ):
        control(page, "path").select_option(schedule)
        slide(page, "time t", time)
        if schedule == "CondOT":
            slide(page, "σ_min", sigma_min)
        state = PathExplorer(schedule=schedule, time=time, sigma_min=sigma_min)
        assert decimals(readout(page)) == pytest.approx(expected(state), abs=0.0051), schedule
        seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 5, "each of them changes the picture"
    control(page, "path").select_option("VariancePreserving")
    assert "uₜ has no limit" in readout(page).replace("\xa0", " ")
    assert not page.trouble, page.trouble


def test_boxes_and_the_width_that_only_the_straight_path_has(live):
    page = live(PathExplorer(time=0.6))
    seen = [ink(page)]
    for box in ("parts of the velocity", "other particles"):
        control(page, box).uncheck()
        assert ink(page)[0] < seen[-1][0], box
        seen.append(ink(page))
    slide(page, "σ_min", 0.5)
    assert ink(page) != seen[-1]
    assert control(page, "σ_min").is_enabled()
    control(page, "path").select_option("Cosine")
    assert control(page, "σ_min").is_disabled()
    assert not page.trouble, page.trouble


def test_what_changes_elsewhere_is_drawn_too(live):
    figure = PathExplorer()
    page = live(figure, figure)  # two views of one figure
    seen = [ink(page, 1)]
    for box in ("parts of the velocity", "other particles"):
        control(page, box).first.uncheck()
        seen.append(ink(page, 1))
    for slider, value in (("time t", "0.6"), ("σ_min", "0.2")):
        control(page, slider).first.fill(value)
        seen.append(ink(page, 1))
    control(page, "path").first.select_option("Cosine")
    seen.append(ink(page, 1))
    for name in ("x0, noise", "x1, data"):
        page.get_by_role("slider", name=name).first.focus()
        page.keyboard.press("Shift+ArrowDown")
        seen.append(ink(page, 1))
    assert len({tuple(s) for s in seen}) == 8
    assert not page.trouble, page.trouble


def test_the_ends_are_dragged_by_mouse_and_by_keyboard(live):
    page = live(PathExplorer())
    before = ink(page)
    knob = page.get_by_role("slider", name="x1, data")
    drag(knob, -80, 60)
    assert ink(page) != before
    x1 = tuple(decimals(knob.get_attribute("aria-valuetext")))
    assert x1[0] < 2.5
    assert x1[1] < 0.5
    assert decimals(readout(page)) == pytest.approx(expected(PathExplorer(x1=x1)), abs=0.0051)
    page.get_by_role("slider", name="x0, noise").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    state = PathExplorer(x0=(-0.9, -1.1), x1=x1)
    assert decimals(readout(page)) == pytest.approx(expected(state), abs=0.0051)
    for _ in range(12):
        page.keyboard.press("Shift+ArrowRight")
    drawn(page)
    assert (
        decimals(page.get_by_role("slider", name="x0").get_attribute("aria-valuetext"))[0]
        == (PLANE[0][1])
    ), "it stays in the plane"
    page.get_by_role("slider", name="time on the curves").focus()
    for key, time in (("ArrowRight", 0.42), ("ArrowUp", 0.44), ("ArrowDown", 0.42)):
        page.keyboard.press(key)
        assert float(control(page, "time t").input_value()) == time
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        change(x0=[]),
        change(x1=[1.0, None], schedule="Sine"),
        change(_settings={}),
        dict.clear,
    ]
    pictures_stay(live, PathExplorer, damages)


def test_huge_values_leave_it_alive(live):
    page = live(PathExplorer(), damage=change(x0=[1e300, -1e300]))
    slide(page, "time t", 0.5)
    assert readout(page).startswith("t = 0.50")
    assert not page.trouble, page.trouble
