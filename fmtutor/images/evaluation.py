"""What describes an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fmtutor.guidance import interval
from fmtutor.images.objectives import JUMP
from fmtutor.solvers import TABLEAUX

__all__ = ["EvaluationConfig", "stages", "steps_for"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on how many pictures.

    A budget counts evaluations of the field (NFE); a guided one takes two passes of the network.

    Attributes:
        samples: Pictures behind the main numbers.
        method: Their solver; jump for the jumps of a network that has learned them, of which a
            solver takes the velocity.
        nfe: Their budget.
        guidance: Their guidance scale, 1 for none.
        guidance_interval: First and last time at which pictures are guided, whatever the scale.
        guidance_rescale: Share of a guided velocity that gets the deviation of the conditional one.
        shift: By how much the times of all solvers are shifted, as in training; 1 for not at all.
        curve_samples: Pictures behind each number of the curves.
        curve_methods: Solvers of the curve of quality against budget, or jump.
        curve_nfe: Budgets of the curve; each solver gets those that its stages divide.
        curve_guidance: Guidance scales of the other curve, with the main solver and budget; jumps
            are not guided, and have none.
        likelihood_images: Test pictures whose likelihood is computed; 0 leaves it out.
        likelihood_steps: Steps of the midpoint method for it; too few give a wrong number.
        neighbours: The k of precision and recall.
        seed: Seed of the noise, and of the choice of test pictures.
        batch_size: Pictures that travel together.

    Chapter: images
    """

    samples: int = 2000
    method: str = "midpoint"
    nfe: int = 100
    guidance: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    shift: float = 1.0
    curve_samples: int = 1000
    curve_methods: tuple[str, ...] = ("euler", "midpoint", "heun", "rk4")
    curve_nfe: tuple[int, ...] = (4, 8, 16, 32)
    curve_guidance: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    likelihood_images: int = 100
    likelihood_steps: int = 150
    neighbours: int = 3
    seed: int = 0
    batch_size: int = 250

    def __post_init__(self) -> None:
        steps_for(self.method, self.nfe)
        for method in self.curve_methods:
            stages(method)
        least = {"curve_nfe": 1, "likelihood_images": 0, "likelihood_steps": 1, "neighbours": 1}
        for name, bound in (least | {"batch_size": 1}).items():
            value = getattr(self, name)
            if min([value] if isinstance(value, int) else value, default=bound) < bound:
                raise ValueError(f"{name} must be at least {bound}, but {value} came")
        if min(self.samples, self.curve_samples) <= self.neighbours:
            raise ValueError(
                f"samples and curve_samples must be above neighbours = {self.neighbours}, "
                f"but {self.samples} and {self.curve_samples} came"
            )
        if len(self.guidance_interval) != 2:
            raise ValueError(
                f"guidance_interval must be 2 times, but {self.guidance_interval} came"
            )
        interval(1.0, *self.guidance_interval)
        if not 0 <= self.guidance_rescale <= 1:
            raise ValueError(
                f"guidance_rescale must lie in [0, 1], but {self.guidance_rescale} came"
            )
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift must be positive, but {self.shift} came")
        if self.method == JUMP and self.guidance != 1:
            raise ValueError(f"jumps are not guided, but guidance {self.guidance} came")
        for scale in (self.guidance, *self.curve_guidance):
            if not math.isfinite(scale):
                raise ValueError(f"a guidance scale must be finite, but {scale} came")


def steps_for(method: str, nfe: int) -> int:
    """Return the number of steps of a solver that take exactly `nfe` evaluations.

    Raises:
        ValueError: If the method has no fixed number of stages, or they do not divide `nfe`.

    Chapter: images
    """
    each = stages(method)
    if nfe < 1 or nfe % each:
        raise ValueError(
            f"{method} takes {each} evaluations a step: nfe must be a multiple, but {nfe} came"
        )
    return nfe // each


def stages(method: str) -> int:
    """Return how often a step of a solver, or a jump, evaluates the network.

    Raises:
        ValueError: If the method has no fixed number of stages.

    Chapter: images
    """
    if method == JUMP:
        return 1
    if method not in TABLEAUX:
        raise ValueError(
            f"method must be one of {', '.join(TABLEAUX)}, {JUMP}, but {method!r} came"
        )
    return len(TABLEAUX[method].b)
