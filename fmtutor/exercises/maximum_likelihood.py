"""The exercises of the chapter `maximum_likelihood`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal

__all__ = [
    "grade_best_scale",
    "grade_least_loss",
    "grade_linear_flow",
    "grade_mend",
    "grade_work",
]


def _entropy(s: float) -> float:
    return 0.5 * math.log(2 * math.pi * math.e * s**2)


grade_least_loss = grader("grade_least_loss", Exercise(
    name="least loss",
    task="`least_loss(s)`, the least negative log-likelihood of data N(m, s²) on a line",
    takes="the standard deviation of the data; returns nats",
    reference=_entropy,
    inputs=[(0.2,), (1.0,), (3.0,)],
    mistakes=[
        ("zero is no bound: a density can exceed one", lambda s: 0.0),
        ("the mean of the square, ½, is missing", lambda s: _entropy(s) - 0.5),
        ("s² went in where s belongs, or the other way round", lambda s: _entropy(s**2)),
        ("this is in bits; nats are asked for", lambda s: _entropy(s) / math.log(2)),
    ],
))  # fmt: skip


def _gaussian(x: Tensor, a: Tensor) -> Tensor:
    """Return the log-density under N(0, I) of points carried by exp(a)."""
    x0: Tensor = x @ torch.linalg.matrix_exp(a).T
    return -0.5 * (x0.square().sum(1) + x.shape[1] * math.log(2 * math.pi))


grade_linear_flow = grader("grade_linear_flow", Exercise(
    name="linear flow",
    task="`log_prob(x, A)`, the log-likelihood under the flow of v(x, t) = Ax",
    takes="points `[b d]` and a matrix `[d d]`; returns nats `[b]`",
    reference=lambda x, a: _gaussian(x, -a) - a.trace(),
    inputs=[(normal(51, 16, 3), 0.5 * normal(52, 3, 3))],
    mistakes=[
        ("the divergence enters with the wrong sign: a flow that expands dilutes",
         lambda x, a: _gaussian(x, -a) + a.trace()),
        ("the point was carried forward; its noise is found by going back",
         lambda x, a: _gaussian(x, a) - a.trace()),
        ("the change of volume, the integral of the divergence, is missing",
         lambda x, a: _gaussian(x, -a)),
        ("points are rows: multiply by the transposed matrix",
         lambda x, a: _gaussian(x, -a.T) - a.trace()),
    ],
))  # fmt: skip


def _half_log(data: Tensor) -> Tensor:
    return 0.5 * data.square().mean().log()


grade_best_scale = grader("grade_best_scale", Exercise(
    name="best scale",
    task="`best_scale(data)`, the θ for which v(x, t) = θx is most likely, for centred data",
    takes="data `[n]`; returns θ, 0-d",
    reference=_half_log,
    inputs=[(2.5 * normal(52, 400),), (0.25 * normal(52, 400),)],
    mistakes=[
        ("this is the factor e^θ; θ is its logarithm", lambda data: _half_log(data).exp()),
        ("the factor ½ is missing: e^θ scales lengths, not squares",
         lambda data: 2 * _half_log(data)),
        ("the sign: data wider than the noise needs a flow that expands",
         lambda data: -_half_log(data)),
    ],
))  # fmt: skip

grade_work = grader("grade_work", Exercise(
    name="passes",
    task="`passes(stages, steps, d)`, the passes through the network of one exact log-likelihood",
    takes="the stages of the solver, its steps and the dimension; returns the number of forward "
    "and of vector-Jacobian passes together",
    reference=lambda stages, steps, d: stages * steps * (1 + d),
    inputs=[(4, 8, 2), (2, 10, 784), (1, 1, 1)],
    mistakes=[
        ("the stages of a step are missing", lambda stages, steps, d: steps * (1 + d)),
        ("the forward pass is missing", lambda stages, steps, d: stages * steps * d),
        ("only forward passes are counted", lambda stages, steps, d: stages * steps),
    ],
))  # fmt: skip


TimeField = Callable[[Tensor, float], Tensor]


def _growing(x: Tensor, t: float) -> Tensor:
    return (0.2 + 1.5 * t) * (x - 2 * t)


def _its_divergence(x: Tensor, t: float) -> Tensor:
    return x.new_full((len(x),), (0.2 + 1.5 * t) * x.shape[1])


def _euler(*, sign: float = -1.0, backward: bool = True) -> Callable[..., Tensor]:
    def log_prob(v: TimeField, divergence: TimeField, x1: Tensor, steps: int) -> Tensor:
        x, total = x1, torch.zeros_like(x1[:, 0])
        for k in range(steps):
            t = 1 - k / steps if backward else k / steps
            total = total + divergence(x, t) / steps
            x = x - v(x, t) / steps
        log_p0 = -0.5 * (x.square().sum(1) + x.shape[1] * math.log(2 * math.pi))
        return log_p0 + sign * total

    return log_prob


grade_mend = grader("grade_mend", Exercise(
    name="mended likelihood",
    task="`euler_log_prob(v, divergence, x1, steps)`, the log-likelihood by Euler's method",
    takes="a field and its divergence, functions of points `[b d]` and a float time, points "
    "`[b d]` and the number of steps; returns nats `[b]`",
    reference=_euler(),
    inputs=[(_growing, _its_divergence, normal(53, 8, 2), 300)],
    mistakes=[
        ("both errors are still there", _euler(sign=1.0, backward=False)),
        ("the clock still runs forward: the first step back starts from t = 1",
         _euler(backward=False)),
        ("the integral of the divergence is subtracted: where a flow expands, it dilutes",
         _euler(sign=1.0)),
    ],
    tol=2e-2,
))  # fmt: skip
