"""Noise flows into data through a trained network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.data import DATASETS
from fmtutor.networks import MLP
from fmtutor.plotting import arrows, blend, scatter, trajectories
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure, one_of
from fmtutor.widgets.packing import build_network, pack_network
from fmtutor.widgets.rng import Random

__all__ = ["NETWORK", "WEIGHTS", "FlowPlayer", "network", "read_weights"]

NETWORK: dict[str, Any] = {"dim": 2, "width": 64, "depth": 3, "time_dim": 16}
"""The sizes of the figure's networks."""

WEIGHTS = Path(__file__).with_name("flow_player.npy")
"""Their weights, a row a data set; `python tools/widget_weights.py` makes them."""

STEPS = 32  # of the midpoint method
TRAILS = 60  # particles whose way is drawn
LIMIT = 4.0  # half the height of the plane shown
SEED = 1  # of the noise


def read_weights() -> dict[str, Tensor]:
    """Return the stored weights of each data set's network, flat, in half precision."""
    rows = torch.from_numpy(np.load(WEIGHTS, allow_pickle=False))
    return dict(zip(DATASETS, rows, strict=True))


@cache
def network(dataset: str) -> MLP:
    """Return the trained network of a data set, as the page computes with it.

    Args:
        dataset: A key of `fmtutor.data.DATASETS`.

    Raises:
        ValueError: If there is no such data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, but {dataset!r} came")
    return build_network(read_weights()[dataset], **NETWORK)


class FlowPlayer(LiveFigure):
    """Particles that flow from noise to data along the field of a trained network.

    Attributes:
        dataset: The data set whose network is shown, one of `datasets`.
        datasets: The data sets to choose from, keys of `fmtutor.data.DATASETS`. Each adds 20 kB to
            the page.
        time: The time shown, from 0 (noise) to 1 (data).
        particles: Number of particles, 1 to 2000.
        trails: Whether the ways of some particles are drawn.
        arrows: Whether the velocity field is drawn.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: quickstart
    """

    file = "flow_player"

    dataset = traitlets.Unicode().tag(sync=True)
    datasets = traitlets.Tuple().tag(sync=True)
    time = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    particles = traitlets.Int(600, min=1, max=2000).tag(sync=True)
    trails = traitlets.Bool(True).tag(sync=True)
    arrows = traitlets.Bool(False).tag(sync=True)

    _aspect = traitlets.Float(1.75).tag(sync=True)
    _narrow = traitlets.Float(1.0).tag(sync=True)
    _controls = traitlets.Int(6).tag(sync=True)
    _networks = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, dataset: str | None = None, **traits: Any) -> None:
        names = traits.setdefault("datasets", tuple(DATASETS))
        if dataset is None:
            dataset = "spiral" if "spiral" in names else next(iter(names), "spiral")
        super().__init__(dataset=dataset, **traits)
        self._settings = {"steps": STEPS, "trails": TRAILS, "limit": LIMIT, "seed": SEED}

    @traitlets.validate("datasets")
    def _valid_datasets(self, proposal: dict[str, Any]) -> tuple[str, ...]:
        names = tuple(proposal["value"])
        unknown = [name for name in names if name not in DATASETS]
        if unknown or not names:
            raise traitlets.TraitError(
                f"datasets must be some of {', '.join(DATASETS)}, but {names} came"
            )
        if self.dataset in DATASETS and self.dataset not in names:
            raise traitlets.TraitError(f"datasets must keep {self.dataset!r}, which is shown")
        return names

    @traitlets.validate("dataset")
    def _valid_dataset(self, proposal: dict[str, Any]) -> str:
        return one_of("dataset", proposal["value"], self.datasets)

    @traitlets.observe("datasets")
    def _pack_networks(self, _change: object) -> None:
        self._networks = {name: pack_network(network(name), "float16") for name in self.datasets}

    def positions(self, time: float | None = None) -> Tensor:
        """Return where the particles are `[particles 2]`, at a time or at the one shown."""
        end = self.time if time is None else time
        return self._path(end)[-1]

    def _path(self, end: float) -> Tensor:
        """Follow the steps of the page, up to a time, `[k particles 2]`."""
        x0 = Random(SEED).normals(self.particles, 2)
        grid = [k / STEPS for k in range(STEPS + 1)]
        times = [*(t for t in grid if t < end - 1e-9), end]
        if len(times) < 2:
            return x0[None]
        return sample(network(self.dataset), x0, method="midpoint", times=times, return_path=True)

    def _draw(self, figure: Figure) -> None:
        ax = figure.subplots()
        side = LIMIT * self._aspect
        ax.set(xlim=(-side, side), ylim=(-LIMIT, LIMIT), aspect="equal")
        ax.axis("off")
        path = self._path(self.time)
        if self.trails:
            trajectories(ax, path[:, :TRAILS], ends=False)
            scatter(ax, path[0, :TRAILS], "noise", size=8)
        if self.arrows:
            arrows(ax, network(self.dataset), self.time, limit=LIMIT)
        scatter(ax, path[-1], size=5, color=blend(self.time), zorder=3)
