"""The slow way: a continuous normalizing flow trained by maximum likelihood, for comparison."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from fmtutor.likelihood import log_prob
from fmtutor.notation import Field
from fmtutor.training import FitResult, constant, minimise

__all__ = ["fit_maximum_likelihood", "negative_log_likelihood"]


def negative_log_likelihood(
    v: Field,
    x1: Tensor,
    *cond: Tensor,
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
        cond: Conditions of the data, each `[b ...]`.
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
        cond=cond,
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
    """Train a velocity field by maximum likelihood: `minimise` with the other loss.

    The learning rate stays, and no average of the weights is kept.

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
    loss = partial(
        negative_log_likelihood, method=method, steps=solver_steps, divergence=divergence
    )
    return minimise(
        model,
        data,
        loss,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        schedule=constant,
        ema=0.0,
        seed=seed,
        progress=progress,
    )
