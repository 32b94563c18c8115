"""The graders of `quickstart`: the right answer passes, each usual mistake is named."""

import torch
from grading import grader_tests

from fmtutor.exercises import quickstart


def interpolate(x0, x1, t):
    return (1 - t[:, None]) * x0 + t[:, None] * x1, x1 - x0


def euler(v, x, steps, h=None, first=0):
    for k in range(first, steps + first):
        x = x + (h or 1 / steps) * v(x, torch.full((len(x),), min(k / steps, 1.0)))
    return x


def loss(v, x0, x1, t):
    time = t.reshape(-1, *[1] * (x1.ndim - 1))
    return (v((1 - time) * x0 + time * x1, t) - (x1 - x0)).square().mean()


RIGHT = [
    (quickstart.grade_interpolate, interpolate),
    (quickstart.grade_euler, euler),
    (quickstart.grade_loss, loss),
    (quickstart.grade_one_step, lambda x0, data: data.mean(0).expand_as(x0)),
]

WRONG = [
    (quickstart.grade_interpolate, lambda x0, x1, t: interpolate(x1, x0, t), "swapped"),
    (
        quickstart.grade_interpolate,
        lambda x0, x1, t: (interpolate(x0, x1, t)[0], x0 - x1),
        "from data to noise",
    ),
    (
        quickstart.grade_interpolate,
        lambda x0, x1, t: ((1 - t) * x0 + t * x1, x1 - x0),
        "along the last axis",
    ),
    (quickstart.grade_euler, lambda v, x, n: euler(v, x, n, h=1 / max(n - 1, 1)), "steps - 1"),
    (quickstart.grade_euler, lambda v, x, n: euler(v, x, n, first=1), "at the end of each step"),
    (quickstart.grade_euler, lambda v, x, n: euler(v, x, n, h=1.0), "step length is missing"),
    (
        quickstart.grade_loss,
        lambda v, x0, x1, t: loss(v, x0, x1, t) * x1[0].numel(),
        "sums over dimensions",
    ),
    (
        quickstart.grade_loss,
        lambda v, x0, x1, t: (
            (v((1 - t[:, None]) * x0 + t[:, None] * x1, t) - (x1 - x0)).square().mean()
        ),
        "rows of an image",
    ),
    (
        quickstart.grade_loss,
        lambda v, x0, x1, t: (v(x1, t) - (x1 - x0)).square().mean(),
        "not the data x1",
    ),
    (
        quickstart.grade_one_step,
        lambda x0, data: data[torch.cdist(x0, data).argmin(1)],
        "nearest data point",
    ),
    (quickstart.grade_one_step, lambda x0, data: data.mean(0) - x0, "adds it to x0"),
]


TestGraders = grader_tests(quickstart, RIGHT, WRONG)
