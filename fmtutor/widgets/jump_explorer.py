"""The jumps of one trained flow map between two chosen times, beside as many steps of Euler."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor, nn

from fmtutor.flow_maps import follow, jump
from fmtutor.networks import MLP, TwoTimes
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure
from fmtutor.widgets.packing import pack_floats, pack_mixture, pack_network

__all__ = ["NETWORK", "WEIGHTS", "JumpExplorer", "data", "network"]

NETWORK: dict[str, Any] = {"dim": 1, "width": 48, "depth": 2, "max_frequency": 2.0}
"""What describes the network under the second time."""

WEIGHTS = Path(__file__).with_name("jump_explorer.npy")
"""Its weights, in half precision: `tools/widget_weights.py line` trains them."""

POINTS = 121  # an odd number: one of them is at 0
WAYS = range(4, POINTS, 16)  # the points whose way is drawn
FINE = 80  # steps of RK4 that stand for the exact flow
LIMIT = 2.7  # of the places shown
GAP = 0.01  # the least time between the two ends


def data() -> GaussianMixture:
    """Return the two points, slightly widened, that the map leads to."""
    return GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.2)


@cache
def network() -> TwoTimes:
    """Return the trained average velocity, with the weights that the page has."""
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then overwritten
        u = TwoTimes(MLP(**NETWORK))
    nn.utils.vector_to_parameters(torch.from_numpy(np.load(WEIGHTS)).float(), u.parameters())
    return u.eval().requires_grad_(False)


@cache
def _noise() -> Tensor:
    """Return the middles of equal shares of the noise, `[POINTS 1]`."""
    shares = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    middles: Tensor = torch.special.ndtri(shares)
    return middles[:, None]


class JumpExplorer(LiveFigure):
    """Ways from time s to time t: exact, in jumps of a trained map, in steps of Euler's method.

    Attributes:
        s: The time of departure, at least 0.01 before t.
        t: The time of arrival.
        jumps: The number of jumps, and of steps of Euler's method on the exact field, 1 to 8.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: few_steps
    """

    file = "jump_explorer"

    s = Finite(0.0, min=0.0, max=1.0).tag(sync=True)
    t = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    jumps = traitlets.Int(1, min=1, max=8).tag(sync=True)

    _aspect = traitlets.Float(1.95).tag(sync=True)
    _narrow = traitlets.Float(0.62).tag(sync=True)
    _controls = traitlets.Int(3).tag(sync=True)
    _network = traitlets.Dict().tag(sync=True)
    _mixture = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        u = network()
        span = torch.cat([p.flatten() for p in u.span.parameters()])
        self._network = {
            "network": pack_network(u.network, "float16"),
            "frequencies": u.features.frequencies.double().tolist(),
            "span": pack_floats(span, "float16"),
        }
        self._mixture = pack_mixture(data())
        self._settings = {
            "noise": pack_floats(_noise()),
            "ways": list(WAYS),
            "fine": FINE,
            "limit": LIMIT,
            "gap": GAP,
        }

    @traitlets.validate("s", "t")
    def _valid_times(self, proposal: dict[str, Any]) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        s, t = (value, self.t) if name == "s" else (self.s, value)
        if t - s < GAP - 1e-9:
            raise traitlets.TraitError(
                f"{name} must leave at least {GAP} from s to t, but s = {s} and t = {t} came"
            )
        return float(value)

    @property
    def times(self) -> Tensor:
        """The times of the jumps and steps, `[jumps + 1]`."""
        return torch.linspace(self.s, self.t, self.jumps + 1, dtype=torch.float64)

    def start(self) -> Tensor:
        """Return where equal shares of the particles are at time s, `[121 1]`."""
        return follow(data().velocity(CondOT()), _noise(), 0.0, self.s, steps=FINE)

    def ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return where they are at time t: exactly, after the jumps, after the steps of Euler."""
        field, x = data().velocity(CondOT()), self.start()
        exact = follow(field, x, self.s, self.t, steps=FINE)
        jumped = jump(network(), x.float(), self.times).double()
        return exact, jumped, sample(field, x, times=self.times)

    def errors(self) -> tuple[float, float]:
        """Return the root mean square errors of the jumps and of Euler's method."""
        exact, *found = self.ends()
        jumps, euler = ((x - exact).square().mean().sqrt().item() for x in found)
        return jumps, euler

    def _draw(self, figure: Figure) -> None:
        ways, graph = figure.subplots(1, 2)
        field, x = data().velocity(CondOT()), self.start()
        some = x[list(WAYS)]
        clock = torch.linspace(self.s, self.t, FINE + 1)
        exact = sample(field, some, times=clock, method="rk4", return_path=True)
        ways.plot(clock, exact[..., 0], color=COLORS["exact"], lw=1.2)
        stops = [some.float()]
        for pair in self.times.unfold(0, 2, 1):
            stops.append(jump(network(), stops[-1], pair))
        euler = sample(field, some, times=self.times, return_path=True)
        ways.plot(self.times, euler[..., 0], "s-", color=COLORS["velocity"], lw=0.8, ms=3)
        ways.plot(self.times, torch.stack(stops)[..., 0], "o-", color=COLORS["learned"], ms=3)
        ways.set(xlim=(0, 1), ylim=(-LIMIT, LIMIT), xlabel="time", title="some ways")
        labels = ("exact map", "jumps", "Euler")
        kinds = ("exact", "learned", "velocity")
        for y, label, kind in zip(self.ends(), labels, kinds, strict=True):
            graph.plot(x, y, color=COLORS[kind], label=label, lw=3 if kind == "exact" else 1.8)
        graph.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT))
        graph.set(xlabel="place at time s", title="place at time t")
        graph.legend(loc="upper left")
