"""The slow way: a continuous normalizing flow trained by maximum likelihood, for comparison."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import trange

from fmtutor.checking import as_generator, check_points
from fmtutor.likelihood import log_prob
from fmtutor.notation import VelocityField
from fmtutor.training import FitResult

__all__ = ["fit_maximum_likelihood", "negative_log_likelihood"]


def negative_log_likelihood(
    v: VelocityField,
    x1: Tensor,
    *,
    method: str = "midpoint",
    steps: int = 10,
    divergence: Literal["exact", "hutchinson"] = "exact",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return −E log p_1(x1), the loss of maximum likelihood, with gradients to the network.

    Each value solves the augmented equation from t = 1 to t = 0, and its gradient goes back through
    every stage of the solver and through every divergence.

    Args:
        v: The velocity field to be trained.
        x1: Data `[b ...]`.
        method: A method of `sample` with fixed steps.
        steps: Number of its steps.
        divergence: "exact" or "hutchinson".
        generator: Generator of the random vectors of "hutchinson".

    Returns:
        The loss, 0-d, in nats a point.

    Raises:
        TypeError: If `x1` is not a floating-point tensor.
        ValueError: If a shape does not fit, or a method is unknown.

    Reference: chen2018, grathwohl2019
    Chapter: maximum_likelihood
    """
    return -log_prob(
        v,
        x1,
        method=method,
        steps=steps,
        divergence=divergence,
        generator=generator,
        differentiable=True,
    ).mean()


def fit_maximum_likelihood(
    model: nn.Module,
    data: Tensor,
    *,
    steps: int = 300,
    batch_size: int = 512,
    lr: float = 2e-3,
    method: str = "midpoint",
    solver_steps: int = 10,
    divergence: Literal["exact", "hutchinson"] = "exact",
    seed: int | None = 0,
    progress: bool = True,
) -> FitResult:
    """Train a velocity field by maximum likelihood: the loop of `fit` with the other loss.

    Args:
        model: The network `v(x, t)`; it is trained in place.
        data: The data set `[n ...]`, on the device of the model.
        steps: Number of optimizer steps.
        batch_size: Number of data points in a step.
        lr: Learning rate.
        method: A method of `sample` with fixed steps.
        solver_steps: Number of its steps, each time the loss is evaluated.
        divergence: "exact" or "hutchinson".
        seed: Seed of batches and random vectors; None draws from torch's global state.
        progress: Whether to show a progress bar.

    Returns:
        The network and the losses, in nats a point.

    Raises:
        TypeError: If the data is not floating point.
        ValueError: If the data is empty or not finite, or a setting is out of its range.
        FloatingPointError: If a loss is NaN or infinite; the step is named.

    Reference: chen2018
    Chapter: maximum_likelihood
    """
    check_points(data, "data", finite=True)
    if min(steps, batch_size) < 1:
        raise ValueError(
            f"steps and batch_size must be at least 1, but {steps} and {batch_size} came"
        )
    g = as_generator(seed, device=data.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    losses = torch.empty(steps)
    model.train()
    for step in trange(steps, desc="maximum likelihood", disable=not progress):
        x1 = data[torch.randint(len(data), (batch_size,), generator=g, device=data.device)]
        loss = negative_log_likelihood(
            model, x1, method=method, steps=solver_steps, divergence=divergence, generator=g
        )
        losses[step] = loss.item()
        if not losses[step].isfinite():
            raise FloatingPointError(
                f"the loss became {losses[step].item()} at step {step} with learning rate {lr:.3g}"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return FitResult(model.eval(), losses)
