"""One mixture, any schedule, four samplers: what depends on the schedule, and what on its grid."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.plotting import COLORS, density, scatter, trajectories
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import pack_mixture, pack_path
from fmtutor.widgets.schedules import (
    FINE,
    POINTS,
    SCHEDULES,
    SEED,
    SPAN,
    ends,
    exact,
    mixture,
    ways,
)

__all__ = ["GRIDS", "INKS", "NAMES", "STEPS", "DiffusionExplorer"]

NAMES = {"euler": "Euler", "ddim": "DDIM", "2m": "DPM++ 2M", "ancestral": "ancestral"}
"""How each sampler is written in the figure; the third is DPM-Solver++ 2M."""

INKS = {
    "euler": COLORS["noise"],
    "ddim": COLORS["velocity"],
    "2m": COLORS["learned"],
    "ancestral": COLORS["data"],
}
"""The colour of each sampler."""

GRIDS = {"log-SNR": "one grid of log-SNR", "time": "each its own clock"}
"""Where the steps of a schedule lie: equal in log-SNR, or equal in its time."""

STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The stops of the slider of steps."""

STOPS = 20  # pieces of the curves between two schedules of a name, in the page
COARSE = 6  # and in the picture
TRAILS = 30
STILL = 1e-6  # what moves by less does not move
LIMIT = 3.1  # half the side of the square shown
ERRORS = (-3.3, 0.15)  # log10, the range shown


class DiffusionExplorer(LiveFigure):
    """Samples of a mixture by four samplers, and how their error depends on the schedule.

    Attributes:
        schedule: The path: 0 straight, 1 cosine, 2 variance preserving, and all in between.
        sampler: One of "euler", "ddim", "2m" and "ancestral".
        grid: "log-SNR" for one grid for all schedules, "time" for equal steps of each one's time.
        steps: Number of steps, 2 to 64.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: diffusion
    """

    file = "diffusion_explorer"

    schedule = Finite(1.0, min=0.0, max=len(SCHEDULES) - 1.0).tag(sync=True)
    sampler = traitlets.Unicode("euler").tag(sync=True)
    grid = traitlets.Unicode("log-SNR").tag(sync=True)
    steps = traitlets.Int(8, min=STEPS[0], max=STEPS[-1]).tag(sync=True)

    _aspect = traitlets.Float(1.95).tag(sync=True)
    _narrow = traitlets.Float(0.62).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _mixture = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._mixture = pack_mixture(mixture())
        self._settings = {
            "schedules": [[name, pack_path(path)] for name, path in SCHEDULES.items()],
            "stops": STOPS,
            "span": SPAN,
            "points": POINTS,
            "trails": TRAILS,
            "fine": FINE,
            "limit": LIMIT,
            "seed": SEED,
            "steps": STEPS,
            "inks": INKS,
            "names": NAMES,
            "grids": GRIDS,
            "errors": ERRORS,
            "still": STILL,
        }

    @traitlets.validate("sampler")
    def _valid_sampler(self, proposal: dict[str, Any]) -> str:
        return one_of("sampler", proposal["value"], NAMES)

    @traitlets.validate("grid")
    def _valid_grid(self, proposal: dict[str, Any]) -> str:
        return one_of("grid", proposal["value"], GRIDS)

    def positions(self) -> Tensor:
        """Return the points at each time over √(α² + σ²), `[steps + 1, 101, 2]`."""
        return ways(self.sampler, self.grid, self.steps, self.schedule)

    def error(self, sampler: str | None = None, schedule: float | None = None) -> float:
        """Return the distance to the exact end, the median over the noise points.

        Args:
            sampler: A sampler; None is the one shown. Of the ancestral one it is no error: its new
                noise leads elsewhere.
            schedule: A schedule; None is the one shown.
        """
        return _distance(self._ends(sampler, schedule), exact()[-1])

    def moved(self) -> float:
        """Return how far the ends are from those of the straight path, the median over points."""
        return _distance(self._ends(), self._ends(schedule=0.0))

    def _ends(self, sampler: str | None = None, schedule: float | None = None) -> Tensor:
        place = self.schedule if schedule is None else schedule
        return ends(sampler or self.sampler, self.grid, self.steps, place)

    def _draw(self, figure: Figure) -> None:
        plane, curves = figure.subplots(1, 2)
        self._draw_plane(plane)
        self._draw_curves(curves)

    def _draw_plane(self, ax: Axes) -> None:
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
        ax.axis("off")
        density(ax, mixture().log_prob, limit=LIMIT, dtype=torch.float64)
        trajectories(ax, exact()[:, :TRAILS], ends=False)
        tracks, ink = self.positions()[:, :TRAILS], INKS[self.sampler]
        ax.plot(tracks[..., 0], tracks[..., 1], color=ink, lw=0.9, alpha=0.8)
        scatter(ax, tracks[0], "noise", size=6, alpha=1, zorder=3)
        swept = torch.stack([self._ends(schedule=place) for place in _places()])[:, :TRAILS]
        ax.plot(swept[..., 0], swept[..., 1], color=COLORS["exact"], lw=2.2)
        moves = (swept - swept[0]).norm(dim=2).max() > STILL
        what = "the ends" if moves else "no end"
        ax.set_title(f"{NAMES[self.sampler]}: the schedule moves {what}")
        ax.plot(*tracks[-1].T, "o", ms=4, color=ink, mec=COLORS["exact"], mew=0.6, zorder=4)

    def _draw_curves(self, ax: Axes) -> None:
        places = _places()
        for sampler, color in INKS.items():
            if sampler == "ancestral":
                continue
            errors = [self.error(sampler, place) for place in places]
            lw = 2.6 if sampler == self.sampler else 1.4
            ax.semilogy(places, errors, color=color, lw=lw, label=NAMES[sampler])
        if self.sampler != "ancestral":
            ink = INKS[self.sampler]
            ax.plot(self.schedule, self.error(), "o", ms=9, mfc="none", mew=2, color=ink)
        ax.axvline(self.schedule, color=COLORS["exact"], lw=0.8, ls=":")
        ax.set_xticks(range(len(SCHEDULES)), list(SCHEDULES))
        low, high = (10**power for power in ERRORS)
        title = f"error of a typical point, {GRIDS[self.grid]}"
        ax.set(xlabel="schedule", title=title, ylim=(low, high))
        ax.legend(loc="best")


def _places() -> list[float]:
    """Return the schedules that the curves of the picture go through."""
    return [k / COARSE for k in range(COARSE * (len(SCHEDULES) - 1) + 1)]


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm(dim=1).median())
