"""What describes a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fmtutor.images.evaluation import EvaluationConfig, steps_for
from fmtutor.images.objectives import JUMP_LOSSES, VELOCITY
from fmtutor.networks.registry import architecture

__all__ = [
    "EvaluationConfig",
    "TrainConfig",
    "acts",
    "learning_rate",
    "read_config",
    "steps_for",
]

POSITIVE = "size steps batch_size accumulate lr times_std shift log_every sample_every save_every"
ACTS = {
    "size": ("data", "folder"), "channels": ("data", "folder"), "flip": ("autoencoder", ""),
    "augment": ("autoencoder", ""), "dequantise": ("autoencoder", ""),
    "label_dropout": ("conditional", True), "times_mean": ("times", "logit-normal"),
    "times_std": ("times", "logit-normal"), "times": ("objective", VELOCITY),
    "shift": ("objective", VELOCITY), "coupling": ("objective", VELOCITY),
    "parallel": ("objective", VELOCITY), "compile": ("objective", VELOCITY),
    "activation_checkpointing": ("objective", VELOCITY),
}  # fmt: skip
"""Settings that act only where another one has this value.

The losses that learn to jump draw their own times and noise. Forward derivatives pass neither
through a compiled network nor through one that is computed again or held in parts.
"""

DIGITS = {"width": 24, "mults": (1, 2), "attention": (4,)}


@dataclass(frozen=True)
class TrainConfig:
    """What describes a training run in full, but for the data itself.

    Attributes:
        data: The data set: digits, fashion-mnist, cifar10, folder, or packed (by fmtutor pack).
        size: Side to which the middle square of a folder's pictures is scaled; other data sets
            have their own.
        channels: Channels of a folder's pictures: 1 grey, 3 colours, 0 for grey if all are grey.
        flip: Whether to mirror pictures at random; those of cifar10 always are, and packed ones if
            they were packed with it.
        augment: Pixels by which pictures are moved at random, at most, along either side; the
            border is repeated.
        dequantise: Whether to add noise of one grey level to the pixels, uniform.
        autoencoder: File of the autoencoder in whose latents the run lives, which are never
            mirrored; fashion-mnist is the one that comes with the package. Without one it lives in
            pixels.
        conditional: Whether the network is told the class.
        objective: What is learned: velocity, by flow matching; or jumps from any time to any later
            one, by lagrangian (Lagrangian self-distillation), meanflow (with share and weights as
            published) or semigroup (as shortcut models do), for a U-Net.
        network: The network: unet or transformer.
        architecture: Its settings, but for what the data decides; what is not said is its default.
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
        coupling: How noise goes with pictures: independent; ot, over a batch, for a run without
            classes; or ot-within, over the pictures of each class in a batch. Across classes the
            noise of a class would have another law than N(0, I), from which it is sampled.
        times: How the times are drawn: uniform or logit-normal.
        times_mean: Mean of a logit-normal time's logit, above 0 nearer to the pictures.
        times_std: Its standard deviation.
        shift: By how much the times are shifted, as to pictures of so many times the side: above 1
            nearer to the noise.
        seed: Seed of weights, order, noise and times.
        precision: float32, bfloat16 (autocast), or auto: bfloat16 on a GPU that has it. On a CPU
            with instructions for it (AVX512-BF16, AMX) bfloat16 pays, too: a step of fashion-cpu
            takes .6 of the time. Others emulate it, and take twice (AVX-512) to ten times (AVX2)
            the time of float32, so auto leaves CPUs at float32.
        compile: Whether to compile the network.
        parallel: How several processes share the work: ddp, with the whole network in each; or
            fsdp, with a part of it in each, for one that is larger than a device.
        activation_checkpointing: Whether the blocks are computed again for their gradients, a third
            more work, instead of keeping what they have computed.
        log_every: Steps between two lines of the log.
        sample_every: Steps between two grids of samples.
        save_every: Steps between two checkpoints.

    Raises:
        ValueError: If a setting is out of its range, or is said where it would not act.

    Chapter: images
    """

    data: str = "digits"
    size: int = 32
    channels: int = 0
    flip: bool = False
    augment: int = 0
    dequantise: bool = False
    autoencoder: str = ""
    conditional: bool = True
    objective: str = VELOCITY
    network: str = "unet"
    architecture: Mapping[str, Any] = field(default_factory=DIGITS.copy)
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
    times: str = "uniform"
    times_mean: float = 0.0
    times_std: float = 1.0
    shift: float = 1.0
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    parallel: str = "ddp"
    activation_checkpointing: bool = False
    log_every: int = 50
    sample_every: int = 200
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in POSITIVE.split():
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, but {getattr(self, name)} came")
        if self.channels not in (0, 1, 3):
            raise ValueError(f"channels must be 0, 1 or 3, but {self.channels} came")
        for name in ("ema", "label_dropout"):
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
        if self.objective not in (VELOCITY, *JUMP_LOSSES):
            raise ValueError(
                f"objective must be {VELOCITY} or one of {', '.join(JUMP_LOSSES)}, "
                f"but {self.objective!r} came"
            )
        if self.objective != VELOCITY and self.network != "unet":
            raise ValueError(
                f"objective {self.objective} needs network unet, but {self.network} came: "
                "torch has no right gradient of LayerNorm's forward derivative"
            )
        if self.coupling not in ("independent", "ot", "ot-within"):
            raise ValueError(
                f"coupling must be independent, ot or ot-within, but {self.coupling!r} came"
            )
        if self.coupling == "ot" and self.conditional:
            raise ValueError("coupling ot pairs across classes: take ot-within, or a run without")
        if self.coupling == "ot-within" and not self.conditional:
            raise ValueError("coupling ot-within needs classes: without them take ot")
        if self.times not in ("uniform", "logit-normal"):
            raise ValueError(f"times must be uniform or logit-normal, but {self.times!r} came")
        if self.augment < 0 or not math.isfinite(self.times_mean):
            raise ValueError(
                "augment must be at least 0 and times_mean finite, "
                f"but {self.augment} and {self.times_mean} came"
            )
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(
                f"precision must be auto, float32 or bfloat16, but {self.precision!r} came"
            )
        if self.parallel not in ("ddp", "fsdp"):
            raise ValueError(f"parallel must be ddp or fsdp, but {self.parallel!r} came")
        for name, (other, needed) in ACTS.items():
            value, met = getattr(self, name), getattr(self, other)
            if met != needed and value not in (0, getattr(TrainConfig, name)):
                raise ValueError(
                    f"{name} = {value} would not act: that needs {other} = {needed!r}, "
                    f"but {met!r} came"
                )
        object.__setattr__(self, "architecture", architecture(self.network, self.architecture))


def read_config(stored: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that a run has written, as they are in its metadata.

    Runs of the first edition have those of the U-Net among the others, and pictures in colours.
    What was said where it did not act is left out.

    Chapter: images
    """
    given = dict(stored)
    if "architecture" not in given:
        known = architecture("unet", {})
        given["architecture"] = {name: given[name] for name in known if name in given}
        given["channels"] = 3 if given.get("data") == "folder" else 0
    defaults = {field.name: field.default for field in fields(TrainConfig)}
    known = {name: value for name, value in given.items() if name in defaults}
    return TrainConfig(**{k: v for k, v in known.items() if acts(k, defaults | known)})


def acts(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a setting can act among the others, all of a `TrainConfig` by their names.

    Chapter: images
    """
    other, needed = ACTS.get(name, (name, settings[name]))
    return bool(settings[other] == needed)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: up linearly, level, and down linearly at the end.

    Chapter: images
    """
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.lr * min(1.0, rise, fall)
