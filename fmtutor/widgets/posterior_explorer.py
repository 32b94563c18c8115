"""Which data points a particle may still be on its way to."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS, scatter
from fmtutor.widgets.base import Finite, LiveFigure

__all__ = ["DATA", "PosteriorExplorer"]

DATA = (
    *((-0.94, 0.57), (-0.77, -0.16), (-0.3, -0.99), (-1.01, 0.04), (0.75, -1.14), (0.9, -0.15)),
    *((-2.4, 0.44), (-2.18, 0.9), (-1.43, 1.21), (2.61, -0.06), (-0.83, 1.39), (2.83, -0.46)),
)
"""Twelve points of two half moons, those of the chapter to two digits."""

PLANE = ((-3.4, 3.8), (-1.9, 1.9))  # the part of the plane that is shown, x and y
END = 0.98  # the field has no limit at t = 1
MOST = 24  # data points: each is a handle
RADIUS = 34  # pixels, of the disc of a weight of one


class PosteriorExplorer(LiveFigure):
    """One particle on the straight path, the data points it may be heading for, and the average.

    Attributes:
        point: Where the particle is, a pair of numbers within the plane shown.
        time: The time, from 0 (noise) to 0.98; at 1 the field of a data set has no limit.
        data: The data points, 1 to 24 pairs of numbers within the plane shown.
        clouds: Whether the cloud p_t(x|x1) of each data point is drawn, as a ring.
        field: Whether the marginal velocity is drawn at other places, too.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: marginal
    """

    file = "posterior_explorer"

    point = traitlets.Tuple(Finite(), Finite(), default_value=(1.0, 0.7)).tag(sync=True)
    time = Finite(0.4, min=0.0, max=END).tag(sync=True)
    data = traitlets.Tuple(default_value=DATA).tag(sync=True)
    clouds = traitlets.Bool(False).tag(sync=True)
    field = traitlets.Bool(False).tag(sync=True)

    _aspect = traitlets.Float(1.85).tag(sync=True)
    _narrow = traitlets.Float(1.65).tag(sync=True)
    _controls = traitlets.Int(5).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {"plane": PLANE, "end": END, "radius": RADIUS}

    @traitlets.validate("point")
    def _valid_point(self, proposal: dict[str, Any]) -> tuple[float, float]:
        return _pair(proposal["value"], "point")

    @traitlets.validate("data")
    def _valid_data(self, proposal: dict[str, Any]) -> tuple[tuple[float, float], ...]:
        points = proposal["value"]
        if not 1 <= len(points) <= MOST:
            raise traitlets.TraitError(f"data must be 1 to {MOST} points, but {len(points)} came")
        return tuple(_pair(point, "data") for point in points)

    @property
    def marginal(self) -> EmpiricalField:
        """The exact field of the data, that of the package."""
        return EmpiricalField(CondOT(), torch.tensor(self.data, dtype=torch.float64))

    def weights(self) -> Tensor:
        """Return the posterior weights of the data at the particle `[n]`, in double precision."""
        return self.marginal.posterior(self._x(), self.time)[0]

    def effective_number(self) -> float:
        """Return the effective number of data points, e to the entropy of the weights."""
        return float(torch.special.entr(self.weights()).sum().exp())

    def velocity(self) -> Tensor:
        """Return the marginal velocity at the particle `[2]`, in double precision."""
        return self.marginal(self._x(), self.time)[0]

    def _x(self) -> Tensor:
        return torch.tensor([self.point], dtype=torch.float64)

    def _draw(self, figure: Figure) -> None:
        ax = figure.subplots()
        (left, right), (low, high) = PLANE
        ax.set(xlim=(left, right), ylim=(low, high), aspect="equal")
        ax.axis("off")
        data, w, x = self.marginal.data, self.weights(), self._x()
        area = (72 / 100 * (3 + RADIUS * w.sqrt())).square() * torch.pi
        ax.scatter(data[:, 0], data[:, 1], s=area.numpy(), color=COLORS["data"], alpha=0.35, lw=0)
        scatter(ax, data, "data", size=28, alpha=1)
        style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1}
        start = x.expand_as(data)
        along = (data - x).T
        shade = (0.3 + 0.7 * w.sqrt()).numpy()
        ax.quiver(*start.T, *along, color=COLORS["text"], alpha=shade, width=0.003, **style)
        mean = self.marginal.posterior_mean(x, self.time) - x
        ax.quiver(*x.T, *mean.T, color=COLORS["velocity"], width=0.009, zorder=3, **style)
        scatter(ax, x, "noise", size=70, alpha=1, zorder=4)
        ax.annotate("$x$", (self.point[0], self.point[1]), (7, 7), textcoords="offset points")
        tip = self.point[0] + mean[0, 0].item(), self.point[1] + mean[0, 1].item()
        ax.annotate("$m_t(x)$", tip, (4, -12), textcoords="offset points")


def _pair(value: Any, name: str) -> tuple[float, float]:
    """Return a point of the plane shown, or say what is wrong with it."""
    (left, right), (low, high) = PLANE
    try:
        x, y = map(float, value)
    except (TypeError, ValueError):
        raise traitlets.TraitError(f"{name} must hold pairs of numbers, not {value!r}") from None
    if not (left <= x <= right and low <= y <= high):  # refuses NaN, too
        raise traitlets.TraitError(
            f"{name} must lie in [{left}, {right}] x [{low}, {high}], the plane shown, "
            f"but ({x}, {y}) came"
        )
    return x, y
