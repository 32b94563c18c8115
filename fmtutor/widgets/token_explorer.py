"""Two tokens that jump from a source to the data, and how far from it they end."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.data import moons
from fmtutor.finite_law import FiniteLaw, product_of_marginals, total_variation
from fmtutor.jumps import sample_tokens
from fmtutor.paths import CosineSchedule, MixturePath, Power
from fmtutor.paths.discrete import Schedule
from fmtutor.plotting import COLORS
from fmtutor.widgets.base import Finite, LiveFigure, one_of

__all__ = ["TokenExplorer"]

TOKENS = 10
MOST = 32  # steps
COUNTS = (1, 2, 4, 8, 16, 32)
PAIRS = 160
FLOOR = 0.003  # the lower end of the curve of errors
SOURCES = ("mask", "uniform")
SCHEDULES: dict[str, Schedule] = {
    "straight": Power(),
    "late": Power(2.0),
    "cosine": CosineSchedule(),
}


def _moons() -> Tensor:
    points = moons(20_000, seed=0)
    low, high = points.min(0).values, points.max(0).values
    cells = ((points - low) / (high - low) * TOKENS).long().clamp(max=TOKENS - 1)
    ones = torch.ones(len(cells), dtype=torch.float64)
    table = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
    return table.index_put_(tuple(cells.T), ones, accumulate=True)


def _checkerboard() -> Tensor:
    places = torch.arange(TOKENS) // 2
    return ((places[:, None] + places) % 2 == 0).double()


LAWS = {
    name: FiniteLaw(table)
    for name, table in (
        ("two equal tokens", torch.eye(TOKENS)),
        ("checkerboard", _checkerboard()),
        ("moons", _moons()),
    )
}


class TokenExplorer(LiveFigure):
    """Pairs of tokens on their way, and the distance of what is drawn from the data.

    The posterior is exact, so that the distance is the sampler's own.

    Attributes:
        law: The data, one of "two equal tokens", "checkerboard" and "moons".
        source: Where the tokens come from, "mask" or "uniform".
        schedule: One of "straight", "late" and "cosine".
        steps: Number of equal steps, from 1 to 32.
        renewal: The rate at which tokens are drawn anew, from 0 to 20.
        time: The time shown, from 0 to 1.
        seed: Seed of the chains, from 0 to 999.

    Raises:
        TypeError: If an argument is none of these.
        traitlets.TraitError: If a value is out of its range.

    Chapter: discrete
    """

    file = "token_explorer"

    law = traitlets.Unicode("two equal tokens").tag(sync=True)
    source = traitlets.Unicode("mask").tag(sync=True)
    schedule = traitlets.Unicode("straight").tag(sync=True)
    steps = traitlets.Int(2, min=1, max=MOST).tag(sync=True)
    renewal = Finite(0.0, min=0.0, max=20.0).tag(sync=True)
    time = Finite(1.0, min=0.0, max=1.0).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=999).tag(sync=True)

    _aspect = traitlets.Float(2.0).tag(sync=True)
    _narrow = traitlets.Float(0.62).tag(sync=True)
    _controls = traitlets.Int(8).tag(sync=True)
    _settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._settings = {
            "laws": {name: law.table.flatten().tolist() for name, law in LAWS.items()},
            "sources": SOURCES,
            "schedules": list(SCHEDULES),
            "counts": COUNTS,
            "most": MOST,
            "pairs": PAIRS,
            "floor": FLOOR,
        }

    @traitlets.validate("law")
    def _valid_law(self, proposal: dict[str, Any]) -> str:
        return one_of("law", proposal["value"], LAWS)

    @traitlets.validate("source")
    def _valid_source(self, proposal: dict[str, Any]) -> str:
        return one_of("source", proposal["value"], SOURCES)

    @traitlets.validate("schedule")
    def _valid_schedule(self, proposal: dict[str, Any]) -> str:
        return one_of("schedule", proposal["value"], SCHEDULES)

    @property
    def path(self) -> MixturePath:
        """The path that is shown."""
        return MixturePath(TOKENS, self.source == "mask", SCHEDULES[self.schedule])

    def error(self, steps: int) -> float:
        """Return the total variation between what so many steps draw and the data."""
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        law = LAWS[self.law].propagated(self.path, times, renewal=self.renewal)
        return total_variation(LAWS[self.law].at(self.path, 1.0), law).item()

    def formula(self, steps: int) -> float:
        """Return what the theorem says of two masked tokens without renewal."""
        table = LAWS[self.law].table
        apart = total_variation(table, product_of_marginals(table)).item()
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        return apart * float(self.path.schedule.kappa(times).diff().square().sum())

    def _draw(self, figure: Figure) -> None:
        plane, curve = figure.subplots(1, 2)
        self._draw_pairs(plane)
        errors = [self.error(n) for n in COUNTS]
        if self.source == "mask" and not self.renewal:
            known = [self.formula(n) for n in COUNTS]
            curve.plot(COUNTS, known, color=COLORS["exact"], lw=5, alpha=0.4, label="formula")
        curve.plot(COUNTS, errors, "o-", color=COLORS["learned"], ms=4, label="exact")
        curve.axvline(self.steps, color=COLORS["text"], lw=0.8, ls=":")
        curve.set(xscale="log", yscale="log", ylim=(FLOOR, 1.1), xlabel="steps")
        curve.set_xticks(COUNTS, [str(n) for n in COUNTS])
        curve.set_xticks([], minor=True)
        curve.set_title("total variation from the data")
        curve.legend()

    def _draw_pairs(self, ax: Axes) -> None:
        """Draw the law of the step that is shown, and pairs that were drawn."""
        path, now = self.path, int(self.time * self.steps + 1e-9)
        law = LAWS[self.law].at(path, now / self.steps)
        ax.imshow(law.sqrt().T.numpy(), origin="lower", cmap="Oranges", alpha=0.8)
        g = torch.Generator().manual_seed(self.seed)
        x0 = path.noise(torch.zeros(PAIRS, 2, dtype=torch.long), g)
        logits = LAWS[self.law].posterior(path)
        x = sample_tokens(
            logits, x0, path, steps=self.steps, renewal=self.renewal, generator=g, return_path=True
        )[now]
        at = x + 0.72 * (torch.rand(PAIRS, 2, generator=g) - 0.5)
        hidden = (x == TOKENS).any(1)
        data = LAWS[self.law].table[tuple(x.clamp(max=TOKENS - 1).T)] > 0
        wrong = ~(hidden | data)
        for kind, which, size in (("exact", ~wrong, 5), ("learned", wrong, 16)):
            ax.scatter(at[which, 0], at[which, 1], s=size, color=COLORS[kind])
        ax.set(xlabel="first token", ylabel="second token", xticks=[], yticks=[])
        ax.set_title(f"{int(wrong.sum())} of {PAIRS} pairs are none of the data")
