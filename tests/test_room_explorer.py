"""The room explorer: its traits, its episodes, and the live figure in a browser."""

import pytest
import torch
from browsing import (
    PIXELS,
    change,
    changes,
    control,
    drawn,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    reaches,
    readout,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor import sample
from fmtutor.policies import Room, follow_plans
from fmtutor.widgets import RoomExplorer
from fmtutor.widgets.rng import Random
from fmtutor.widgets.room_explorer import learned

BESIDE = (0.2, -1.1)  # from here the mean leads into the block


def said(**state):
    """What the figure says in a state, as the package computes it."""
    figure = RoomExplorer(**state)
    run, touches = figure.rollout(), int(figure.touching().sum())
    steps, plans, evaluated = int(run.steps), figure.decisions(), figure.evaluated()
    parts = [f"there after {steps}" if run.reached else f"not there within {steps}"]
    parts += [f"{figure.way()} of the block"] if figure.way() else []
    parts += [f"touching in {touches}" if touches else "touching nothing"]
    told = ", ".join(parts), counted(plans, "plan"), counted(evaluated, "evaluation")
    return "Step {}: {}; {}, {}".format(min(int(figure.step), steps), *told)


def counted(n, one):
    return f"{n} {one}{'s' * (n != 1)}"


def choose(page, label, value):
    """Choose an entry of a menu."""
    control(page, label).select_option(value)
    drawn(page)


def knob(page):
    return page.get_by_role("slider", name="start of the ball", exact=True)


def test_the_defaults_and_what_can_be_set():
    figure = RoomExplorer()
    assert repr(figure) == (
        "RoomExplorer(commitment=16, evaluations=4, policy='flow', seed=0, start=(0.0, -1.4), "
        "step=0)"
    )
    figure.start, figure.step, figure.seed = (-2.4, 2.4), 180.0, 7
    for commitment in (4, 8, 16, 32):
        figure.commitment = commitment
    for evaluations in (1, 2, 4, 10):
        figure.evaluations = evaluations
    for start in ((0.0, -0.6), (1.6, 0.0), (0.0, 0.6), (2.4, -2.4)):
        figure.start = start
        state = torch.tensor([[*figure.start, 0.0, 0.0]], dtype=torch.float64)
        assert not Room().step(state, torch.zeros(1, 2, dtype=torch.float64))[1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"start": (0.0, 0.0)}, r"neither in a wall nor in the block.* but \(0\.0, 0\.0\) came"),
        ({"start": (1.59, 0.59)}, "not within ±1.6 by ±0.6"),
        ({"start": (2.41, 0.0)}, "neither in a wall"),
        ({"start": (0.0, -2.5)}, "neither in a wall"),
        ({"start": (0.0, float("nan"))}, "must be finite"),
        ({"start": (1.0,)}, "start"),
        ({"policy": "normal"}, "policy must be one of flow, average, but 'normal' came"),
        ({"commitment": 5}, r"commitment must be one of \(4, 8, 16, 32\), but 5 came"),
        ({"commitment": 0}, "commitment"),
        ({"evaluations": 3}, r"evaluations must be one of \(1, 2, 4, 10\), but 3 came"),
        ({"seed": -1}, "seed"),
        ({"step": -1.0}, "step"),
        ({"step": 181.0}, "step"),
    ],
)
def test_bad_values_are_refused(bad, reason):
    (name,) = bad
    figure = RoomExplorer()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=reason):
        setattr(figure, name, bad[name])
    assert getattr(figure, name) == before


@pytest.mark.parametrize("policy", ["flow", "average"])
def test_the_episode_is_that_of_the_package(policy):
    """Of a ball that asks the networks, with noise that page and package draw alike."""
    figure, known, room = RoomExplorer(policy=policy, seed=3, commitment=8), learned(), Room()
    decision = iter(range(100))

    def plan(states):
        seen, noise = known.seen.to_unit(states), Random(64 * 3 + next(decision)).normals(1, 64)
        if policy == "average":
            unit = known.average(seen)
        else:
            unit = sample(known.flow, noise.double(), steps=4, cond=seen)
        return known.plans.from_unit(unit).reshape(1, 32, 2)

    start = torch.tensor([[0.0, -1.4, 0.0, 0.0]], dtype=torch.float64)
    run = figure.rollout()
    found = follow_plans(plan, room.step, room.reached, start, commitment=8, limit=180)
    torch.testing.assert_close(run.states, found.states, rtol=0, atol=1e-12)
    assert int(run.steps) == int(found.steps) == len(figure.touching())
    assert bool(figure.touching().any()) == bool(found.touched)
    assert figure.decisions() == next(decision)
    assert figure.evaluated() == figure.decisions() * (4 if policy == "flow" else 1)


def test_a_ball_that_is_there_stays():
    figure = RoomExplorer(start=(0.0, 1.2))
    assert (int(figure.rollout().steps), figure.way(), figure.decisions()) == (0, "", 1)
    assert figure.touching().shape == (0,)


def test_the_bundle_is_of_the_last_decision_and_holds_what_is_followed():
    figure = RoomExplorer(commitment=16)
    states, end = figure.rollout().states[:, 0], figure.decisions() - 1
    for step, k in ((0.0, 0), (15.9, 0), (16.0, 1), (180.0, end)):
        figure.step = step
        bundle = figure.bundle()
        assert bundle.shape == (24, 33, 2)
        torch.testing.assert_close(bundle[:, 0], states[16 * k, :2].expand(24, 2))
        last = min(16, len(states) - 1 - 16 * k)
        away = (bundle[:, last] - states[16 * k + last, :2]).norm(dim=1)
        assert away[0] < 0.1, "the ball goes with the first"
        assert away[1:].mean() > 2 * away[0]
    figure.policy = "average"
    assert figure.bundle().shape == (1, 33, 2)


def test_what_the_figure_shows():
    """The flow goes both ways; the mean, followed for long, ends at the block."""
    ways = {RoomExplorer(seed=seed).way() for seed in range(6)}
    assert ways == {"left", "right"}
    apart = RoomExplorer().bundle()[:, -1, 0]
    assert (apart > 0.5).sum() > 3 < (apart < -0.5).sum()
    mean = RoomExplorer(policy="average", commitment=32)
    assert mean.bundle()[0, -1, 0].abs() < 0.8
    assert mean.touching().any()
    mean.commitment = 8
    assert not mean.touching().any()
    touched = [bool(RoomExplorer(commitment=32, seed=seed).touching().any()) for seed in range(6)]
    assert sum(touched) < 3


def test_the_picture_follows_the_state():
    states = (
        {}, {"start": BESIDE}, {"policy": "average"}, {"commitment": 8}, {"evaluations": 2},
        {"seed": 1}, {"step": 20.0},
    )  # fmt: skip
    assert len({RoomExplorer(**state).picture() for state in states}) == len(states)


def test_alive_and_as_the_package_computes_it(live):
    page = live(RoomExplorer())
    assert page.locator(".fm-figure .fm-control").count() == RoomExplorer()._controls
    assert readout(page) == said()
    state, seen = {}, [ink(page)]
    for name, act, values in (
        ("seed", lambda _: page.get_by_role("button", name="Draw again").click(), (1,)),
        ("commitment", lambda n: choose(page, "looks again", str(n)), (8, 32)),
        ("evaluations", lambda n: choose(page, "evaluations", str(n)), (1, 10)),
        ("step", lambda n: slide(page, "step", n), (37,)),
        ("policy", lambda name: choose(page, "policy", name), ("average",)),
    ):
        for value in values:
            act(value)
            state[name] = value
            assert readout(page) == said(**state)
            seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == len(seen), "each control changes the picture"
    assert control(page, "evaluations").is_disabled()
    choose(page, "policy", "flow")
    assert control(page, "evaluations").is_enabled()
    assert readout(page) == said(**state | {"policy": "flow"})
    assert "plans of the flow" in page.locator("canvas").get_attribute("aria-label")
    assert not page.trouble, page.trouble


@pytest.mark.parametrize(
    "state",
    [
        {"start": BESIDE, "policy": "average", "commitment": 32},
        {"start": (2.0, 2.0), "commitment": 4, "seed": 2},
        {"start": (0.0, 1.2)},
        {"start": (-2.0, -2.0), "policy": "average", "step": 180.0},
    ],
)
def test_from_other_starts_page_and_package_agree(live, state):
    page = live(RoomExplorer(**state))
    assert readout(page) == said(**state)


def test_the_start_is_dragged_and_kept_out_of_the_block_and_of_walls(live):
    page = live(RoomExplorer())
    figure = page.locator(".fm-figure")
    place = knob(page)
    place.press("ArrowLeft")
    place.press("ArrowUp")
    assert readout(page) == said(start=(-0.1, -1.3))
    box = place.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    scale = figure.locator("canvas").bounding_box()["height"] / 5.2
    page.mouse.move(x, y)
    page.mouse.down()
    before = settled(figure)
    page.mouse.move(x, y - 0.95 * scale)
    changes(figure, before)
    drawn(page)
    assert place.get_attribute("aria-valuetext").endswith(", −0.60"), "at the face of the block"
    before = settled(figure)
    page.mouse.move(x - 4 * scale, y)
    changes(figure, before)
    page.mouse.up()
    drawn(page)
    assert place.get_attribute("aria-valuetext").startswith("−2.40"), "at the wall"
    before = settled(figure)
    place.press("Shift+ArrowRight")
    changes(figure, before)
    drawn(page)
    assert place.get_attribute("aria-valuetext").startswith("−1.90")
    assert not page.trouble, page.trouble


def test_it_rolls_to_the_end_and_from_there_anew(live):
    page = live(RoomExplorer(step=60.0))
    steps = int(RoomExplorer().rollout().steps)
    assert int(control(page, "step").get_attribute("max")) == steps
    page.get_by_role("button", name="Let it roll").click()
    reaches(page, "step", f"v === {steps}")
    page.get_by_role("button", name="Let it roll").wait_for()
    assert readout(page) == said(step=180.0)
    page.get_by_role("button", name="Let it roll").click()
    reaches(page, "step", "v < 40")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Let it roll").wait_for()
    assert not page.trouble, page.trouble


# How far down in the room the plans lie, which have the colour of what is learned: 0 to 1.
PLANS = f"""
(canvas) => {{
  const [pixels, width, height] = {PIXELS}(canvas);
  const found = [];
  for (let i = 0; i < pixels.length; i += 4) {{
    const place = i / 4;
    if (place % width > 0.66 * width) continue; // the legend
    if ([204, 121, 167, 255].every((v, k) => pixels[i + k] === v))
      found.push(Math.floor(place / width) / height);
  }}
  return found.reduce((sum, v) => sum + v, 0) / found.length;
}}
"""


def test_the_plans_shown_are_those_of_the_last_decision(live):
    figure = RoomExplorer(policy="average", commitment=32)
    page = live(figure)
    canvas = page.locator(".fm-canvas")
    for step in (0, 32, int(figure.rollout().steps)):
        slide(page, "step", step)
        figure.step = step
        wanted = 0.5 - figure.bundle()[0, :, 1].mean().item() / 5.2
        assert canvas.evaluate(PLANS) == pytest.approx(wanted, abs=0.05)
    assert wanted < 0.4, "the last plan lies behind the block"
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        poison, no_buffers, change(commitment=5), change(start=[0, 0]), change(start=[]),
        change(start=[9, 9]), change(policy="x"), change(evaluations=0), change(seed=-1),
        change(step=-1), change(step=1e300), change(_learned={}),
    ]  # fmt: skip
    pictures_stay(live, RoomExplorer, damages)
