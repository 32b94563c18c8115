"""The graders of `training`: the right answer passes, each usual mistake is named."""

import math

import torch
from grading import grader_tests

from fmtutor.exercises import training


def step_loss(v, x0, x1, t):
    time = t.reshape(-1, *[1] * (x1.ndim - 1))
    xt = (1 - time) * x0 + time * x1
    return (v(xt, t) - (x1 - x0)).square().mean()


def average(weights, decay):
    mean = weights[0]
    for w in weights[1:]:
        mean = torch.lerp(w, mean, decay)
    return mean


def density(t, mean, std):
    logit = torch.log(t) - torch.log1p(-t)
    return torch.distributions.Normal(mean, std).log_prob(logit).exp() / (t * (1 - t))


def learning_rate(k, steps, lr, warmup):
    return lr * min((k + 1) / (warmup + 1), 1) * math.cos(0.5 * math.pi * k / steps) ** 2


def other_noise(x, t, m, s):
    return (m * (1 - t) ** 2 + t * s**2 * x) / ((1 - t) ** 2 + t**2 * s**2)


RIGHT = [
    (training.grade_step_loss, step_loss),
    (training.grade_average, average),
    (training.grade_density, density),
    (training.grade_learning_rate, learning_rate),
    (training.grade_other_noise, other_noise),
]


def mixed(time, x0, x1):
    return (1 - time) * x0 + time * x1


def as_images(t, x):
    return t.reshape(-1, *[1] * (x.ndim - 1))


MISTAKES = [
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: (v(mixed(t, x0, x1), t) - (x1 - x0)).square().mean(),
        "belongs to the batch",
    ),
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: (v(mixed(t[:, None], x0, x1), t) - (x1 - x0)).square().mean(),
        "along the rows of an image",
    ),
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: (v(x1, t) - (x1 - x0)).square().mean(),
        "shown x1",
    ),
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: (v(mixed(as_images(t, x1), x0, x1), t) - (x0 - x1)).square().mean(),
        "the way leads from",
    ),
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: (v(mixed(as_images(t, x1), x1, x0), t) - (x1 - x0)).square().mean(),
        "time runs backward",
    ),
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: (v(mixed(as_images(t, x1), x0, x1), t) - x1).square().mean(),
        "the velocity is x1 - x0",
    ),
    (
        training.grade_step_loss,
        lambda v, x0, x1, t: step_loss(v, x0, x1, t) * x1[0].numel(),
        "this is a sum",
    ),
    (training.grade_average, lambda w, decay: average(w, 1 - decay), "share of the old average"),
    (
        training.grade_average,
        lambda w, decay: average(torch.cat([0 * w[:1], w]), decay),
        "starts from zero",
    ),
    (training.grade_average, lambda w, decay: w.mean(0), "plain mean"),
    (training.grade_average, lambda w, decay: w[-1], "nothing is averaged"),
    (training.grade_density, lambda t, m, s: density(t, m, s) * t * (1 - t), "change variables"),
    (
        training.grade_density,
        lambda t, m, s: density(t, m, s) * (t * (1 - t)) ** 2,
        "derivative of the logit",
    ),
    (training.grade_density, lambda t, m, s: density(t, m, s) * s, "factor 1/std"),
    (
        training.grade_density,
        lambda t, m, s: torch.distributions.Normal(m, s).log_prob(t).exp(),
        "the logit of t is normal",
    ),
    (
        training.grade_learning_rate,
        lambda k, n, lr, w: learning_rate(k, n, lr, w) * (k / (k + 1) if k <= w else 1),
        "would not move at all",
    ),
    (
        training.grade_learning_rate,
        lambda k, n, lr, w: learning_rate(k, n, lr, 0) * (k + 1) / (w + 1),
        "must stop at 1",
    ),
    (
        training.grade_learning_rate,
        lambda k, n, lr, w: lr * min(1, (k + 1) / (w + 1)),
        "the half cosine is missing",
    ),
    (
        training.grade_learning_rate,
        lambda k, n, lr, w: learning_rate(k, n, lr, 0),
        "the rise is missing",
    ),
    (
        training.grade_learning_rate,
        lambda k, n, lr, w: lr * min(1, (k + 1) / (w + 1)) * math.cos(math.pi * k / n),
        "makes the rate negative",
    ),
    (
        training.grade_other_noise,
        lambda x, t, m, s: (other_noise(x, t, m, s) - x) / (1 - t),
        "right field u_t",
    ),
    (training.grade_other_noise, lambda x, t, m, s: m + 0 * x, "says more about x1"),
    (
        training.grade_other_noise,
        lambda x, t, m, s: other_noise(x, t, m, s) - x,
        "the other noise has mean 0",
    ),
    (
        training.grade_other_noise,
        lambda x, t, m, s: m + t * s**2 * (x - m) / ((1 - t) ** 2 + t**2 * s**2),
        "is t m, not m",
    ),
]


TestGraders = grader_tests(training, RIGHT, MISTAKES)
