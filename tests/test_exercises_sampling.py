"""The graders of `sampling`: the right answer passes, each usual mistake is named."""

import torch
from grading import grader_tests

from fmtutor.exercises import sampling


def heun_step(v, x, t, h):
    k1 = v(x, torch.full((len(x),), t, dtype=x.dtype))
    k2 = v(x + h * k1, torch.full((len(x),), t + h, dtype=x.dtype))
    return x + h * (k1 + k2) / 2


def grid(n, power):
    return 1 - (1 - torch.arange(n + 1) / n) ** power


def encode(v, x1, steps, sign=-1, clock=lambda s: 1 - s):
    x = x1
    for k in range(steps):
        x = x + sign * v(x, torch.full((len(x),), clock(k / steps), dtype=x.dtype)) / steps
    return x


def drift(v, x, t, g):
    return v - g**2 / 2 * (x - t * v) / (1 - t)


def steps_needed(coarse, fine, n, p, tol):
    error = (coarse - fine).norm(dim=1).square().mean().sqrt() / (2**p - 1)
    return 2 * n * (error / tol) ** (1 / p)


def half(v, x, t, h):
    return x + h * v(x + h / 2 * v(x, torch.tensor(t)), torch.tensor(t + h / 2))


RIGHT = [
    (sampling.grade_heun, heun_step),
    (sampling.grade_grid, grid),
    (sampling.grade_encode, encode),
    (sampling.grade_drift, drift),
    (sampling.grade_steps, steps_needed),
]

WRONG = [
    (sampling.grade_heun, lambda v, x, t, h: x + h * v(x, torch.tensor(t)), "Euler's step"),
    (sampling.grade_heun, half, "midpoint method"),
    (
        sampling.grade_heun,
        lambda v, x, t, h: heun_step(lambda y, _: v(y, torch.tensor(t)), x, t, h),
        "clock stands at",
    ),
    (
        sampling.grade_heun,
        lambda v, x, t, h: heun_step(lambda _, s: v(x, s), x, t, h),
        "belongs to x",
    ),
    (sampling.grade_heun, lambda v, x, t, h: 2 * heun_step(v, x, t, h) - x, "is their mean"),
    (sampling.grade_grid, lambda n, power: (torch.arange(n + 1) / n) ** power, "small steps"),
    (sampling.grade_grid, lambda n, power: grid(n, power).flip(0), "the times fall"),
    (
        sampling.grade_grid,
        lambda n, power: ((torch.arange(n + 1) / n) ** power).flip(0),
        "data to the noise",
    ),
    (sampling.grade_grid, lambda n, power: grid(n - 1, power), "steps need"),
    (
        sampling.grade_encode,
        lambda v, x, n: encode(v, x, n, 1, lambda s: s),
        "this is sampling",
    ),
    (sampling.grade_encode, lambda v, x, n: encode(v, x, n, -1, lambda s: s), "clock forward"),
    (sampling.grade_encode, lambda v, x, n: encode(v, x, n, 1), "steps forward"),
    (
        sampling.grade_encode,
        lambda v, x, n: encode(v, x, n, -1, lambda s: 1 - s - 1 / n),
        "where a step begins",
    ),
    (sampling.grade_drift, lambda v, x, t, g: 2 * v - drift(v, x, t, g), "wrong sign"),
    (sampling.grade_drift, lambda v, x, t, g: 2 * drift(v, x, t, g) - v, "half of it"),
    (sampling.grade_drift, lambda v, x, t, g: drift(v, x, t, g**0.5), "variance g²"),
    (sampling.grade_drift, lambda v, x, t, g: v - g**2 / 2 * (x - t * v), "divide by 1"),
    (sampling.grade_drift, lambda v, x, t, g: v - g**2 / 2 * x / (1 - t) ** 2, "mean of the"),
    (
        sampling.grade_steps,
        lambda a, b, n, p, tol: steps_needed(a, b, n, p, tol / (2**p - 1)),
        "not the error",
    ),
    (
        sampling.grade_steps,
        lambda a, b, n, p, tol: 2 * n * (steps_needed(a, b, n, p, tol) / (2 * n)) ** p,
        "take a root",
    ),
    (sampling.grade_steps, lambda a, b, n, p, tol: steps_needed(a, b, n, p, tol) / 2, "that of 2n"),
    (
        sampling.grade_steps,
        lambda a, b, n, p, tol: steps_needed(a, b, n, p, tol * 2**0.5),
        "over its dimensions",
    ),
]


TestGraders = grader_tests(sampling, RIGHT, WRONG)
