"""The exact log-likelihood of a flow, by following a point back to the noise it came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fmtutor.checking import check_points
from fmtutor.continuity import divergence_probes, velocity_and_divergence
from fmtutor.notation import KnowsDivergence, VelocityField
from fmtutor.solvers import sample

__all__ = ["log_prob", "standard_normal_log_prob"]


def standard_normal_log_prob(x: Tensor) -> Tensor:
    """Return log N(x; 0, I) in nats, `[b]`, at points `[b ...]`.

    Chapter: likelihood
    """
    flat = x.reshape(len(x), -1)
    return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))


def log_prob(
    v: VelocityField,
    x1: Tensor,
    *,
    method: str = "rk4",
    steps: int = 100,
    divergence: Literal["exact", "hutchinson"] = "exact",
    generator: torch.Generator | None = None,
    differentiable: bool = False,
) -> Tensor:
    r"""Return log p_1(x1) = log N(x_0; 0, I) − ∫_0^1 ∇·v(x_t, t) dt of the flow of a field.

    The trajectory that ends in x1 is followed back to t = 0, and the divergence is integrated along
    it as one more coordinate of the same differential equation.

    Args:
        v: The velocity field; each row of its result may depend only on the same row of x.
        x1: Points `[b ...]`.
        method: A method of `sample`.
        steps: Number of its steps.
        divergence: "exact" (as many backward passes a stage as a point has dimensions; none for a
            field that knows its divergence, as `MLP` does), or
            "hutchinson" (one pass and one random vector a point, kept along its trajectory:
            unbiased for the integral of the divergence, hence for the result).
        generator: Generator of the random vectors.
        differentiable: Whether gradients flow to the parameters of v, and to x1.

    Returns:
        Log-likelihoods `[b]`, in nats.

    Raises:
        TypeError: If `x1` is not a floating-point tensor.
        ValueError: If a shape does not fit, or a method is unknown.

    Reference: chen2018, grathwohl2019
    Chapter: likelihood
    """
    check_points(x1, "x1", finite=True)
    probes = divergence_probes(x1, divergence, generator)
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = partial(
        velocity_and_divergence, v, probes=probes, differentiable=differentiable
    )
    if divergence == "exact" and not differentiable and isinstance(v, KnowsDivergence):
        evaluate = v.with_divergence()

    def augmented(state: Tensor, t: Tensor) -> Tensor:
        u, div = evaluate(state[:, :-1].reshape(x1.shape), t)
        return torch.cat([u.reshape(len(u), -1), div[:, None]], dim=1)

    start = torch.cat([x1.reshape(len(x1), -1), x1.new_zeros(len(x1), 1)], dim=1)
    end = sample(
        augmented, start, method=method, steps=steps, t0=1.0, t1=0.0, differentiable=differentiable
    )
    # The last coordinate was integrated from 1 to 0: it is minus the integral from 0 to 1.
    return standard_normal_log_prob(end[:, :-1]) + end[:, -1]
