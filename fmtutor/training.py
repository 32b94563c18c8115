"""The training loop: a loss, an optimizer, an average of the weights.

Chapter: training
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm.auto import trange

from fmtutor.checking import (
    as_generator,
    check_callable,
    check_cond,
    check_count,
    check_labels,
    check_model,
    check_points,
    check_positive,
    readable,
)
from fmtutor.guidance import drop_labels
from fmtutor.losses import Coupling, Noise, cfm_loss, gaussian
from fmtutor.notation import Path
from fmtutor.paths import CondOT
from fmtutor.solvers import shift

__all__ = [
    "FitResult",
    "Loss",
    "TimeSampler",
    "beta",
    "constant",
    "descend",
    "ema_decay",
    "fit",
    "half_cosine",
    "logit_normal",
    "minimise",
    "shifted",
    "update_ema",
]

Loss = Callable[..., Tensor]
"""What training minimises: `loss(model, x1, *cond, generator=g)`, 0-d."""

TimeSampler = Callable[[Tensor, torch.Generator | None], Tensor]
"""Draws the times of a step: `(x1, generator) -> t`, `[b]` in [0, 1], in x1's dtype and device."""


class FitResult(NamedTuple):
    """What training leaves behind: a `model` (the average if there is one), `losses` `[steps]`.

    Example:
        >>> model, losses = fit(MLP(), moons(64, seed=0), steps=3, progress=False)
    """

    model: nn.Module
    losses: Tensor


def minimise(
    model: nn.Module,
    data: Tensor | Iterable[Tensor | Sequence[Tensor]],
    loss: Loss,
    *,
    cond: Tensor | Sequence[Tensor] = (),
    steps: int = 2000,
    batch_size: int = 512,
    lr: float = 2e-3,
    warmup: int = 0,
    schedule: Callable[[float], float] | None = None,
    ema: float = 0.999,
    seed: int | None = 0,
    progress: bool = True,
) -> FitResult:
    """Train a network on a data set: the loop of the book, for every loss.

    Each step draws a batch with replacement and takes one step of Adam with gradients clipped at
    norm 1. The network that comes back is as trainable as the model.

    Args:
        model: The network; it is trained in place.
        data: The data set `[n ...]`, on the device of the model, or an iterable of batches, such
            as a DataLoader: tensors `[b ...]`, or tuples of one and its conditions. It is gone
            through again and again.
        loss: What is minimised, `loss(model, x1, *cond, generator=g)`.
        cond: Conditions `[n ...]` of the data points.
        steps: Number of optimizer steps.
        batch_size: Number of data points in a step.
        lr: The largest learning rate.
        warmup: Number of first steps in which the learning rate is lowered, to (k + 1)/(warmup + 1)
            of the schedule at step k.
        schedule: Factor of the learning rate, a function of the share of the steps that is done;
            None is `half_cosine`.
        ema: Decay of the running average of the weights, in [0, 1), see `ema_decay`; 0 for none.
        seed: Seed of batches and loss; the initial weights are the model's own.
        progress: Whether to show a progress bar.

    Raises:
        FloatingPointError: If a loss is NaN or infinite; step and learning rate are named. On a CPU
            the model keeps the weights it had before that step.

    Example:
        >>> def loss(model, x1, generator=None):
        ...     return cfm_loss(model, x1, coupling=minibatch_ot, generator=generator)
        >>> minimise(MLP(), moons(64, seed=0), loss, steps=3, progress=False).losses.shape
        torch.Size([3])
    """
    steps, batch_size = _check_settings(steps, batch_size, lr, warmup, ema)
    check_callable("loss", loss, "a function loss(model, x1, *cond, generator=g)")
    weights = _check_model(model)
    device = weights[0].device
    if isinstance(data, Tensor):
        _check_data(model, data)
        cond = check_cond(cond, len(data))
    g = as_generator(seed, device=device)
    batches = _batches(data, cond, batch_size, g) if isinstance(data, Tensor) else _cycle(data)
    rate = partial(_learning_rate, steps=steps, lr=lr, warmup=warmup, schedule=schedule)
    # The fused step exists for these devices.
    optimizer = torch.optim.Adam(weights, lr=lr, fused=device.type in ("cpu", "cuda"))
    average = _average_of(model) if ema > 0 else None
    losses = torch.empty(steps, device=device)
    # Looking at a loss makes an accelerator wait, so there it is done now and then.
    look_every = 1 if device.type == "cpu" else 50
    model.train()
    bar = trange(steps, desc="fit", disable=not progress)
    for step in bar:
        x1, *now = next(batches)
        value = loss(model, x1, *now, generator=g)
        losses[step] = value.detach()
        if step % look_every == 0 or step == steps - 1:
            _refuse_nan(losses, max(0, step + 1 - look_every), step + 1, rate)
        descend(value, weights, optimizer, rate(step))
        if average is not None:
            update_ema(average, model, ema_decay(step, ema))
        if progress and step % 50 == 0:
            bar.set_postfix(loss=f"{losses[max(0, step - 49) : step + 1].mean().item():.3f}")
    return FitResult((model if average is None else _like(average, model)).eval(), losses.cpu())


def fit(
    model: nn.Module,
    data: Tensor | Iterable[Tensor | Sequence[Tensor]],
    *,
    steps: int = 2000,
    batch_size: int = 512,
    lr: float = 2e-3,
    path: Path = CondOT(),
    coupling: Coupling | None = None,
    noise: Noise = gaussian,
    cond: Tensor | Sequence[Tensor] = (),
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

    With a time density w(t) the loss is ∫ w(t) E‖v(x_t, t) − u_t‖² dt: what an error at each time
    counts changes, and the floor, but not the field that minimises it. Arguments not named here are
    those of `minimise`.

    Args:
        path: The conditional path.
        coupling: Pairs noise with data; None is the independent coupling.
        noise: Draws the source.
        labels: Labels `[n]`, int64, of the data points, for a model with `classes`: the first
            condition. The model's null label is `classes`.
        label_dropout: Probability, in [0, 1), with which a label is replaced by the null label.
        time_sampler: Draws the times of a step, for example `shifted(3.0)`; None is uniform.
        compile: Whether to compile the loss (torch.compile; needs a C++ compiler on a CPU).

    Equation: eq-objectives-losses
    Reference: lipman2023

    Example:
        >>> model, losses = fit(MLP(), moons(500, seed=0), steps=20, progress=False)
        >>> bool(losses[-5:].mean() < losses[:5].mean())
        True
    """
    if isinstance(data, Tensor):
        check_points(data, "data", floating=noise is gaussian)
    classes = _check_conditioning(model, data, labels, label_dropout)
    loss_of = torch.compile(cfm_loss) if compile else cfm_loss

    def loss(
        v: nn.Module, x1: Tensor, *cond: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        if labels is not None:
            y = drop_labels(cond[0], label_dropout, null=classes, generator=generator)
            cond = (y, *cond[1:])
        t = None if time_sampler is None else time_sampler(x1, generator)
        return loss_of(
            v, x1, cond=cond, t=t, path=path, coupling=coupling, noise=noise, generator=generator
        )

    given = (cond,) if isinstance(cond, Tensor) else tuple(cond)
    return minimise(
        model,
        data,
        loss,
        cond=given if labels is None else (labels, *given),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        warmup=warmup,
        ema=ema,
        seed=seed,
        progress=progress,
    )


def descend(
    loss: Tensor,
    weights: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    lr: float,
    clip: float = 1.0,
) -> None:
    """Take one step of an `optimizer` at rate `lr`, down the gradient of a `loss`.

    The gradient to the `weights` is cut to the norm `clip` where it is longer.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor(1.0))
        >>> descend(w.square(), [w], torch.optim.SGD([w]), lr=0.25)
        >>> w.data  # the gradient 2 was cut to 1
        tensor(0.7500)
    """
    _forget_gradients(weights)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = get_total_norm([w.grad for w in weights if w.grad is not None])
    # Where looking costs nothing, nothing is multiplied by one.
    if not readable(norm) or norm > clip:
        clip_grads_with_norm_(weights, clip, norm)
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    _forget_gradients(weights)  # the next forward pass finds their memory still in the cache


def _forget_gradients(weights: list[nn.Parameter]) -> None:
    for weight in weights:  # as optimizer.zero_grad() does, which takes ten times as long
        weight.grad = None


def half_cosine(done: float) -> float:
    """Return the factor of the learning rate, from 1 to 0 as the share `done` goes from 0 to 1.

    Example:
        >>> half_cosine(0.0), round(half_cosine(0.5), 3), half_cosine(1.0)
        (1.0, 0.5, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * done))


def constant(done: float) -> float:
    """Return 1, whatever share is `done`: a learning rate that stays.

    Example:
        >>> constant(0.5)
        1.0
    """
    return 1.0


def logit_normal(
    x1: Tensor,
    generator: torch.Generator | None = None,
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    """Draw times `[b]` of data `x1` whose logit is normal: log(t/(1 − t)) ~ N(mean, std²).

    With the defaults most times lie around ½. Training weights the uniform loss by their density,
    φ((logit t − mean)/std)/(std t(1 − t)); which field is right does not change. Another `mean`
    (above 0 nearer to the data) or `std` is given by `functools.partial`.

    Reference: esser2024

    Example:
        >>> t = logit_normal(torch.zeros(1000, 2), torch.Generator().manual_seed(0))
        >>> f"{t.median():.1f}"
        '0.5'
    """
    check_points(x1, "x1")
    if not (0 < std < math.inf and math.isfinite(mean)):
        raise ValueError(f"mean must be finite, std positive and finite, but {mean} and {std} came")
    z = torch.randn(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
    return (mean + std * z).sigmoid()


def beta(a: float, b: float) -> TimeSampler:
    """Return a sampler of times with density proportional to t^(a−1) (1 − t)^(b−1), mean a/(a + b).

    A time is g/(g + h) with independent g and h of the Gamma laws of shapes a and b. (The quotient
    of powers of uniform numbers, u^(1/a)/(u^(1/a) + v^(1/b)), is Beta only among the draws whose
    denominator is at most 1.)

    Example:
        >>> t = beta(1.5, 1.0)(torch.zeros(10_000, 2), torch.Generator().manual_seed(0))
        >>> f"{t.mean():.2f}"
        '0.60'
    """
    if not (0 < a < math.inf and 0 < b < math.inf):
        raise ValueError(f"a and b must be positive and finite, but {a} and {b} came")

    def sampler(x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        check_points(x1, "x1")
        # In full precision: a half may round both numbers to zero.
        shape = torch.tensor([[a], [b]], dtype=torch.float32, device=x1.device).expand(2, len(x1))
        g, h = torch._standard_gamma(shape, generator=generator)
        t: Tensor = g / (g + h)
        return t.to(x1.dtype)

    return sampler


def shifted(ratio: float, sampler: TimeSampler | None = None) -> TimeSampler:
    """Return a sampler of times that are shifted for pictures of another resolution.

    The ratio is that of `shift`: how many times as many pixels along each side there are as where
    the unshifted times are right. `sampler` draws those; None is uniform.

    Reference: esser2024

    Example:
        >>> t = shifted(3.0)(torch.zeros(10_000, 2), torch.Generator().manual_seed(0))
        >>> f"{t.median():.2f}"
        '0.25'
    """
    shift(torch.zeros(1), ratio)  # refuse a bad ratio here, not in the first step

    def shifted_sampler(x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if sampler is not None:
            return shift(sampler(x1, generator), ratio)
        check_points(x1, "x1")
        u = torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device)
        return shift(u, ratio)

    return shifted_sampler


def ema_decay(step: int, decay: float) -> float:
    """Return the decay of the average after `step` k: (1 + k)/(10 + k), at most `decay`.

    It starts low, so that the first weights are soon forgotten.

    Example:
        >>> ema_decay(0, 0.999), ema_decay(100_000, 0.999)
        (0.1, 0.999)
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an `average` of weights towards those of a `model`: w̄ ← decay w̄ + (1 − decay) w.

    The average is held in float32 or float64 and changed in place; buffers are copied.

    Reference: polyak1992

    Example:
        >>> average, model = torch.nn.Linear(1, 1).requires_grad_(False), torch.nn.Linear(1, 1)
        >>> update_ema(average, model, decay=0.0)
        >>> average.weight.equal(model.weight)
        True
    """
    old, new = ([p.detach() for p in module.parameters()] for module in (average, model))
    if any(w.element_size() < 4 for w in old):
        raise TypeError(
            f"an average must be held in float32 or float64, but its weights are {old[0].dtype}: "
            "convert it, average.float()"
        )
    if any(a.dtype != w.dtype for a, w in zip(old, new, strict=True)):
        new = [w.to(a.dtype) for a, w in zip(old, new, strict=True)]
    torch._foreach_lerp_(old, new, 1 - decay)
    for buffer, current in zip(average.buffers(), model.buffers(), strict=True):
        buffer.copy_(current)


def _average_of(model: nn.Module) -> nn.Module:
    """Return a copy of a model to hold the average of its weights, in full precision."""
    average = copy.deepcopy(model).requires_grad_(False)
    half = any(p.element_size() < 4 for p in model.parameters())
    return average.float() if half else average


def _like(average: nn.Module, model: nn.Module) -> nn.Module:
    """Give the average the dtypes of the model, and let it be trained where the model can be."""
    for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
        mean.data = mean.data.to(weight.dtype)
        mean.requires_grad_(weight.requires_grad)
    for held, buffer in zip(average.buffers(), model.buffers(), strict=True):
        held.data = buffer.detach().clone()
    return average


def _batches(
    data: Tensor, cond: Iterable[Tensor], batch_size: int, g: torch.Generator | None
) -> Iterator[tuple[Tensor, ...]]:
    """Draw batches of data and its conditions, with replacement, without end."""
    while True:
        rows = torch.randint(len(data), (batch_size,), generator=g, device=data.device)
        yield (data[rows], *(c[rows] for c in cond))


def _cycle(batches: Iterable[Tensor | Sequence[Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    """Go through batches again and again."""
    while True:
        any_came = False
        for batch in batches:
            x1, *cond = (batch,) if isinstance(batch, Tensor) else batch
            check_points(x1, "a batch of data", floating=False)
            any_came = True
            yield (x1, *check_cond(cond, len(x1)))
        if not any_came:
            raise ValueError(
                "data must be a tensor, or an iterable of batches that can be gone through again "
                "and again, but no batch came of it"
            )


def _check_settings(
    steps: int, batch_size: int, lr: float, warmup: int, ema: float
) -> tuple[int, int]:
    steps, batch_size = check_count("steps", steps), check_count("batch_size", batch_size)
    check_positive("lr", lr)
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must lie in [0, steps) = [0, {steps}), but {warmup} came")
    if not 0 <= ema < 1:
        raise ValueError(f"ema must lie in [0, 1), but {ema} came")
    return steps, batch_size


def _check_model(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a model, of which at least one can be trained."""
    weights = list(model.parameters())
    if not weights:
        raise ValueError("the model has no parameters to train")
    if not any(w.requires_grad for w in weights):
        raise ValueError("all weights of the model are frozen: call model.requires_grad_()")
    return weights


def _check_data(model: nn.Module, data: Tensor) -> None:
    check_points(data, "data", finite=data.is_floating_point(), floating=False)
    check_model(model, data, "data")
    weight = next(model.parameters())
    if weight.device != data.device:
        raise ValueError(f"the model is on {weight.device}, but the data is on {data.device}")


def _check_conditioning(
    model: nn.Module, data: object, labels: Tensor | None, label_dropout: float
) -> int:
    """Return the model's number of classes, which is its null label; 0 without labels."""
    classes = getattr(model, "classes", 0)
    if not isinstance(classes, int) or classes < 1:
        if labels is not None:
            raise ValueError("labels came, but the model has no classes: give MLP(classes=...)")
        return 0
    if labels is None:
        raise ValueError(f"the model has {classes} classes, but no labels came")
    if not isinstance(data, Tensor):
        raise ValueError("labels come with a data set; the batches of an iterable carry their own")
    check_labels(labels, len(data), classes)
    if labels.device != data.device:
        raise ValueError(f"the labels are on {labels.device}, but the data is on {data.device}")
    if not 0 <= label_dropout < 1:
        raise ValueError(f"label_dropout must lie in [0, 1), but {label_dropout} came")
    return classes


def _learning_rate(
    step: int,
    *,
    steps: int,
    lr: float,
    warmup: int,
    schedule: Callable[[float], float] | None,
) -> float:
    """Return the rate of a step: the schedule, times a linear rise at first."""
    rise = min(1, (step + 1) / (warmup + 1))
    return lr * rise * (schedule or half_cosine)(step / steps)


def _refuse_nan(losses: Tensor, start: int, stop: int, rate: Callable[[int], float]) -> None:
    """Look at the losses of steps start, ..., stop − 1."""
    if not math.isfinite(losses[start:stop].sum().item()):  # faster than a look at each
        k = start + int((~losses[start:stop].isfinite()).nonzero()[0])
        raise FloatingPointError(
            f"the loss became {losses[k].item()} at step {k} with learning rate {rate(k):.3g}; "
            "take a smaller lr, or look for values in the data far larger than the rest"
        )
