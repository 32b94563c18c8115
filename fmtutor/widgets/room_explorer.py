"""A ball in a room that acts by plans: those of a regression, or those of a flow."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor, nn

from fmtutor.networks import ObservingMLP, layers_of
from fmtutor.plotting import COLORS
from fmtutor.policies import Rollout, Room, Scale, follow_plans
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import pack_floats
from fmtutor.widgets.rng import Random

__all__ = ["LENGTH", "SIZES", "WAYS", "WEIGHTS", "Learned", "RoomExplorer", "learned", "networks"]

LENGTH = 32
"""Positions of a plan."""

SIZES: dict[str, Any] = {"width": 128, "depth": 3}
"""Of the hidden layers of both networks."""

WAYS = (12, 24)
"""Demonstrations that are shown, and points of each."""

WEIGHTS = Path(__file__).with_name("room_explorer.npy")
"""Scales, demonstrations and weights, in half precision: `tools/widget_weights.py room` makes them.

The means and deviations of observations and of plans, the points of the demonstrations, then what
the parameters of `networks()` are.
"""

POLICIES = ("flow", "average")
COMMITMENTS = (4, 8, 16, 32)
EVALUATIONS = (1, 2, 4, 10)
LIMIT = 180  # steps of four hundredths of a second
TICKS = 4  # hundredths of a second
PLANS = 24  # drawn by the flow at a time; the first of them is followed
SEEDS = 64  # there are fewer decisions in an episode
ROOM = Room()


class Learned(NamedTuple):
    """Both networks, the scales of what they read and write, and some demonstrations."""

    seen: Scale
    plans: Scale
    ways: Tensor
    average: nn.Module
    flow: ObservingMLP


def networks() -> tuple[nn.Module, ObservingMLP]:
    """Return the regression and the flow, untrained: what is seen to a plan, or to a velocity."""
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then overwritten
        torch.manual_seed(0)
        return layers_of(4, 2 * LENGTH, **SIZES), ObservingMLP(2 * LENGTH, 4, **SIZES)


@cache
def learned() -> Learned:
    """Return what was learned from demonstrations, with the weights that the page has."""
    flat, d = torch.from_numpy(np.load(WEIGHTS)).double(), 2 * LENGTH
    sizes = [4, 4, d, d, 2 * WAYS[0] * WAYS[1]]
    *scales, ways, weights = torch.split(flat, [*sizes, len(flat) - sum(sizes)])
    both = nn.ModuleList(networks()).double()
    nn.utils.vector_to_parameters(weights, both.parameters())
    average, flow = both.eval().requires_grad_(False)
    assert isinstance(flow, ObservingMLP)
    return Learned(Scale(*scales[:2]), Scale(*scales[2:]), ways.reshape(*WAYS, 2), average, flow)


class _Acted(NamedTuple):
    """What became of the ball, and at which steps it touched."""

    run: Rollout
    touching: Tensor


@cache
def _acted(
    start: tuple[float, float], policy: str, commitment: int, evaluations: int, seed: int
) -> _Acted:
    decisions, hits = itertools.count(), []

    def plan(states: Tensor) -> Tensor:
        return _plans(states, policy, evaluations, SEEDS * seed + next(decisions), 1)

    def step(states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        states, hit = ROOM.step(states, actions)
        hits.append(hit)
        return states, hit

    first = torch.tensor([[*start, 0.0, 0.0]], dtype=torch.float64)
    run = follow_plans(
        plan, step, ROOM.reached, first, commitment=commitment, limit=LIMIT, ticks=TICKS
    )
    touching = torch.stack(hits).reshape(-1, TICKS).any(1)
    return _Acted(run, touching[: int(run.steps)])


def _plans(state: Tensor, policy: str, evaluations: int, seed: int, count: int) -> Tensor:
    """Return plans `[count 32 2]` for a ball `[1 4]`; of the regression there is only one."""
    known = learned()
    seen = known.seen.to_unit(state)
    if policy == "average":
        unit = known.average(seen)
    else:
        noise = Random(seed).normals(count, 2 * LENGTH).double()
        unit = sample(known.flow, noise, steps=evaluations, cond=seen.expand(count, -1))
    return known.plans.from_unit(unit).reshape(-1, LENGTH, 2)


class RoomExplorer(LiveFigure):
    """A ball that acts by plans of a flow or of a regression, from a start that is dragged.

    Attributes:
        start: Where the ball is at first, at rest; not inside a wall or the block.
        policy: "flow", which draws plans, or "average", which has one.
        commitment: Positions of a plan that are followed before the ball looks again: 4, 8, 16, 32.
        evaluations: Steps of Euler's method from noise to a plan of the flow: 1, 2, 4, 10.
        seed: Seed of the noise, from 0 on.
        step: The step shown, 0 to 180; after the last one the ball stays.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: policies
    """

    file = "room_explorer"

    start = traitlets.Tuple(Finite(), Finite(), default_value=(0.0, -1.4)).tag(sync=True)
    policy = traitlets.Unicode("flow").tag(sync=True)
    commitment = traitlets.Int(16).tag(sync=True)
    evaluations = traitlets.Int(4).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=1_000_000).tag(sync=True)
    step = Finite(0.0, min=0.0, max=float(LIMIT)).tag(sync=True)

    _aspect = traitlets.Float(1.5).tag(sync=True)
    _narrow = traitlets.Float(0.82).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _learned = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        known = learned()
        self._learned = {
            "average": _packed(known.average),
            "flow": _packed(known.flow),
            "scales": pack_floats(torch.cat([*known.seen, *known.plans]), "float16"),
            "ways": pack_floats(known.ways, "float16"),
        }
        constants = ("radius", "mass", "strength", "damping", "tick", "fastest")
        self._settings = {
            "room": dataclasses.asdict(ROOM) | {name: getattr(ROOM, name) for name in constants},
            "sizes": [*[SIZES["width"]] * SIZES["depth"], 2 * LENGTH],
            "frequencies": known.flow.embedding.frequencies.double().tolist(),
            "points": WAYS[1],
            "policies": list(POLICIES),
            "commitments": list(COMMITMENTS),
            "evaluations": list(EVALUATIONS),
            "limit": LIMIT,
            "ticks": TICKS,
            "plans": PLANS,
            "seeds": SEEDS,
        }

    @traitlets.validate("start")
    def _valid_start(self, proposal: dict[str, Any]) -> tuple[float, float]:
        x, y = (float(value) for value in proposal["value"])
        clear = [side + ROOM.radius for side in ROOM.block]
        inside = abs(x) < clear[0] and abs(y) < clear[1]
        if inside or max(abs(x), abs(y)) > ROOM.half - ROOM.radius:
            raise traitlets.TraitError(
                "start must be a place where the ball is neither in a wall nor in the block, "
                f"within ±{ROOM.half - ROOM.radius} and not within ±{clear[0]} by ±{clear[1]}, but "
                f"{(x, y)} came"
            )
        return x, y

    @traitlets.validate("policy")
    def _valid_policy(self, proposal: dict[str, Any]) -> str:
        return one_of("policy", proposal["value"], POLICIES)

    @traitlets.validate("commitment", "evaluations")
    def _valid_count(self, proposal: dict[str, Any]) -> int:
        name, value = proposal["trait"].name, int(proposal["value"])
        known = COMMITMENTS if name == "commitment" else EVALUATIONS
        if value not in known:
            raise traitlets.TraitError(f"{name} must be one of {known}, but {value} came")
        return value

    def rollout(self) -> Rollout:
        """Return what becomes of the ball: an episode of `follow_plans`, of one ball."""
        return self._acted().run

    def touching(self) -> Tensor:
        """Return for each step whether the ball touched the block or a wall, `[steps]`."""
        return self._acted().touching

    def way(self) -> str:
        """Return on which side it passed the block, "left" or "right"; "" if it did not."""
        places = self.rollout().states[:, 0, :2]
        across = (places[:, 1] > 0) != (places[0, 1] > 0)
        if not bool(across.any()):
            return ""
        return "right" if places[across.int().argmax(), 0] > 0 else "left"

    def decisions(self) -> int:
        """Return how many plans were asked for."""
        return max(1, -(-int(self.rollout().steps) // self.commitment))

    def evaluated(self) -> int:
        """Return how often a network was evaluated in all, for the plans that were followed."""
        return self.decisions() * (self.evaluations if self.policy == "flow" else 1)

    def bundle(self) -> Tensor:
        """Return the plans that were drawn at the last decision up to the step shown.

        Places `[n 33 2]` from that of the ball on, the plan that is followed first: 24 of the flow,
        one of the regression.
        """
        run, last = self.rollout(), self.decisions() - 1
        k = min(int(self.step) // self.commitment, last)
        state = run.states[k * self.commitment]
        seed = SEEDS * self.seed + k
        plans = _plans(state, self.policy, self.evaluations, seed, PLANS)
        here = state[:, None, :2]
        return torch.cat([here.expand(len(plans), -1, -1), here + plans], dim=1)

    def _acted(self) -> _Acted:
        x, y = self.start
        return _acted((x, y), self.policy, self.commitment, self.evaluations, self.seed)

    def _draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        (width, height), purple = ROOM.block, COLORS["learned"]
        block = Rectangle((-width, -height), 2 * width, 2 * height, color=COLORS["text"], alpha=0.4)
        axes.add_patch(block)
        axes.add_patch(Circle(ROOM.goal, ROOM.near, color=COLORS["data"], alpha=0.3))
        for way in learned().ways:
            axes.plot(*way.T, color=COLORS["data"], lw=0.8, alpha=0.4)
        followed, *others = self.bundle()
        for plan in others:
            axes.plot(*plan.T, color=purple, lw=0.8, alpha=0.6)
        axes.plot(*followed.T, color=purple, lw=1.2)
        axes.plot(*followed[: self.commitment + 1].T, color=purple, lw=3)
        run, touching = self.rollout(), self.touching()
        way = run.states[: int(run.steps) + 1, 0, :2]
        axes.plot(*way.T, color=COLORS["trajectory"], ls="--")
        now = min(int(self.step), int(run.steps))
        axes.plot(*way[: now + 1].T, color=COLORS["text"], lw=2.2)
        axes.plot(*way[1:][touching].T, "o", color=COLORS["exact"], ms=3)
        axes.add_patch(Circle(tuple(way[now].tolist()), ROOM.radius, color=COLORS["exact"]))
        side = -ROOM.half, ROOM.half
        axes.set(xlim=side, ylim=side, aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_visible(True)


def _packed(network: nn.Module) -> dict[str, Any]:
    return pack_floats(nn.utils.parameters_to_vector(network.parameters()), "float16")
