"""Digits that a network draws, of the class and under the guidance that the reader asks for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from fmtutor.guidance import conditioned, guided
from fmtutor.networks import MLP
from fmtutor.notation import VelocityField
from fmtutor.plotting import COLORS, blend
from fmtutor.solvers import TABLEAUX, sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import build_network, pack_network
from fmtutor.widgets.rng import Random

__all__ = ["METHODS", "NETWORK", "WEIGHTS", "DigitPainter", "network"]

SIDE = 8  # pixels
PICTURES = 24
METHODS = ("euler", "midpoint", "heun")
"""The solvers to choose from."""

NETWORK: dict[str, Any] = {
    "dim": SIDE**2,
    "width": 160,
    "depth": 3,
    "time_dim": 16,
    "classes": 10,
}
"""The sizes of the figure's network."""

WEIGHTS = Path(__file__).with_name("digit_painter.npy")
"""Its weights; `python tools/widget_weights.py digits` makes them."""

COLUMNS = 8  # of the pictures
STRIP = 11  # times at which the way of one picture is shown
TILE = 80.0  # side of a picture, the unit being a pixel of the page
SMALL = 48.0  # side of a picture of the way
GAP = 4.0
WORDS = 96.0  # width of the words before the way


@cache
def network() -> MLP:
    """Return the trained network, as the page computes with it.

    Its points are pictures of 8 × 8 pixels, flat, from −1 (paper) to 1 (ink).
    """
    weights = torch.from_numpy(np.load(WEIGHTS, allow_pickle=False))
    return build_network(weights, **NETWORK)


class DigitPainter(LiveFigure):
    """Pictures that become digits: 24 of one class, and the way of one of them.

    The network was trained on the digits of scikit-learn. Below each moment of the way stands the
    end that the velocity there points to, x + (1 − t) v.

    Attributes:
        digit: The class that is asked for, 0 to 9, or None for none.
        scale: The scale of the guidance, 0 to 5; without a class it plays no part.
        steps: Number of steps of the solver, 1 to 50.
        method: The solver, one of `METHODS`.
        time: The time shown, from 0 (noise) to 1 (data).
        chosen: The picture whose way is shown, 1 to 24.
        seed: Seed of the noise, from 0 on.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: images
    """

    file = "digit_painter"

    digit = traitlets.Int(3, min=0, max=9, allow_none=True).tag(sync=True)
    scale = Finite(2.0, min=0.0, max=5.0).tag(sync=True)
    steps = traitlets.Int(20, min=1, max=50).tag(sync=True)
    method = traitlets.Unicode("euler").tag(sync=True)
    time = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    chosen = traitlets.Int(1, min=1, max=PICTURES).tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**31 - 1).tag(sync=True)

    _aspect = traitlets.Float(1.72).tag(sync=True)
    _narrow = traitlets.Float(0.81).tag(sync=True)
    _controls = traitlets.Int(8).tag(sync=True)
    _network = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, digit: int | None = 3, **traits: Any) -> None:
        super().__init__(digit=digit, **traits)
        self._network = pack_network(network(), "float16")
        self._settings = {"side": SIDE, "pictures": PICTURES, "methods": METHODS}

    @traitlets.validate("method")
    def _valid_method(self, proposal: dict[str, Any]) -> str:
        return one_of("method", proposal["value"], METHODS)

    @property
    def evaluations(self) -> int:
        """The number of evaluations of the network that each picture costs."""
        both = self.digit is not None and self.scale not in (0.0, 1.0)
        return self.steps * len(TABLEAUX[self.method].b) * (2 if both else 1)

    def positions(self, time: float | None = None) -> Tensor:
        """Return the pictures `[24 64]`, at a time or at the one shown."""
        end = self.time if time is None else time
        x0 = Random(self.seed).normals(PICTURES, SIDE**2)
        grid = [k / self.steps for k in range(self.steps + 1)]
        times = [*(t for t in grid if t < end - 1e-9), end]
        if len(times) < 2:
            return x0
        return sample(self._field(), x0, method=self.method, times=times)

    def guesses(self, time: float | None = None) -> Tensor:
        """Return the ends x + (1 − t) v that the network expects, `[24 64]`, at a time."""
        t = self.time if time is None else time
        x = self.positions(t)
        return x + (1 - t) * self._field()(x, torch.full((PICTURES,), t))

    def spread(self, time: float | None = None) -> float:
        """Return the root mean square distance of the pictures to their mean, at a time."""
        x = self.positions(time)
        return (x - x.mean(0)).square().sum(1).mean().sqrt().item()

    def _field(self) -> VelocityField:
        if self.digit is None:
            return network()
        return guided(conditioned(network(), self.digit), network(), self.scale)

    def _draw(self, figure: Figure) -> None:
        figure.set_layout_engine("none")  # the axes are the whole figure
        ax = figure.add_axes((0, 0, 1, 1))
        width = COLUMNS * (TILE + GAP) - GAP
        pad = 4  # room for the frame of a chosen picture at the edge
        high, low = -pad / self._aspect, (width + pad) / self._aspect
        ax.set(xlim=(-pad, width + pad), ylim=(low, high), aspect="equal")
        ax.axis("off")
        for i, x in enumerate(self.positions()):
            row, column = divmod(i, COLUMNS)
            place = (column * (TILE + GAP), row * (TILE + GAP), TILE)
            _tile(ax, x, place, blend(self.time), chosen=i + 1 == self.chosen)
        self._draw_way(ax, top=PICTURES // COLUMNS * (TILE + GAP))

    def _draw_way(self, ax: Axes, top: float) -> None:
        pitch = SMALL + GAP
        below = top + 26
        for words, row in ((f"picture {self.chosen}", 0), ("expected end", 1)):
            ax.text(0, below + row * pitch + SMALL / 2, words, va="center", fontsize=9)
        ax.text(0, top + 10, "time t", va="center", fontsize=9)
        for k in range(STRIP):
            t = k / (STRIP - 1)
            left = WORDS + k * pitch
            ax.text(left + SMALL / 2, top + 10, f"{t:.1f}", ha="center", va="center", fontsize=9)
            rows = (self.positions(t), blend(t)), (self.guesses(t), COLORS["learned"])
            for row, (pictures, color) in enumerate(rows):
                place = (left, below + row * pitch, SMALL)
                _tile(ax, pictures[self.chosen - 1], place, color)


def _tile(
    ax: Axes, x: Tensor, place: tuple[float, float, float], color: str, *, chosen: bool = False
) -> None:
    """Draw a flat picture into a square (left, top, side), from transparent to a colour."""
    left, top, side = place
    box = (left, left + side, top + side, top)
    ink = ((x + 1) / 2).clamp(0, 1).reshape(SIDE, SIDE)
    pixels = np.empty((SIDE, SIDE, 4))
    pixels[..., :3] = mpl.colors.to_rgb(color)
    pixels[..., 3] = ink
    paper = Rectangle((left, top), side, side, color=COLORS["exact"], alpha=0.12, lw=0)
    ax.add_patch(paper)
    ax.imshow(pixels, extent=box, interpolation="nearest", zorder=2)
    if chosen:
        frame = Rectangle((left, top), side, side, ec=COLORS["text"], fc="none", lw=2, zorder=3)
        ax.add_patch(frame)
