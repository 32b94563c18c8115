"""A source and a target to be moved, a coupling between them, and the ODE beside the SDE."""

from __future__ import annotations

import math
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

__all__ = ["COUPLINGS", "BridgeExplorer"]

COUPLINGS = {"random": "independent", "optimal": "optimal", "entropic": "entropic, ε = 2σ²"}
"""How points are paired, and the words for it."""

SOURCES = ((-2.2, 1.2), (-2.2, -1.2), (-1.2, 0.0))
TARGETS = ((2.2, 1.6), (1.4, 0.0), (2.2, -1.6))
EACH = 6  # points of a cluster
RING = 0.3  # its radius
WIDTH = 0.3  # of the bridge at its ends
STEPS = 100
LIMIT = 3.2  # half the side of the square shown


class BridgeExplorer(LiveFigure):
    """Three clusters of a source and three of a target, paired and bridged: ODE left, SDE right.

    Both run in the exact field of Brownian bridges of width 0.3 at the ends, over all pairs with
    the weights of the plan.

    Attributes:
        sources: The centres of the source's clusters, three pairs of numbers within ±3.2.
        targets: Those of the target's.
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
    coupling = traitlets.Unicode("entropic").tag(sync=True)
    sigma = Finite(0.8, min=0.3, max=1.5).tag(sync=True)
    time = Finite(0.5, min=0.0, max=1.0).tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**31 - 1).tag(sync=True)

    _aspect = traitlets.Float(1.75).tag(sync=True)
    _narrow = traitlets.Float(1.62).tag(sync=True)
    _controls = traitlets.Int(5).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {
            "couplings": COUPLINGS,
            "each": EACH,
            "ring": RING,
            "width": WIDTH,
            "steps": STEPS,
            "limit": LIMIT,
        }

    @traitlets.validate("coupling")
    def _valid_coupling(self, proposal: dict[str, Any]) -> str:
        return one_of("coupling", proposal["value"], COUPLINGS)

    @traitlets.validate("sources", "targets")
    def _valid_centres(self, proposal: dict[str, Any]) -> tuple[tuple[float, float], ...]:
        name, points = proposal["trait"].name, proposal["value"]
        try:
            centres = tuple((float(x), float(y)) for x, y in points)
        except (TypeError, ValueError):
            centres = ()
        inside = all(abs(value) <= LIMIT for centre in centres for value in centre)
        if len(centres) != 3 or not inside:
            raise traitlets.TraitError(
                f"{name} must be three pairs of numbers within ±{LIMIT}, but {points} came"
            )
        return centres

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the points of source and target, each `[18 2]`."""
        angle = torch.arange(EACH, dtype=torch.float64) * (2 * math.pi / EACH)
        ring = RING * torch.stack([angle.cos(), angle.sin()], 1)
        both = (torch.tensor(c, dtype=torch.float64) for c in (self.sources, self.targets))
        x0, x1 = ((centres[:, None] + ring).reshape(-1, 2) for centres in both)
        return x0, x1

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
            words = f"{kind}\nsquared displacement {self.moved(kind):.2f}"
            ax.set_title(words, y=1.0, pad=2)
