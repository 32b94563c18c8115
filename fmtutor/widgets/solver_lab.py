"""Trajectories of four solvers beside the exact ones, and what each evaluation buys."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.oracles import GaussianMixture
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS, density, scatter, trajectories
from fmtutor.solvers import TABLEAUX, sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import pack_mixture
from fmtutor.widgets.rng import Random

__all__ = ["INKS", "MIXTURES", "NAMES", "STEPS", "SolverLab"]

MIXTURES: dict[str, tuple[list[list[float]], list[float], list[float]]] = {
    "three clusters": ([[-2.0, 1.0], [1.8, 2.0], [1.0, -1.8]], [0.3, 0.4, 0.5], [0.5, 0.3, 0.2]),
    "one Gaussian": ([[1.2, 0.8]], [0.3], [1.0]),
}
"""Means, standard deviations and weights of the data that can be chosen."""

NAMES = {"euler": "Euler", "midpoint": "midpoint", "heun": "Heun", "rk4": "RK4"}
"""How each method is written in the figure."""

INKS = {
    "euler": COLORS["noise"],
    "midpoint": COLORS["velocity"],
    "heun": COLORS["data"],
    "rk4": COLORS["learned"],
}
"""The colour of each method."""

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
"""The numbers of steps on the curves, which are also the stops of the slider."""

POINTS = 101  # an odd number: the median is one of them
TRAILS = 30
FINE = 200  # steps of RK4 that stand for the exact flow
LIMIT = 3.3  # half the side of the square shown
SEED = 4  # of the noise
ERRORS = (-9.2, 0.7)  # log10, the range shown
EVALUATIONS = (-0.25, 8.25)  # log2, the range shown


@cache
def _mixture(dataset: str) -> GaussianMixture:
    means, stds, weights = (torch.tensor(part) for part in MIXTURES[dataset])
    return GaussianMixture(means.double(), stds.double(), weights.double())


@cache
def _exact(dataset: str) -> Tensor:
    """Return the exact trajectories of the noise points, `[FINE + 1, POINTS, 2]`."""
    u = _mixture(dataset).velocity(CondOT())
    return sample(u, _noise(), method="rk4", steps=FINE, return_path=True)


@cache
def _noise() -> Tensor:
    return Random(SEED).normals(POINTS, 2).double()


@cache
def _error(dataset: str, method: str, steps: int) -> float:
    end = sample(_mixture(dataset).velocity(CondOT()), _noise(), method=method, steps=steps)
    return float((end - _exact(dataset)[-1]).norm(dim=1).median())


class SolverLab(LiveFigure):
    """A solver's trajectories on an exact field, and error against number of evaluations.

    Attributes:
        method: The solver, a key of `fmtutor.solvers.TABLEAUX`.
        steps: Number of steps, 1 to 64.
        dataset: The data whose exact field is followed, a key of `MIXTURES`.
        x0: The noise point whose way is drawn out, each coordinate within 3.3 of zero.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: sampling
    """

    file = "solver_lab"

    method = traitlets.Unicode("euler").tag(sync=True)
    steps = traitlets.Int(4, min=1, max=STEPS[-1]).tag(sync=True)
    dataset = traitlets.Unicode("three clusters").tag(sync=True)
    x0 = traitlets.Tuple(Finite(), Finite(), default_value=(0.3, 0.9)).tag(sync=True)

    _aspect = traitlets.Float(1.95).tag(sync=True)
    _narrow = traitlets.Float(0.62).tag(sync=True)
    _controls = traitlets.Int(3).tag(sync=True)
    _mixtures = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, method: str = "euler", **traits: Any) -> None:
        super().__init__(method=method, **traits)
        self._mixtures = {name: pack_mixture(_mixture(name)) for name in MIXTURES}
        self._settings = {
            "points": POINTS,
            "trails": TRAILS,
            "fine": FINE,
            "limit": LIMIT,
            "seed": SEED,
            "steps": STEPS,
            "inks": INKS,
            "names": NAMES,
            "errors": ERRORS,
            "evaluations": EVALUATIONS,
        }

    @traitlets.validate("method")
    def _valid_method(self, proposal: dict[str, Any]) -> str:
        return one_of("method", proposal["value"], TABLEAUX)

    @traitlets.validate("dataset")
    def _valid_dataset(self, proposal: dict[str, Any]) -> str:
        return one_of("dataset", proposal["value"], MIXTURES)

    @traitlets.validate("x0")
    def _valid_x0(self, proposal: dict[str, Any]) -> tuple[float, float]:
        x, y = proposal["value"]
        if max(abs(x), abs(y)) > LIMIT:
            raise traitlets.TraitError(f"x0 must lie within {LIMIT} of zero, but ({x}, {y}) came")
        return x, y

    @property
    def evaluations(self) -> int:
        """The number of evaluations of the field that each point costs."""
        return self.steps * len(TABLEAUX[self.method].b)

    def positions(self) -> Tensor:
        """Return the points of the solver at each of its times, `[steps + 1, 101, 2]`."""
        u = _mixture(self.dataset).velocity(CondOT())
        return sample(u, _noise(), method=self.method, steps=self.steps, return_path=True)

    def error(self, method: str | None = None, steps: int | None = None) -> float:
        """Return the distance to the exact end, the median over the noise points.

        Args:
            method: A solver; None is the one shown.
            steps: A number of steps; None is the one shown.
        """
        return _error(self.dataset, method or self.method, steps or self.steps)

    def point(self) -> tuple[Tensor, Tensor, float]:
        """Return the way of x0 by the solver, its exact way, and the distance of their ends."""
        u = _mixture(self.dataset).velocity(CondOT())
        start = torch.tensor([self.x0], dtype=torch.float64)
        way = sample(u, start, method=self.method, steps=self.steps, return_path=True)[:, 0]
        exact = sample(u, start, method="rk4", steps=FINE, return_path=True)[:, 0]
        return way, exact, float((way[-1] - exact[-1]).norm())

    def _draw(self, figure: Figure) -> None:
        plane, bill = figure.subplots(1, 2)
        ink = INKS[self.method]
        mixture = _mixture(self.dataset)
        plane.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
        plane.axis("off")
        density(plane, mixture.log_prob, limit=LIMIT, dtype=torch.float64)
        trajectories(plane, _exact(self.dataset)[:, :TRAILS], ends=False)
        path = self.positions()
        plane.plot(path[:, :TRAILS, 0], path[:, :TRAILS, 1], color=ink, lw=0.9, alpha=0.8)
        scatter(plane, path[-1], "exact", size=8, alpha=1, zorder=3)
        way, exact, _ = self.point()
        plane.plot(exact[:, 0], exact[:, 1], color=COLORS["exact"], lw=2)
        plane.plot(way[:, 0], way[:, 1], "o-", color=ink, lw=2, ms=4)
        scatter(plane, way[:1], "noise", size=50, alpha=1, zorder=4)
        plane.plot(*exact[-1], "o", ms=9, mfc="none", mew=1.5, color=COLORS["exact"])
        for method, color in INKS.items():
            stages = len(TABLEAUX[method].b)
            errors = [self.error(method, n) for n in STEPS]
            lw = 2.4 if method == self.method else 1.2
            bill.loglog(
                [stages * n for n in STEPS], errors, color=color, lw=lw, label=NAMES[method]
            )
        bill.plot(self.evaluations, self.error(), "o", ms=9, mfc="none", mew=2, color=ink)
        bill.axvline(self.evaluations, color=COLORS["exact"], lw=0.8, ls=":")
        bill.set_xscale("log", base=2)
        ticks = [4**k for k in range(5)]
        bill.set_xticks(ticks, [str(tick) for tick in ticks])
        low, high = (10**power for power in ERRORS)
        bill.set(xlabel="evaluations (NFE)", title="error of a typical point", ylim=(low, high))
        bill.legend(loc="lower left")
