"""The training loop: the conditional loss, an optimizer, an average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import trange

from fmtutor.checking import as_generator, check_labels, check_points
from fmtutor.guidance import drop_labels
from fmtutor.losses import Coupling, cfm_loss
from fmtutor.paths import AffinePath, BridgePath, CondOT

__all__ = ["FitResult", "TimeSampler", "ema_decay", "fit", "logit_normal", "update_ema"]

TimeSampler = Callable[[Tensor, torch.Generator | None], Tensor]
"""Draws the times of a step: `(x1, generator) -> t`, `[b]` in [0, 1], in x1's dtype and device."""


class FitResult(NamedTuple):
    """What training leaves behind.

    Attributes:
        model: The network to sample from: the averaged one where `ema` is above 0.
        losses: The loss of every step, `[steps]`, on the CPU.
    """

    model: nn.Module
    losses: Tensor


def fit(
    model: nn.Module,
    data: Tensor,
    *,
    steps: int = 2000,
    batch_size: int = 512,
    lr: float = 2e-3,
    path: AffinePath | BridgePath = CondOT(),
    coupling: Coupling | None = None,
    labels: Tensor | None = None,
    label_dropout: float = 0.1,
    warmup: int = 0,
    time_sampler: TimeSampler | None = None,
    ema: float = 0.999,
    seed: int | None = 0,
    compile: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train a velocity field on a data set with the conditional flow matching loss.

    Each step draws a batch of data with replacement, noise and times, and takes one step of Adam
    with gradients clipped at norm 1 and a learning rate that falls to zero along a half cosine.

    A time density w(t) other than the uniform one is a weight in the loss: the mean over t ~ w is
    ∫ w(t) E‖v(x_t, t) − u_t‖² dt. The field that minimises it stays the same; how much an error at
    each time counts does not, and neither does the value of the loss, nor its floor.

    Args:
        model: The network `v(x, t)`; it is trained in place.
        data: The data set `[n ...]`, floating point, on the device of the model.
        steps: Number of optimizer steps.
        batch_size: Number of data points in a step.
        lr: The largest learning rate, that of the first step if there is no warm-up.
        path: The conditional path.
        coupling: Pairs noise with data; None is the independent coupling.
        labels: Labels `[n]` of the data points, int64, for a model with `classes`, which is called
            as `v(x, t, label)`; its null label is `classes`.
        label_dropout: Probability, in [0, 1), with which each label of a step is replaced by the
            null label; without labels it plays no part.
        warmup: Number of first steps in which the learning rate is lowered, to (k + 1)/(warmup + 1)
            of the half cosine at step k.
        time_sampler: Draws the times of a step, for example `logit_normal`; None is uniform.
        ema: Decay of the running average of the weights, in [0, 1); 0 turns it off. It starts
            lower, (1 + k)/(10 + k) at step k, so that the first weights are soon forgotten.
        seed: Seed of batches, noise and times; None draws from torch's global state. The initial
            weights are the model's own.
        compile: Whether to compile the loss (torch.compile; needs a C++ compiler on a CPU).
        progress: Whether to show a progress bar.

    Returns:
        The network and the losses.

    Raises:
        TypeError: If the data is not floating point, or of another dtype than the model, or the
            labels are not int64.
        ValueError: If the data is empty or not finite, a setting is out of its range, or the labels
            do not fit the data or the model.
        FloatingPointError: If a loss is NaN or infinite; step and learning rate are named. On a CPU
            the model keeps the weights it had before that step.

    Reference: lipman2023
    Chapter: training
    """
    _check_settings(model, data, steps, batch_size, lr, warmup, ema)
    classes = _check_conditioning(model, data, labels, label_dropout)
    g = as_generator(seed, device=data.device)
    loss_of = torch.compile(cfm_loss) if compile else cfm_loss
    weights = list(model.parameters())
    optimizer = torch.optim.Adam(weights, lr=lr, fused=True)
    average = copy.deepcopy(model).requires_grad_(False) if ema > 0 else model
    losses = torch.empty(steps, device=data.device)
    # Looking at a loss makes an accelerator wait, so there it is done now and then.
    look_every = 1 if data.device.type == "cpu" else 50
    model.train()
    bar = trange(steps, desc="fit", disable=not progress)
    for step in bar:
        rows = torch.randint(len(data), (batch_size,), generator=g, device=data.device)
        x1, y = data[rows], None
        if labels is not None:
            y = drop_labels(labels[rows], label_dropout, null=classes, generator=g)
        t = None if time_sampler is None else time_sampler(x1, g)
        loss = loss_of(model, x1, t=t, path=path, coupling=coupling, labels=y, generator=g)
        losses[step] = loss.detach()
        if step % look_every == 0 or step == steps - 1:
            _refuse_nan(losses, max(0, step + 1 - look_every), step + 1, lr, warmup)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = _learning_rate(step, steps, lr, warmup)
        optimizer.step()
        if ema > 0:
            update_ema(average, model, ema_decay(step, ema))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{losses[max(0, step - 49) : step + 1].mean().item():.3f}")
    return FitResult(average.eval(), losses.cpu())


def logit_normal(
    x1: Tensor,
    generator: torch.Generator | None = None,
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    r"""Draw times whose logit is normal: log(t/(1 − t)) ~ N(mean, std²).

    With the defaults most times lie around ½, few near 0 and 1. Training with them weights the
    uniform loss by their density, φ((logit t − mean)/std)/(std t(1 − t)), φ the standard normal
    one; it changes which errors count, not which field is right. Give it to `fit` as it is, or with
    other parameters through `functools.partial`.

    Args:
        x1: Data `[b ...]`; the times take their number, dtype and device from it.
        generator: Source of randomness; None is torch's global state.
        mean: Mean of the logit; above 0 for times nearer to the data.
        std: Standard deviation of the logit, positive.

    Returns:
        Times `[b]` in [0, 1].

    Raises:
        TypeError: If `x1` is not floating point.
        ValueError: If `x1` is empty, or `std` is not positive and finite or `mean` not finite.

    Reference: esser2024
    Chapter: training
    """
    check_points(x1, "x1")
    if not (0 < std < math.inf and math.isfinite(mean)):
        raise ValueError(f"mean must be finite, std positive and finite, but {mean} and {std} came")
    z = torch.randn(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    return (mean + std * z).sigmoid()


def ema_decay(step: int, decay: float) -> float:
    """Return the decay of the average after step k: (1 + k)/(10 + k), at most `decay`.

    It starts low, so that the first weights are soon forgotten.

    Args:
        step: The step k, from 0.
        decay: The decay that it approaches, in [0, 1).

    Returns:
        Weight of the old average, for `update_ema`.

    Chapter: training
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an average of weights towards the current ones: w̄ ← decay w̄ + (1 − decay) w.

    Buffers are copied.

    Args:
        average: The network that holds the average; changed in place.
        model: The network being trained, of the same architecture.
        decay: Weight of the old average, in [0, 1].

    Reference: polyak1992
    Chapter: training
    """
    weights = [p.detach() for p in model.parameters()]
    torch._foreach_lerp_(list(average.parameters()), weights, 1 - decay)
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        old.copy_(new)


def _check_settings(
    model: nn.Module,
    data: Tensor,
    steps: int,
    batch_size: int,
    lr: float,
    warmup: int,
    ema: float,
) -> None:
    check_points(data, "data", finite=True)
    if min(steps, batch_size) < 1:
        raise ValueError(
            f"steps and batch_size must be at least 1, but {steps} and {batch_size} came"
        )
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr must be positive and finite, but {lr} came")
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must lie in [0, steps) = [0, {steps}), but {warmup} came")
    if not 0 <= ema < 1:
        raise ValueError(f"ema must lie in [0, 1), but {ema} came")
    weight = next(model.parameters(), None)
    if weight is None:
        raise ValueError("the model has no parameters to train")
    if weight.device != data.device:
        raise ValueError(f"the model is on {weight.device}, but the data is on {data.device}")
    if weight.dtype != data.dtype:
        raise TypeError(f"the model's weights are {weight.dtype}, but the data is {data.dtype}")


def _check_conditioning(
    model: nn.Module, data: Tensor, labels: Tensor | None, label_dropout: float
) -> int:
    """Return the model's number of classes, which is its null label; 0 without labels."""
    if labels is None:
        return 0
    classes = getattr(model, "classes", 0)
    if not isinstance(classes, int) or classes < 1:
        raise ValueError("labels came, but the model has no classes: give MLP(classes=...)")
    check_labels(labels, len(data), classes)
    if labels.device != data.device:
        raise ValueError(f"the labels are on {labels.device}, but the data is on {data.device}")
    if not 0 <= label_dropout < 1:
        raise ValueError(f"label_dropout must lie in [0, 1), but {label_dropout} came")
    return classes


def _learning_rate(step: int, steps: int, lr: float, warmup: int) -> float:
    """Return the rate of a step: a half cosine from lr to 0, times a linear rise at first."""
    rise = min(1, (step + 1) / (warmup + 1))
    return lr * rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _refuse_nan(losses: Tensor, start: int, stop: int, lr: float, warmup: int) -> None:
    """Look at the losses of steps start, ..., stop − 1."""
    if not bool(losses[start:stop].isfinite().all()):
        k = start + int((~losses[start:stop].isfinite()).nonzero()[0])
        rate = _learning_rate(k, len(losses), lr, warmup)
        raise FloatingPointError(
            f"the loss became {losses[k].item()} at step {k} with learning rate {rate:.3g}; "
            "take a smaller lr, or look for values in the data far larger than the rest"
        )
