"""Two data points on a line, over time: lines that cross, and the one field whose tracks do not."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS, scatter, strip
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of

__all__ = ["Meeting", "StripExplorer"]

RANGE = (-2.4, 2.4)  # the piece of the line that is shown
REACH = 2.0  # how far out a data point may be
END = 0.98  # without a width the field has no limit at t = 1
WIDEST = 0.5
SHOWN = ("both", "first", "second")
LONG, SHORT = 0.2, 0.045  # how much time the arrows take, at the place looked at and elsewhere
GRID = (9, 12)  # of those elsewhere: times, and places
WALKERS = 6  # at quantiles of the noise


class Meeting(NamedTuple):
    """What meets at one place at one time."""

    weights: Tensor
    """The posterior weights of the two points, `[2]`."""
    velocities: Tensor
    """Their conditional velocities, `[2]`."""
    mean: float
    """The marginal velocity, their mean with these weights."""
    variance: float
    """Their variance with these weights."""


class StripExplorer(LiveFigure):
    """Two data points on a line in the plane of time and place, and what meets at one place.

    Attributes:
        points: The data points, two numbers from -2 to 2.
        sigma_min: The width that their strips have at time 1, from 0 to 0.5.
        time: The time looked at, from 0 (noise) to 0.98.
        place: The place looked at, a number within the piece of the line shown.
        shown: Whose density and arrows are shown, one of "both", "first" and "second".
        arrows: Whether the arrows of the field are drawn.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: marginal
    """

    file = "strip_explorer"

    points = traitlets.Tuple(Finite(), Finite(), default_value=(-1.0, 1.0)).tag(sync=True)
    sigma_min = Finite(0.0, min=0.0, max=WIDEST).tag(sync=True)
    time = Finite(0.5, min=0.0, max=END).tag(sync=True)
    place = Finite(0.25, min=RANGE[0], max=RANGE[1]).tag(sync=True)
    shown = traitlets.Unicode("both").tag(sync=True)
    arrows = traitlets.Bool(True).tag(sync=True)

    _aspect = traitlets.Float(1.6).tag(sync=True)
    _narrow = traitlets.Float(0.85).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {
            "range": RANGE,
            "reach": REACH,
            "end": END,
            "widest": WIDEST,
            "starts": _starts()[:, 0].tolist(),
            "shown": SHOWN,
        }

    @traitlets.validate("points")
    def _valid_points(self, proposal: dict[str, Any]) -> tuple[float, float]:
        first, second = (float(point) for point in proposal["value"])
        if max(abs(first), abs(second)) > REACH:
            raise traitlets.TraitError(
                f"points must be two numbers from {-REACH:g} to {REACH:g}, "
                f"but {(first, second)} came"
            )
        return first, second

    @traitlets.validate("shown")
    def _valid_shown(self, proposal: dict[str, Any]) -> str:
        return one_of("shown", proposal["value"], SHOWN)

    @property
    def marginal(self) -> EmpiricalField:
        """The exact field of the two points, that of the package."""
        data = torch.tensor(self.points, dtype=torch.float64)[:, None]
        return EmpiricalField(CondOT(self.sigma_min), data)

    def meeting(self) -> Meeting:
        """Return weights, velocities, their mean and their variance at the place looked at."""
        field = self.marginal
        x, t = torch.tensor([[self.place]], dtype=torch.float64), self.time
        w = field.posterior(x, t)[0]
        u = field.path.conditional_velocity(x.expand_as(field.data), field.data, t)[:, 0]
        mean = field(x, t).item()
        return Meeting(w, u, mean, float(w @ (u - mean).square()))

    def log_density(self, x: Tensor, times: Tensor) -> Tensor:
        """Return the log-density that is shown, at places `[b 1]` and times `[b]`."""
        each = self._conditional(x, times)
        return each[self._one()] if self.shown != "both" else each.logsumexp(0) - math.log(2)

    def _conditional(self, x: Tensor, times: Tensor) -> Tensor:
        """Return log p_t(x|x1) of both points, `[2 b]`."""
        field = self.marginal
        each = [field.path.log_prob(x, p.expand_as(x).to(x), times) for p in field.data]
        return torch.stack(each)

    def _draw(self, figure: Figure) -> None:
        grid = figure.add_gridspec(1, 2, width_ratios=(3.6, 1))
        plane, cut = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
        strip(plane, self.log_density, limit=RANGE[1], n=120)
        self._draw_ways(plane)
        if self.arrows:
            self._draw_arrows(plane)
        self._draw_place(plane)
        self._draw_cut(cut)
        for ax in (plane, cut):
            ax.set(ylim=RANGE)
        if self.shown == "both":
            plane.set_title("lines cross", loc="left")
            plane.set_title("tracks do not", loc="right", color=COLORS["velocity"])

    def _draw_ways(self, ax: Axes) -> None:
        """Draw the lines of walkers to the points, and the tracks of the field."""
        field, starts = self.marginal, _starts()
        for point in field.data if self.shown == "both" else field.data[[self._one()]]:
            stops = point + self.sigma_min * starts
            lines = torch.cat([starts, stops], 1).T
            ax.plot([0, 1], lines, color=COLORS["text"], lw=0.7)
        if self.shown == "both":
            times = torch.linspace(0, END, 200, dtype=torch.float64)
            ax.plot(times, self._follow(starts, times), color=COLORS["velocity"], lw=1.4)

    def _follow(self, x: Tensor, times: Tensor) -> Tensor:
        """Return the tracks of the marginal field from places `[b 1]`, `[k b]` at k times."""
        ways: Tensor = sample(self.marginal, x, method="rk4", times=times, return_path=True)
        return ways[:, :, 0]

    def _draw_arrows(self, ax: Axes) -> None:
        """Draw the field that is shown, on a grid of times and places."""
        times, places = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in GRID)
        t, x = torch.meshgrid(times, RANGE[0] + (RANGE[1] - RANGE[0]) * places, indexing="ij")
        shown, field = t.flatten(), self.marginal
        u = field(x.reshape(-1, 1), shown)
        if self.shown != "both":
            point = field.data[[self._one()]].expand_as(u)
            u = field.path.conditional_velocity(x.reshape(-1, 1), point, shown)
        style: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.002}
        along = SHORT * torch.ones_like(u), SHORT * u
        ax.quiver(t, x, *along, color=COLORS["velocity"], alpha=0.8, **style)

    def _draw_place(self, ax: Axes) -> None:
        """Draw what meets at the place looked at: two lines, one track, arrows along them."""
        meeting, t, x = self.meeting(), self.time, self.place
        span = min(LONG, 1 - t)
        for u in meeting.velocities.tolist():
            line = [x - t * u, x + (1 - t) * u]
            ax.plot([0, 1], line, color=COLORS["exact"], lw=1, ls="--")
        if self.shown == "both":
            for end in {0.0, END} - {t}:
                times = torch.linspace(t, end, 100, dtype=torch.float64)
                way = self._follow(torch.tensor([[x]], dtype=torch.float64), times)
                ax.plot(times, way, color=COLORS["velocity"], lw=2.6)
        ends = [*meeting.velocities.tolist(), meeting.mean]
        for u, kind, width in zip(ends, ("exact", "exact", "velocity"), (1.4, 1.4, 3), strict=True):
            arrow = {"arrowstyle": "-|>", "color": COLORS[kind], "lw": width, "shrinkA": 0}
            ax.annotate("", (t + span, x + span * u), (t, x), arrowprops=arrow)
        scatter(ax, torch.tensor([[t, x]]), "noise", size=60, alpha=1, zorder=4)
        ends_at = torch.tensor([[1.0, point] for point in self.points])
        scatter(ax, ends_at, "data", size=60, alpha=1, zorder=4, clip_on=False)
        for point, w in zip(self.points, meeting.weights.tolist(), strict=True):
            ax.annotate(f"{w:.2f}", (1.0, point), (10, -4), textcoords="offset points")

    def _draw_cut(self, ax: Axes) -> None:
        """Draw the densities at the time looked at, along the line."""
        y = torch.linspace(*RANGE, 400, dtype=torch.float64)[:, None]
        each = self._conditional(y, torch.full((len(y),), self.time).double()).exp() / 2
        ax.plot(each.T, y[:, 0], color=COLORS["data"], lw=1.3)
        ax.plot(each.sum(0), y[:, 0], color=COLORS["exact"], lw=1.8)
        ax.axhline(self.place, color=COLORS["text"], lw=0.8, ls=":")
        ax.set(xticks=[], yticks=[], title="density", xlabel=f"at $t = {self.time:.2f}$")

    def _one(self) -> int:
        return SHOWN.index(self.shown) - 1


def _starts() -> Tensor:
    """Return places of walkers at time 0 `[n 1]`, quantiles of the noise."""
    shares = (torch.arange(WALKERS, dtype=torch.float64) + 0.5) / WALKERS
    places: Tensor = torch.special.ndtri(shares)
    return places[:, None]
