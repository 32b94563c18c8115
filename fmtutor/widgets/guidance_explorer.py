"""One noise under the field of a label, and under the guided field of any scale."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from fmtutor.guidance import guided
from fmtutor.notation import VelocityField
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import CondOT
from fmtutor.plotting import COLORS, arrows, scatter
from fmtutor.solvers import sample
from fmtutor.widgets.base import Finite, LiveFigure
from fmtutor.widgets.packing import pack_mixture, pack_path
from fmtutor.widgets.rng import Random

__all__ = ["GuidanceExplorer", "Result", "clusters"]

LABELS = (0, 0, 1, 2)  # of the four clusters
PRIOR = (0.4, 0.3, 0.3)  # of the labels
STEPS = 25  # of the midpoint method
LIMIT = 3.3  # half the side of the square shown
SEED = 1  # of the noise
PATH = CondOT()


class Result(NamedTuple):
    """What a crowd of particles is worth."""

    share: float
    """The share of the particles whose most probable label is the wanted one."""
    spread: float
    """The root mean square distance of the particles to their mean."""


def clusters(labels: tuple[int, ...] = (0, 1, 2)) -> GaussianMixture:
    """Return the clusters of the chapter that carry one of the labels."""
    means = [[-1.3, 0.9], [1.5, -0.6], [1.2, 1.3], [-0.7, -1.3]]
    keep = [k for k, label in enumerate(LABELS) if label in labels]
    whole = (
        torch.tensor(values, dtype=torch.float64)[keep]
        for values in (means, [0.45, 0.45, 0.5, 0.6], [0.2, 0.2, 0.3, 0.3])
    )
    return GaussianMixture(*whole)


class GuidanceExplorer(LiveFigure):
    """Particles that follow the exact guided field, beside the same ones at scale 1.

    Attributes:
        label: The label that is wanted, "0", "1" or "2"; the first has two clusters.
        scale: The scale of the guidance, 0 to 8.
        time: The time shown, from 0 (noise) to 1 (data).
        particles: Number of particles, 1 to 1000.
        arrows: Whether the fields are drawn.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: guidance
    """

    file = "guidance_explorer"

    label = traitlets.Unicode("0").tag(sync=True)
    scale = Finite(3.0, min=0.0, max=8.0).tag(sync=True)
    time = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    particles = traitlets.Int(400, min=1, max=1000).tag(sync=True)
    arrows = traitlets.Bool(False).tag(sync=True)

    _aspect = traitlets.Float(1.85).tag(sync=True)
    _narrow = traitlets.Float(0.5).tag(sync=True)
    _controls = traitlets.Int(5).tag(sync=True)
    _mixture = traitlets.Dict().tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._mixture = pack_mixture(clusters())
        self._settings = {
            "path": pack_path(PATH),
            "labels": LABELS,
            "steps": STEPS,
            "limit": LIMIT,
            "seed": SEED,
        }

    @traitlets.validate("label")
    def _valid_label(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] not in ("0", "1", "2"):
            raise traitlets.TraitError(
                f"label must be '0', '1' or '2', but {proposal['value']!r} came"
            )
        return str(proposal["value"])

    def positions(self, scale: float | None = None) -> Tensor:
        """Return where the particles are `[particles 2]`, at a scale or at the one shown."""
        x0 = Random(SEED).normals(self.particles, 2).double()
        grid = [k / STEPS for k in range(STEPS + 1)]
        times = [*(t for t in grid if t < self.time - 1e-9), self.time]
        if len(times) < 2:
            return x0
        return sample(self._field(scale), x0, method="midpoint", times=times)

    def result(self, scale: float | None = None) -> Result:
        """Return the share of the label and the spread, at a scale or at the one shown."""
        x = self.positions(scale)
        joint = [
            math.log(share) + clusters((y,)).log_prob_t(PATH, x, self.time)
            for y, share in enumerate(PRIOR)
        ]
        guess = torch.stack(joint).argmax(0)
        spread = (x - x.mean(0)).square().sum(1).mean().sqrt()
        return Result((guess == int(self.label)).double().mean().item(), spread.item())

    def _field(self, scale: float | None = None) -> VelocityField:
        conditional = clusters((int(self.label),)).velocity(PATH)
        return guided(
            conditional, clusters().velocity(PATH), self.scale if scale is None else scale
        )

    def _draw(self, figure: Figure) -> None:
        mixture = clusters()
        for ax, scale in zip(figure.subplots(1, 2), (1.0, self.scale), strict=True):
            ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
            ax.set_title(f"scale {scale:g}")
            ax.axis("off")
            for k, label in enumerate(LABELS):
                kind = "data" if label == int(self.label) else "exact"
                place = (mixture.means[k, 0].item(), mixture.means[k, 1].item())
                for reach in (1, 2):
                    size = reach * mixture.stds[k].item()
                    ax.add_patch(Circle(place, size, color=COLORS[kind], alpha=0.2, lw=0))
            if self.arrows:
                field = self._field(scale)
                arrows(ax, field, self.time, limit=0.9 * LIMIT, n=13, dtype=torch.float64)
            kind = "learned" if self.arrows else "velocity"
            scatter(ax, self.positions(scale), kind, size=6, alpha=0.8, zorder=3)
