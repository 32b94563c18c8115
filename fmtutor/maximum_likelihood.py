"""The slow way: a continuous normalizing flow trained by maximum likelihood, for comparison.

Chapter: maximum_likelihood
"""

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
    """Return −E log p_1(x1), 0-d, in nats a point, with gradients to the network.

    They go back through every stage of the solver and through every divergence. Conditions come one
    by one. Arguments not named here are those of `log_prob`.

    Equation: eq-maximum-likelihood-logp
    Reference: chen2018, grathwohl2019

    Example:
        >>> loss = negative_log_likelihood(MLP(width=8), moons(16, seed=0), steps=2)
        >>> loss.backward()
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

    The rate `lr` stays, and no average of the weights is kept. Each loss takes `solver_steps` of
    a `method` of `sample`, with a `divergence` of `log_prob`. Arguments not named here are those
    of `minimise`.

    Reference: chen2018

    Example:
        >>> data, few = moons(16, seed=0), dict(steps=2, solver_steps=2, progress=False)
        >>> model, losses = fit_maximum_likelihood(MLP(width=8), data, **few)
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
