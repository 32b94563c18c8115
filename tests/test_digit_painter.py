"""The digit painter: its traits, its network, and the live figure in a browser."""

import base64
import gzip
import re

import pytest
import torch
from browsing import PHONE, change, control, ink, no_buffers, pictures_stay, poison, readout, slide
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from traitlets import TraitError

from fmtutor import MLP, conditioned, guided, sample
from fmtutor.widgets import DigitPainter
from fmtutor.widgets.digit_painter import network
from fmtutor.widgets.packing import unpack_network
from fmtutor.widgets.rng import Random

HELD_OUT = 300  # digits that the network has not seen: tools/widget_weights.py
FAST = {"steps": 5}


@pytest.fixture(scope="module")
def digits():
    """The pixels of scikit-learn's digits in [−1, 1], and their classes."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).float() / 8 - 1, torch.from_numpy(labels)


@pytest.fixture(scope="module")
def judge(digits):
    """A classifier that was trained on real digits: the class of each picture."""
    pixels, labels = digits
    machine = SVC(C=10).fit(pixels[:-HELD_OUT], labels[:-HELD_OUT])
    assert machine.score(pixels[-HELD_OUT:], labels[-HELD_OUT:]) > 0.94
    return lambda x: torch.from_numpy(machine.predict(x.numpy()))


def drawn(scale, n=200, steps=20):
    """Pictures of each class in turn, and the classes."""
    labels = torch.arange(n) % 10
    v = guided(conditioned(network(), labels), network(), scale)
    return sample(v, Random(5).normals(n, 64), steps=steps), labels


def expected(figure):
    """The numbers of the read-out, from the package."""
    mean = figure.positions()[figure.chosen - 1].mean().item()
    return [figure.time, figure.evaluations, figure.spread(), figure.chosen, mean]


def found(page):
    text = readout(page).replace("−", "-")
    return [float(v) for v in re.findall(r"-?\d+(?:\.\d+)?", text)]


def agrees(page, **state):
    """Assert that the read-out becomes the package's."""
    wanted = expected(DigitPainter(**{**FAST, **state}))
    assert found(page) == pytest.approx(wanted, abs=1e-4), state


def test_the_defaults_and_what_can_be_set():
    figure = DigitPainter()
    assert repr(figure) == (
        "DigitPainter(chosen=1, digit=3, method='euler', scale=2, seed=1, steps=20, time=1)"
    )
    figure.digit, figure.scale, figure.method = None, 0, "heun"
    assert (figure.digit, figure.scale, figure.method) == (None, 0.0, "heun")
    assert DigitPainter(None).digit is None
    assert DigitPainter(7).digit == 7
    with pytest.raises(TypeError, match=r"DigitPainter takes chosen, digit, .* but label came"):
        DigitPainter(label=1)


@pytest.mark.parametrize(
    "bad",
    [
        {"digit": 10},
        {"digit": -1},
        {"digit": "3"},
        {"scale": -0.5},
        {"scale": 5.5},
        {"scale": float("nan")},
        {"steps": 0},
        {"steps": 51},
        {"method": "rk5"},
        {"method": "dopri5"},
        {"time": 1.1},
        {"chosen": 0},
        {"chosen": 25},
        {"seed": -1},
    ],
)
def test_bad_values_are_refused(bad):
    (name,) = bad
    figure = DigitPainter()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=name):
        setattr(figure, name, bad[name])
    assert getattr(figure, name) == before


def test_what_it_draws_is_what_was_asked_for(judge):
    shares = {}
    for scale in (0.0, 1.0, 2.0, 4.0):
        x, labels = drawn(scale)
        shares[scale] = (judge(x) == labels).float().mean().item()
    assert shares[0.0] < 0.25, "the label plays no part"
    assert shares[1.0] > 0.9
    assert min(shares[2.0], shares[4.0]) > 0.97


def test_it_draws_digits_and_copies_none(digits):
    pixels, _ = digits
    known, unseen = pixels[:-HELD_OUT], pixels[-HELD_OUT:]
    x, _ = drawn(1.0)
    nearest = torch.cdist(x, known).min(1).values
    between = torch.cdist(unseen, known).min(1).values
    assert nearest.median() < 1.5 * between.median(), "as near to a digit as another digit, nearly"
    assert nearest.min() > 0.5 * between.min(), "none is a copy"


def test_too_much_guidance_overdraws(digits):
    pixels, _ = digits
    known = pixels[:-HELD_OUT]
    beyond, distance = [], []
    for scale in (1.0, 3.0, 5.0):
        x, _ = drawn(scale)
        beyond.append((x.abs() > 1.2).float().mean().item())
        distance.append(torch.cdist(x, known).min(1).values.median().item())
    assert beyond == sorted(beyond)
    assert beyond[2] > 3 * beyond[0], "pixels darker than ink, lighter than paper"
    assert distance == sorted(distance), "and less and less like a digit"


@pytest.mark.parametrize("digit", [3, 8, None])
def test_one_step_gives_the_mean(digit, digits):
    pixels, labels = digits
    mean = (pixels if digit is None else pixels[labels == digit]).mean(0)
    one, many = (DigitPainter(digit, scale=1.0, steps=n) for n in (1, 50))
    error = (one.positions().mean(0) - mean).square().mean().sqrt()
    assert error < 0.12
    assert one.spread() < 0.75 * many.spread()


def test_the_field_is_that_of_the_package():
    x, t = Random(2).normals(6, 64), torch.full((6,), 0.4)
    net = network()
    fields = {
        (4, 2.5): guided(conditioned(net, 4), net, 2.5),
        (4, 1.0): conditioned(net, 4),
        (4, 0.0): net,
        (None, 2.5): net,
    }
    for (digit, scale), field in fields.items():
        assert torch.equal(DigitPainter(digit, scale=scale)._field()(x, t), field(x, t))
    page = unpack_network(DigitPainter()._network)
    assert torch.equal(page(x, t, 4), net(x, t, 4))


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun"])
@pytest.mark.parametrize("state", [(None, 2.0), (4, 0.0), (4, 1.0), (4, 2.0)])
def test_the_evaluations_are_as_many_as_it_says(method, state, monkeypatch):
    digit, scale = state
    figure, calls, forward = (
        DigitPainter(digit, scale=scale, method=method, steps=3),
        [],
        MLP.forward,
    )
    monkeypatch.setattr(MLP, "forward", lambda *args: calls.append(args) or forward(*args))
    figure.positions(1.0)
    assert len(calls) == figure.evaluations


def test_the_expected_end():
    figure = DigitPainter(steps=4)
    assert torch.equal(figure.guesses(1.0), figure.positions(1.0))
    # Euler's method goes straight to where it expects the end.
    one = DigitPainter(steps=1)
    torch.testing.assert_close(one.guesses(0.0), one.positions(1.0))
    torch.testing.assert_close(
        one.positions(0.25), 0.75 * one.positions(0.0) + 0.25 * one.positions(1.0)
    )
    assert torch.equal(figure.positions(0.0), Random(1).normals(24, 64))
    figure.seed = 2
    assert torch.equal(figure.positions(0.0), Random(2).normals(24, 64))


def test_the_picture_follows_the_state():
    states = {}, {"digit": 7}, {"scale": 0.0}, {"time": 0.5}, {"chosen": 9}, {"seed": 2}
    assert len({DigitPainter(**FAST, **state).picture() for state in states}) == 6


def test_the_page_weighs_little():
    state = DigitPainter().get_state()
    weights = gzip.compress(base64.b64encode(state["_network"]["weights"]["data"]))
    scripts = gzip.compress((state["_esm"] + state["_css"]).encode())
    assert len(weights) + len(scripts) < 200_000


def test_alive_and_as_the_package_computes_it(live):
    page = live(DigitPainter(**FAST))
    assert page.locator(".fm-figure .fm-control").count() == DigitPainter()._controls
    agrees(page)
    seen = [ink(page)]
    control(page, "digit").select_option("8")
    agrees(page, digit=8)
    seen.append(ink(page))
    assert "the digit 8" in page.locator("canvas").get_attribute("aria-label")
    slide(page, "guidance", 4.5)
    agrees(page, digit=8, scale=4.5)
    seen.append(ink(page))
    control(page, "solver").select_option("heun")
    slide(page, "steps", 7)
    slide(page, "time t", 0.62)  # between two steps
    agrees(page, digit=8, scale=4.5, method="heun", steps=7, time=0.62)
    seen.append(ink(page))
    control(page, "digit").select_option("none")
    page.get_by_role("button", name="New noise").click()
    agrees(page, digit=None, method="heun", steps=7, time=0.62, seed=2)
    seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 5, "each control changes the picture"
    assert not page.trouble, page.trouble


def test_a_picture_is_chosen_by_mouse_and_by_keyboard(live):
    page = live(DigitPainter(scale=1.0, **FAST))
    seen = ink(page)
    box = page.locator("canvas").bounding_box()
    page.locator("canvas").click(position={"x": box["width"] * 0.45, "y": box["height"] * 0.35})
    assert control(page, "picture").input_value() == "12", "the fourth of the second row"
    agrees(page, scale=1.0, chosen=12)
    page.locator("canvas").click(position={"x": 3, "y": box["height"] - 3})
    control(page, "picture").focus()
    page.keyboard.press("ArrowRight")
    agrees(page, scale=1.0, chosen=13)
    control(page, "guidance").focus()
    page.keyboard.press("Home")
    agrees(page, scale=0.0, chosen=13)
    assert ink(page) != seen
    assert not page.trouble, page.trouble


def test_a_picture_is_chosen_by_a_finger(live):
    page = live(DigitPainter(**FAST), size=PHONE, has_touch=True)
    box = page.locator("canvas").bounding_box()
    page.touchscreen.tap(box["x"] + 0.6 * box["width"], box["y"] + 10)
    agrees(page, chosen=4)
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        poison,
        no_buffers,
        change(digit=10),
        change(steps=0),
        change(chosen=25),
        change(method="rk5"),
        change(scale=None),
    ]
    pictures_stay(live, lambda: DigitPainter(**FAST), damages)
