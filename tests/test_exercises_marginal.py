import math

import pytest
import torch
from grading import grader_tests

from fmtutor import CondOT, EmpiricalField
from fmtutor.checks import GradeError
from fmtutor.exercises import marginal


def logits(x, t, data):
    square = (x[:, None] - t[:, None, None] * data).square().sum(2)
    return -square / (2 * (1 - t[:, None]).square())


def naive(weight):
    return weight / weight.sum(1, keepdim=True)


def posterior(x, t, data):
    return logits(x, t, data).softmax(1)


def velocity(w, x, t, data):
    return (w @ data - x) / (1 - t[:, None])


def field(x, t, data):
    return velocity(posterior(x, t, data), x, t, data)


def two_points(x, t, a):
    mean = torch.tanh(t / (1 - t) ** 2 * (x @ a))[:, None] * a
    return (mean - x) / (1 - t[:, None])


def prior(x, t, data, prior):
    return velocity((logits(x, t, data) + prior.log()).softmax(1), x, t, data)


def coupled(x, t, r):
    variance = (1 - t) ** 2 + t**2 + 2 * r * t * (1 - t)
    return (1 - r) * (2 * t - 1) / variance * x


GRADERS = {
    "posterior": (marginal.grade_posterior, posterior),
    "field": (marginal.grade_field, field),
    "two points": (marginal.grade_two_points, two_points),
    "prior": (marginal.grade_prior, prior),
    "coupled": (marginal.grade_coupled, coupled),
}


@pytest.mark.parametrize(
    ("grader", "solution"),
    [
        (
            marginal.grade_posterior,
            lambda x, t, data: EmpiricalField(CondOT(), data).posterior(x, t),
        ),
        (marginal.grade_field, lambda x, t, data: EmpiricalField(CondOT(), data)(x, t)),
        (
            marginal.grade_two_points,
            lambda x, t, a: EmpiricalField(CondOT(), torch.stack([a, -a]))(x, t),
        ),
    ],
)
def test_the_package_passes_too(grader, solution):
    grader(solution)


def square(x, t, data):
    return (x[:, None] - t[:, None, None] * data).square().sum(2)


WRONG_WEIGHTS = [
    (
        "divide by the variance",
        lambda x, t, d: (-square(x, t, d) / (2 - 2 * t[:, None])).softmax(1),
    ),
    ("factor ½", lambda x, t, d: (2 * logits(x, t, d)).softmax(1)),
    (
        "α is missing",
        lambda x, t, d: (-(torch.cdist(x, d) ** 2) / (2 * (1 - t[:, None]) ** 2)).softmax(1),
    ),
    ("width of the path", lambda x, t, d: (-square(x, t, d) / 2).softmax(1)),
    ("the far points", lambda x, t, d: (-logits(x, t, d)).softmax(1)),
    ("over the data points", lambda x, t, d: logits(x, t, d).softmax(0)),
    ("time runs backward", lambda x, t, d: posterior(x, 1 - t, d)),
    ("sum to one", lambda x, t, d: logits(x, t, d).exp()),
    (
        "densities",
        lambda x, t, d: (
            logits(x, t, d).exp() / (2 * math.pi * (1 - t[:, None]) ** 2) ** (x.shape[1] / 2)
        ),
    ),
    (
        "squared distance",
        lambda x, t, d: (-square(x, t, d).sqrt() / (2 * (1 - t[:, None]) ** 2)).softmax(1),
    ),
    (
        "likeliest",
        lambda x, t, d: torch.eye(len(d), dtype=x.dtype)[logits(x, t, d).argmax(1)],
    ),
]
WRONG = [
    ("posterior", "do not depend on x", lambda x, t, d: torch.full((len(x), len(d)), 1 / len(d))),
    ("posterior", "logits", logits),
    ("posterior", "largest logit first", lambda x, t, d: naive(logits(x, t, d).exp())),
    ("posterior", "log-weights", lambda x, t, d: posterior(x, t, d).log()),
    ("posterior", "shape", lambda x, t, d: posterior(x, t, d).T),
    ("field", "plain average", lambda x, t, d: (d.mean(0) - x) / (1 - t[:, None])),
    ("field", "without weights", lambda x, t, d: len(d) * (d.mean(0) - x) / (1 - t[:, None])),
    ("field", "log-weights", lambda x, t, d: velocity(posterior(x, t, d).log(), x, t, d)),
    ("field", "posterior mean; the velocity", lambda x, t, d: posterior(x, t, d) @ d),
    ("field", "displacement", lambda x, t, d: posterior(x, t, d) @ d - x),
    ("field", "divided by n", lambda x, t, d: field(x, t, d) / len(d)),
    ("field", "sign is flipped", lambda x, t, d: -field(x, t, d)),
    ("two points", "factor 2", lambda x, t, a: two_points_with(2 * t / (1 - t) ** 2, x, t, a)),
    ("two points", "factor ½", lambda x, t, a: two_points_with(t / (1 - t) ** 2 / 2, x, t, a)),
    ("two points", "α = t", lambda x, t, a: two_points_with(1 / (1 - t) ** 2, x, t, a)),
    ("two points", "not by 1 − t", lambda x, t, a: two_points_with(t / (1 - t), x, t, a)),
    ("two points", "width", lambda x, t, a: two_points_with(t, x, t, a)),
    (
        "two points",
        "posterior mean; the velocity",
        lambda x, t, a: two_points(x, t, a) * (1 - t[:, None]) + x,
    ),
    ("two points", "time left", lambda x, t, a: two_points(x, t, a) * (1 - t[:, None])),
    ("two points", "−x is missing", lambda x, t, a: two_points(x, t, a) + x / (1 - t[:, None])),
    (
        "two points",
        "2w − 1",
        lambda x, t, a: (
            (torch.sigmoid(2 * t / (1 - t) ** 2 * (x @ a))[:, None] * a - x) / (1 - t[:, None])
        ),
    ),
    (
        "two points",
        "multiplied with a",
        lambda x, t, a: (torch.tanh(t / (1 - t) ** 2 * (x @ a))[:, None] - x) / (1 - t[:, None]),
    ),
    ("two points", "time runs backward", lambda x, t, a: two_points(x, 1 - t, a)),
    ("prior", "ignored", lambda x, t, d, p: field(x, t, d)),
    (
        "prior",
        "its logarithm belongs",
        lambda x, t, d, p: velocity((logits(x, t, d) + p).softmax(1), x, t, d),
    ),
    (
        "prior",
        "multiplies the logits",
        lambda x, t, d, p: velocity((logits(x, t, d) * p).softmax(1), x, t, d),
    ),
    ("prior", "normalised after", lambda x, t, d, p: velocity(posterior(x, t, d) * p, x, t, d)),
    ("prior", "prior alone", lambda x, t, d, p: velocity(p.expand(len(x), -1), x, t, d)),
    ("prior", "counted twice", lambda x, t, d, p: prior(x, t, d, p**2)),
    ("prior", "left out", lambda x, t, d, p: prior(x, t, d, (p > 0).to(x))),
    ("coupled", "independent", lambda x, t, r: coupled(x, t, 0.0)),
    ("coupled", "missing in the covariance", lambda x, t, r: coupled(x, t, r) / (1 - r)),
    ("coupled", "missing in the variance", lambda x, t, r: (1 - r) * coupled(x, t, 0.0)),
    (
        "coupled",
        "cross term",
        lambda x, t, r: coupled(x, t, r / 2) * (1 - r) / (1 - r / 2),
    ),
    ("coupled", "wrong sign", lambda x, t, r: coupled(x, t, -r)),
    ("coupled", "divided by the variance", lambda x, t, r: (1 - r) * (2 * t - 1) * x),
    (
        "coupled",
        "standard deviation",
        lambda x, t, r: coupled(x, t, r) * ((1 - t) ** 2 + t**2 + 2 * r * t * (1 - t)).sqrt(),
    ),
    ("coupled", "the two are the same", lambda x, t, r: -coupled(x, t, r)),
]


def two_points_with(slope, x, t, a):
    return (torch.tanh(slope * (x @ a))[:, None] * a - x) / (1 - t[:, None])


TestGraders = grader_tests(
    marginal,
    list(GRADERS.values()),
    [(GRADERS[name][0], answer, diagnosis) for name, diagnosis, answer in WRONG],
)


@pytest.mark.parametrize(("diagnosis", "weights"), WRONG_WEIGHTS)
def test_wrong_weights_are_told_apart_alone_and_in_the_field(diagnosis, weights):
    def averaged(x, t, data):
        u = (data - x[:, None]) / (1 - t[:, None, None])
        return torch.einsum("bn,bnd->bd", weights(x, t, data), u)

    for grader, answer in (
        (marginal.grade_posterior, weights),
        (marginal.grade_field, averaged),
        (marginal.grade_field, lambda x, t, data: velocity(weights(x, t, data), x, t, data)),
    ):
        with pytest.raises(GradeError, match=diagnosis):
            grader(answer)
