"""The graders of `likelihood`: the right answer passes, each usual mistake is named."""

import math

import torch
from grading import grader_tests

from fmtutor import divergence
from fmtutor.exercises import likelihood


def augmented(v, state, t, sign=1.0, last=divergence):
    x = state[:, :-1]
    return torch.cat([v(x, t), sign * last(v, x, t)[:, None]], 1)


def all_entries(v, x, t):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(v(x, t).sum(), x)[0].sum(1)


def determinant(v, x, t):
    x = x.clone().requires_grad_()
    u = v(x, t)
    rows = [torch.autograd.grad(u[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.stack(rows, 1).det()


def bits(log_p, levels, d):
    return -(log_p - d * math.log(levels / 2)) / (d * math.log(2))


def variance(J):
    S = (J + J.mT) / 2
    S = S - torch.diag_embed(S.diagonal(dim1=1, dim2=2))
    return 2 * S.square().sum((1, 2))


def upper(J):
    return 2 * torch.triu((J + J.mT) / 2, 1).square().sum((1, 2))


def gaussian(J):
    return 2 * ((J + J.mT) / 2).square().sum((1, 2))


def fresh(J, of=variance):
    return torch.stack([of(J.mean(0)[None])[0], of(J).sum() / len(J) ** 2])


RIGHT = [
    (likelihood.grade_augmented, augmented),
    (likelihood.grade_bits, bits),
    (likelihood.grade_variance, variance),
    (likelihood.grade_fresh, fresh),
    (likelihood.grade_mode, lambda d, s: (d / 2) ** 0.5),
]

WRONG = [
    (likelihood.grade_augmented, lambda v, y, t: augmented(v, y, t, -1.0), "has a minus"),
    (likelihood.grade_augmented, lambda v, y, t: augmented(v, y, t, last=all_entries), "its trace"),
    (
        likelihood.grade_augmented,
        lambda v, y, t: augmented(v, y, t, last=lambda *a: divergence(*a).sum().expand(len(y))),
        "over the batch",
    ),
    (
        likelihood.grade_augmented,
        lambda v, y, t: augmented(v, y, t, last=determinant),
        "determinant",
    ),
    (
        likelihood.grade_augmented,
        lambda v, y, t: augmented(v, y, t, last=lambda *a: divergence(*a) + y[:, -1]),
        "adds it to ℓ",
    ),
    (likelihood.grade_augmented, lambda v, y, t: -augmented(v, y, t), "already go backward"),
    (
        likelihood.grade_augmented,
        lambda v, y, t: torch.cat([v(y, t), divergence(v, y, t)[:, None]], 1)[:, 1:],
        "sees the point alone",
    ),
    (likelihood.grade_bits, lambda p, n, d: -p / (d * math.log(2)), "mind the scale"),
    (
        likelihood.grade_bits,
        lambda p, n, d: -p / (d * math.log(2)) - math.log2(n / 2),
        "wrong sign",
    ),
    (likelihood.grade_bits, lambda p, n, d: -p / (d * math.log(2)) + math.log2(n), r"\[0, 1\]"),
    (
        likelihood.grade_bits,
        lambda p, n, d: -(p - math.log(n / 2)) / (d * math.log(2)),
        "for every pixel",
    ),
    (likelihood.grade_bits, lambda p, n, d: bits(p, n, d) * math.log(2), "in nats"),
    (likelihood.grade_bits, lambda p, n, d: bits(p, n, d) * d, "whole image"),
    (likelihood.grade_bits, lambda p, n, d: bits(p, n - 1, d), "an interval of length levels"),
    (likelihood.grade_bits, lambda p, n, d: -bits(p, n, d), "sign is flipped"),
    (
        likelihood.grade_variance,
        lambda J: 2 * (J - torch.diag_embed(J.diagonal(dim1=1, dim2=2))).square().sum((1, 2)),
        "antisymmetric",
    ),
    (likelihood.grade_variance, gaussian, "Gaussian probes"),
    (likelihood.grade_variance, upper, "four times its square"),
    (likelihood.grade_variance, lambda J: 2 * variance(J), "twice, not four"),
    (likelihood.grade_variance, lambda J: variance(J).sqrt(), "standard deviation"),
    (likelihood.grade_fresh, lambda J: fresh(J).flip(0), "swapped"),
    (
        likelihood.grade_fresh,
        lambda J: torch.stack([fresh(J)[0], variance(J).mean()]),
        "its term by 1/n²",
    ),
    (
        likelihood.grade_fresh,
        lambda J: torch.stack([variance(J).mean(), fresh(J)[1]]),
        "average before",
    ),
    (
        likelihood.grade_fresh,
        lambda J: fresh(J)[0] * torch.tensor([1.0, 1 / len(J)]),
        "their own variances",
    ),
    (likelihood.grade_fresh, lambda J: len(J) ** 2 * fresh(J), "weights are missing"),
    (likelihood.grade_fresh, lambda J: fresh(J, gaussian), "Gaussian probes"),
    (likelihood.grade_mode, lambda d, s: d / 2, "in nats"),
    (likelihood.grade_mode, lambda d, s: 1.0, "not by its root"),
    (likelihood.grade_mode, lambda d, s: d**0.5 / 2, "takes half"),
    (likelihood.grade_mode, lambda d, s: (d / 2) ** 0.5 / s, "width cancels"),
    (likelihood.grade_mode, lambda d, s: (d / 2) ** 0.5 / s**2, "width cancels"),
    (likelihood.grade_mode, lambda d, s: d**0.5, "typical distance"),
]


TestGraders = grader_tests(likelihood, RIGHT, WRONG)
