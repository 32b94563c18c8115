"""Samplers on schedules: traits, what the figure computes, and the live figure in a browser."""

import math
import re
from unittest.mock import patch

import pytest
import torch
from browsing import (
    change,
    control,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    reaches,
    readout,
    rests,
    says,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor import CondOT, Cosine, VariancePreserving
from fmtutor.exponential import sample_exponential
from fmtutor.widgets import DiffusionExplorer
from fmtutor.widgets.diffusion_explorer import GRIDS, INKS, NAMES, STEPS
from fmtutor.widgets.rng import Random
from fmtutor.widgets.schedules import (
    POINTS,
    SAMPLERS,
    SEED,
    SPAN,
    Between,
    ends,
    exact,
    mixture,
    schedule_at,
    times_on,
)

DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")
FLOWS = SAMPLERS[:3]
PLACES = [0.0, 0.4, 1.0, 1.65, 2.0]
places = pytest.mark.parametrize("place", PLACES)
grids = pytest.mark.parametrize("grid", GRIDS)

# All points of the curves are then measured before the first frame, and the picture stands still.
CALM = {"reduced_motion": "reduce"}


def values(text):
    """Steps, error (of the ancestral sampler none) and how far the schedule moved the ends."""
    pattern = r"N = (\d+), .*: (?:error (\S+)|new noise, other points); moved by (\S+) since"
    n, *distances = re.search(pattern, text).groups()
    plain = (d.translate(DIGITS).replace("·10", "e") for d in distances if d is not None)
    return [int(n), *map(float, plain)]


def expected(figure):
    distances = [] if figure.sampler == "ancestral" else [figure.error()]
    distances.append(figure.moved())
    # The page shows three decimals of a distance of at least 0.01, else two digits.
    near = [pytest.approx(x, abs=5.1e-4 if x >= 0.01 else 0.051 * x + 1e-9) for x in distances]
    return [figure.steps, *near]


def test_the_defaults_and_what_can_be_set():
    figure = DiffusionExplorer()
    assert repr(figure) == "DiffusionExplorer(grid='log-SNR', sampler='euler', schedule=1, steps=8)"
    figure.sampler, figure.grid, figure.steps, figure.schedule = "2m", "time", 5, 1.65
    assert figure.positions().shape == (6, POINTS, 2)
    assert tuple(NAMES) == tuple(INKS) == SAMPLERS


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"sampler": "heun"}, "sampler must be one of euler, .* but 'heun' came"),
        ({"grid": "sigma"}, "grid must be one of log-SNR, time, but 'sigma' came"),
        ({"steps": 1}, "steps"),
        ({"steps": 65}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"schedule": 2.1}, "schedule"),
        ({"schedule": -0.1}, "schedule"),
        ({"schedule": math.nan}, "schedule must be finite"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        DiffusionExplorer(**bad)


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"DiffusionExplorer takes grid, .* but eta came"):
        DiffusionExplorer(eta=1)


def test_schedules_of_a_name_and_between():
    named = [CondOT(), Cosine(), VariancePreserving()]
    assert [schedule_at(k) for k in (0, 1, 2)] == named
    assert schedule_at(1.25) == Between(*named[1:], 0.25)


@places
def test_a_schedule_in_between_is_a_path(place):
    """Derivatives are those of the scales; x_t is the mean of both paths' points."""
    path = schedule_at(place)
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    for scale, slope in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        (found,) = torch.autograd.grad(scale(t).sum(), t)
        torch.testing.assert_close(slope(t), found)
    assert (path.alpha(t) / path.sigma(t)).diff().min() > 0, "the log-SNR rises"


@grids
@places
def test_every_grid_spans_the_same_noise_levels(place, grid):
    path = schedule_at(place)
    times = times_on(path, grid, 7)
    ratio = path.alpha(times) / path.sigma(times)
    assert (2 * ratio[[0, -1]].log()).tolist() == pytest.approx(list(SPAN), abs=1e-6)
    steps = times.diff() if grid == "time" else ratio.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand(7))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_on_one_grid_the_schedule_moves_eulers_points_alone(sampler):
    found = [DiffusionExplorer(sampler=sampler, schedule=place) for place in PLACES[1:]]
    far = [figure.moved() for figure in found]
    ways = [figure.positions() for figure in found]
    if sampler == "euler":
        assert min(far) > 0.07
    else:
        assert max(far) < 1e-9
        for way in ways[1:]:
            torch.testing.assert_close(way, ways[0], rtol=0, atol=1e-9)
    assert DiffusionExplorer(sampler=sampler, schedule=2.0, grid="time").moved() > 0.03


def test_ddim_is_eulers_method_on_the_straight_path():
    figure = DiffusionExplorer(schedule=0.0)
    assert figure.error("ddim") == pytest.approx(figure.error("euler"), rel=1e-9)


@grids
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_way_ends_at_the_end(sampler, grid):
    figure = DiffusionExplorer(sampler=sampler, grid=grid, schedule=1.4, steps=6)
    way = figure.positions()
    torch.testing.assert_close(way[-1], ends(sampler, grid, 6, 1.4), rtol=0, atol=1e-9)
    torch.testing.assert_close(way[0], exact()[0], rtol=0, atol=1e-6)


@grids
@places
def test_the_ancestral_sampler_is_the_packages_with_noise_of_our_own(place, grid):
    path, random = schedule_at(place), Random(SEED + 1)
    times = times_on(path, grid, 6)
    x0 = path.sigma(times[0]) * Random(SEED).normals(POINTS, 2).double()
    with patch("fmtutor.exponential.torch.randn", lambda s, **_: random.normals(*s).double()):
        field = mixture().velocity(path)
        x = sample_exponential(field, x0, path=path, eta=1.0, times=times)
    scale = (path.alpha(times[-1]).square() + path.sigma(times[-1]).square()).sqrt()
    torch.testing.assert_close(ends("ancestral", grid, 6, place), x / scale, rtol=0, atol=1e-8)


@pytest.mark.parametrize("sampler", FLOWS)
def test_errors_are_distances_to_the_exact_flow_and_shrink(sampler):
    coarse, fine = (DiffusionExplorer(sampler=sampler, steps=n).error() for n in (16, 64))
    assert coarse / fine > (8 if sampler == "2m" else 3)


def test_a_picture_of_every_state():
    states = [{}, {"sampler": "ddim"}, {"sampler": "ancestral"}, {"grid": "time", "steps": 2}]
    pictures = {DiffusionExplorer(**state).picture() for state in states}
    assert len(pictures) == len(states)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_alive_and_as_the_package_computes_it(live):
    figure = DiffusionExplorer()
    page = live(figure, **CALM)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert values(readout(page)) == expected(figure)
    seen = [ink(page)]
    for sampler, grid, steps, place, words in (
        ("ddim", "log-SNR", 8, 1.65, "65 % to VP"),
        ("2m", "time", 16, 0.0, "straight"),
        ("2m", "time", 64, 2.0, "VP"),
        ("ancestral", "time", 4, 0.35, "35 % to cosine"),
        ("euler", "time", 2, 1.0, "cosine"),
    ):
        control(page, "sampler").select_option(sampler)
        control(page, "grid").select_option(grid)
        slide(page, "steps N", STEPS.index(steps))
        slide(page, "schedule", place)
        figure.sampler = sampler
        figure.grid, figure.steps, figure.schedule = grid, steps, place
        assert values(readout(page)) == expected(figure), sampler
        assert f"{NAMES[sampler]}, N = {steps}, {words}:" in readout(page)
        assert NAMES[sampler] in page.locator("canvas").get_attribute("aria-label")
        assert GRIDS[grid] in page.locator("canvas").get_attribute("aria-label")
        seen.append(ink(page))
    page.get_by_role("button", name="Reset").click()
    assert values(readout(page)) == expected(DiffusionExplorer())
    assert ink(page) == seen[0]
    assert len({tuple(s) for s in seen}) == len(seen), "each changes the picture"
    assert not page.trouble, page.trouble


# By how much the left half of the canvas, where the points are, differs from its first look:
# the largest difference of a pixel, of 255.
DIFFERENCE = """
(canvas) => {
  const copy = document.createElement('canvas');
  Object.assign(copy, { width: canvas.width / 2, height: canvas.height });
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  canvas.first ??= data;
  return data.reduce((most, value, i) => Math.max(most, Math.abs(value - canvas.first[i])), 0);
}
"""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_while_the_schedule_slides_points_stay_but_eulers(live, sampler):
    page = live(DiffusionExplorer(sampler=sampler), **CALM)
    canvas = page.locator(".fm-canvas")
    assert canvas.evaluate(DIFFERENCE) == 0
    for place in (0.0, 0.45, 1.8):
        slide(page, "schedule", place)
        if sampler == "euler":
            assert canvas.evaluate(DIFFERENCE) > 100, place
        else:
            assert canvas.evaluate(DIFFERENCE) <= 8, place  # the last bit of a place
    control(page, "grid").select_option("time")
    settled(page.locator(".fm-figure"))
    assert canvas.evaluate(DIFFERENCE) > 100
    assert not page.trouble, page.trouble


def test_the_keyboard_moves_the_schedule(live):
    page = live(DiffusionExplorer(), **CALM)
    slider = control(page, "schedule")
    slider.focus()
    page.keyboard.press("ArrowRight")
    says(page, "5 % to VP")
    assert slider.get_attribute("aria-valuetext") == "1.05"
    page.keyboard.press("Home")
    says(page, "straight: error .* moved by 0 since")
    assert slider.get_attribute("aria-valuetext") == "straight"
    page.keyboard.press("End")
    says(page, "VP:")
    assert values(readout(page)) == expected(DiffusionExplorer(schedule=2.0))
    assert not page.trouble, page.trouble


def test_a_sweep_goes_through_the_schedules_and_begins_anew(live):
    page = live(DiffusionExplorer(schedule=1.9, sampler="ddim"), **CALM)
    figure, button = page.locator(".fm-figure"), page.locator("button.fm-button").first
    assert rests(figure) == settled(figure), "nothing moves by itself"
    button.click()
    reaches(page, "schedule", "v === 2")
    button.filter(has_text=re.compile("^Sweep")).wait_for()
    button.click()  # from the end it begins anew
    reaches(page, "schedule", "v < 1.5")
    button.filter(has_text=re.compile("^Pause")).click()
    assert rests(figure) == settled(figure)
    assert not page.trouble, page.trouble


def test_the_curves_grow_and_then_nothing_moves_by_itself(live):
    calm, page = live(DiffusionExplorer(), **CALM), live(DiffusionExplorer())
    assert ink(page) == ink(calm)
    figure = page.locator(".fm-figure")
    assert rests(figure) == settled(figure)
    assert not page.trouble, page.trouble


def test_what_changes_elsewhere_is_drawn_too(live):
    figure = DiffusionExplorer()
    page = live(figure, figure, **CALM)  # two views of one figure
    seen = [ink(page, 1)]
    page.get_by_label("steps N", exact=True).first.fill("2")
    seen.append(ink(page, 1))
    control(page, "sampler").first.select_option("2m")
    seen.append(ink(page, 1))
    page.get_by_label("schedule", exact=True).first.fill("0.3")
    seen.append(ink(page, 1))
    assert len({tuple(s) for s in seen}) == 4
    assert control(page, "steps N").nth(1).get_attribute("aria-valuetext") == "4"
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        poison,
        no_buffers,
        change(steps=1),
        change(steps=2.5),
        change(schedule=None),
        change(schedule=2.5),
        change(sampler="leap"),
        change(grid="sigma"),
        change(_settings={}),
        dict.clear,
    ]
    pictures_stay(live, DiffusionExplorer, damages)
