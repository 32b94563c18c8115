"""What a step of training sees: which pictures, with which noise, in which precision."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fmtutor.couplings import minibatch_ot, within_labels
from fmtutor.guidance import drop_labels
from fmtutor.images.config import TrainConfig
from fmtutor.images.data import ImageData, to_float
from fmtutor.images.objectives import JUMP_LOSSES, VELOCITY
from fmtutor.images.packed import ask_for
from fmtutor.images.processes import Ranks
from fmtutor.losses import cfm_loss
from fmtutor.training import TimeSampler, logit_normal, shifted

__all__ = [
    "Pictures", "as_points", "autocast", "batch_loss", "in_bfloat16", "on_device", "parts",
    "seed_of", "step_rows", "time_sampler",
]  # fmt: skip

LEVEL = 2 / 255  # what two neighbouring grey levels are apart, once pixels lie in [-1, 1]
COUPLINGS = {"independent": None, "ot": minibatch_ot, "ot-within": within_labels(minibatch_ot)}


class Pictures(NamedTuple):
    """A data set's pictures on the device that computes, or in memory if it has no room for them.

    Attributes:
        pixels: Pictures, uint8, or latents, float32, `[n c h w]`.
        labels: Their labels, int64 `[n]`; None for a network without classes.
        flip: Whether to mirror them at random.
    """

    pixels: Tensor
    labels: Tensor | None
    flip: bool


def on_device(data: ImageData, config: TrainConfig, device: torch.device) -> Pictures:
    """Send the pictures of a data set to a device, once, unless they would crowd it.

    A GPU takes them up to a quarter of what is free. Else they stay where they are, in memory or in
    the mapped files of a packed set, and the rows of each step are sent.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    if data.train.nbytes > free / 4:
        device = torch.device("cpu")
    labels = data.train_labels.to(device) if config.conditional else None
    return Pictures(data.train.to(device), labels, data.flip)


def step_rows(config: TrainConfig, n: int, step: int, device: torch.device | str = "cpu") -> Tensor:
    """Return which pictures a step sees, over all processes: in an epoch each at most once.

    What is left of an epoch's order when it does not fill a batch is left out.

    Args:
        config: Gives the batch size and the seed.
        n: Number of pictures.
        step: Number of the step.
        device: Where the rows are wanted.

    Returns:
        Rows of the data `[batch_size]`.

    Chapter: images
    """
    epoch, k = divmod(step, n // config.batch_size)
    order = _order(n, config.seed, epoch, torch.device(device))
    return order[k * config.batch_size : (k + 1) * config.batch_size]


def parts(
    pictures: Pictures, config: TrainConfig, step: int, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield what this process sees in a step: the pixels and labels of each part of its share.

    What it will see in the next step is read from the disk meanwhile, if it lies there.
    """
    labels = pictures.labels
    if hasattr(pictures.pixels, "mapping"):
        ask_for(pictures.pixels, _share(pictures, config, step + 1, ranks).flatten())
    for part in _share(pictures, config, step, ranks):
        pixels = _send(pictures.pixels[part], ranks.device)
        yield pixels, None if labels is None else _send(labels[part], ranks.device)


def batch_loss(
    net: Any,
    pixels: Tensor,
    labels: Tensor | None,
    config: TrainConfig,
    *,
    null: int = 0,
    flip: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the loss of some pictures, as in the plane: flow matching, or one that learns to jump.

    Args:
        net: The network, or what is called as it is.
        pixels: Pictures, uint8, or latents, float32, `[b c h w]`.
        labels: Their labels, int64 `[b]`; None for a network without classes.
        config: Gives the objective, the share of labels to withhold, the coupling, the times, what
            is done to the pictures.
        null: The null label.
        flip: Whether each picture is mirrored with probability ½.
        generator: Source of all randomness.

    Returns:
        The loss, 0-d.

    Chapter: images
    """
    x1 = as_points(pixels, config, flip=flip, generator=generator)
    if labels is not None:
        labels = drop_labels(labels, config.label_dropout, null=null, generator=generator)
    if config.objective != VELOCITY:
        cond = () if labels is None else (labels,)
        return JUMP_LOSSES[config.objective](net, x1, *cond, generator=generator)
    times = time_sampler(config)
    t = None if times is None else times(x1, generator)
    coupling = COUPLINGS[config.coupling]
    return cfm_loss(net, x1, t=t, labels=labels, coupling=coupling, generator=generator)


def as_points(
    pixels: Tensor, config: TrainConfig, *, flip: bool, generator: torch.Generator | None
) -> Tensor:
    """Return pictures in [−1, 1] `[b c h w]`, mirrored, moved, noisy if asked for; or latents."""
    x = to_float(pixels)
    if flip:
        mirrored = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
        x = torch.where(mirrored, x.flip(-1), x)
    if config.augment:
        rows, columns = (
            _moved(n, len(x), config.augment, generator, x.device) for n in x.shape[-2:]
        )
        each = torch.arange(len(x), device=x.device)[:, None, None]
        # Indices around the colon come first: [b h w c].
        x = x[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
    if config.dequantise:
        noise = torch.rand(x.shape, generator=generator, device=x.device)
        x = x + (noise - 0.5) * LEVEL
    return x


def time_sampler(config: TrainConfig) -> TimeSampler | None:
    """Return what draws the times of a step; None for uniform ones."""
    normal = partial(logit_normal, mean=config.times_mean, std=config.times_std)
    sampler = normal if config.times == "logit-normal" else None
    return sampler if config.shift == 1 else shifted(config.shift, sampler)


@contextmanager
def autocast(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 where that is asked for, or left to a GPU that has it."""
    if not in_bfloat16(config, device):
        yield
        return
    # A CPU's fused attention is slow in bfloat16: a transformer's step takes 1.6 of the time.
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield


def in_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether a run computes in bfloat16: asked for, or left to a GPU that has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return config.precision == "bfloat16" or (config.precision == "auto" and able)


def seed_of(*key: object) -> int:
    """Return a seed that belongs to a key; those of other keys have nothing to do with it."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")


def _share(pictures: Pictures, config: TrainConfig, step: int, ranks: Ranks) -> Tensor:
    """Return which pictures this process sees in a step, `[accumulate b]`."""
    rows = step_rows(config, len(pictures.pixels), step, pictures.pixels.device)
    return rows.reshape(config.accumulate, ranks.world, -1)[:, ranks.rank]


def _moved(
    n: int, count: int, most: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Return which of n places is seen at each, moved at random for each picture: `[count n]`."""
    by = torch.randint(-most, most + 1, (count, 1), generator=generator, device=device)
    return (torch.arange(n, device=device) + by).clamp(0, n - 1)


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return the order of an epoch; a GPU gets it once."""
    g = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    return _send(torch.randperm(n, generator=g), device)


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Send values to a device; to a GPU from memory that nobody waits for.

    So the next rows are read from the disk while the GPU is at work with those before.
    """
    if device.type == "cuda" and not values.is_cuda:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
