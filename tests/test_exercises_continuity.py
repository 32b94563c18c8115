import pytest
import torch
from grading import grader_tests

from fmtutor.exercises import continuity


def second_field(add, factor=1.0):
    def field(x, t):
        u = torch.stack([torch.zeros_like(t), x[:, 1] / (1 + t)], dim=1)
        return factor * u + add(x, t)

    return field


def circulation(x, t):
    return torch.stack([x[:, 1] / (1 + t) ** 2, -x[:, 0]], dim=1)


def rotation(x, t):
    return torch.stack([x[:, 1], -x[:, 0]], dim=1)


def by_autograd(cdf, x, t, rule):
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    return rule(*torch.autograd.grad(cdf(x, t).sum(), (x, t)))


SOLUTIONS = {
    "flux": (continuity.grade_mass_rate, lambda p, u, q, w: p * u - q * w),
    "divergence": (
        continuity.grade_divergence,
        lambda x: (x.shape[1] + 2) * x.square().sum(1),
    ),
    "velocity from cdf": (
        continuity.grade_velocity_from_cdf,
        lambda cdf, x, t: by_autograd(cdf, x, t, lambda p, d_t: -d_t / p),
    ),
    "second field": (continuity.grade_second_field, second_field(circulation)),
    "mixture": (
        continuity.grade_mixture,
        lambda p, u, q, w, a: (
            (a * p[:, None] * u + (1 - a) * q[:, None] * w) / (a * p + (1 - a) * q)[:, None]
        ),
    ),
    "clock": (
        continuity.grade_clock,
        lambda u, tau, d_tau: lambda x, s: d_tau(s)[:, None] * u(x, tau(s)),
    ),
}


@pytest.mark.parametrize(
    "add",
    [
        lambda x, t: -3 * (1 + t[:, None]) * circulation(x, t),
        lambda x, t: 0.5 * circulation(x, t),
    ],
)
def test_every_other_field_of_the_same_densities_passes(add, capsys):
    continuity.grade_second_field(second_field(add))
    assert "✓" in capsys.readouterr().out


MISTAKES = [
    ("flux", lambda p, u, q, w: q * w - p * u, "outflow minus inflow"),
    ("flux", lambda p, u, q, w: p * u + q * w, "at b carries mass out"),
    ("flux", lambda p, u, q, w: u - w, "density is missing"),
    ("divergence", lambda x: 3 * x.square().sum(1), "d = 1 only"),
    ("divergence", lambda x: x.shape[1] * x.square().sum(1), "adds its gradient"),
    ("divergence", lambda x: 2 * x.square().sum(1), "adds d|x|²"),
    (
        "divergence",
        lambda x: x.square().sum(1, keepdim=True) + 2 * x.square(),
        "the result has shape",
    ),
    (
        "velocity from cdf",
        lambda cdf, x, t: by_autograd(cdf, x, t, lambda p, d_t: d_t / p),
        "sign is flipped",
    ),
    (
        "velocity from cdf",
        lambda cdf, x, t: by_autograd(cdf, x, t, lambda p, d_t: -d_t),
        "this is the flux",
    ),
    (
        "velocity from cdf",
        lambda cdf, x, t: by_autograd(cdf, x, t, lambda p, d_t: -p / d_t),
        "upside down",
    ),
    (
        "velocity from cdf",
        lambda cdf, x, t: by_autograd(cdf, x, t, lambda p, d_t: -p * d_t),
        "instead of dividing",
    ),
    ("second field", second_field(lambda x, t: 0 * x), "the field that was given"),
    ("second field", second_field(circulation, factor=0.0), "contains only what may be added"),
    ("second field", second_field(rotation), "has no divergence"),
    ("second field", second_field(lambda x, t: x), "residual of the continuity equation"),
    ("second field", lambda x, t: x[:, 0], "shape"),
    ("mixture", lambda p, u, q, w, a: a * u + (1 - a) * w, "fixed weights"),
    (
        "mixture",
        lambda p, u, q, w, a: a * p[:, None] * u + (1 - a) * q[:, None] * w,
        "the flux of the mixture",
    ),
    (
        "mixture",
        lambda p, u, q, w, a: SOLUTIONS["mixture"][1](p, u, q, w, 1 - a),
        "weights are exchanged",
    ),
    (
        "mixture",
        lambda p, u, q, w, a: SOLUTIONS["mixture"][1](p, u, q, w, 0.5),
        "weight of the mixture is missing",
    ),
    ("clock", lambda u, tau, d_tau: lambda x, s: u(x, tau(s)), "but not the speed"),
    (
        "clock",
        lambda u, tau, d_tau: lambda x, s: d_tau(s)[:, None] * u(x, s),
        "but not the clock",
    ),
    ("clock", lambda u, tau, d_tau: lambda x, s: -u(x, tau(s)), "hurrying clock"),
    (
        "clock",
        lambda u, tau, d_tau: lambda x, s: u(x, tau(s)) / d_tau(s)[:, None],
        "doubles the speed",
    ),
]


TestGraders = grader_tests(
    continuity,
    list(SOLUTIONS.values()),
    [(SOLUTIONS[name][0], answer, diagnosis) for name, answer, diagnosis in MISTAKES],
)
