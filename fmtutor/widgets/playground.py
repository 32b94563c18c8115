"""A flow-matching model that trains where it is seen, on data that a reader picks or draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor, nn

from fmtutor.data import DATASETS
from fmtutor.metrics import energy_distance
from fmtutor.networks import MLP
from fmtutor.oracles import EmpiricalField
from fmtutor.paths import AffinePath, CondOT, Cosine
from fmtutor.plotting import COLORS, blend, grid_points, scatter
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure
from fmtutor.widgets.packing import pack_floats
from fmtutor.widgets.rng import Random

__all__ = ["DRAWING", "Playground"]

DRAWING = "a drawing"
"""The name, beside those of the data sets, of what the reader draws."""

PATHS: dict[str, AffinePath] = {"CondOT": CondOT(), "Cosine": Cosine()}
COUPLINGS = ("independent", "optimal")
METHODS = ("euler", "heun")
WIDTHS = (16, 32, 64, 128)
SETTINGS = {
    "limit": 4.0,  # half the side of the plane shown
    "batch": 128,
    "seed": 1,  # of the weights; batches, noise, floor and dots take the next ones
    "floor": 4000,  # samples behind the floor
    "samples": 500,  # of the model, and of held-out data
    "dots": 250,  # of x_t, beside the arrows
    "side": 11,  # arrows along a side
    "most": 1000,  # points of a drawing
    "last": 20_000,  # steps, then training pauses
}
POINTS = 1000  # of a data set to train on


@cache
def _points(dataset: str) -> tuple[Tensor, Tensor]:
    """Return what is trained on and what is held out, rounded as the page has them."""
    n = POINTS + int(SETTINGS["samples"])
    points = DATASETS[dataset](n, seed=0).half().float()
    return points[:POINTS], points[POINTS:]


class Playground(LiveFigure):
    """A flow-matching model that trains in the page, on a data set or on a drawing.

    The page trains an `MLP` with three hidden layers in a Web Worker as `fit` does, at a constant
    learning rate, and samples from the average of its weights. Beside it stand the exact field of
    the same points and the floor of the loss, the variance of the target that x_t leaves open.

    Attributes:
        dataset: What to train on: a key of `fmtutor.data.DATASETS`, or "a drawing".
        drawn: The points of the drawing, pairs within [−4, 4]², at most 1000.
        path: The conditional path, "CondOT" or "Cosine".
        coupling: How a batch pairs noise with data, "independent" or "optimal".
        width: Units of a hidden layer: 16, 32, 64 or 128.
        learning_rate: The learning rate of Adam, 0.0001 to 0.03.
        method: The solver that samples, "euler" or "heun".
        steps: Its number of steps, 1 to 100.
        time: The time at which the fields are compared, 0 to 0.95.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: playground
    """

    file = "playground"

    dataset = traitlets.Enum((*DATASETS, DRAWING), "four clusters").tag(sync=True)
    drawn = traitlets.Tuple().tag(sync=True)
    path = traitlets.Enum(tuple(PATHS), "CondOT").tag(sync=True)
    coupling = traitlets.Enum(COUPLINGS, "independent").tag(sync=True)
    width = traitlets.Enum(WIDTHS, 64).tag(sync=True)
    learning_rate = Finite(0.004, min=1e-4, max=0.03).tag(sync=True)
    method = traitlets.Enum(METHODS, "heun").tag(sync=True)
    steps = traitlets.Int(20, min=1, max=100).tag(sync=True)
    time = Finite(0.5, min=0.0, max=0.95).tag(sync=True)

    _aspect = traitlets.Float(1.64).tag(sync=True)
    _narrow = traitlets.Float(0.66).tag(sync=True)
    _controls = traitlets.Int(12).tag(sync=True)
    _data = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._data = {
            name: dict(zip(("train", "held"), map(_pack_half, _points(name)), strict=True))
            for name in DATASETS
        }
        frequencies = MLP(width=1).embedding.frequencies.double().tolist()
        sizes = {"dim": 2, "depth": 3, "time_dim": 16, "classes": 0, "frequencies": frequencies}
        self._settings = {**SETTINGS, "architecture": sizes, "widths": list(WIDTHS)}

    @traitlets.validate("drawn")
    def _valid_drawing(self, proposal: dict[str, Any]) -> tuple[tuple[float, float], ...]:
        most, limit = int(SETTINGS["most"]), SETTINGS["limit"]
        points = [_pair(point, limit) for point in proposal["value"]]
        if len(points) > most:
            raise traitlets.TraitError(f"drawn holds at most {most} points, but {len(points)} came")
        return tuple(points)

    def data(self) -> Tensor:
        """Return the points that are trained on, `[n 2]`.

        Raises:
            ValueError: If nothing is drawn.
        """
        if self.dataset != DRAWING:
            return _points(self.dataset)[0]
        if not self.drawn:
            raise ValueError("nothing is drawn yet: set `drawn`")
        return torch.tensor(self.drawn)

    def held_out(self) -> Tensor:
        """Return the points that samples are held against; of a drawing, its own points."""
        return self.data() if self.dataset == DRAWING else _points(self.dataset)[1]

    def floor(self) -> float:
        """Return the floor of the loss on these points, E Var[u_t | x_t], as the page samples it.

        It is that of independent pairs; optimal pairs have a lower one, without a closed form.
        """
        data, random, n = self.data().double(), Random(_seed(3)), int(SETTINGS["floor"])
        path = PATHS[self.path]
        rows, times, noise = [], [], []
        for k in range(n):
            rows.append(random.integer(len(data)))
            times.append((k + random.uniform()) / n)
            noise.append([random.normal(), random.normal()])
        t = torch.tensor(times, dtype=torch.float64)
        xt = path.sample(torch.tensor(noise, dtype=torch.float64), data[rows], t).xt
        return EmpiricalField(path, data).target_variance(xt, t).mean().item()

    def initial_network(self) -> MLP:
        """Return the network before training, with the weights that the page starts from."""
        model, random = MLP(width=self.width), Random(_seed(0))
        with torch.no_grad():
            for layer in model.layers:
                if isinstance(layer, nn.Linear):
                    bound = 1 / math.sqrt(layer.in_features)
                    for p in (layer.weight, layer.bias):
                        values = [bound * (2 * random.uniform() - 1) for _ in range(p.numel())]
                        p.copy_(torch.tensor(values).reshape(p.shape))
        return model.eval().requires_grad_(False)

    def initial_samples(self) -> Tensor:
        """Return what the untrained network makes of the noise, `[500 2]`: the first state."""
        x0 = Random(_seed(2)).normals(int(SETTINGS["samples"]), 2)
        return sample(self.initial_network(), x0, method=self.method, steps=self.steps)

    def initial_distance(self) -> float:
        """Return the energy distance of the untrained samples to the held-out data."""
        return energy_distance(self.initial_samples(), self.held_out()).item()

    def _draw(self, figure: Figure) -> None:
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(1.4, 1))
        plane = figure.add_subplot(grid[:, 0])
        field = figure.add_subplot(grid[0, 1])
        loss = figure.add_subplot(grid[1, 1])
        limit = SETTINGS["limit"]
        for ax in (plane, field):
            ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            ax.axis("off")
        empty = self.dataset == DRAWING and not self.drawn
        if not empty:
            scatter(plane, self.data(), size=5, alpha=0.5, label="data")
            self._draw_fields(field)
        samples = self.initial_samples()
        scatter(plane, samples, "learned", size=7, alpha=0.8, label="samples of the model")
        plane.legend(loc="lower center", ncols=2, fontsize=9, markerscale=2)
        floor = 0.0 if empty else self.floor()
        top = _top(floor)
        loss.axhline(floor, color=COLORS["exact"], dashes=(4, 3), lw=1.4)
        loss.text(1, floor, "floor", ha="right", va="bottom", transform=loss.get_yaxis_transform())
        loss.set(xlim=(0, 200), ylim=(0, top), xlabel="step", ylabel="loss")
        loss.set(xticks=(0, 200), yticks=(0, top / 2, top))

    def _draw_fields(self, ax: Any) -> None:
        path, data, t = PATHS[self.path], self.data(), self.time
        random, dots = Random(_seed(4)), int(SETTINGS["dots"])
        rows = [random.integer(len(data)) for _ in range(dots)]
        xt = path.sample(random.normals(dots, 2), data[rows], t).xt
        scatter(ax, xt, size=2, color=blend(t), alpha=0.4)
        at = torch.tensor(t)
        alpha, sigma = path.alpha(at).item(), path.sigma(at).item()
        half = alpha * data.abs().max().item() + 2.2 * sigma
        ax.set(xlim=(-1.15 * half, 1.15 * half), ylim=(-1.15 * half, 1.15 * half))
        places = grid_points(half, int(SETTINGS["side"]))
        near = torch.cdist(places, alpha * data).amin(1) < 2.2 * sigma + 0.2
        places = places[near]
        for kind, v in (("exact", EmpiricalField(path, data)), ("learned", self.initial_network())):
            u = v(places, torch.full((len(places),), t))
            u = u * (5 / u.norm(dim=1, keepdim=True).clamp(min=5))
            style = {"scale": 1, "scale_units": "xy", "angles": "xy", "width": 0.007}
            ax.quiver(*places.T, *(0.04 * half * u).T, color=COLORS[kind], **style)
        ax.set_title(f"fields at t = {t:.2f}: exact grey, learned purple", fontsize=8)


def _pack_half(points: Tensor) -> dict[str, Any]:
    return pack_floats(points, "float16")


def _seed(offset: int) -> int:
    return int(SETTINGS["seed"]) + offset


def _top(floor: float) -> float:
    """The upper end of the loss axis before there is a loss."""
    return max(1.0, math.ceil(2.5 * floor))


def _pair(point: Sequence[float], limit: float) -> tuple[float, float]:
    try:
        x, y = map(float, point)
    except (TypeError, ValueError):
        raise traitlets.TraitError(
            f"drawn must hold pairs of numbers, but {point!r} came"
        ) from None
    if not (abs(x) <= limit and abs(y) <= limit):  # NaN is not, either
        raise traitlets.TraitError(f"drawn must lie within ±{limit:g}, but ({x}, {y}) came")
    return x, y
