"""The graders of the chapter `maximum_likelihood`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade

__all__ = ["grade_best_scale", "grade_least_loss", "grade_linear_flow", "grade_work"]


def grade_least_loss(answer: Callable[[float], float]) -> None:
    """Grade `least_loss(s)`, the least negative log-likelihood of data N(m, s²) on a line.

    Args:
        answer: Takes the standard deviation of the data; returns nats.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(s: float) -> float:
        return 0.5 * math.log(2 * math.pi * math.e * s**2)

    grade(
        "least loss",
        answer,
        reference,
        [(1.0,), (0.2,), (3.0,)],
        mistakes=[
            ("zero is no bound: a density can exceed one", lambda s: 0.0),
            ("the mean of the square, ½, is missing", lambda s: reference(s) - 0.5),
            ("s² went in where s belongs, or the other way round", lambda s: reference(s**2)),
            ("this is in bits; nats are asked for", lambda s: reference(s) / math.log(2)),
        ],
    )


def grade_linear_flow(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `log_prob(x, A)`, the log-likelihood under the flow of v(x, t) = Ax.

    Args:
        answer: Takes points `[b d]` and a matrix `[d d]`; returns nats `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def gaussian(x: Tensor) -> Tensor:
        return -0.5 * (x.square().sum(1) + x.shape[1] * math.log(2 * math.pi))

    def reference(x: Tensor, a: Tensor) -> Tensor:
        return gaussian(x @ torch.linalg.matrix_exp(-a).T) - a.trace()

    def wrong_sign(x: Tensor, a: Tensor) -> Tensor:
        return gaussian(x @ torch.linalg.matrix_exp(-a).T) + a.trace()

    def forward(x: Tensor, a: Tensor) -> Tensor:
        return gaussian(x @ torch.linalg.matrix_exp(a).T) - a.trace()

    def no_volume(x: Tensor, a: Tensor) -> Tensor:
        return gaussian(x @ torch.linalg.matrix_exp(-a).T)

    def transposed(x: Tensor, a: Tensor) -> Tensor:
        return gaussian(x @ torch.linalg.matrix_exp(-a)) - a.trace()

    g = torch.Generator().manual_seed(51)
    x = torch.randn(16, 3, generator=g, dtype=torch.float64)
    a = 0.5 * torch.randn(3, 3, generator=g, dtype=torch.float64)
    grade(
        "linear flow",
        answer,
        reference,
        [(x, a)],
        mistakes=[
            ("the divergence enters with the wrong sign: a flow that expands dilutes", wrong_sign),
            ("the point was carried forward; its noise is found by going back", forward),
            ("the change of volume, the integral of the divergence, is missing", no_volume),
            ("points are rows: multiply by the transposed matrix", transposed),
        ],
    )


def grade_best_scale(answer: Callable[[Tensor], Tensor]) -> None:
    """Grade `best_scale(data)`, the θ for which v(x, t) = θx is most likely, for centred data.

    Args:
        answer: Takes data `[n]`; returns θ, 0-d.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(data: Tensor) -> Tensor:
        return 0.5 * data.square().mean().log()

    g = torch.Generator().manual_seed(52)
    data = 2.5 * torch.randn(400, generator=g, dtype=torch.float64)
    grade(
        "best scale",
        answer,
        reference,
        [(data,), (data / 10,)],
        mistakes=[
            ("this is the factor e^θ; θ is its logarithm", lambda x: reference(x).exp()),
            (
                "the factor ½ is missing: e^θ scales lengths, not squares",
                lambda x: 2 * reference(x),
            ),
            (
                "the sign: data wider than the noise needs a flow that expands",
                lambda x: -reference(x),
            ),
        ],
    )


def grade_work(answer: Callable[[int, int, int], int]) -> None:
    """Grade `passes(stages, steps, d)`, the passes through the network of one exact log-likelihood.

    Args:
        answer: Takes the stages of the solver, its steps and the dimension; returns the number of
            forward and of vector-Jacobian passes together.

    Raises:
        GradeError: If the answer is wrong.
    """
    grade(
        "passes",
        answer,
        lambda stages, steps, d: stages * steps * (1 + d),
        [(4, 8, 2), (2, 10, 784), (1, 1, 1)],
        mistakes=[
            ("the stages of a step are missing", lambda stages, steps, d: steps * (1 + d)),
            ("the forward pass is missing", lambda stages, steps, d: stages * steps * d),
            ("only forward passes are counted", lambda stages, steps, d: stages * steps),
        ],
    )
