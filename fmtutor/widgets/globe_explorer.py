"""Points on a globe that flow from the uniform law to airports, by the exact field."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from fmtutor.manifold_oracles import SphereField
from fmtutor.manifolds import Sphere
from fmtutor.plotting import COLORS, blend, scatter
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite
from fmtutor.widgets.packing import pack_floats
from fmtutor.widgets.rng import Random
from fmtutor.widgets.turning import TurnedFigure

__all__ = ["RADIUS", "GlobeExplorer", "airports"]

RADIUS = 6371.0  # of the Earth, kilometres
PARTICLES = 300
STEPS = 50  # of the midpoint method
SPHERE = Sphere(2)


@cache
def airports() -> Tensor:
    """Return the places of 200 airports on the unit sphere, `[200 3]`, float64."""
    text = resources.files("fmtutor.widgets").joinpath("airports.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    angles = [[float(row["latitude"]), float(row["longitude"])] for row in rows]
    north, east = torch.deg2rad(torch.tensor(angles, dtype=torch.float64)).T
    x = torch.stack([north.cos() * east.cos(), north.cos() * east.sin(), north.sin()], dim=1)
    return SPHERE.project(x.float().double())  # as the page has them


@cache
def _way(seed: int) -> Tensor:
    """Return where the particles are at the times k/50, `[51 n 3]`: at the end at an airport."""
    x0 = SPHERE.project(Random(seed).normals(PARTICLES, 3).double())
    times = torch.arange(STEPS, dtype=torch.float64) / STEPS

    way = sample(
        SphereField(airports()),
        x0,
        method="midpoint",
        times=times,
        project=SPHERE.project,
        return_path=True,
    )
    end = airports()[(way[-1] @ airports().T).argmax(1)]
    return torch.cat([way, end[None]])


class GlobeExplorer(TurnedFigure):
    """A globe that can be turned: particles that follow averaged geodesic ways to 200 airports.

    The source is uniform, the field that of `SphereField`.

    Attributes:
        time: The time shown, from 0 (noise) to 1 (data).
        seed: Seed of the noise, from 0 on.
        longitude: From where the globe is seen, in degrees east, −180 to 180.
        latitude: The same in degrees north, −90 to 90.
        ways: Whether the ways of some particles are shown.
        field: Whether arrows show the field.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: manifolds
    """

    file = "globe_explorer"

    time = Finite(0.8, min=0.0, max=1.0).tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**31 - 1).tag(sync=True)
    ways = traitlets.Bool(True).tag(sync=True)
    field = traitlets.Bool(False).tag(sync=True)

    _aspect = traitlets.Float(1.55).tag(sync=True)
    _narrow = traitlets.Float(1.0).tag(sync=True)
    _controls = traitlets.Int(7).tag(sync=True)
    _places = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._places = pack_floats(airports())
        self._settings = {"particles": PARTICLES, "steps": STEPS, "radius": RADIUS}

    def positions(self) -> Tensor:
        """Return where the particles are at the time shown, `[n 3]`."""
        way, place = _way(self.seed), self.time * STEPS
        k = min(STEPS - 1, int(place))
        return SPHERE.project(way[k] + (place - k) * (way[k + 1] - way[k]))

    def distance(self) -> float:
        """Return the median distance from a particle to the nearest airport, in kilometres."""
        x, y = self.positions(), airports()
        near, far = ((x[:, None] + sign * y).norm(dim=2) for sign in (-1, 1))
        return RADIUS * float((2 * torch.atan2(near, far)).amin(1).median())

    def _draw(self, figure: Figure) -> None:
        ax = figure.subplots()
        ax.set(xlim=(-1.6, 1.6), ylim=(-1.06, 1.06), xticks=[], yticks=[], aspect="equal")
        ax.spines[:].set_visible(False)
        ax.add_patch(Circle((0, 0), 1, fill=False, lw=1, color=COLORS["trajectory"]))
        view = self.view()
        if self.ways:
            last = int(self.time * STEPS) + 1
            seen = _way(self.seed)[:last, :60] @ view.T
            for k in range(seen.shape[1]):
                line = seen[:, k].clone()
                line[line[:, 2] < 0] = torch.nan
                ax.plot(line[:, 0], line[:, 1], color=COLORS["trajectory"], lw=0.8)
        if self.field:
            x = _way(self.seed)[0] @ view.T
            front = x[:, 2] > 0
            t = min(self.time, 1 - 1 / STEPS)
            u = SphereField(airports())(_way(self.seed)[0][front], t) @ view.T
            ax.quiver(x[front, 0], x[front, 1], u[:, 0], u[:, 1], color=COLORS["velocity"],
                      angles="xy", scale_units="xy", scale=10, width=0.004)  # fmt: skip
        for points, kind, style in (
            (airports(), "data", {"size": 6}),
            (self.positions(), "data", {"size": 14, "alpha": 0.9, "color": blend(self.time)}),
        ):
            seen = points @ view.T
            scatter(ax, seen[seen[:, 2] > 0, :2], kind, **style)
