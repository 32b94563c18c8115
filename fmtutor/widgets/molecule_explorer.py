"""Molecules in space that flow from noise, by two trained networks, and what their energy says."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor, nn

from fmtutor.molecules import Butane, Shipped, centred, shipped, torsion
from fmtutor.plotting import COLORS, blend
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, one_of
from fmtutor.widgets.packing import pack_floats, pack_network
from fmtutor.widgets.rng import Random
from fmtutor.widgets.turning import TurnedFigure

__all__ = ["MOLECULES", "PAIRS", "MoleculeExplorer", "exact", "flow"]

PAIRS = {"aligned": "butane", "independent": "butane-plain"}
"""The flows to choose from, by the pairs that they were trained on."""

MOLECULES = 60
MOST = 40  # steps of Euler's method
EXTENT = 2.5  # of the space shown, ångström
EXACT = 150  # molecules of the true law


@cache
def flow(pairs: str) -> Shipped:
    """Return a trained flow with the weights that the page has, in half precision."""
    network, unit = shipped(PAIRS[pairs])
    weights = nn.utils.parameters_to_vector(network.parameters())
    nn.utils.vector_to_parameters(weights.half().float(), network.parameters())
    return Shipped(network.double(), unit)


@cache
def exact() -> Tensor:
    """Return molecules of the true law, `[150 4 3]` in ångström, as the page has them."""
    return Butane().sample(EXACT, seed=0).double()


@cache
def _path(pairs: str, steps: int, seed: int) -> Tensor:
    """Return the positions after each step of Euler's method, `[steps+1 60 4 3]`, in ångström."""
    network, unit = flow(pairs)
    noise = centred(Random(seed).normals(MOLECULES * 4, 3).double().reshape(MOLECULES, 4, 3))
    return unit * sample(network, noise, steps=steps, method="euler", return_path=True)


class MoleculeExplorer(TurnedFigure):
    """n-Butane in space, from noise by Euler's method: aligned or independent pairs, any view.

    Attributes:
        time: The time shown, from 0 (noise) to 1 (molecules).
        pairs: The pairs that the network was trained on, "aligned" or "independent".
        steps: The number of steps, 1 to 40.
        molecule: Which of the 60 molecules is drawn, from 1 on.
        seed: Seed of the noise, from 0 on.
        longitude: From where it is seen, in degrees, −180 to 180.
        latitude: The same, −90 to 90.
        ways: Whether the ways of its atoms are shown.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: molecules
    """

    file = "molecule_explorer"

    time = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    pairs = traitlets.Unicode("aligned").tag(sync=True)
    steps = traitlets.Int(5, min=1, max=MOST).tag(sync=True)
    molecule = traitlets.Int(1, min=1, max=MOLECULES).tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**31 - 1).tag(sync=True)
    ways = traitlets.Bool(True).tag(sync=True)

    _aspect = traitlets.Float(1.9).tag(sync=True)
    _narrow = traitlets.Float(0.6).tag(sync=True)
    _controls = traitlets.Int(9).tag(sync=True)
    _networks = traitlets.Dict().tag(sync=True)
    _exact = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        butane = Butane()
        self._networks = {pairs: pack_network(flow(pairs).network, "float16") for pairs in PAIRS}
        self._exact = pack_floats(exact())
        self._settings = {
            "molecules": MOLECULES,
            "unit": flow("aligned").unit,  # that of the same data
            "constants": {
                "bond": [butane.bond, butane.bond_constant / butane.temperature],
                "angle": [butane.angle, butane.angle_constant / butane.temperature],
                "torsion": [c / butane.temperature for c in butane.torsion_constants],
            },
            "extent": EXTENT,
            "most": MOST,
        }

    @traitlets.validate("pairs")
    def _valid_pairs(self, proposal: dict[str, Any]) -> str:
        return one_of("pairs", proposal["value"], PAIRS)

    def positions(self) -> Tensor:
        """Return where the atoms are at the time shown, `[60 4 3]` in ångström."""
        path, place = _path(self.pairs, self.steps, self.seed), self.time * self.steps
        k = min(self.steps - 1, int(place))
        return path[k] + (place - k) * (path[k + 1] - path[k])

    def energies(self) -> Tensor:
        """Return the energies of all molecules at the time shown, `[60]` in kT."""
        return Butane()(self.positions())

    def _draw(self, figure: Figure) -> None:
        space, graph = figure.subplots(1, 2)
        space.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal")
        space.set_axis_off()
        view, energies = self.view(), self.energies()
        colors = [_shade(e) for e in energies.tolist()]
        if self.ways:
            done = _path(self.pairs, self.steps, self.seed)[: int(self.time * self.steps) + 1]
            way = torch.cat([done, self.positions()[None]])[:, self.molecule - 1] @ view.T
            space.plot(way[..., 0], way[..., 1], color=COLORS["trajectory"], lw=0.8)
        x = self.positions()[self.molecule - 1] @ view.T
        space.plot(x[:, 0], x[:, 1], color=COLORS["text"], lw=4, zorder=2)
        order = x[:, 2].argsort()
        space.scatter(x[order, 0], x[order, 1], s=420, color=colors[self.molecule - 1],
                      edgecolors=COLORS["text"], zorder=3)  # fmt: skip
        for atoms, style in (
            (exact(), {"color": COLORS["exact"], "s": 4, "alpha": 0.55}),
            (self.positions(), {"color": colors, "s": 16, "alpha": 0.9}),
        ):
            graph.scatter(torch.rad2deg(torsion(atoms)), Butane()(atoms), **style)
        graph.set(xlim=(-180, 180), ylim=(0.4, 2.5e4), yscale="log")
        graph.set(xlabel="torsion in degrees", title="energy in kT", xticks=[-180, -60, 60, 180])


def _shade(energy: float) -> str:
    """Return the colour of an energy: that of data up to 3 kT, that of noise from 300 kT on."""
    share = (math.log10(max(energy, 1e-3)) - 0.5) / 2
    return blend(1 - min(1.0, max(0.0, share)))
