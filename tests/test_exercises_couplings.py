"""The graders of `couplings`: the right answer passes, each usual mistake is named."""

import torch
from grading import grader_tests
from scipy.optimize import linear_sum_assignment

from fmtutor.exercises import couplings


def partners(x0, x1):
    partner = torch.empty_like(x1)
    partner[x0.argsort()] = x1.sort().values
    return partner


def columns(cost):
    return torch.as_tensor(linear_sum_assignment(cost)[1])


def labels_along(x0, x1, labels):
    return labels[columns((x0[:, None] - x1).square().sum(2))]


def bends(path, times):
    h = times.diff()
    velocity = path.diff(dim=0) / h[:, None, None]
    energy = (h * velocity.square().sum(2).mean(1)).sum()
    return energy - (path[-1] - path[0]).square().sum(1).mean()  # the chord is the mean velocity


def flow_pairs(v, x0, steps, clock=1.0):
    x = x0
    for k in range(steps):
        x = x + v(x, clock * k / steps) / steps
    return torch.stack([x0, x], dim=1)


def overwriting(v, x0, steps):
    x = x0
    for k in range(steps):
        x += v(x, k / steps) / steps
    return torch.stack([x0, x], dim=1)


def truncated(v, x0, steps):
    x = x0
    for k in range(steps - 1):
        x = x + v(x, k / steps) / steps
    return torch.stack([x0, x], dim=1)


def deviation(path, times):
    return path.diff(dim=0) / times.diff()[:, None, None] - (path[-1] - path[0])


def plain_differences(path, times):
    off = path.diff(dim=0) - (path[-1] - path[0])
    return (times.diff() * off.square().sum(2).mean(1)).sum()


def below(w, a):
    return 1 - w + w * a


RIGHT = [
    (couplings.grade_partners, partners),
    (couplings.grade_labels_along, labels_along),
    (couplings.grade_bends, bends),
    (couplings.grade_flow_pairs, flow_pairs),
    (couplings.grade_below, below),
]

WRONG = [
    (couplings.grade_partners, lambda x0, x1: x1.sort().values, "the sorted data"),
    (couplings.grade_partners, lambda x0, x1: x1.sort().values[x0.argsort()], "its argsort"),
    (
        couplings.grade_partners,
        lambda x0, x1: x1[x0.argsort().argsort()],
        "has to be sorted before",
    ),
    (couplings.grade_partners, lambda x0, x1: -partners(x0, -x1), "dearest one"),
    (
        couplings.grade_partners,
        lambda x0, x1: x1[(x0[:, None] - x1).abs().argmin(1)],
        "used twice",
    ),
    (couplings.grade_labels_along, lambda x0, x1, y: y, "stayed where they were"),
    (
        couplings.grade_labels_along,
        lambda x0, x1, y: y[columns(torch.cdist(x0, x1).square()).argsort()],
        "inverse permutation",
    ),
    (
        couplings.grade_labels_along,
        lambda x0, x1, y: y[columns(torch.cdist(x0, x1))],
        "the cost is its square",
    ),
    (
        couplings.grade_labels_along,
        lambda x0, x1, y: y[torch.cdist(x0, x1).argmin(1)],
        "no permutation",
    ),
    (
        couplings.grade_labels_along,
        lambda x0, x1, y: y[columns(-torch.cdist(x0, x1).square())],
        "dearest one",
    ),
    (
        couplings.grade_bends,
        lambda path, times: deviation(path, times).square().sum(2).mean(),
        "all count the same",
    ),
    (
        couplings.grade_bends,
        lambda path, times: deviation(path, times).square().sum(2).mean(1).sum(),
        "integral over t is missing",
    ),
    (couplings.grade_bends, lambda path, times: bends(path, times) / path.shape[2], "sum over the"),
    (couplings.grade_bends, plain_differences, "divided by the time"),
    (
        couplings.grade_bends,
        lambda path, times: bends(path, times) + (path[-1] - path[0]).square().sum(1).mean(),
        "kinetic energy",
    ),
    (
        couplings.grade_bends,
        lambda path, times: (times.diff() * deviation(path, times).norm(dim=2).mean(1)).sum(),
        "with its square",
    ),
    (couplings.grade_flow_pairs, overwriting, "was overwritten"),
    (couplings.grade_flow_pairs, lambda v, x0, n: flow_pairs(v, x0, n).flip(1), "start comes"),
    (couplings.grade_flow_pairs, lambda v, x0, n: flow_pairs(v, x0, n, clock=0), "clock stands"),
    (couplings.grade_flow_pairs, truncated, "one step is missing"),
    (couplings.grade_flow_pairs, lambda v, x0, n: flow_pairs(v, x0, 1), "a single step"),
    (couplings.grade_below, lambda w, a: a, "what it should be"),
    (couplings.grade_below, lambda w, a: w * a, "class on the left"),
    (couplings.grade_below, lambda w, a: w * (1 - a), "end above the quantile"),
    (couplings.grade_below, lambda w, a: 1 - w, "some of the others"),
    (couplings.grade_below, lambda w, a: 1 - w + a, "has probability w"),
    (couplings.grade_below, lambda w, a: 1 - w * a, "not above"),
]


TestGraders = grader_tests(couplings, RIGHT, WRONG)
