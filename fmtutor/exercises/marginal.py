"""The graders of the chapter `marginal`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checks import grade

__all__ = [
    "grade_coupled",
    "grade_field",
    "grade_posterior",
    "grade_prior",
    "grade_two_points",
]

Weights = Callable[[Tensor, Tensor, Tensor], Tensor]


def _points(b: int, n: int, d: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points `[b d]`, times `[b]` away from the ends of [0, 1], and data `[n d]`."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, d, generator=g, dtype=torch.float64)
    t = 0.1 + 0.6 * torch.rand(b, generator=g, dtype=torch.float64)
    return x, t, 0.4 + 1.2 * torch.randn(n, d, generator=g, dtype=torch.float64)


def _square(x: Tensor, t: Tensor, data: Tensor, *, scaled: bool = True) -> Tensor:
    """Return ‖x − t x1‖² for each pair, `[b n]`; without the factor t if not `scaled`."""
    ends = t[:, None, None] * data if scaled else data[None]
    return (x[:, None] - ends).square().sum(2)


def _logits(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return -_square(x, t, data) / (2 * (1 - t[:, None]).square())


def _right(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return _logits(x, t, data).softmax(1)


def _std_for_variance(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return (-_square(x, t, data) / (2 * (1 - t[:, None]))).softmax(1)


def _no_half(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return (2 * _logits(x, t, data)).softmax(1)


def _no_alpha(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return (-_square(x, t, data, scaled=False) / (2 * (1 - t[:, None]).square())).softmax(1)


def _no_width(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return (-_square(x, t, data) / 2).softmax(1)


def _norm_for_square(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return (-_square(x, t, data).sqrt() / (2 * (1 - t[:, None]).square())).softmax(1)


def _no_sign(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return (-_logits(x, t, data)).softmax(1)


def _over_batch(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return _logits(x, t, data).softmax(0)


def _backward(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return _right(x, 1 - t, data)


def _unnormalised(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return _logits(x, t, data).exp()


def _densities(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    d = x.shape[1]
    scale = (2 * torch.pi * (1 - t[:, None]).square()) ** (-d / 2)
    return scale * _unnormalised(x, t, data)


def _uniform(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    return x.new_full((len(x), len(data)), 1 / len(data))


def _nearest(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    best = _logits(x, t, data).argmax(1)
    return torch.nn.functional.one_hot(best, len(data)).to(x)


# What can go wrong with the weights, whether they are asked for themselves or inside the field.
_WEIGHT_MISTAKES: list[tuple[str, Weights]] = [
    (
        "divide by the variance, 2(1 − t)², not by 2(1 − t), the standard deviation",
        _std_for_variance,
    ),
    ("the factor ½ of the Gaussian exponent is missing", _no_half),
    ("at time t the mean is t x1, not x1: α is missing", _no_alpha),
    ("the width of the path is missing: divide by (1 − t)²", _no_width),
    ("the exponent holds the squared distance, this uses the distance", _norm_for_square),
    ("the far points get the large weights here: the exponent is negative", _no_sign),
    ("normalise over the data points (axis 1), not over the batch", _over_batch),
    ("time runs backward: these are the weights at 1 − t; noise is at t = 0", _backward),
    ("the weights do not sum to one: divide by their sum", _unnormalised),
    ("these are densities, not yet weights: divide by their sum over the data", _densities),
    ("these weights do not depend on x: a data point far from x counts as much as one near",
     _uniform),
    ("this keeps the likeliest data point only; the others count, too, with their weights",
     _nearest),
]  # fmt: skip


def grade_posterior(answer: Weights) -> None:
    """Grade `posterior(x, t, data)`, the weight of each data point on the straight path.

    Args:
        answer: Takes points `[b d]`, times `[b]` and data `[n d]`; returns weights `[b n]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def log_weights(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        return _logits(x, t, data).log_softmax(1)

    def underflowing(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        weight = _logits(x, t, data).exp()
        return weight / weight.sum(1, keepdim=True)

    x, _, data = _points(4, 5, 2, seed=14)
    late = (x, torch.full((4,), 0.999, dtype=x.dtype), data)
    grade(
        "posterior",
        answer,
        _right,
        [_points(6, 5, 2, seed=11), _points(4, 4, 4, seed=12), _points(3, 1, 2, seed=13), late],
        mistakes=[
            (
                "near t = 1 every exponential is 0 and their quotient 0/0: subtract the largest "
                "logit first, or let softmax do it",
                underflowing,
            ),
            *_WEIGHT_MISTAKES,
            ("these are the logits; a softmax over the data makes them weights", _logits),
            ("these are log-weights; take their exponential", log_weights),
        ],
    )


def grade_field(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `field(x, t, data)`, the marginal velocity of a data set on the straight path.

    Args:
        answer: Takes points `[b d]`, times `[b]` and data `[n d]`; returns velocities `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def from_weights(weights: Weights) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        def field(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
            u = (data - x[:, None]) / (1 - t[:, None, None])  # [b n d]
            return torch.einsum("bn,bnd->bd", weights(x, t, data), u)

        return field

    def through_mean(weights: Weights) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda x, t, data: (weights(x, t, data) @ data - x) / (1 - t[:, None])

    reference = from_weights(_right)

    def log_weighted(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        return _logits(x, t, data).log_softmax(1)

    def mean(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        return _right(x, t, data) @ data

    def displacement(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        return mean(x, t, data) - x

    def summed(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        return len(data) * from_weights(_uniform)(x, t, data)

    def double_counted(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        return reference(x, t, data) / len(data)

    grade(
        "field",
        answer,
        reference,
        [_points(6, 5, 2, seed=21), _points(4, 4, 4, seed=22), _points(3, 1, 2, seed=23)],
        mistakes=[
            ("the posterior weights are missing: this is the plain average of all conditional "
             "velocities, whether or not their paths come by here", from_weights(_uniform)),
            ("this is the sum of the conditional velocities, without weights", summed),
            ("log-weights are used in place of weights", from_weights(log_weighted)),
            ("log-weights are used in place of weights", through_mean(log_weighted)),
            ("this is the posterior mean; the velocity is (mean − x)/(1 − t)", mean),
            ("this is the displacement to the posterior mean; divide by the time left, 1 − t",
             displacement),
            ("divided by n as well: the posterior weights already sum to one", double_counted),
            *((text, from_weights(weights)) for text, weights in _WEIGHT_MISTAKES),
            *((text, through_mean(weights)) for text, weights in _WEIGHT_MISTAKES),
        ],
    )  # fmt: skip


def grade_two_points(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `two_points(x, t, a)`, the marginal velocity of the data set {a, −a}.

    Args:
        answer: Takes points `[b d]`, times `[b]` and the data point a, `[d]`; returns `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def make(
        slope: Callable[[Tensor], Tensor], *, rate: int = 1, kept: float = 1.0
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        def field(x: Tensor, t: Tensor, a: Tensor) -> Tensor:
            mean = torch.tanh(slope(t) * (x @ a))[:, None] * a
            return (mean - kept * x) / (1 - t[:, None]) ** rate

        return field

    def sigmoid(x: Tensor, t: Tensor, a: Tensor) -> Tensor:
        weight = torch.sigmoid(2 * t / (1 - t).square() * (x @ a))
        return (weight[:, None] * a - x) / (1 - t[:, None])

    def scalar(x: Tensor, t: Tensor, a: Tensor) -> Tensor:
        mean = torch.tanh(t / (1 - t).square() * (x @ a))[:, None]
        return (mean - x) / (1 - t[:, None])

    inputs = [_points(8, 1, d, seed=30 + d) for d in (2, 3, 5)]
    grade(
        "two points",
        answer,
        make(lambda t: t / (1 - t).square()),
        [(x, t, data[0]) for x, t, data in inputs],
        mistakes=[
            ("the argument of tanh is off by a factor 2: the two logits differ by twice it",
             make(lambda t: 2 * t / (1 - t).square())),
            ("the argument of tanh is off by a factor ½", make(lambda t: t / (1 - t).square() / 2)),
            ("the factor α = t is missing in the argument of tanh",
             make(lambda t: 1 / (1 - t).square())),
            ("the argument of tanh is divided by the variance (1 − t)², not by 1 − t",
             make(lambda t: t / (1 - t))),
            ("the width (1 − t)² is missing in the argument of tanh", make(lambda t: t)),
            ("this is the posterior mean; the velocity is (mean − x)/(1 − t)",
             make(lambda t: t / (1 - t).square(), rate=0, kept=0.0)),
            ("the displacement to the posterior mean has to be divided by the time left, 1 − t",
             make(lambda t: t / (1 - t).square(), rate=0)),
            ("−x is missing: the field points from x to the posterior mean",
             make(lambda t: t / (1 - t).square(), kept=0.0)),
            ("the weights of a and −a are w and 1 − w; the mean is (2w − 1) a, not w a", sigmoid),
            ("tanh is the share along a; it has to be multiplied with a", scalar),
            ("time runs backward: this is the field at 1 − t; noise is at t = 0",
             lambda x, t, a: make(lambda t: t / (1 - t).square())(x, 1 - t, a)),
        ],
    )  # fmt: skip


def grade_prior(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `field_with_prior(x, t, data, prior)`, for data points that are not equally likely.

    Args:
        answer: Takes points `[b d]`, times `[b]`, data `[n d]` and probabilities `[n]`, some of
            them zero; returns velocities `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """
    Prior = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

    def make(weights: Prior) -> Prior:
        def field(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
            w = weights(x, t, data, prior)
            return torch.einsum("bn,bnd->bd", w, data - x[:, None]) / (1 - t[:, None])

        return field

    def through_mean(weights: Prior) -> Prior:
        def field(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
            return (weights(x, t, data, prior) @ data - x) / (1 - t[:, None])

        return field

    def right(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return (_logits(x, t, data) + prior.log()).softmax(1)

    def ignored(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return _right(x, t, data)

    def added(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return (_logits(x, t, data) + prior).softmax(1)

    def scaled(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return (_logits(x, t, data) * prior).softmax(1)

    def afterwards(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return _right(x, t, data) * prior

    def alone(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return prior.expand(len(x), -1)

    def twice(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return (_logits(x, t, data) + 2 * prior.log()).softmax(1)

    def only_support(x: Tensor, t: Tensor, data: Tensor, prior: Tensor) -> Tensor:
        return _logits(x, t, data).masked_fill(prior == 0, -torch.inf).softmax(1)

    wrong: list[tuple[str, Prior]] = [
        ("the prior is ignored: this is the field of equally likely points", ignored),
        ("the prior itself is added to the logits; its logarithm belongs there", added),
        ("the prior multiplies the weights, so its logarithm adds to the logits; this multiplies "
         "the logits", scaled),
        ("the weights have to be normalised after the prior has been multiplied in", afterwards),
        ("this is the prior alone; Bayes multiplies it with the density at x", alone),
        ("the prior is counted twice", twice),
        ("the points of prior zero are left out, but the others are not equally likely",
         only_support),
    ]  # fmt: skip
    inputs = []
    for seed in (41, 42):
        x, t, data = _points(6, 5, 2, seed)
        prior = torch.tensor([0.05, 0.5, 0.0, 0.3, 0.15], dtype=x.dtype).roll(seed)
        inputs.append((x, t, data, prior))
    grade(
        "prior",
        answer,
        make(right),
        inputs,
        mistakes=[
            *((text, make(weights)) for text, weights in wrong),
            *((text, through_mean(weights)) for text, weights in wrong),
        ],
    )


def grade_coupled(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Grade `coupled(x, t, r)`, the field when noise and data are correlated normal variables.

    Args:
        answer: Takes points `[b]`, times `[b]` and the correlation r in (−1, 1); returns `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """
    Coupled = Callable[[Tensor, Tensor, float], Tensor]

    def variance(t: Tensor, r: float) -> Tensor:
        return (1 - t).square() + t.square() + 2 * r * t * (1 - t)

    def reference(x: Tensor, t: Tensor, r: float) -> Tensor:
        return (1 - r) * (2 * t - 1) / variance(t, r) * x

    def independent(x: Tensor, t: Tensor, r: float) -> Tensor:
        return reference(x, t, 0.0)

    def variance_only(x: Tensor, t: Tensor, r: float) -> Tensor:
        return (2 * t - 1) / variance(t, r) * x

    def covariance_only(x: Tensor, t: Tensor, r: float) -> Tensor:
        return (1 - r) * (2 * t - 1) / variance(t, 0.0) * x

    def half_cross(x: Tensor, t: Tensor, r: float) -> Tensor:
        return (1 - r) * (2 * t - 1) / variance(t, r / 2) * x

    def wrong_way(x: Tensor, t: Tensor, r: float) -> Tensor:
        return reference(x, t, -r)

    def no_variance(x: Tensor, t: Tensor, r: float) -> Tensor:
        return (1 - r) * (2 * t - 1) * x

    def standard_deviation(x: Tensor, t: Tensor, r: float) -> Tensor:
        return (1 - r) * (2 * t - 1) / variance(t, r).sqrt() * x

    mistakes: list[tuple[str, Coupled]] = [
        ("this is the field of the independent coupling; r enters twice", independent),
        ("r is missing in the covariance of x1 − x0 with x_t", variance_only),
        ("r is missing in the variance of x_t", covariance_only),
        ("the variance of x_t holds the cross term 2 r t (1 − t)", half_cross),
        ("r has the wrong sign", wrong_way),
        ("the covariance has to be divided by the variance of x_t", no_variance),
        ("divide by the variance of x_t, not by its standard deviation", standard_deviation),
        ("the sign is flipped, or time runs backward: for this field the two are the same",
         lambda x, t, r: reference(x, 1 - t, r)),
    ]  # fmt: skip
    x, t, _ = _points(16, 1, 1, seed=51)
    grade(
        "coupled",
        answer,
        reference,
        [(x[:, 0], t, r) for r in (0.6, -0.5, 0.95)],
        mistakes=mistakes,
    )
