"""The exercises of the chapter `marginal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform

__all__ = [
    "grade_coupled",
    "grade_field",
    "grade_posterior",
    "grade_prior",
    "grade_two_points",
]

# Weights `[b n]` of points `[b d]`, times `[b]` and data `[n d]`; the prior `[n]` may follow.
Weights = Callable[..., Tensor]
Field = Callable[..., Tensor]


def _points(seed: int, b: int, n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points `[b d]`, times `[b]` away from the ends of [0, 1], and data `[n d]`."""
    t = uniform(seed + 100, b, low=0.1, high=0.7)
    return normal(seed, b, d), t, 0.4 + 1.2 * normal(seed + 200, n, d)


def _late(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points of which some are so late that every exponential of a logit is 0."""
    x, t, data = _points(seed, 4, 5, 2)
    return x, torch.tensor([0.3, 0.999, 0.6, 0.999], dtype=t.dtype), data


def _logits(x: Tensor, t: Tensor, data: Tensor, alpha: bool = True) -> Tensor:
    t = t[:, None]
    ends = t[:, None] * data if alpha else data[None]
    return -(x[:, None] - ends).square().sum(2) / (2 * (1 - t).square())


def _right(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return _logits(x, t, data).softmax(1)


def _scaled(factor: Callable[[Tensor], Any]) -> Weights:
    """Return weights whose logits are off by a factor that depends on the time `[b 1]`."""
    return lambda x, t, data: (factor(t[:, None]) * _logits(x, t, data)).softmax(1)


def _distances(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    width = 2 * (1 - t[:, None]).square()
    return (-(-_logits(x, t, data) * width).sqrt() / width).softmax(1)


def _densities(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    scale = (2 * torch.pi * (1 - t[:, None]).square()) ** (-x.shape[1] / 2)
    return scale * _logits(x, t, data).exp()


def _quotient(weights: Tensor) -> Tensor:
    return weights / weights.sum(1, keepdim=True)


def _uniform(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return x.new_full((len(x), len(data)), 1 / len(data))


def _nearest(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return torch.eye(len(data), dtype=x.dtype)[_logits(x, t, data).argmax(1)]


_UNDERFLOW = (
    "near t = 1 every exponential is 0 and their quotient 0/0: subtract the largest logit first, "
    "or let softmax do it"
)

# What can go wrong with the weights, whether they are asked for themselves or inside the field.
_WEIGHT_MISTAKES: list[tuple[str, Weights]] = [
    (_UNDERFLOW, lambda x, t, data: _quotient(_logits(x, t, data).exp())),
    ("divide by the variance, 2(1 − t)², not by 2(1 − t), the standard deviation",
     _scaled(lambda t: 1 - t)),
    ("the factor ½ of the Gaussian exponent is missing", _scaled(lambda t: 2)),
    ("at time t the mean is t x1, not x1: α is missing",
     lambda x, t, data: _logits(x, t, data, alpha=False).softmax(1)),
    ("the width of the path is missing: divide by (1 − t)²", _scaled(lambda t: (1 - t).square())),
    ("the exponent holds the squared distance, this uses the distance", _distances),
    ("the far points get the large weights here: the exponent is negative", _scaled(lambda t: -1)),
    ("normalise over the data points (axis 1), not over the batch",
     lambda x, t, data: _logits(x, t, data).softmax(0)),
    ("time runs backward: these are the weights at 1 − t; noise is at t = 0",
     lambda x, t, data: _right(x, 1 - t, data)),
    ("the weights do not sum to one: divide by their sum",
     lambda x, t, data: _logits(x, t, data).exp()),
    ("these are densities, not yet weights: divide by their sum over the data", _densities),
    ("these weights do not depend on x: a data point far from x counts as much as one near",
     _uniform),
    ("this keeps the likeliest data point only; the others count, too, with their weights",
     _nearest),
]  # fmt: skip

grade_posterior = grader("grade_posterior", Exercise(
    name="posterior",
    task="`posterior(x, t, data)`, the weight of each data point on the straight path",
    takes="points `[b d]`, times `[b]` and data `[n d]`; returns weights `[b n]`",
    reference=_right,
    inputs=[_points(11, 6, 5, 2), _points(12, 4, 4, 4), _points(13, 3, 1, 2), _late(14)],
    mistakes=[
        *_WEIGHT_MISTAKES,
        ("these are the logits; a softmax over the data makes them weights", _logits),
        ("these are log-weights; take their exponential",
         lambda x, t, data: _logits(x, t, data).log_softmax(1)),
    ],
))  # fmt: skip


def _field(weights: Weights) -> Field:
    def field(x: Tensor, t: Tensor, data: Tensor, *prior: Tensor) -> Tensor:
        u = (data - x[:, None]) / (1 - t[:, None, None])  # [b n d]
        return torch.einsum("bn,bnd->bd", weights(x, t, data, *prior), u)

    return field


def _through_mean(weights: Weights) -> Field:
    """Make a field that is the same where the weights sum to one."""

    def field(x: Tensor, t: Tensor, data: Tensor, *prior: Tensor) -> Tensor:
        return (weights(x, t, data, *prior) @ data - x) / (1 - t[:, None])

    return field


def _both(mistakes: list[tuple[str, Weights]]) -> list[tuple[str, Field]]:
    return [(text, make(w)) for make in (_field, _through_mean) for text, w in mistakes]


grade_field = grader("grade_field", Exercise(
    name="field",
    task="`field(x, t, data)`, the marginal velocity of a data set on the straight path",
    takes="points `[b d]`, times `[b]` and data `[n d]`; returns velocities `[b d]`",
    reference=_field(_right),
    inputs=[_points(21, 6, 5, 2), _points(22, 4, 4, 4), _points(23, 3, 1, 2), _late(24)],
    mistakes=[
        ("the posterior weights are missing: this is the plain average of all conditional "
         "velocities, whether or not their paths come by here", _field(_uniform)),
        ("this is the sum of the conditional velocities, without weights",
         lambda x, t, data: len(data) * _field(_uniform)(x, t, data)),
        *_both([("log-weights are used in place of weights",
                 lambda x, t, data: _logits(x, t, data).log_softmax(1))]),
        ("this is the posterior mean; the velocity is (mean − x)/(1 − t)",
         lambda x, t, data: _right(x, t, data) @ data),
        ("this is the displacement to the posterior mean; divide by the time left, 1 − t",
         lambda x, t, data: _right(x, t, data) @ data - x),
        ("divided by n as well: the posterior weights already sum to one",
         lambda x, t, data: _field(_right)(x, t, data) / len(data)),
        *_both([pair for pair in _WEIGHT_MISTAKES if pair[1] is not _uniform]),
    ],
))  # fmt: skip


def _two_points(
    slope: Callable[[Tensor], Tensor], *, rate: int = 1, kept: float = 1.0
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def field(x: Tensor, t: Tensor, a: Tensor) -> Tensor:
        mean = torch.tanh(slope(t) * (x @ a))[:, None] * a
        return (mean - kept * x) / (1 - t[:, None]) ** rate

    return field


def _slope(t: Tensor) -> Tensor:
    return t / (1 - t).square()


def _sigmoid(x: Tensor, t: Tensor, a: Tensor) -> Tensor:
    return (torch.sigmoid(2 * _slope(t) * (x @ a))[:, None] * a - x) / (1 - t[:, None])


def _share(x: Tensor, t: Tensor, a: Tensor) -> Tensor:
    return (torch.tanh(_slope(t) * (x @ a))[:, None] - x) / (1 - t[:, None])


grade_two_points = grader("grade_two_points", Exercise(
    name="two points",
    task="`two_points(x, t, a)`, the marginal velocity of the data set {a, −a}",
    takes="points `[b d]`, times `[b]` and the data point a, `[d]`; returns `[b d]`",
    reference=_two_points(_slope),
    inputs=[(x, t, a[0]) for x, t, a in (_points(30 + d, 8, 1, d) for d in (2, 3, 5))],
    mistakes=[
        ("the argument of tanh is off by a factor 2: the two logits differ by twice it",
         _two_points(lambda t: 2 * _slope(t))),
        ("the argument of tanh is off by a factor ½", _two_points(lambda t: _slope(t) / 2)),
        ("the factor α = t is missing in the argument of tanh",
         _two_points(lambda t: 1 / (1 - t).square())),
        ("the argument of tanh is divided by the variance (1 − t)², not by 1 − t",
         _two_points(lambda t: t / (1 - t))),
        ("the width (1 − t)² is missing in the argument of tanh", _two_points(lambda t: t)),
        ("this is the posterior mean; the velocity is (mean − x)/(1 − t)",
         _two_points(_slope, rate=0, kept=0.0)),
        ("the displacement to the posterior mean has to be divided by the time left, 1 − t",
         _two_points(_slope, rate=0)),
        ("−x is missing: the field points from x to the posterior mean",
         _two_points(_slope, kept=0.0)),
        ("the weights of a and −a are w and 1 − w; the mean is (2w − 1) a, not w a", _sigmoid),
        ("tanh is the share along a; it has to be multiplied with a", _share),
        ("time runs backward: this is the field at 1 − t; noise is at t = 0",
         lambda x, t, a: _two_points(_slope)(x, 1 - t, a)),
    ],
))  # fmt: skip


def _with_prior(logits: Callable[[Tensor, Tensor], Tensor]) -> Weights:
    """Return the softmax of `logits(likelihood, prior)`."""
    return lambda x, t, data, prior: logits(_logits(x, t, data), prior).softmax(1)


def _priors(inputs: tuple[Tensor, Tensor, Tensor], seed: int) -> tuple[Tensor, ...]:
    prior = torch.tensor([0.05, 0.5, 0.0, 0.3, 0.15], dtype=torch.float64)
    return *inputs, prior.roll(seed)


grade_prior = grader("grade_prior", Exercise(
    name="prior",
    task="`field_with_prior(x, t, data, prior)`, for data points that are not equally likely",
    takes="points `[b d]`, times `[b]`, data `[n d]` and probabilities `[n]`, some of them zero; "
    "returns velocities `[b d]`",
    reference=_field(_with_prior(lambda logits, prior: logits + prior.log())),
    inputs=[
        _priors(_points(41, 6, 5, 2), 1), _priors(_points(42, 6, 5, 2), 2), _priors(_late(43), 3)
    ],
    mistakes=_both([
        (_UNDERFLOW, lambda x, t, data, prior: _quotient(prior * _logits(x, t, data).exp())),
        ("the prior is ignored: this is the field of equally likely points",
         lambda x, t, data, prior: _right(x, t, data)),
        ("the prior itself is added to the logits; its logarithm belongs there",
         _with_prior(lambda logits, prior: logits + prior)),
        ("the prior multiplies the weights, so its logarithm adds to the logits; this multiplies "
         "the logits", _with_prior(lambda logits, prior: logits * prior)),
        ("the weights have to be normalised after the prior has been multiplied in",
         lambda x, t, data, prior: _right(x, t, data) * prior),
        ("this is the prior alone; Bayes multiplies it with the density at x",
         lambda x, t, data, prior: prior.expand(len(x), -1)),
        ("the prior is counted twice", _with_prior(lambda logits, prior: logits + 2 * prior.log())),
        ("the points of prior zero are left out, but the others are not equally likely",
         _with_prior(lambda logits, prior: logits.masked_fill(prior == 0, -torch.inf))),
    ]),
))  # fmt: skip


def _variance(t: Tensor, r: float) -> Tensor:
    """Return the variance of x_t for noise and data with correlation r."""
    return (1 - t).square() + t.square() + 2 * r * t * (1 - t)


def _coupled(x: Tensor, t: Tensor, r: float) -> Tensor:
    return (1 - r) * (2 * t - 1) / _variance(t, r) * x


grade_coupled = grader("grade_coupled", Exercise(
    name="coupled",
    task="`coupled(x, t, r)`, the field when noise and data are correlated normal variables",
    takes="points `[b]`, times `[b]` and the correlation r in (−1, 1); returns `[b]`",
    reference=_coupled,
    inputs=[(normal(51, 16), uniform(52, 16, low=0.1, high=0.7), r) for r in (0.6, -0.5, 0.95)],
    mistakes=[
        ("this is the field of the independent coupling; r enters twice",
         lambda x, t, r: _coupled(x, t, 0.0)),
        ("r is missing in the covariance of x1 − x0 with x_t",
         lambda x, t, r: (2 * t - 1) / _variance(t, r) * x),
        ("r is missing in the variance of x_t",
         lambda x, t, r: (1 - r) * (2 * t - 1) / _variance(t, 0.0) * x),
        ("the variance of x_t holds the cross term 2 r t (1 − t)",
         lambda x, t, r: (1 - r) * (2 * t - 1) / _variance(t, r / 2) * x),
        ("r has the wrong sign", lambda x, t, r: _coupled(x, t, -r)),
        ("the covariance has to be divided by the variance of x_t",
         lambda x, t, r: (1 - r) * (2 * t - 1) * x),
        ("divide by the variance of x_t, not by its standard deviation",
         lambda x, t, r: (1 - r) * (2 * t - 1) / _variance(t, r).sqrt() * x),
        ("the sign is flipped, or time runs backward: for this field the two are the same",
         lambda x, t, r: _coupled(x, 1 - t, r)),
    ],
))  # fmt: skip
