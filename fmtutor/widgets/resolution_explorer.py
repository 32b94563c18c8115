"""One picture at two resolutions: when each flow knows which picture it is on its way to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import traitlets
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from fmtutor.clocks import log_snr
from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS, blend
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import pack_bytes
from fmtutor.widgets.resolutions import (
    CLOCKS,
    END,
    PIECES,
    RATIOS,
    SEED,
    SIDE,
    curve,
    data,
    garments,
    shrunk_noise,
    stops,
    time_of,
)
from fmtutor.widgets.rng import Random

__all__ = ["COUNT", "INKS", "Moment", "ResolutionExplorer"]

COUNT = len(garments())
COLUMNS = 8  # of the wall of garments
GHOST = 0.1  # how much is seen of a garment that is no longer possible

INKS = {"large": COLORS["velocity"], "small": COLORS["exact"]}
"""The colour of each flow."""


@dataclass(frozen=True)
class Moment:
    """A flow at a time: the point x_t `[h w]` of the pair shown, and what the flow expects there.

    Attributes:
        side: Pixels along each side.
        time: The flow's own time.
        x: The mixture x_t.
        weights: Posterior weight of each garment, `[64]`.
        mean: The expected picture E[x1 | x_t], `[h w]`.
        log_snr: log-SNR of the mean of a block (of a pixel, in the small flow).
    """

    side: int
    time: float
    x: Tensor
    weights: Tensor
    mean: Tensor
    log_snr: float

    def possible(self) -> float:
        """Return how many garments are still possible: e to the entropy of the weights."""
        return float(torch.special.entr(self.weights).sum().exp())


class ResolutionExplorer(LiveFigure):
    """One garment and one noise at two resolutions, and how soon each flow makes it out.

    The data are 64 garments of Fashion-MNIST (Zalando SE, MIT licence), so that the field is exact:
    once with 28 × 28 pixels, once as means of blocks. The small noise is that of the large picture,
    averaged over blocks and scaled to be standard normal.

    Attributes:
        time: The time of the small flow, from 0 (noise) to 0.98; at 1 the field has no limit.
        clock: "same" if the large flow is shown at the same time, "shifted" at that of `shift`.
        ratio: Side of a block in pixels, 4 or 2.
        detail: Whether the large pictures keep what differs within a block.
        garment: The garment that is mixed with noise, 1 to 64.
        seed: Seed of that noise, from 0 on.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Equation: eq-training-shift
    Chapter: scale
    """

    file = "resolution_explorer"

    time = Finite(0.35, min=0.0, max=END).tag(sync=True)
    clock = traitlets.Unicode("same").tag(sync=True)
    ratio = traitlets.Int(4).tag(sync=True)
    detail = traitlets.Bool(True).tag(sync=True)
    garment = traitlets.Int(57, min=1, max=COUNT).tag(sync=True)
    seed = traitlets.Int(7, min=0, max=2**31 - 1).tag(sync=True)

    _aspect = traitlets.Float(2.06).tag(sync=True)
    _narrow = traitlets.Float(0.62).tag(sync=True)
    _controls = traitlets.Int(7).tag(sync=True)
    _pictures = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._pictures = pack_bytes(garments())
        self._settings = {
            "side": SIDE,
            "ratios": RATIOS,
            "clocks": CLOCKS,
            "end": END,
            "pieces": PIECES,
            "seed": SEED,
            "columns": COLUMNS,
            "ghost": GHOST,
        }

    @traitlets.validate("clock")
    def _valid_clock(self, proposal: dict[str, Any]) -> str:
        return one_of("clock", proposal["value"], CLOCKS)

    @traitlets.validate("ratio")
    def _valid_ratio(self, proposal: dict[str, Any]) -> int:
        if (ratio := proposal["value"]) not in RATIOS:
            raise traitlets.TraitError(f"ratio must be 4 or 2, but {ratio} came")
        return int(ratio)

    def large(self) -> Moment:
        """Return what is known of the large flow."""
        return self._moment("large", time_of(self.time, self.clock, self.ratio))

    def small(self) -> Moment:
        """Return what is known of the small flow."""
        return self._moment("small", self.time)

    def curve(self, flow: str, clock: str | None = None) -> list[float]:
        """Return how many garments are still possible on average, at each of the `stops`.

        Args:
            flow: "large" or "small".
            clock: One of `CLOCKS`; None is the one shown.
        """
        clock = "same" if flow == "small" else clock or self.clock
        return curve(self._kind(flow), clock, self.ratio)

    def _kind(self, flow: str) -> str:
        return "blocks" if flow == "large" and not self.detail else flow

    def _moment(self, flow: str, t: float) -> Moment:
        x1, x0 = data(self._kind(flow), self.ratio), Random(self.seed).normals(SIDE, SIDE).double()
        if flow == "small":
            x0 = shrunk_noise(x0, self.ratio)
        x, path = t * x1[self.garment - 1] + (1 - t) * x0, CondOT()
        field, block = EmpiricalField(path, x1), self.ratio if flow == "large" else 1
        snr = float(log_snr(path, torch.tensor(t, dtype=torch.float64))) + 2 * math.log(block)
        weights, mean = field.posterior(x[None], t)[0], field.posterior_mean(x[None], t)[0]
        return Moment(x1.shape[1], t, x, weights, mean, snr)

    def _draw(self, figure: Figure) -> None:
        grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 1, 2))
        for row, (flow, moment) in enumerate((("large", self.large()), ("small", self.small()))):
            tiles = [figure.add_subplot(grid[row, column]) for column in range(3)]
            self._draw_row(tiles, flow, moment)
        self._draw_curves(figure.add_subplot(grid[:, 3]))

    def _draw_row(self, tiles: list[Axes], flow: str, moment: Moment) -> None:
        x1, ink, side = data(self._kind(flow), self.ratio), INKS[flow], moment.side
        shade = GHOST + (1 - GHOST) * (moment.weights / moment.weights.max()).sqrt()
        cells = (x1 + 1) * shade[:, None, None] - 1
        wall = rearrange(cells, "(row column) h w -> (row h) (column w)", column=COLUMNS)
        mixed = f"{side}×{side}, t = {moment.time:.2f}"
        left = f"{moment.possible():.1f} of {COUNT} possible"
        _tile(tiles[0], moment.x, blend(moment.time), mixed)
        _tile(tiles[1], moment.mean, ink, r"expected $E[x_1|x_t]$")
        _tile(tiles[2], wall, ink, left)
        row, column = divmod(self.garment - 1, COLUMNS)
        corner = (column * side - 0.5, row * side - 0.5)
        tiles[2].add_patch(Rectangle(corner, side, side, ec=COLORS["data"], fc="none", lw=1.5))

    def _draw_curves(self, ax: Axes) -> None:
        side, t, small = SIDE // self.ratio, stops(), self.curve("small")
        for clock, words in zip(CLOCKS, ("same time", "shifted"), strict=True):
            style: dict[str, Any] = {"lw": 2.6} if clock == self.clock else {"lw": 1.2, "ls": "--"}
            label = f"{SIDE}×{SIDE}, {words}"
            ax.plot(t, self.curve("large", clock), color=INKS["large"], label=label, **style)
        ax.plot(t, small, color=INKS["small"], lw=2, label=f"{side}×{side}")
        what = f"ahead of {side}×{side}" if self.clock == "same" else "finer than a block"
        veil: dict[str, Any] = {"color": INKS["large"], "alpha": 0.16, "lw": 0}
        if self.clock == "same" or self.detail:  # else the curves are one
            ax.fill_between(t, self.curve("large"), small, label=what, **veil)
        ax.axvline(self.time, color=COLORS["text"], lw=0.8, ls=":")
        for flow, color in INKS.items():
            ax.plot(self.time, np.interp(self.time, t, self.curve(flow)), "o", ms=6, color=color)
        ax.set_yscale("log", base=2)
        ticks = [2**k for k in range(COUNT.bit_length())]
        ax.set_yticks(ticks, [str(k) for k in ticks])
        ax.set(xlabel=f"time t of the {side}×{side} flow", xlim=(0, 1))
        ax.set_title("garments still possible, on average")
        ax.legend(loc="upper right", borderpad=0)


def _tile(ax: Axes, picture: Tensor, color: str, title: str) -> None:
    """Draw a picture as ink of a colour, from transparent at −1."""
    pixels = np.empty((*picture.shape, 4))
    pixels[..., :3] = mpl.colors.to_rgb(color)
    pixels[..., 3] = ((picture + 1) / 2).clamp(0, 1)
    ax.set_facecolor(mpl.colors.to_rgba(COLORS["exact"], 0.12))
    ax.imshow(pixels, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=8.5)
