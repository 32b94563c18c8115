"""A source and a target to be moved or drawn, a coupling between them, the ODE beside the SDE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.couplings import minibatch_ot
from fmtutor.entropic import entropic_plan
from fmtutor.exact_bridges import PairedPoints
from fmtutor.paths import BrownianBridge
from fmtutor.plotting import COLORS, blend, scatter
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.rng import Random

__all__ = ["COUPLINGS", "PENS", "BridgeExplorer"]

COUPLINGS = {"random": "independent", "optimal": "optimal", "entropic": "entropic, ε = 2σ²"}
"""How points are paired, and the words for it."""

PENS = ("off", "source", "target")
"""What the pen draws."""

SOURCES = ((-2.2, 1.2), (-2.2, -1.2), (-1.2, 0.0))
TARGETS = ((2.2, 1.6), (1.4, 0.0), (2.2, -1.6))
EACH = 6  # points of a cluster
MOST = 3 * EACH  # points on either side
APART = 0.2  # of two points that the pen draws one after the other
RING = 0.3  # its radius
WIDTH = 0.3  # of the bridge at its ends
STEPS = 100
LIMIT = 3.2  # half the side of the square shown


Points = tuple[tuple[float, float], ...]


class BridgeExplorer(LiveFigure):
    """A source and a target of 18 points each, paired and bridged: ODE left, SDE right.

    Either is three clusters that can be dragged, or a drawing, to whose points the 18 are dealt out
    in turn. Both equations run in the exact field of Brownian bridges of width 0.3 at the ends,
    over all pairs with the weights of the plan.

    Attributes:
        sources: The centres of the source's clusters, three pairs of numbers within ±3.2.
        targets: Those of the target's.
        drawn_source: The points of a drawn source, pairs of numbers within ±3.2, at most 18; if
            there are none, the clusters are the source.
        drawn_target: Those of a drawn target.
        pen: What a mouse or a finger draws in the panels, one of `PENS`.
        coupling: "random", "optimal" or "entropic" with ε = 2σ².
        sigma: The size of the noise, 0.3 to 1.5.
        time: The time shown, from 0 (source) to 1 (target).
        seed: Seed of the noise, from 0 on.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: bridges
    """

    file = "bridge_explorer"

    sources = traitlets.Tuple(default_value=SOURCES).tag(sync=True)
    targets = traitlets.Tuple(default_value=TARGETS).tag(sync=True)
    drawn_source = traitlets.Tuple().tag(sync=True)
    drawn_target = traitlets.Tuple().tag(sync=True)
    pen = traitlets.Unicode("off").tag(sync=True)
    coupling = traitlets.Unicode("entropic").tag(sync=True)
    sigma = Finite(0.8, min=0.3, max=1.5).tag(sync=True)
    time = Finite(0.5, min=0.0, max=1.0).tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**31 - 1).tag(sync=True)

    _aspect = traitlets.Float(1.75).tag(sync=True)
    _narrow = traitlets.Float(1.62).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {
            "couplings": COUPLINGS,
            "pens": PENS,
            "each": EACH,
            "apart": APART,
            "ring": RING,
            "width": WIDTH,
            "steps": STEPS,
            "limit": LIMIT,
        }

    @traitlets.validate("coupling")
    def _valid_coupling(self, proposal: dict[str, Any]) -> str:
        return one_of("coupling", proposal["value"], COUPLINGS)

    @traitlets.validate("pen")
    def _valid_pen(self, proposal: dict[str, Any]) -> str:
        return one_of("pen", proposal["value"], PENS)

    @traitlets.validate("sources", "targets")
    def _valid_centres(self, proposal: dict[str, Any]) -> Points:
        return _places(proposal, "three", lambda n: n == 3)

    @traitlets.validate("drawn_source", "drawn_target")
    def _valid_drawing(self, proposal: dict[str, Any]) -> Points:
        return _places(proposal, f"at most {MOST}", lambda n: n <= MOST)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the points of source and target, each `[18 2]`."""
        return _cloud(self.sources, self.drawn_source), _cloud(self.targets, self.drawn_target)

    def plan(self) -> Tensor:
        """Return the mass of each pair, `[18 18]`."""
        x0, x1 = self.ends()
        n = len(x0)
        if self.coupling == "random":
            return torch.full((n, n), 1 / n**2, dtype=torch.float64)
        if self.coupling == "entropic":
            return entropic_plan(x0, x1, 2 * self.sigma**2, tol=1e-4)
        _, _, column = minibatch_ot(x0, x1, torch.arange(n))
        return torch.nn.functional.one_hot(column, n).double() / n

    def cost(self) -> float:
        """Return the mean of ‖x1 − x0‖² under the plan."""
        x0, x1 = self.ends()
        return float((self.plan() * torch.cdist(x0, x1).square()).sum())

    def field(self) -> PairedPoints:
        """Return the exact field of the bridges over all pairs."""
        x0, x1 = self.ends()
        n, plan = len(x0), self.plan()
        path = BrownianBridge(self.sigma, width=WIDTH)
        return PairedPoints(path, x0.repeat_interleave(n, 0), x1.repeat(n, 1), plan.flatten())

    def ways(self, kind: str) -> Tensor:
        """Return the trajectories of "ODE" or "SDE" from the source, `[101 18 2]`."""
        if kind not in ("ODE", "SDE"):
            raise ValueError(f"kind must be ODE or SDE, but {kind!r} came")
        field, (x, _) = self.field(), self.ends()
        if kind == "ODE":
            return sample(field.velocity, x, method="midpoint", steps=STEPS, return_path=True)
        random, points = Random(self.seed), [x]
        for k in range(STEPS):
            drift = field.velocity(x, k / STEPS) + self.sigma**2 / 2 * field.score(x, k / STEPS)
            noise = random.normals(*x.shape).double()
            x = x + drift / STEPS + self.sigma / math.sqrt(STEPS) * noise
            points.append(x)
        return torch.stack(points)

    def moved(self, kind: str) -> float:
        """Return the mean squared distance between the first and the last points."""
        ways = self.ways(kind)
        return float((ways[-1] - ways[0]).square().sum(1).mean())

    def _draw(self, figure: Figure) -> None:
        x0, x1 = self.ends()
        for ax, kind in zip(figure.subplots(1, 2), ("ODE", "SDE"), strict=True):
            ways = self.ways(kind)
            ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[], yticks=[], aspect="equal")
            ax.spines[:].set_visible(False)
            ax.plot(ways[..., 0], ways[..., 1], color=COLORS["trajectory"], lw=0.9, zorder=1)
            scatter(ax, x0, "noise", size=12, alpha=1, zorder=2)
            scatter(ax, x1, "data", size=12, alpha=1, zorder=2)
            now = ways[round(self.time * STEPS)]
            scatter(ax, now, size=20, alpha=1, zorder=3, color=blend(self.time))
            words = f"{kind}\ndisplacement² {self.moved(kind):.2f}"
            ax.set_title(words, y=1.0, pad=2)


def _cloud(centres: Points, drawn: Points) -> Tensor:
    """Return the points of clusters, or those of a drawing, again and again up to their number."""
    if drawn:
        return torch.tensor(drawn, dtype=torch.float64)[torch.arange(MOST) % len(drawn)]
    angle = torch.arange(EACH, dtype=torch.float64) * (2 * math.pi / EACH)
    ring = RING * torch.stack([angle.cos(), angle.sin()], 1)
    return (torch.tensor(centres, dtype=torch.float64)[:, None] + ring).reshape(-1, 2)


def _places(proposal: dict[str, Any], how_many: str, right: Callable[[int], bool]) -> Points:
    """Return the pairs of numbers of a trait, or refuse what is none, outside or too much."""
    name, points = proposal["trait"].name, proposal["value"]
    try:
        places = tuple((float(x), float(y)) for x, y in points)
    except (TypeError, ValueError):
        places = None
    if (
        places is None
        or not right(len(places))
        or not all(abs(value) <= LIMIT for place in places for value in place)
    ):
        raise traitlets.TraitError(
            f"{name} must be {how_many} pairs of numbers within ±{LIMIT}, but {points} came"
        )
    return places
