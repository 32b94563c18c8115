"""One batch of noise and data, paired at random and at the least cost."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.couplings import minibatch_ot
from fmtutor.data import cluster_means
from fmtutor.metrics import bending
from fmtutor.notation import Time, VelocityField
from fmtutor.plotting import COLORS, blend, scatter
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import pack_floats
from fmtutor.widgets.rng import Random

__all__ = ["PAIRINGS", "VIEWS", "CouplingExplorer"]

PAIRINGS = ("random", "optimal")
"""The two pairings, left and right."""

VIEWS = {"pairs": "lines of the pairs", "flow": "flow of the pairs"}
"""What can be shown, and the words for it."""

LARGEST = 64  # batch
STD = 0.2  # of a cluster of the data
WIDTH = 0.3  # σ of the tube around each line
STEPS = 40  # of the midpoint method
LIMIT = 3.6  # half the side of the square shown


class CouplingExplorer(LiveFigure):
    """One batch of noise and data under two pairings: lines, crossings, cost and flow.

    Attributes:
        batch_size: Number of pairs b, 2 to 64.
        seed: Seed of the batch, from 0 on. A larger batch of the same seed has more points and
            keeps those of the smaller one.
        time: The time shown, from 0 (noise) to 1 (data).
        view: "pairs" for points that move along the lines of the pairs, "flow" for the flow of the
            marginal field that these pairs have.
        marks: Whether the crossings of the lines are marked; behind the flow with the lines.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: couplings
    """

    file = "coupling_explorer"

    batch_size = traitlets.Int(32, min=2, max=LARGEST).tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**31 - 1).tag(sync=True)
    time = Finite(0.5, min=0.0, max=1.0).tag(sync=True)
    view = traitlets.Unicode("pairs").tag(sync=True)
    marks = traitlets.Bool(True).tag(sync=True)

    _aspect = traitlets.Float(1.75).tag(sync=True)
    _narrow = traitlets.Float(1.62).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _means = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._means = pack_floats(cluster_means(8, 3.0))
        self._settings = {
            "largest": LARGEST,
            "std": STD,
            "width": WIDTH,
            "steps": STEPS,
            "limit": LIMIT,
            "views": VIEWS,
        }

    @traitlets.validate("view")
    def _valid_view(self, proposal: dict[str, Any]) -> str:
        return one_of("view", proposal["value"], VIEWS)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the noise and the data as they were drawn, each `[b 2]`."""
        random, means = Random(self.seed), cluster_means(8, 3.0).double()
        rows = []
        for _ in range(self.batch_size):
            noise = random.normals(2).double()
            center = means[random.integer(8)]
            rows.append(torch.stack([noise, center + STD * random.normals(2).double()]))
        x0, x1 = torch.stack(rows, dim=1)
        return x0, x1

    def pairs(self, pairing: str) -> tuple[Tensor, Tensor]:
        """Return noise and data, row by row the pairs of "random" or "optimal", each `[b 2]`."""
        if pairing not in PAIRINGS:
            raise ValueError(f"pairing must be one of {', '.join(PAIRINGS)}, but {pairing!r} came")
        x0, x1 = self.batch()
        if pairing == "optimal":
            x0, x1 = minibatch_ot(x0, x1)
        return x0, x1

    def cost(self, pairing: str) -> float:
        """Return the mean of ‖x1 − x0‖² over the pairs."""
        x0, x1 = self.pairs(pairing)
        return float((x1 - x0).square().sum(1).mean())

    def crossings(self, pairing: str) -> Tensor:
        """Return the points where the lines of two pairs cross, `[n 2]`."""
        x0, x1 = self.pairs(pairing)
        i, j = torch.triu_indices(self.batch_size, self.batch_size, 1)
        way, other, between = (x1 - x0)[i], (x1 - x0)[j], (x0[j] - x0[i])
        along = _turn(between, other) / _turn(way, other)
        across = _turn(between, way) / _turn(way, other)
        inside = (along > 0) & (along < 1) & (across > 0) & (across < 1)
        return (x0[i] + along[:, None] * way)[inside]

    def field(self, pairing: str) -> VelocityField:
        """Return the marginal field of these pairs, each the centre of a tube of width 0.3."""
        x0, x1 = self.pairs(pairing)

        def u(x: Tensor, t: Time) -> Tensor:
            time = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1, 1)
            square = (x[:, None] - (1 - time) * x0 - time * x1).square().sum(2)  # [n b]
            return (-square / (2 * WIDTH**2)).softmax(1) @ (x1 - x0)

        return u

    def flow(self, pairing: str) -> Tensor:
        """Return the trajectories of that field from the noise of the batch, `[41 b 2]`."""
        x0, _ = self.pairs(pairing)
        u = self.field(pairing)
        return sample(u, x0, method="midpoint", steps=STEPS, return_path=True)

    def bending(self, pairing: str) -> float:
        """Return the bending S of the flow: zero for straight and steady trajectories."""
        times = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
        return float(bending(self.flow(pairing), times))

    def _ways(self, pairing: str) -> Tensor:
        """Return what is drawn: the trajectories of the view, `[k b 2]`."""
        if self.view == "flow":
            return self.flow(pairing)
        x0, x1 = self.pairs(pairing)
        share = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)[:, None, None]
        return (1 - share) * x0 + share * x1

    def positions(self, pairing: str) -> Tensor:
        """Return where the points are at the time shown, `[b 2]`."""
        ways, place = self._ways(pairing), self.time * STEPS
        k = min(STEPS - 1, int(place))
        return ways[k] + (place - k) * (ways[k + 1] - ways[k])

    def _draw(self, figure: Figure) -> None:
        for ax, pairing in zip(figure.subplots(1, 2), PAIRINGS, strict=True):
            self._panel(ax, pairing)

    def _panel(self, ax: Axes, pairing: str) -> None:
        x0, x1 = self.pairs(pairing)
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[], yticks=[], aspect="equal")
        ax.spines[:].set_visible(False)
        crossings, flowing = self.crossings(pairing), self.view == "flow"
        lines, ways = torch.stack([x0, x1]), self._ways(pairing)
        grey = COLORS["trajectory"]
        if flowing:
            words = f"{pairing} pairs\nflow, S = {self.bending(pairing):.2f}"
            ax.plot(ways[..., 0], ways[..., 1], color=grey, lw=1.4)
            if self.marks:
                ax.plot(lines[..., 0], lines[..., 1], color=grey, lw=0.6, ls=":", zorder=1)
        else:
            cost, count = self.cost(pairing), len(crossings)
            words = f"{pairing} pairs\ncost {cost:.2f}, {count} crossings"
            ax.plot(lines[..., 0], lines[..., 1], color=grey, lw=0.9, zorder=1)
        ax.set_title(words, y=1.0, pad=2)
        if self.marks:
            scatter(ax, crossings, "exact", size=9, alpha=0.4 if flowing else 0.8, zorder=2)
        scatter(ax, x0, "noise", size=12, alpha=1, zorder=2)
        scatter(ax, x1, "data", size=12, alpha=1, zorder=2)
        scatter(ax, self.positions(pairing), size=20, alpha=1, zorder=3, color=blend(self.time))


def _turn(a: Tensor, b: Tensor) -> Tensor:
    """Return the area of the parallelogram of two vectors, signed, row by row."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
