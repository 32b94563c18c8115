import math

import torch
from grading import grader_tests

from fmtutor.exercises import flows


def turn(x):
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


C = torch.tensor([1.0, -1.0], dtype=torch.float64)


def attraction(x0, t):
    return C + torch.exp(-2 * t)[:, None] * (x0 - C)


def spiral(x, t):
    return 2 * x / (1 + t)[:, None] + math.pi * turn(x)


def splitting(y):
    x0 = torch.asinh(math.exp(-3) * torch.sinh(y))
    log_p0 = -0.5 * x0**2 - 0.5 * math.log(2 * math.pi)
    return (log_p0 - (3 + x0.cosh().log() - y.cosh().log()))[:, 0]


def reversal(u, x, t):
    return -u(x, 1 - t)


def matching(x, t):
    return -math.log(2) * x + math.pi * turn(x)


GRADERS = {
    "attraction": (flows.grade_attraction, attraction),
    "spiral": (flows.grade_spiral, spiral),
    "splitting": (flows.grade_splitting, splitting),
    "reversal": (flows.grade_reversal, reversal),
    "matching": (flows.grade_matching, matching),
}


def rotate(x, angle):
    return angle.cos()[:, None] * x + angle.sin()[:, None] * turn(x)


def spiral_at_start(x, t):
    turned = rotate(x, math.pi * t)
    return (2 * (1 + t))[:, None] * turned + (math.pi * (1 + t) ** 2)[:, None] * turn(turned)


def splitting_forward(y):
    x1 = torch.asinh(math.exp(3) * torch.sinh(y))
    log_p = -0.5 * x1**2 - 0.5 * math.log(2 * math.pi)
    return (log_p - (3 + y.cosh().log() - x1.cosh().log()))[:, 0]


def splitting_without(y):
    x0 = torch.asinh(math.exp(-3) * torch.sinh(y))
    return (-0.5 * x0**2 - 0.5 * math.log(2 * math.pi))[:, 0]


def shear(x, t):
    rate = torch.tensor([-2 * math.log(2), 0.0], dtype=x.dtype)
    return rate * x


WRONG = [
    ("attraction", "align_time", lambda x0, t: C + torch.exp(-2 * t) * (x0 - C)),
    ("attraction", "which sign", lambda x0, t: C + torch.exp(2 * t)[:, None] * (x0 - C)),
    ("attraction", "the rate is 2", lambda x0, t: C + torch.exp(-t)[:, None] * (x0 - C)),
    ("attraction", "one Euler step", lambda x0, t: x0 + t[:, None] * 2 * (C - x0)),
    ("attraction", "c is missing", lambda x0, t: torch.exp(-2 * t)[:, None] * x0),
    ("attraction", "not the position", lambda x0, t: 2 * (C - x0)),
    ("attraction", "shape", lambda x0, t: attraction(x0, t)[:, 0]),
    ("spiral", "still to be put in", spiral_at_start),
    ("spiral", "growth rate", lambda x, t: 2 * (1 + t)[:, None] * x + math.pi * turn(x)),
    ("spiral", "wrong way", lambda x, t: 2 * x / (1 + t)[:, None] - math.pi * turn(x)),
    ("spiral", "rotation is missing", lambda x, t: 2 * x / (1 + t)[:, None]),
    ("spiral", "growth is missing", lambda x, t: math.pi * turn(x)),
    ("splitting", "determinant is missing", splitting_without),
    ("splitting", "upside down", lambda y: 2 * splitting_without(y) - splitting(y)),
    ("splitting", "needed at", splitting_forward),
    ("splitting", "its logarithm", lambda y: splitting(y).exp()),
    ("splitting", "shape", lambda y: splitting(y)[:, None]),
    ("splitting", "up to a constant", lambda y: splitting(y) + 0.5 * math.log(2 * math.pi)),
    ("reversal", "read at 1 − t", lambda u, x, t: -u(x, t)),
    ("reversal", "still point forward", lambda u, x, t: u(x, 1 - t)),
    ("reversal", "forward field itself", lambda u, x, t: u(x, t)),
    ("reversal", "only clock and arrows", lambda u, x, t: -u(-x, 1 - t)),
    ("matching", "ends at x0/2", lambda x, t: -math.log(2) * x),
    ("matching", "keeps volumes", lambda x, t: turn(x)),
    ("matching", "no particle moves", lambda x, t: torch.zeros_like(x)),
    ("matching", "not N", shear),
    ("matching", "off by up to", lambda x, t: -x),
    ("matching", "infinity", lambda x, t: 50 * x**3),
    ("matching", "could not be followed", lambda x, t: x[:, 0]),
]


TestGraders = grader_tests(
    flows,
    list(GRADERS.values()),
    [(GRADERS[name][0], answer, diagnosis) for name, diagnosis, answer in WRONG],
)


def radial_twist(x, t):
    return -math.log(2) * x + x.square().sum(1, keepdim=True).exp().reciprocal() * 4 * turn(x)


def test_matching_accepts_other_right_answers(capsys):
    mirror = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    flows.grade_matching(lambda x, t: -x / (2 - t)[:, None] + 2 * x @ mirror)
    flows.grade_matching(radial_twist)
    assert capsys.readouterr().out.count("✓ matching") == 2
