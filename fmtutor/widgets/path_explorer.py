"""One noise point on its way to one data point."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.paths import AffinePath, CondOT, Cosine, PathSample, VariancePreserving
from fmtutor.plotting import COLORS, blend, scatter
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.rng import Random

__all__ = ["SCHEDULES", "PathExplorer"]

SCHEDULES = ("CondOT", "Cosine", "VariancePreserving")
"""The paths to choose from, by their names in `fmtutor`."""

PLANE = ((-2.3, 4.3), (-2.4, 2.4))  # the part of the plane that is shown, x and y
ARROW = 0.35  # length of the arrow of a velocity of one
PARTICLES = 150  # of the cloud
SEED = 4  # of the cloud


class PathExplorer(LiveFigure):
    """The Gaussian path from noise to one data point, one particle on it, and its velocity.

    Attributes:
        x0: Where the particle starts, a pair of numbers within the plane shown.
        x1: The data point, a pair of numbers within the plane shown.
        schedule: The path, one of "CondOT", "Cosine" and "VariancePreserving".
        sigma_min: The width that CondOT leaves at the end, 0 to 0.5; the other paths have none.
        time: The time shown, from 0 (noise) to 1 (data).
        parts: Whether the two parts of the velocity are drawn, α'x1 and σ'x0.
        particles: Whether other particles of the cloud are drawn.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: paths
    """

    file = "path_explorer"

    x0 = traitlets.Tuple(Finite(), Finite(), default_value=(-0.8, -1.6)).tag(sync=True)
    x1 = traitlets.Tuple(Finite(), Finite(), default_value=(3.0, 0.9)).tag(sync=True)
    schedule = traitlets.Unicode("CondOT").tag(sync=True)
    sigma_min = Finite(0.0, min=0.0, max=0.5).tag(sync=True)
    time = Finite(0.4, min=0.0, max=1.0).tag(sync=True)
    parts = traitlets.Bool(True).tag(sync=True)
    particles = traitlets.Bool(True).tag(sync=True)

    _aspect = traitlets.Float(1.95).tag(sync=True)
    _narrow = traitlets.Float(0.78).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {"plane": PLANE, "arrow": ARROW, "particles": PARTICLES, "seed": SEED}

    @traitlets.validate("schedule")
    def _valid_schedule(self, proposal: dict[str, Any]) -> str:
        return one_of("schedule", proposal["value"], SCHEDULES)

    @traitlets.validate("x0", "x1")
    def _valid_point(self, proposal: dict[str, Any]) -> tuple[float, ...]:
        point: tuple[float, ...] = proposal["value"]
        if not all(low <= v <= high for v, (low, high) in zip(point, PLANE, strict=True)):
            (left, right), (low, high) = PLANE
            raise traitlets.TraitError(
                f"{proposal['trait'].name} must lie in [{left}, {right}] x [{low}, {high}], the "
                f"plane shown, but {point} came"
            )
        return point

    @property
    def path(self) -> AffinePath:
        """The path of the package that is shown."""
        if self.schedule == "CondOT":
            return CondOT(self.sigma_min)
        return Cosine() if self.schedule == "Cosine" else VariancePreserving()

    def sample(self, time: float | None = None) -> PathSample:
        """Return the particle on its path, `xt` and `ut` `[1 2]`, in double precision.

        Args:
            time: A time in [0, 1]; None takes the one shown.

        Raises:
            ValueError: If the velocity has no finite limit, as on `VariancePreserving` at time 1.
        """
        return self.path.sample(_row(self.x0), _row(self.x1), _scalar(self.time, time))

    def cloud(self, time: float | None = None) -> tuple[Tensor, float]:
        """Return the mean `[2]` and the standard deviation of p_t(x|x1).

        Args:
            time: A time in [0, 1]; None takes the one shown.
        """
        t = _scalar(self.time, time)
        return self.path.alpha(t) * _row(self.x1)[0], self.path.sigma(t).item()

    def _draw(self, figure: Figure) -> None:
        plane, curves = figure.subplots(1, 2, width_ratios=(2, 1))
        self._draw_plane(plane)
        grid = torch.linspace(0, 1, 201, dtype=torch.float64)
        now = _scalar(self.time)
        for name, kind, f in (("α", "data", self.path.alpha), ("σ", "noise", self.path.sigma)):
            curves.plot(grid, f(grid), color=COLORS[kind])
            curves.plot(now, f(now), "o", color=COLORS[kind])
            curves.annotate(name, (now.item(), f(now).item()), (6, 6), textcoords="offset points")
        curves.axvline(self.time, color=COLORS["text"], lw=0.8)
        ticks = (0, 0.5, 1)
        curves.set(xlim=(0, 1), ylim=(0, 1.04), xticks=ticks, yticks=ticks, xlabel="$t$")

    def _draw_plane(self, ax: Axes) -> None:
        (left, right), (low, high) = PLANE
        ax.set(xlim=(left, right), ylim=(low, high), aspect="equal")
        ax.axis("off")
        grid = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
        x0, x1 = _row(self.x0), _row(self.x1)
        way = self.path.alpha(grid) * x1 + self.path.sigma(grid) * x0
        ax.plot(*way.T, color=COLORS["trajectory"], lw=1.4)
        (mean, width), color = self.cloud(), blend(self.time)
        if self.particles:
            scatter(ax, mean + width * Random(SEED).normals(PARTICLES, 2), size=4, color=color)
        for at, r in ((0.0, 1), (0.0, 2), (self.time, 1), (self.time, 2)):
            centre, sigma = self.cloud(at)
            turn = torch.linspace(0, 2 * torch.pi, 100, dtype=torch.float64)
            ring = centre + r * sigma * torch.stack([turn.cos(), turn.sin()], 1)
            ax.plot(*ring.T, color=blend(at), lw=0.8 if at == 0 else 1.6 / r)
        xt = mean + width * x0
        ax.plot(*torch.cat([mean[None], xt]).T, ":", color=COLORS["text"], lw=1.2)
        t = _scalar(self.time)
        pieces = self.path.d_alpha(t) * x1, self.path.d_sigma(t) * x0
        if self.parts:
            _arrow(ax, xt, pieces[0], "data")
            _arrow(ax, xt + ARROW * pieces[0], pieces[1], "noise")
        _arrow(ax, xt, pieces[0] + pieces[1], "velocity", width=0.011)
        scatter(ax, xt, size=30, color=color, alpha=1, zorder=4)
        scatter(ax, x0, "noise", size=60, alpha=1, zorder=4)
        scatter(ax, x1, "data", size=60, alpha=1, zorder=4)
        words = (("$x_0$", x0, (-14, -8)), ("$x_1$", x1, (8, 6)), ("$x_t$", xt, (-14, 4)))
        for name, point, offset in words:
            ax.annotate(
                name, (point[0, 0].item(), point[0, 1].item()), offset, textcoords="offset points"
            )


def _arrow(ax: Axes, start: Tensor, u: Tensor, kind: str, width: float = 0.006) -> None:
    if u.isfinite().all():
        style: dict[str, Any] = {
            "angles": "xy",
            "scale_units": "xy",
            "scale": 1,
            "width": width,
            "zorder": 3,
        }
        ax.quiver(*start.T, *(ARROW * u).T, color=COLORS[kind], **style)


def _row(point: tuple[float, ...]) -> Tensor:
    return torch.tensor([point], dtype=torch.float64)


def _scalar(shown: float, time: float | None = None) -> Tensor:
    return torch.tensor(shown if time is None else time, dtype=torch.float64)
