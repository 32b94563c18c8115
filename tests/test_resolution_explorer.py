"""One picture at two resolutions: traits, what the figure computes, and it live in a browser."""

import base64
import gzip
import math
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import (
    CUT_OFF,
    PHONE,
    PIXELS,
    change,
    control,
    drag,
    ink,
    no_buffers,
    pictures_stay,
    reaches,
    readout,
    rests,
    says,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor.images.datasets import load_images
from fmtutor.images.published import DEBIAN
from fmtutor.widgets import ResolutionExplorer
from fmtutor.widgets.resolution_explorer import COUNT
from fmtutor.widgets.resolutions import (
    END,
    KINDS,
    PICTURES,
    PIECES,
    RATIOS,
    SEED,
    SIDE,
    block_means,
    data,
    enlarged,
    garments,
    shrunk_noise,
    stops,
    time_of,
)
from fmtutor.widgets.rng import Random

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import widget_pictures

ratios = pytest.mark.parametrize("ratio", RATIOS)


def values(text):
    """Side, time and garments still possible of both flows, and log-SNR of a block in each."""
    pattern = (
        r"(\d+)×\d+, t\s=\s(\S+): (\S+) possible; "
        r"(\d+)×\d+, t\s=\s(\S+): (\S+); block log-SNR (\S+), (\S+)"
    )
    found = re.fullmatch(pattern, text.replace("−", "-").replace("∞", "inf")).groups()
    return [float(value) for value in found]


def expected(figure):
    """Return what the line of text says, from the package; it shows two or three decimals."""
    large, small = figure.large(), figure.small()
    near = []
    for moment in (large, small):
        time, possible = moment.time, moment.possible()
        near += [moment.side, pytest.approx(time, abs=5.1e-4), pytest.approx(possible, abs=5.1e-3)]
    return near + [pytest.approx(moment.log_snr, abs=5.1e-3) for moment in (large, small)]


def test_the_defaults_and_what_can_be_set():
    figure = ResolutionExplorer()
    assert repr(figure) == (
        "ResolutionExplorer(clock='same', detail=True, garment=57, ratio=4, seed=7, time=0.35)"
    )
    figure.clock, figure.ratio, figure.detail, figure.garment = "shifted", 2, False, 64
    assert (figure.large().side, figure.small().side) == (28, 14)
    assert figure.large().time == pytest.approx(0.35 / (0.35 + 2 * 0.65))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"time": 1.0}, "time"),
        ({"time": -0.1}, "time"),
        ({"time": math.nan}, "time must be finite"),
        ({"clock": "later"}, "clock must be one of same, shifted, but 'later' came"),
        ({"ratio": 3}, "ratio must be 4 or 2, but 3 came"),
        ({"ratio": "4"}, "ratio"),
        ({"garment": 0}, "garment"),
        ({"garment": 65}, "garment"),
        ({"seed": -1}, "seed"),
        ({"detail": "yes"}, "detail"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        ResolutionExplorer(**bad)
    figure = ResolutionExplorer()
    before = repr(figure)
    with pytest.raises(TraitError):
        setattr(figure, *next(iter(bad.items())))
    assert repr(figure) == before


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"ResolutionExplorer takes clock, .* but shift came"):
        ResolutionExplorer(shift=4)


def test_the_garments_are_few_all_different_and_light():
    pictures = garments()
    assert (pictures.dtype, pictures.shape) == (torch.uint8, (COUNT, SIDE, SIDE))
    assert torch.pdist(data("large", 4).flatten(1)).min() > 1, "no two are alike"
    assert torch.pdist(data("small", 4).flatten(1)).min() > 0.2, "not even when they are small"
    assert 50_000 < PICTURES.stat().st_size < 60_000


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_garments_are_those_of_the_recipe():
    assert np.array_equal(widget_pictures.chosen(load_images("fashion-mnist")), garments().numpy())


@ratios
def test_small_pictures_are_block_means_and_even_blocks_are_theirs(ratio):
    large, small, blocks = (data(kind, ratio) for kind in ("large", "small", "blocks"))
    assert {kind: data(kind, ratio).shape[1] for kind in KINDS} == {
        "large": SIDE,
        "blocks": SIDE,
        "small": SIDE // ratio,
    }
    assert small[5, 2, 1] == pytest.approx(
        large[5, 2 * ratio : 3 * ratio, ratio : 2 * ratio].mean().item()
    )
    torch.testing.assert_close(block_means(blocks, ratio), small)
    assert torch.equal(enlarged(small, ratio), blocks)
    share = (large - blocks).square().sum() / (large - large.mean(0)).square().sum()
    assert 0.1 < share < 0.5, "a part of the picture is within the blocks"


@ratios
def test_the_small_noise_is_that_of_the_large_picture_and_standard_normal(ratio):
    large = Random(3).normals(200, SIDE, SIDE).double()
    small = shrunk_noise(large, ratio)
    torch.testing.assert_close(small.sum(), large.sum() / ratio)
    assert small.std() == pytest.approx(1, abs=0.02)
    assert small.mean() == pytest.approx(0, abs=0.03)


@ratios
@pytest.mark.parametrize("time", [0.1, 0.35, 0.8])
def test_even_blocks_at_the_shifted_time_are_the_small_picture(ratio, time):
    """The proposition, on garments: weights and mean are the same at the same log-SNR."""
    figure = ResolutionExplorer(clock="shifted", ratio=ratio, detail=False, time=time)
    large, small = figure.large(), figure.small()
    assert large.log_snr == pytest.approx(small.log_snr)
    torch.testing.assert_close(large.weights, small.weights, rtol=0, atol=1e-9)
    torch.testing.assert_close(large.mean, enlarged(small.mean, ratio), rtol=0, atol=1e-8)
    scale = small.time / large.time
    torch.testing.assert_close(scale * block_means(large.x, ratio), small.x, rtol=0, atol=1e-9)
    figure.clock = "same"
    assert figure.large().possible() < large.possible() - (1 if time < 0.2 else -1e-6)
    assert figure.large().log_snr > small.log_snr + 1


@ratios
def test_the_curves_say_what_the_figure_is_about(ratio):
    figure = ResolutionExplorer(ratio=ratio)
    same, shifted = figure.curve("large"), figure.curve("large", "shifted")
    small = figure.curve("small")
    assert [len(curve) for curve in (same, shifted, small)] == [PIECES + 1] * 3
    for curve in (same, shifted, small):
        assert curve[0] == pytest.approx(COUNT)
        assert curve[-1] == pytest.approx(1, abs=1e-3)
        assert all(a > b - 0.02 for a, b in pairwise(curve)), "it falls"

    def half(curve):  # the time at which an eighth of them is left
        return next(t for t, left in zip(stops(), curve, strict=True) if left < COUNT / 8)

    assert half(same) < 0.6 * half(small), "at the same time it has decided long before"
    assert 0.8 * half(small) < half(shifted) < half(small), "shifted: nearly alike, and before"
    assert all(a <= b + 1e-9 for a, b in zip(shifted, small, strict=True)), "detail says more"
    figure.detail = False
    assert figure.curve("large", "shifted") == pytest.approx(small, abs=1e-9)
    figure.clock = "shifted"
    assert figure.curve("large") == figure.curve("large", "shifted")


@ratios
def test_a_curve_is_e_to_the_mean_entropy_over_one_draw_for_each_garment(ratio):
    x1, k = data("small", ratio).flatten(1), 20
    noise = Random(SEED).normals(COUNT, SIDE, SIDE).double()
    t, x0 = stops()[k], shrunk_noise(noise, ratio).flatten(1)
    square = torch.cdist(t * x1 + (1 - t) * x0, t * x1).square()
    logs = (-square / (2 * (1 - t) ** 2)).log_softmax(1)
    mean_entropy = -(logs.exp() * logs).sum(1).mean().item()
    found = ResolutionExplorer(ratio=ratio).curve("small")[k]
    assert found == pytest.approx(math.exp(mean_entropy), abs=1e-6)


def test_a_draw_is_one_of_those_that_the_curve_averages():
    """At time 0 all are possible, at the end the garment that was mixed."""
    for garment in (1, 30, 64):
        figure = ResolutionExplorer(garment=garment, time=0.0)
        assert figure.large().possible() == pytest.approx(COUNT)
        assert figure.small().log_snr == -math.inf
        figure.time = END
        for moment in (figure.large(), figure.small()):
            assert moment.possible() == pytest.approx(1, abs=1e-6)
            assert moment.weights.argmax() == garment - 1
        torch.testing.assert_close(figure.large().mean, data("large", 4)[garment - 1])
    assert time_of(0.5, "shifted", 4) == pytest.approx(0.2)


def test_a_picture_of_every_state():
    states = [
        {},
        {"clock": "shifted"},
        {"ratio": 2},
        {"clock": "shifted", "detail": False},
        {"time": 0.0},
        {"time": END},
        {"garment": 3},
        {"seed": 8},
    ]
    pictures = {ResolutionExplorer(**state).picture() for state in states}
    assert len(pictures) == len(states)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_the_page_weighs_little():
    state = ResolutionExplorer().get_state()
    pictures = gzip.compress(base64.b64encode(state["_pictures"]["data"]))
    scripts = gzip.compress((state["_esm"] + state["_css"]).encode())
    assert len(pictures) + len(scripts) < 50_000


def test_alive_and_as_the_package_computes_it(live):
    figure = ResolutionExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert values(readout(page)) == expected(figure)
    seen, label = [ink(page)], page.locator("canvas").get_attribute
    for clock, ratio, detail, garment, time in (
        ("shifted", 4, True, 57, 0.35),
        ("shifted", 4, False, 57, 0.35),
        ("shifted", 2, True, 12, 0.2),
        ("same", 2, False, 12, 0.13),
        ("same", 4, True, 30, 0.0),
        ("shifted", 4, True, 30, END),
    ):
        control(page, "28×28 at").select_option(clock)
        control(page, "small picture").select_option(str(ratio))
        control(page, "detail within blocks").set_checked(detail)
        slide(page, "garment", garment)
        slide(page, "time t", time)
        figure.clock, figure.ratio, figure.detail = clock, ratio, detail
        figure.garment, figure.time = garment, time
        assert values(readout(page)) == expected(figure), (clock, ratio, detail)
        assert f"{28 // ratio}×{28 // ratio} pixels" in label("aria-label")
        assert ("at the same time" in label("aria-label")) == (clock == "same")
        seen.append(ink(page))
    page.get_by_role("button", name="New noise").click()
    slide(page, "time t", 0.25)
    figure.seed, figure.time = 8, 0.25
    assert values(readout(page)) == expected(figure)
    seen.append(ink(page))
    page.get_by_role("button", name="Reset").click()
    assert values(readout(page)) == expected(ResolutionExplorer())
    assert control(page, "small picture").input_value() == "4"
    assert ink(page) == seen[0]
    assert len({tuple(s) for s in seen}) == len(seen), "each changes the picture"
    assert not page.trouble, page.trouble


# The shares of the canvas that have the tint of the area between the curves, pale green, and that
# of its mark in the legend, twice as strong.
BETWEEN = f"""
(canvas) => {{
  const [pixels, width, height] = {PIXELS}(canvas);
  const counts = [0, 0];
  for (let i = 0; i < pixels.length; i += 4) {{
    const [red, green, , alpha] = pixels.subarray(i, i + 4);
    if ((i / 4) % width < 0.64 * width || green < red + 100) continue;
    if (alpha > 30 && alpha < 50) counts[0]++;
    if (alpha > 75 && alpha < 90) counts[1]++;
  }}
  return counts.map((count) => count / (width * height));
}}
"""


def test_the_area_between_the_curves_shrinks_to_nothing(live):
    page = live(ResolutionExplorer())
    canvas = page.locator(".fm-canvas")
    same, mark = canvas.evaluate(BETWEEN)
    assert same > 0.03
    assert mark > 0.0008
    control(page, "28×28 at").select_option("shifted")
    settled(page.locator(".fm-figure"))
    shifted, still_there = canvas.evaluate(BETWEEN)
    assert 0.005 < shifted < 0.4 * same
    assert still_there > 0.9 * mark
    control(page, "detail within blocks").uncheck()
    settled(page.locator(".fm-figure"))
    none, gone = canvas.evaluate(BETWEEN)
    assert none < 0.1 * shifted
    assert gone < 0.3 * mark
    assert not page.trouble, page.trouble


def test_the_time_is_dragged_on_the_curves_and_moved_by_keyboard(live):
    page = live(ResolutionExplorer(clock="shifted"))
    knob = page.get_by_role("slider", name="time on the curves", exact=True)
    drag(knob, 60, -50)
    time = float(control(page, "time t").input_value())
    assert 0.5 < time < 0.8
    assert values(readout(page)) == expected(ResolutionExplorer(clock="shifted", time=time))
    knob.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    reaches(page, "time t", f"Math.abs(v - {time - 0.12}) < 1e-9")
    drag(knob, 900, 0)  # it stays in the plane
    reaches(page, "time t", f"v === {END}")
    assert not page.trouble, page.trouble


@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_a_garment_is_chosen_on_the_wall(live, size):
    settings = {"size": size, "has_touch": True} if size else {}
    page = live(ResolutionExplorer(), **settings)
    box = page.locator("canvas").bounding_box()
    # The third of the wall's eight columns, the second of its rows, in the upper flow.
    at = (239, 56) if size else (275, 61)
    if size:
        page.touchscreen.tap(box["x"] + at[0], box["y"] + at[1])
    else:
        page.locator("canvas").click(position={"x": at[0], "y": at[1]})
    readout(page)
    assert control(page, "garment").input_value() == "11"
    assert values(readout(page)) == expected(ResolutionExplorer(garment=11))
    page.locator("canvas").click(position={"x": 10, "y": 5})  # no garment there
    control(page, "garment").focus()
    page.keyboard.press("ArrowRight")
    assert values(readout(page)) == expected(ResolutionExplorer(garment=12))
    assert not page.trouble, page.trouble


def test_time_runs_and_begins_anew(live):
    page = live(ResolutionExplorer(time=0.9, clock="shifted"))
    figure, button = page.locator(".fm-figure"), page.locator("button.fm-button").first
    assert rests(figure) == settled(figure), "nothing moves by itself"
    button.click()
    reaches(page, "time t", f"v === {END}")
    button.filter(has_text=re.compile("^Let time run")).wait_for()
    button.click()  # from the end it begins anew
    reaches(page, "time t", "v > 0 && v < 0.7")
    button.filter(has_text=re.compile("^Pause")).click()
    assert rests(figure) == settled(figure)
    assert not page.trouble, page.trouble


@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_the_longest_line_of_text_is_all_seen(live, size):
    settings = {"size": size} if size else {}
    page = live(ResolutionExplorer(ratio=2, time=0.0), **settings)
    line = page.locator(".fm-figure .fm-readout")
    for clock, time in (("same", 0.0), ("shifted", 0.01), ("same", 0.01), ("same", END)):
        control(page, "28×28 at").select_option(clock)
        slide(page, "time t", time)
        assert not line.evaluate(CUT_OFF), line.inner_text()
    assert not page.trouble, page.trouble


def test_what_changes_elsewhere_is_drawn_too(live):
    figure = ResolutionExplorer()
    page = live(figure, figure)  # two views of one figure
    seen = [ink(page, 1)]
    control(page, "28×28 at").first.select_option("shifted")
    seen.append(ink(page, 1))
    control(page, "small picture").first.select_option("2")
    seen.append(ink(page, 1))
    assert control(page, "small picture").nth(1).input_value() == "2"
    control(page, "detail within blocks").first.uncheck()
    seen.append(ink(page, 1))
    page.get_by_label("garment", exact=True).first.fill("9")
    seen.append(ink(page, 1))
    says(page, r"^28×28, t\s=\s0\.212.*14×14, t\s=\s0\.350", 1)
    assert len({tuple(s) for s in seen}) == 5
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        no_buffers,
        change(time=1),
        change(time=None),
        change(clock="later"),
        change(ratio=3),
        change(garment=65),
        change(garment=1.5),
        change(seed=-1),
        change(_settings={}),
        dict.clear,
    ]
    pictures_stay(live, ResolutionExplorer, damages)
