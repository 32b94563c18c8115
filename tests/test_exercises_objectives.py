"""The graders of `objectives`: the right answer passes, each usual mistake is named."""

import math

import torch
from grading import grader_tests

from fmtutor.exercises import objectives


def two_points(x, t, a):
    log_ratio = 2 * a * t * x / (1 - t) ** 2
    w = torch.sigmoid(log_ratio)
    return 4 * a**2 * w * (1 - w) / (1 - t) ** 2


def gap(data, x, t):
    time = t[:, None, None]
    difference = x[:, None] - time * data  # [b n d]
    w = (-0.5 * (difference / (1 - time)).square().sum(2)).softmax(1)[..., None]
    u = (data - x[:, None]) / (1 - time)
    mean = (w * u).sum(1, keepdim=True)
    return (w * (u - mean).square()).sum((1, 2))


def weighted(u, w, c):
    return (w * c) @ u / (w * c).sum()


def energy(m, s0, s1):
    return m**2 + s0**2 + s1**2 - math.pi / 2 * s0 * s1


RIGHT = [
    (objectives.grade_two_points, two_points),
    (objectives.grade_gap, gap),
    (objectives.grade_weighted, weighted),
    (objectives.grade_energy, energy),
]

WRONG = [
    (objectives.grade_two_points, lambda x, t, a: two_points(x, t, a) * (1 - t) ** 2, "of x1"),
    (objectives.grade_two_points, lambda x, t, a: a**2 / (1 - t) ** 2, "of the prior"),
    (
        objectives.grade_two_points,
        lambda x, t, a: a**2 * (1 - torch.tanh(a * t * x / (1 - t)) ** 2) / (1 - t) ** 2,
        "not by 1 - t",
    ),
    (
        objectives.grade_two_points,
        lambda x, t, a: (
            two_points(x, t, a) + ((a * torch.tanh(a * t * x / (1 - t) ** 2) - x) / (1 - t)) ** 2
        ),
        "squared mean",
    ),
    (objectives.grade_gap, lambda data, x, t: gap(data, x, t) / 3, "this is the mean"),
    (objectives.grade_gap, lambda data, x, t: gap(data, x, t) * (1 - t) ** 2, "variance of x1"),
    (
        objectives.grade_gap,
        lambda data, x, t: (data - data.mean(0)).square().mean(0).sum() / (1 - t) ** 2,
        "same weight",
    ),
    (objectives.grade_gap, lambda data, x, t: gap(data, x, t) * (1 - t), "square of 1 - t"),
    (objectives.grade_weighted, lambda u, w, c: (w * c) @ u / c.sum(), "sum of w c"),
    (objectives.grade_energy, lambda m, s0, s1: energy(m, s0, -s1), "not added"),
    (objectives.grade_energy, lambda m, s0, s1: energy(0, s0, s1), "shift of the mean"),
    (objectives.grade_weighted, lambda u, w, c: w @ u, "unweighted field"),
    (objectives.grade_weighted, lambda u, w, c: (w * c) @ u, "normalisation"),
    (objectives.grade_weighted, lambda u, w, c: c @ u / c.sum(), "posterior weights"),
    (objectives.grade_energy, lambda m, s0, s1: m**2 + s0**2 + s1**2, "of the targets"),
    (objectives.grade_energy, lambda m, s0, s1: m**2 + (s0 - s1) ** 2, "least possible"),
]


TestGraders = grader_tests(objectives, RIGHT, WRONG)
