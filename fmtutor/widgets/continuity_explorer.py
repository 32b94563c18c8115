"""The ledger of an interval: what flows in less what flows out is the change of the mass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.oracles import GaussianMixture
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS
from fmtutor.widgets.base import Finite, LiveFigure
from fmtutor.widgets.packing import pack_mixture, pack_path

__all__ = ["Balance", "ContinuityExplorer"]

RANGE = (-3.4, 3.8)  # the piece of the line that is shown
NARROWEST = 0.2  # the shortest interval
STEPS = 100  # of time in the ledger
DOTS = 5  # steps from one dot of the ledger to the next
PATH = CondOT()


class Balance(NamedTuple):
    """The ledger of an interval at one time."""

    mass: float
    """The mass inside."""
    inflow: float
    """What flows in at a, in mass per unit of time."""
    outflow: float
    """What flows out at b."""
    rate: float
    """The rate at which the mass inside changes, from the densities alone."""


def _line() -> GaussianMixture:
    means = torch.tensor([[-1.5], [1.8]], dtype=torch.float64)
    shares = torch.tensor([0.4, 0.6], dtype=torch.float64)
    return GaussianMixture(means, stds=shares, weights=shares)


class ContinuityExplorer(LiveFigure):
    """A density on a line with its flux, and the ledger of an interval that can be grabbed.

    Attributes:
        interval: The ends a < b of the interval, within the piece shown and at least 0.2 apart.
        time: The time shown, from 0 (noise) to 1 (data).
        flipped: Whether the field has the wrong sign; then the ledger does not balance.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: continuity
    """

    file = "continuity_explorer"

    interval = traitlets.Tuple(Finite(), Finite(), default_value=(0.6, 1.6)).tag(sync=True)
    time = Finite(0.5, min=0.0, max=1.0).tag(sync=True)
    flipped = traitlets.Bool(False).tag(sync=True)

    _aspect = traitlets.Float(1.75).tag(sync=True)
    _narrow = traitlets.Float(0.68).tag(sync=True)
    _controls = traitlets.Int(3).tag(sync=True)
    _mixture = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._mixture = pack_mixture(_line())
        self._settings = {
            "path": pack_path(PATH),
            "range": RANGE,
            "narrowest": NARROWEST,
            "steps": STEPS,
            "dots": DOTS,
        }

    @traitlets.validate("interval")
    def _valid_interval(self, proposal: dict[str, Any]) -> tuple[float, float]:
        a, b = (float(end) for end in proposal["value"])
        if not RANGE[0] <= a <= b - NARROWEST + 1e-9 or not b <= RANGE[1]:
            raise traitlets.TraitError(
                f"interval must be (a, b) within {RANGE}, with b at least {NARROWEST} above a, "
                f"but {(a, b)} came"
            )
        return a, b

    def balance(self, time: float | None = None) -> Balance:
        """Return mass, inflow, outflow and rate of change, at a time or at the one shown."""
        t = torch.tensor([self.time if time is None else time], dtype=torch.float64)
        mass = self.mass(t.requires_grad_())
        (rate,) = torch.autograd.grad(mass.sum(), t)
        inflow, outflow = (
            self.flux(torch.tensor([[end]], dtype=torch.float64), t) for end in self.interval
        )
        return Balance(mass.item(), inflow.item(), outflow.item(), rate.item())

    def mass(self, times: Tensor) -> Tensor:
        """Return the mass in the interval at times `[k]`, from normal distribution functions."""
        mixture = _line()
        alpha, sigma = PATH.alpha(times)[:, None], PATH.sigma(times)[:, None]
        scale = ((alpha * mixture.stds).square() + sigma.square()).sqrt()
        below: list[Tensor] = [
            torch.special.ndtr((end - alpha * mixture.means[:, 0]) / scale) @ mixture.weights
            for end in self.interval
        ]
        return below[1] - below[0]

    def density(self, x: Tensor, times: Tensor) -> Tensor:
        """Return p_t at points `[b 1]`, `[b]`."""
        log_p: Tensor = _line().log_prob_t(PATH, x, times.expand(len(x)))
        return log_p.exp()

    def flux(self, x: Tensor, times: Tensor) -> Tensor:
        """Return p_t u_t at points `[b 1]`, with the sign that is shown, `[b]`."""
        velocity = _line().velocity(PATH)(x, times.expand(len(x)))[:, 0]
        return (-1 if self.flipped else 1) * self.density(x, times).detach() * velocity.detach()

    def _draw(self, figure: Figure) -> None:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.55, 1), height_ratios=(1.5, 1))
        line, flow, ledger, bars = (figure.add_subplot(grid[k % 2, k // 2]) for k in range(4))
        now, green, grey = (
            torch.tensor([self.time], dtype=torch.float64),
            COLORS["velocity"],
            COLORS["exact"],
        )
        x = torch.linspace(*RANGE, 400, dtype=torch.float64)[:, None]
        p, flux = self.density(x, now), self.flux(x, now)
        inside = (x[:, 0] >= self.interval[0]) & (x[:, 0] <= self.interval[1])
        line.fill_between(x[inside, 0], p[inside], color=grey, alpha=0.3, lw=0)
        line.plot(x, p, color=grey)
        line.set(xlim=RANGE, ylim=(0, 0.5), yticks=[], title="density $p_t$")
        line.set_xticks(self.interval, ["$a$", "$b$"])
        flow.plot(x, flux, color=green)
        flow.axhline(0, color=grey, lw=0.8)
        flow.set(xlim=RANGE, ylim=(-0.9, 0.9), yticks=[0], title="flux $p_t u_t$")
        flow.set_xticks(self.interval, ["$a$", "$b$"])
        balance = self.balance()
        style = {"arrowstyle": "-|>", "color": green, "lw": 2.2}
        for end, crossing in zip(self.interval, balance[1:3], strict=True):
            at = torch.tensor([[end]], dtype=torch.float64)
            height, reach = 0.5 * self.density(at, now).item(), 0.5 * crossing
            line.annotate("", (end + reach, height), (end - reach, height), arrowprops=style)
            flow.plot(end, crossing, "o", color=green)
        times = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
        ledger.plot(times, self.mass(times), color=grey)
        past = times <= self.time + 1e-9
        ledger.plot(times[past][::DOTS], self.account()[past][::DOTS], "o", color=green, ms=3.5)
        ledger.axvline(self.time, color=grey, lw=0.8, ls=":")
        ledger.set(xlim=(0, 1), xticks=[0, 1], yticks=[0], xlabel="$t$", title="mass in $[a, b]$")
        net = balance.inflow - balance.outflow
        bars.barh(2, balance.inflow, color=green)
        bars.barh(1, -balance.outflow, left=balance.inflow, color=green, alpha=0.5)
        bars.barh(0, balance.rate, color=grey)
        bars.plot([net, net], [-0.5, 1.5], color=green, ls="--", lw=1.2)
        bars.axvline(0, color=grey, lw=0.8)
        rows = zip(("in", "out", "change"), balance[1:], strict=True)
        bars.set_yticks(
            [2, 1, 0], [f"{name} {value:.2f}".replace("-", "−") for name, value in rows]
        )
        side = max(0.8, *(abs(value) for value in (*balance, net)))
        bars.set(xlim=(-side, side), xticks=[0], title="in − out = change?")

    def account(self) -> Tensor:
        """Return the mass at the start plus all that has flowed in less all that has flowed out.

        At `STEPS + 1` equal steps of time from 0 to 1; by the trapezoidal rule.
        """
        times = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
        ends = [torch.full((STEPS + 1, 1), end, dtype=torch.float64) for end in self.interval]
        net = self.flux(ends[0], times) - self.flux(ends[1], times)
        flowed = torch.cat([torch.zeros(1).double(), torch.cumulative_trapezoid(net, times)])
        return self.mass(times[:1]) + flowed
