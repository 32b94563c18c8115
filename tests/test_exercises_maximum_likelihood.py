"""The graders of `maximum_likelihood`: the right answer passes, each usual mistake is named."""

import math

import torch
from grading import grader_tests

from fmtutor.exercises import maximum_likelihood as exercises


def least_loss(s):
    return 0.5 * math.log(2 * math.pi * math.e * s**2)


def linear_flow(x, a, sign=-1):
    x0 = x @ torch.linalg.matrix_exp(sign * a).T
    return -0.5 * (x0.square().sum(1) + 3 * math.log(2 * math.pi)) - a.trace()


def best_scale(data):
    return 0.5 * data.square().mean().log()


RIGHT = [
    (exercises.grade_least_loss, least_loss),
    (exercises.grade_linear_flow, linear_flow),
    (exercises.grade_best_scale, best_scale),
    (exercises.grade_work, lambda stages, steps, d: stages * steps * (1 + d)),
]

WRONG = [
    (exercises.grade_least_loss, lambda s: 0.0, "can exceed one"),
    (exercises.grade_least_loss, lambda s: least_loss(s) - 0.5, "is missing"),
    (exercises.grade_least_loss, lambda s: least_loss(s) / math.log(2), "in bits"),
    (exercises.grade_linear_flow, lambda x, a: linear_flow(x, a) + 2 * a.trace(), "wrong sign"),
    (exercises.grade_linear_flow, lambda x, a: linear_flow(x, a, sign=1), "carried forward"),
    (exercises.grade_linear_flow, lambda x, a: linear_flow(x, a) + a.trace(), "change of volume"),
    (exercises.grade_best_scale, lambda x: best_scale(x).exp(), "logarithm"),
    (exercises.grade_best_scale, lambda x: 2 * best_scale(x), "factor ½"),
    (exercises.grade_best_scale, lambda x: -best_scale(x), "expands"),
    (exercises.grade_work, lambda stages, steps, d: steps * (1 + d), "stages of a step"),
    (exercises.grade_work, lambda stages, steps, d: stages * steps * d, "forward pass is missing"),
    (exercises.grade_work, lambda stages, steps, d: stages * steps, "only forward"),
]


TestGraders = grader_tests(exercises, RIGHT, WRONG)
