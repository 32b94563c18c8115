"""The playground: its traits, its floor, and a model that trains in a browser."""

import re

import pytest
import torch
from browsing import (
    PHONE,
    change,
    control,
    drawn,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    readout,
    rests,
    says,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor import CondOT, Cosine, GaussianMixture, loss_floor
from fmtutor.couplings import minibatch_ot
from fmtutor.data import DATASETS, cluster_means
from fmtutor.metrics import energy_distance
from fmtutor.widgets import Playground
from fmtutor.widgets.playground import DRAWING, SETTINGS
from fmtutor.widgets.rng import Random

WAIT = 60_000  # milliseconds for training on a busy machine
# Nothing at first: a page that has just been loaded has no figure yet.
TEXT = "(document.querySelector('.fm-figure .fm-readout')?.innerText ?? '')"


def numbers(page):
    """What the line of text says, by name."""
    found = re.findall(r"(step|loss|floor|distance|itself) (−?[\d.]*\d)", readout(page))
    return {name: float(value.replace("−", "-")) for name, value in found}


def wait(page, pattern):
    """Wait until the line of text says something."""
    says(page, pattern, timeout=WAIT)


def steps_beyond(page, n):
    """Wait until more than n steps are taken, and return how many."""
    number = f"Number({TEXT}.match(/step (\\d+)/)?.[1])"
    page.wait_for_function(f"() => {number} > {n}", timeout=WAIT)
    return page.evaluate(f"() => {number}")


def figure_of(page):
    return page.locator(".fm-figure")


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def opened(live, figure, **settings):
    page = live(figure, **settings)
    wait(page, "energy distance")
    return page


def mean_loss(figure, steps=1):
    """The mean of the losses of the page's first steps, from the package and torch's Adam."""
    data, n, random = figure.data(), SETTINGS["batch"], Random(SETTINGS["seed"] + 1)
    path = {"CondOT": CondOT(), "Cosine": Cosine()}[figure.path]
    network = figure.initial_network().requires_grad_()
    optimizer = torch.optim.Adam(network.parameters(), lr=figure.learning_rate)
    losses = []
    for _ in range(steps):
        rows = [random.integer(len(data)) for _ in range(n)]
        x0, x1 = random.normals(n, 2), data[rows]
        t = torch.tensor([random.uniform() for _ in range(n)])
        if figure.coupling == "optimal":  # the page goes by the noise, and keeps its order
            cost = torch.cdist(x0, x1).square()
            paired = minibatch_ot(x0, x1)
            order = [(paired[0] == x).all(1).nonzero().item() for x in x0]
            x0, x1 = (points[order] for points in paired)
            assert (x0 - x1).square().sum() < cost.diag().sum()
        drawn = path.sample(x0, x1, t)
        loss = (network(drawn.xt, t) - drawn.ut).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / steps


def test_the_defaults_and_what_can_be_set():
    figure = Playground()
    assert (figure.dataset, figure.path, figure.coupling) == (
        "four clusters",
        "CondOT",
        "independent",
    )
    assert (figure.width, figure.learning_rate, figure.method, figure.steps) == (
        64,
        4e-3,
        "heun",
        20,
    )
    figure.width, figure.dataset = 16, "rings"
    assert repr(figure).startswith("Playground(coupling='independent', dataset='rings', drawn=()")
    drawn = Playground(dataset=DRAWING, drawn=[[0, 1], (2.5, -3)])
    assert drawn.drawn == ((0.0, 1.0), (2.5, -3.0))
    torch.testing.assert_close(drawn.data(), torch.tensor([[0.0, 1.0], [2.5, -3.0]]))
    assert drawn.picture() != Playground(dataset=DRAWING).picture()
    with pytest.raises(ValueError, match="nothing is drawn yet"):
        Playground(dataset=DRAWING).data()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"dataset": "swirl"}, "dataset.*four clusters.*swirl"),
        ({"path": "Linear"}, "path.*CondOT.*Linear"),
        ({"coupling": "best"}, "coupling.*optimal.*best"),
        ({"width": 65}, "width.*65"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"method": "rk4"}, "method.*rk4"),
        ({"steps": 0}, "steps"),
        ({"time": 1.0}, "time"),
        ({"drawn": [(0, 5)]}, r"drawn must lie within ±4, but \(0.0, 5.0\) came"),
        ({"drawn": [(0, float("nan"))]}, "drawn must lie within"),
        ({"drawn": [(0, 1, 2)]}, "drawn must hold pairs of numbers"),
        ({"drawn": [(0, 0)] * 1001}, "at most 1000 points, but 1001 came"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        Playground(**bad)


def test_the_floor_is_that_of_the_distribution_or_a_little_below():
    # A thousand points can be told apart near t = 1 where their density cannot.
    mixture = GaussianMixture(cluster_means(4, 8**0.5, dtype=torch.float64), 0.3)
    exact, error = loss_floor(mixture, n=50_000, seed=0)
    assert error < 0.02
    assert 0.95 * exact < Playground().floor() < exact
    # A single point leaves nothing open.
    assert Playground(dataset=DRAWING, drawn=[(1, 2)]).floor() < 1e-12


def test_samples_of_the_untrained_network_are_far_from_the_data():
    figure = Playground(dataset="moons")
    train, held = figure.data(), figure.held_out()
    assert energy_distance(train[: len(held)], held) < 0.12 < figure.initial_distance() / 3
    assert not torch.isin(held[:, 0], train[:, 0]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dataset": "moons", "path": "Cosine", "width": 16, "method": "euler", "steps": 5},
        {"dataset": "spiral", "coupling": "optimal", "width": 32, "steps": 3},
    ],
)
def test_first_state_and_first_step_are_as_the_package_computes_them(live, settings):
    figure = Playground(**settings)
    page = opened(live, figure)
    found = numbers(page)
    assert found["step"] == 0
    assert found["floor"] == pytest.approx(figure.floor(), abs=0.0051)
    assert found["distance"] == pytest.approx(figure.initial_distance(), abs=0.00051)
    held = figure.held_out()
    itself = energy_distance(figure.data()[: len(held)], held).item()
    assert found["itself"] == pytest.approx(itself, abs=0.00051)
    before = ink(page)
    button(page, "Step").click()
    wait(page, "step 1:")
    assert numbers(page)["loss"] == pytest.approx(mean_loss(figure), abs=0.0051)
    assert rests(figure_of(page)) == settled(figure_of(page))
    assert numbers(page)["step"] == 1, "a step is one step"
    assert ink(page) != before
    assert not page.trouble, page.trouble


def test_the_learning_rate_is_that_of_the_steps(live):
    page = opened(live, Playground(width=16))
    control(page, "learning rate").press("End")
    fast, slow = Playground(width=16, learning_rate=0.03), Playground(width=16)
    for k in range(1, 6):
        button(page, "Step").click()
        wait(page, f"step {k}[:,]")
    assert numbers(page)["loss"] == pytest.approx(mean_loss(fast, 5), abs=0.0051)
    assert mean_loss(fast, 5) < mean_loss(slow, 5) - 0.1, "the slider tells"
    assert not page.trouble, page.trouble


def test_it_learns_the_four_clusters(live):
    page = opened(live, Playground(width=32))
    first = numbers(page)
    assert first["distance"] > 0.6
    assert rests(figure_of(page)) == settled(figure_of(page))
    assert numbers(page)["step"] == 0, "nothing trains by itself"
    button(page, "Train").click()
    wait(page, r"step \d+, \d+\/s: loss")
    steps_beyond(page, 700)
    button(page, "Pause").click()
    number = f"Number({TEXT}.match(/distance ([\\d.]+)/)[1])"
    page.wait_for_function(f"() => {number} < 0.13", timeout=WAIT)
    found = numbers(page)
    assert found["distance"] < 0.13 < first["distance"]
    assert found["floor"] - 0.15 < found["loss"] < found["floor"] + 0.45
    assert found["floor"] == first["floor"]
    assert not page.trouble, page.trouble


def test_optimal_pairs_go_below_the_floor_of_independent_ones(live):
    page = opened(live, Playground(coupling="optimal", width=16))
    button(page, "Train").click()
    steps_beyond(page, 150)
    button(page, "Pause").click()
    found = numbers(page)
    assert found["loss"] < found["floor"]


def test_pause_reset_keyboard_and_what_a_change_does(live):
    page = opened(live, Playground(width=16))
    train = button(page, "Train")
    train.focus()
    page.keyboard.press("Enter")
    steps_beyond(page, 5)
    button(page, "Pause").focus()
    page.keyboard.press("Enter")
    paused = numbers(page)["step"]
    assert rests(figure_of(page)) == settled(figure_of(page))
    assert numbers(page)["step"] == paused
    slide(page, "learning rate", -3)
    assert page.locator(".fm-value").first.inner_text() == "0.001"
    assert numbers(page)["step"] == paused, "another learning rate goes on"
    button(page, "Reset").click()
    wait(page, "step 0: (independent )?floor")
    button(page, "Step").click()
    wait(page, "step 1: loss")
    for label, value in (
        ("data", "rings"),
        ("path", "Cosine"),
        ("coupling", "optimal"),
        ("width", "32"),
    ):
        before = ink(page)
        control(page, label).select_option(value)
        wait(page, "step 0: (independent )?floor")
        assert ink(page) != before, label
        button(page, "Step").click()
        wait(page, "step 1: loss")
    for label, value in (("fields at t", 0.9), ("solver steps", 1)):
        before = ink(page)
        slide(page, label, value)
        assert ink(page) != before, label
    before = ink(page)
    control(page, "solver").select_option("euler")
    assert ink(page) != before, "solver"
    assert numbers(page)["step"] == 1
    assert page.locator(".fm-figure .fm-control").count() == Playground._controls.default_value
    assert not page.trouble, page.trouble


def test_it_rests_while_it_is_out_of_view(live):
    page = opened(live, Playground(width=16))
    page.evaluate("() => document.querySelector('#after').style.marginTop = '5000px'")
    button(page, "Train").click()
    steps_beyond(page, 5)
    page.evaluate("() => scrollTo(0, document.body.scrollHeight)")
    seen = rests(figure_of(page))
    before = figure_of(page).locator(".fm-readout").inner_text()
    assert rests(figure_of(page)) == seen
    # It goes on from where it was, and did not train on unseen: what it says first tells, and not
    # what a busy machine reads later.
    figure_of(page).locator(".fm-readout").evaluate(
        """readout => {
            new MutationObserver(() => (window.said ??= readout.textContent))
                .observe(readout, {childList: true, characterData: true, subtree: true});
            scrollTo(0, 0);
        }"""
    )
    page.wait_for_function("() => window.said")
    stopped, first = (
        int(re.search(r"step (\d+)", text)[1])
        for text in (before, page.evaluate("() => window.said"))
    )
    assert stopped <= first < stopped + 300


def test_a_drawing_by_mouse_and_by_keyboard(live):
    page = live(Playground(dataset=DRAWING, width=16))
    wait(page, "Draw in the plane")
    button(page, "Train").click()
    wait(page, "Draw some points first")
    assert button(page, "Train").is_visible(), "nothing to train on"
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 250, steps=10)
    page.mouse.up()
    wait(page, "step 0: floor .* to the drawing")
    by_mouse = ink(page)
    pen = page.get_by_role("slider", name="pen")
    pen.focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    drawn(page)
    assert pen.get_attribute("aria-valuetext") == "1.20, 1.00"
    button(page, "Drop points").press("Enter")
    assert ink(page)[0] > by_mouse[0]
    floor = numbers(page)["floor"]
    button(page, "Train").click()
    steps_beyond(page, 3)
    button(page, "Drop points").press("Enter")
    taken = steps_beyond(page, 5)
    assert taken > 5, "training goes on with more points"
    page.wait_for_function(f"() => !/floor {floor:.2f}/.test({TEXT})", timeout=WAIT)
    button(page, "Clear").click()
    wait(page, "Draw in the plane")
    assert button(page, "Train").is_visible()
    control(page, "data").select_option("moons")
    wait(page, "step 0: (independent )?floor")
    assert not pen.is_visible()
    assert button(page, "Drop points").is_disabled()
    assert not page.trouble, page.trouble


def test_settings_travel_by_the_address(live):
    page = opened(live, Playground())
    control(page, "data").select_option("moons")
    control(page, "path").select_option("Cosine")
    control(page, "width").select_option("16")
    slide(page, "solver steps", 7)
    button(page, "Share settings").click()
    wait(page, "address now holds the settings")
    assert page.url.endswith(
        "#playground?data=moons&path=Cosine&coupling=independent&width=16"
        "&rate=0.004&solver=heun&steps=7&time=0.5"
    )
    page.reload()
    wait(page, "energy distance")
    figure = Playground(dataset="moons", path="Cosine", width=16, steps=7)
    assert numbers(page)["distance"] == pytest.approx(figure.initial_distance(), abs=0.00051)
    assert control(page, "width").input_value() == "16"
    assert not page.trouble, page.trouble


def test_an_address_is_not_trusted(live):
    page = opened(live, Playground())
    bad = "data=swirl&width=1e9&rate=NaN&steps=2.5&time=&__proto__=1&path=<img src=x>"
    hash_ = f"#playground?{bad}&coupling=optimal"
    page.evaluate("(text) => (location.hash = text)", hash_)
    wait(page, "Left out of the address: data=swirl, width=1e9, rate=NaN")
    assert control(page, "coupling").input_value() == "optimal", "what is good is taken"
    values = [control(page, label).input_value() for label in ("data", "width", "path")]
    assert values == ["four clusters", "64", "CondOT"]
    button(page, "Step").click()
    wait(page, "step 1: loss")
    assert not page.trouble, page.trouble


def test_a_finger_draws_on_a_phone(live):
    page = opened(live, Playground(width=16), size=PHONE, has_touch=True)
    assert page.locator("canvas").evaluate("c => getComputedStyle(c).touchAction") == "auto"
    control(page, "data").select_option(DRAWING)
    assert page.locator("canvas").evaluate("c => getComputedStyle(c).touchAction") == "none"
    page.locator("canvas").tap(position={"x": 100, "y": 100})
    wait(page, "to the drawing")
    output = page.locator(".fm-figure .fm-readout")
    long = (
        "step 20000, 300/s: loss 2.54, independent floor 2.44, energy distance 0.071 (data itself "
    )
    output.evaluate("(o, words) => (o.textContent = words)", f"{long}0.091)")
    assert output.evaluate("o => o.scrollHeight <= o.clientHeight + 1"), "the line is whole"
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        poison,
        no_buffers,
        change(width=-3),
        change(drawn=[[1e300, None]]),
        change(_settings=dict(Playground()._settings, samples=0)),
        dict.clear,
    ]
    pictures_stay(live, Playground, damages)


def test_every_data_set_is_there():
    figure = Playground()
    assert list(figure._data) == list(DATASETS)
    assert all(len(figure._data[name]["train"]["data"]) == 4000 for name in DATASETS)
