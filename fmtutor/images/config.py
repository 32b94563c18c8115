"""What describes a network, its training and its evaluation, and the runs that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fmtutor.solvers import TABLEAUX

__all__ = [
    "PRESETS",
    "EvaluationConfig",
    "TrainConfig",
    "learning_rate",
    "steps_for",
]

POSITIVE = """
    size patch width blocks heads steps batch_size accumulate lr log_every sample_every save_every
"""


@dataclass(frozen=True)
class TrainConfig:
    """What describes a training run in full, but for the data itself.

    Attributes:
        data: The data set: digits, fashion-mnist, cifar10 or folder.
        size: Side to which the pictures of a folder are scaled; other data sets have their own.
        flip: Whether to mirror the pictures of a folder at random; of others it is known.
        conditional: Whether the network is told the class.
        patch: Side of the square of pixels that the network takes as one.
        width: Channels at the first resolution.
        mults: Channels at each resolution, as multiples of the width.
        blocks: Residual blocks at each resolution, on the way down and again on the way up.
        attention: Resolutions (heights in patches) at which blocks are followed by attention.
        heads: Heads of an attention.
        dropout: Dropout within the residual blocks.
        steps: Optimizer steps.
        batch_size: Pictures in a step, over all devices together.
        accumulate: Parts in which a device goes through its share of a batch, to save memory.
        lr: The largest learning rate.
        warmup: First steps, in which the learning rate rises linearly.
        decay: Share of the steps, the last ones, in which it falls linearly.
        weight_decay: Weight decay of AdamW.
        clip: Norm to which longer gradients are cut.
        ema: Decay of the running average of the weights; it starts lower, (1 + k)/(10 + k).
        label_dropout: Share of the pictures whose class is withheld, for guidance.
        coupling: How noise goes with pictures: independent, or ot (of a batch, without classes).
        seed: Seed of weights, order, noise and times.
        precision: float32, bfloat16 (autocast), or auto: bfloat16 on a GPU that has it.
        compile: Whether to compile the network.
        log_every: Steps between two lines of the log.
        sample_every: Steps between two grids of samples.
        save_every: Steps between two checkpoints.

    Raises:
        ValueError: If a setting is out of its range.

    Chapter: images
    """

    data: str = "digits"
    size: int = 32
    flip: bool = False
    conditional: bool = True
    patch: int = 1
    width: int = 24
    mults: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (4,)
    heads: int = 4
    dropout: float = 0.0
    steps: int = 800
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    label_dropout: float = 0.1
    coupling: str = "independent"
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    log_every: int = 50
    sample_every: int = 200
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in POSITIVE.split():
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, but {getattr(self, name)} came")
        for name in ("ema", "label_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), but {getattr(self, name)} came")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(
                f"warmup must lie in [0, steps) = [0, {self.steps}), but {self.warmup} came"
            )
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must lie in [0, 1], but {self.decay} came")
        if not (self.weight_decay >= 0 and self.clip > 0):
            raise ValueError(
                "weight_decay must be at least 0 and clip positive, "
                f"but {self.weight_decay} and {self.clip} came"
            )
        if self.coupling not in ("independent", "ot"):
            raise ValueError(f"coupling must be independent or ot, but {self.coupling!r} came")
        if self.coupling == "ot" and self.conditional:
            raise ValueError("coupling ot pairs across classes: it needs a run without them")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(
                f"precision must be auto, float32 or bfloat16, but {self.precision!r} came"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on how many pictures.

    A budget counts evaluations of the field (NFE); a guided one takes two passes of the network.

    Attributes:
        samples: Pictures behind the main numbers.
        method: Their solver.
        nfe: Their budget.
        guidance: Their guidance scale, 1 for none.
        curve_samples: Pictures behind each number of the curves.
        curve_methods: Solvers of the curve of quality against budget.
        curve_nfe: Budgets of the curve; each solver gets those that its stages divide.
        curve_guidance: Guidance scales of the other curve, with the main solver and budget.
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
        if min(self.samples, self.curve_samples) <= self.neighbours:
            raise ValueError(
                f"samples and curve_samples must be above neighbours = {self.neighbours}, "
                f"but {self.samples} and {self.curve_samples} came"
            )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: up linearly, level, and down linearly at the end.

    Chapter: images
    """
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.lr * min(1.0, rise, fall)


def steps_for(method: str, nfe: int) -> int:
    """Return the number of steps of a solver that take exactly `nfe` evaluations.

    Raises:
        ValueError: If the method has no fixed number of stages, or they do not divide `nfe`.

    Chapter: images
    """
    if method not in TABLEAUX:
        raise ValueError(f"method must be one of {', '.join(TABLEAUX)}, but {method!r} came")
    stages = len(TABLEAUX[method].b)
    if nfe < 1 or nfe % stages:
        raise ValueError(
            f"{method} takes {stages} evaluations a step: nfe must be a multiple, but {nfe} came"
        )
    return nfe // stages


PRESETS = {
    "digits-cpu": TrainConfig(),
    "fashion-cpu": TrainConfig(
        data="fashion-mnist",
        patch=2,
        width=48,
        attention=(7,),
        steps=7000,
        batch_size=64,
        lr=1.5e-3,
        warmup=200,
        sample_every=700,
        save_every=100,
    ),
    "fashion-gpu": TrainConfig(
        data="fashion-mnist",
        width=64,
        mults=(1, 2, 2),
        blocks=2,
        attention=(7, 14),
        dropout=0.1,
        steps=50_000,
        batch_size=256,
        lr=1e-3,
        warmup=1000,
        ema=0.9995,
        compile=True,
        sample_every=2500,
        save_every=1000,
    ),
    "cifar10-gpu": TrainConfig(
        data="cifar10",
        width=144,
        mults=(1, 2, 2, 2),
        blocks=2,
        attention=(16,),
        dropout=0.1,
        steps=400_000,
        batch_size=128,
        lr=2e-4,
        warmup=5000,
        decay=0.1,
        weight_decay=0.0,
        ema=0.9999,
        compile=True,
        log_every=100,
        sample_every=10_000,
        save_every=2000,
    ),
}
"""The runs that have a name, by data set and device."""
