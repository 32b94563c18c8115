"""Two losses over one plane of parameters: a constant gap and one gradient."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.oracles import EmpiricalField
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS
from fmtutor.widgets.base import Finite, LiveFigure
from fmtutor.widgets.packing import pack_path
from fmtutor.widgets.rng import Random

__all__ = ["GradientExplorer", "Quadratic"]

DATA = (-1.0, 1.0)  # the two data points on the line
PLACES = (-2.4, 2.4)  # the piece of the line that is shown
PLANE = ((-1.8, 1.8), (-0.8, 2.8))  # the ranges of the parameters
STEP = 0.3  # length of a drawn gradient of norm one
BATCHES = 60  # whose gradients are drawn
PATH = CondOT()


class Quadratic(NamedTuple):
    """A loss E|θ·f − y|² with two features f: θ·Aθ − 2 b·θ + c."""

    a: Tensor
    """E f fᵀ, `[2 2]`."""
    b: Tensor
    """E y f, `[2]`."""
    c: Tensor
    """E y², 0-d."""

    def loss(self, theta: Tensor) -> float:
        """Return the loss at parameters `[2]`."""
        return (theta @ self.a @ theta - 2 * self.b @ theta + self.c).item()

    def gradient(self, theta: Tensor) -> Tensor:
        """Return its gradient at parameters `[2]`, `[2]`."""
        return 2 * (self.a @ theta - self.b)


def _quadratic(features: Tensor, targets: Tensor, weights: Tensor) -> Quadratic:
    """The loss of weighted samples: features `[n 2]`, targets `[n]`, weights `[n]`."""
    weighted = features * weights[:, None]
    return Quadratic(weighted.T @ features, weighted.T @ targets, weights @ targets.square())


class GradientExplorer(LiveFigure):
    """The marginal and the conditional loss of v_θ(x) = θ1 + θ2 u_t(x), and their gradients.

    The data are two points on a line, at −1 and 1, and the time is frozen. The family contains the
    marginal field, at θ = (0, 1).

    Attributes:
        theta: The parameters (θ1, θ2): the first shifts the marginal field, the second stretches
            it. From −1.8 to 1.8 and from −0.8 to 2.8.
        time: The time, from 0 to 0.9.
        samples: Number of samples in a batch, 4 to 512.
        seed: Of the batch that is drawn, 0 or more.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: objectives
    """

    file = "gradient_explorer"

    theta = traitlets.Tuple(Finite(), Finite(), default_value=(1.2, 0.2)).tag(sync=True)
    time = Finite(0.6, min=0.0, max=0.9).tag(sync=True)
    samples = traitlets.Int(32, min=4, max=512).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=1_000_000).tag(sync=True)

    _aspect = traitlets.Float(2.3).tag(sync=True)
    _narrow = traitlets.Float(0.5).tag(sync=True)
    _controls = traitlets.Int(3).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {
            "path": pack_path(PATH),
            "data": DATA,
            "places": PLACES,
            "plane": PLANE,
            "step": STEP,
            "batches": BATCHES,
        }

    @traitlets.validate("theta")
    def _valid_theta(self, proposal: dict[str, Any]) -> tuple[float, ...]:
        values = tuple(float(value) for value in proposal["value"])
        if any(not low <= v <= high for v, (low, high) in zip(values, PLANE, strict=True)):
            raise traitlets.TraitError(f"theta must lie in {PLANE}, but {values} came")
        return values

    def field(self, x: Tensor) -> Tensor:
        """Return the marginal velocity at points `[b]`, `[b]`."""
        u: Tensor = EmpiricalField(PATH, _data())(x[:, None], self.time)
        return u[:, 0]

    def marginal(self) -> Quadratic:
        """Return the marginal loss, by quadrature over x_t."""
        x, weights = self._nodes()
        u = self.field(x)
        return _quadratic(self._features(u), u, weights.sum(0))

    def conditional(self) -> Quadratic:
        """Return the conditional loss: the same quadrature, an exact sum over the data."""
        x, weights = self._nodes()
        features = self._features(self.field(x)).repeat(len(DATA), 1)
        targets = [PATH.conditional_velocity(x[:, None], p, self.time) for p in self._every(x)]
        return _quadratic(features, torch.cat(targets)[:, 0], weights.flatten())

    def batch(self, k: int = 0) -> Quadratic:
        """Return the conditional loss of the k-th batch of samples."""
        x, u = self.draw(k)
        return _quadratic(self._features(self.field(x)), u, torch.full_like(x, 1 / len(x)))

    def draw(self, k: int = 0) -> tuple[Tensor, Tensor]:
        """Return places and targets of the samples in the k-th batch, `[samples]` each."""
        random = Random(1000 * self.seed + k)
        pick = [random.integer(len(DATA)) for _ in range(self.samples)]
        x1 = _data()[pick]
        x0 = random.normals(self.samples, 1).double()
        drawn = PATH.sample(x0, x1, self.time)
        return drawn.xt[:, 0], drawn.ut[:, 0]

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Return places `[m]` and the weight of each with each data point, `[n m]`."""
        x = torch.linspace(-6, 6, 2401, dtype=torch.float64)
        density = [PATH.log_prob(x[:, None], p, self.time).exp() for p in self._every(x)]
        weights = torch.stack(density)
        return x, weights / weights.sum()

    def _every(self, x: Tensor) -> list[Tensor]:
        return [point.expand(len(x), 1) for point in _data()]

    def _features(self, u: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(u), u], dim=1)

    def _draw(self, figure: Figure) -> None:
        left, plane, cut = figure.subplots(1, 3)
        green, purple, grey = (COLORS[kind] for kind in ("velocity", "learned", "exact"))
        theta = torch.tensor(self.theta, dtype=torch.float64)
        fm, cfm, batch = self.marginal(), self.conditional(), self.batch()
        x = torch.linspace(*PLACES, 200, dtype=torch.float64)
        u = self.field(x)
        left.plot(*self.draw(), "o", color=COLORS["trajectory"], ms=3)
        left.plot(x, u, color=green, label="$u_t$")
        left.plot(x, self._features(u) @ theta, color=purple, label=r"$v_\theta$")
        left.set(xlim=PLACES, ylim=(-4.6, 4.6), xticks=[], yticks=[0], xlabel="place $x_t$")
        left.set_title("velocity at $x_t$")
        left.legend()
        angle = torch.linspace(0, 2 * math.pi, 100, dtype=torch.float64)
        for k in range(1, 9):
            ring = 0.5 * k * angle.cos(), 1 + 0.5 * k * angle.sin() / fm.a[1, 1].sqrt()
            plane.plot(*ring, color=grey, lw=0.8, alpha=0.6)
        plane.plot(0, 1, "x", color=grey)
        plane.axhline(self.theta[1], color=grey, lw=0.8, ls=":")
        steps = [-STEP * self.batch(k).gradient(theta) for k in range(BATCHES)]
        plane.plot(*(theta + torch.stack(steps)).T, "o", color=purple, ms=2.5, alpha=0.5)
        for loss, color, width in ((fm, green, 4.0), (cfm, purple, 1.5)):
            tip = (theta - STEP * loss.gradient(theta)).tolist()
            style = {"arrowstyle": "-|>", "color": color, "lw": width}
            plane.annotate("", (tip[0], tip[1]), self.theta, arrowprops=style)
        plane.plot(*self.theta, "o", color=purple)
        plane.set(xlim=PLANE[0], ylim=PLANE[1], aspect="equal", xticks=[0], yticks=[1])
        plane.set(
            xlabel=r"$\theta_1$",
            ylabel=r"$\theta_2$",
            title=r"$\theta_2$ over $\theta_1$: one gradient",
        )
        line = torch.linspace(*PLANE[0], 100, dtype=torch.float64)
        for loss, color, alpha in ((fm, green, 1), (cfm, purple, 1), (batch, purple, 0.45)):
            values = [loss.loss(torch.stack([first, theta[1]])) for first in line]
            cut.plot(line, values, color=color, alpha=alpha, lw=1 if alpha < 1 else None)
        ends = fm.loss(theta), cfm.loss(theta)
        cut.plot([self.theta[0]] * 2, ends, "o-", color=grey, ms=4, lw=1.2)
        cut.text(self.theta[0] - 0.15, ends[1] + 0.3, "$C$", ha="center")
        cut.set(xlim=PLANE[0], ylim=(0, 9), xticks=[0], yticks=[0], xlabel=r"$\theta_1$")
        cut.set_title("losses on the dotted line")


def _data() -> Tensor:
    return torch.tensor(DATA, dtype=torch.float64)[:, None]
