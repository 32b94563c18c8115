"""The training loop: the conditional loss, an optimizer, an average of the weights."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm.auto import trange

from fmtutor.losses import Coupling, cfm_loss
from fmtutor.paths import AffinePath, BridgePath, CondOT
from fmtutor.typing import as_generator, check_points

__all__ = ["FitResult", "fit", "update_ema"]


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
    ema: float = 0.999,
    seed: int | None = 0,
    compile: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train a velocity field on a data set with the conditional flow matching loss.

    Each step draws a batch of data with replacement, noise and times, and takes one step of Adam
    with gradients clipped at norm 1 and a learning rate that falls to zero along a half cosine.

    Args:
        model: The network `v(x, t)`; it is trained in place.
        data: The data set `[n ...]`, floating point, on the device of the model.
        steps: Number of optimizer steps.
        batch_size: Number of data points in a step.
        lr: Learning rate at the start.
        path: The conditional path.
        coupling: Pairs noise with data; None is the independent coupling.
        ema: Decay of the running average of the weights, in [0, 1); 0 turns it off. It starts
            lower, (1 + k)/(10 + k) at step k, so that the first weights are soon forgotten.
        seed: Seed of batches, noise and times; None draws from torch's global state. The initial
            weights are the model's own.
        compile: Whether to compile the loss (torch.compile; needs a C++ compiler on a CPU).
        progress: Whether to show a progress bar.

    Returns:
        The network and the losses.

    Raises:
        TypeError: If the data is not floating point, or of another dtype than the model.
        ValueError: If the data is empty or not finite, or a setting is out of its range.
        FloatingPointError: If a loss is NaN or infinite; step and learning rate are named. On a CPU
            the model keeps the weights it had before that step.

    Reference: lipman2023
    Chapter: training
    """
    _check_settings(model, data, steps, batch_size, lr, ema)
    g = as_generator(seed, device=data.device)
    v = torch.compile(model) if compile else model
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    schedule = CosineAnnealingLR(optimizer, T_max=steps)
    average = copy.deepcopy(model).requires_grad_(False) if ema > 0 else model
    losses = torch.empty(steps, device=data.device)
    # Looking at a loss makes an accelerator wait, so there it is done now and then.
    look_every = 1 if data.device.type == "cpu" else 50
    model.train()
    bar = trange(steps, desc="fit", disable=not progress)
    for step in bar:
        x1 = data[torch.randint(len(data), (batch_size,), generator=g, device=data.device)]
        loss = cfm_loss(v, x1, path=path, coupling=coupling, generator=g)
        losses[step] = loss.detach()
        if step % look_every == 0 or step == steps - 1:
            _refuse_nan(losses[: step + 1], schedule)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if ema > 0:
            update_ema(average, model, min(ema, (1 + step) / (10 + step)))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{losses[max(0, step - 49) : step + 1].mean().item():.3f}")
    return FitResult(average.eval(), losses.cpu())


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
    model: nn.Module, data: Tensor, steps: int, batch_size: int, lr: float, ema: float
) -> None:
    check_points(data, "data", finite=True)
    if min(steps, batch_size) < 1:
        raise ValueError(
            f"steps and batch_size must be at least 1, but {steps} and {batch_size} came"
        )
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr must be positive and finite, but {lr} came")
    if not 0 <= ema < 1:
        raise ValueError(f"ema must lie in [0, 1), but {ema} came")
    weight = next(model.parameters(), None)
    if weight is None:
        raise ValueError("the model has no parameters to train")
    if weight.device != data.device:
        raise ValueError(f"the model is on {weight.device}, but the data is on {data.device}")
    if weight.dtype != data.dtype:
        raise TypeError(f"the model's weights are {weight.dtype}, but the data is {data.dtype}")


def _refuse_nan(losses: Tensor, schedule: CosineAnnealingLR) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        base = schedule.base_lrs[0]
        lr = 0.5 * base * (1 + math.cos(math.pi * step / schedule.T_max))
        raise FloatingPointError(
            f"the loss became {losses[step].item()} at step {step} with learning rate {lr:.3g}; "
            "take a smaller lr, or look for values in the data far larger than the rest"
        )
