import math

import torch
from grading import grader_tests

from fmtutor import align_time
from fmtutor.exercises import paths


def target(x0, x1, t):
    return 2 * align_time(t, x1) * (x1 - x0)


def field(x, x1, t):
    t = align_time(t, x)
    return (x1 - t * x) / (1 - t**2)


def velocity_from_noise(path, noise, xt, t):
    schedule = path.alpha(t), path.sigma(t), path.d_alpha(t), path.d_sigma(t)
    alpha, sigma, d_alpha, d_sigma = (align_time(value, xt) for value in schedule)
    return d_alpha * (xt - sigma * noise) / alpha + d_sigma * noise


def width(x, x1, w, t):
    return align_time(w.log(), x) * (x - align_time(t, x) * x1) + x1


def clock(path, t):
    alpha, sigma = path.alpha(t), path.sigma(t)
    return torch.stack([alpha / (alpha + sigma), alpha + sigma])


def constant(w, t):
    return torch.stack([t, 1 - (1 - w) * t])


GRADERS = {
    "target": (paths.grade_target, target),
    "field": (paths.grade_field, field),
    "velocity from noise": (paths.grade_velocity_from_noise, velocity_from_noise),
    "width": (paths.grade_width, width),
    "clock": (paths.grade_clock, clock),
    "constant": (paths.grade_constant, constant),
}


def scheduled(form):
    def v(path, n, x, t):
        schedule = path.alpha(t), path.sigma(t), path.d_alpha(t), path.d_sigma(t)
        return form(n, x, *(align_time(value, x) for value in schedule))

    return v


def at(form):
    return lambda x, x1, t: form(x, x1, align_time(t, x))


def wide(form):
    return lambda x, x1, w, t: form(x, x1, align_time(w, x), align_time(t, x))


def ends(form):
    return lambda path, t: torch.stack(form(path.alpha(t), path.sigma(t)))


def flat(form):
    return lambda w, t: torch.stack(form(w, t))


straight = wide(lambda x, x1, w, t: x1 - (1 - w) / (1 - (1 - w) * t) * (x - t * x1))
WRONG = [
    ("target", "straight path", lambda x0, x1, t: x1 - x0),
    ("target", "this is the point", at(lambda x0, x1, t: t**2 * x1 + (1 - t**2) * x0)),
    ("target", "σ' is missing", at(lambda x0, x1, t: 2 * t * x1)),
    ("target", "σ' is negative", at(lambda x0, x1, t: 2 * t * (x1 + x0))),
    ("target", "the sign is flipped", at(lambda x0, x1, t: 2 * t * (x0 - x1))),
    ("target", "constant factor", at(lambda x0, x1, t: t * (x1 - x0))),
    ("target", "time runs backward", at(lambda x0, x1, t: 2 * (1 - t) * (x1 - x0))),
    ("target", "wrong axis", lambda x0, x1, t: 2 * t * (x1 - x0)),
    ("target", "shape", lambda x0, x1, t: target(x0, x1, t).sum(1)),
    ("field", "the cloud shrinks", at(lambda x, x1, t: t / (1 - t**2) * (x - t * x1) + x1)),
    ("field", "not σ'", at(lambda x, x1, t: -t / (1 - t**2) ** 0.5 * (x - t * x1) + x1)),
    ("field", "not 1/σ", at(lambda x, x1, t: (x - t * x1) / (1 - t**2) ** 0.5 + x1)),
    ("field", "not x$", at(lambda x, x1, t: -t / (1 - t**2) * x + x1)),
    ("field", "not from x1", at(lambda x, x1, t: -t / (1 - t**2) * (x - x1) + x1)),
    ("field", "μ' = x1 is missing", at(lambda x, x1, t: -t / (1 - t**2) * (x - t * x1))),
    ("field", "straight path", at(lambda x, x1, t: (x1 - x) / (1 - t))),
    ("field", "contributes 1/", at(lambda x, x1, t: -2 * t / (1 - t**2) * (x - t * x1) + x1)),
    ("field", "the sign is flipped", at(lambda x, x1, t: (t * x - x1) / (1 - t**2))),
    ("field", "time runs backward", lambda x, x1, t: field(x, x1, 1 - t)),
    (
        "velocity from noise",
        "this is the data",
        scheduled(lambda n, x, a, s, da, ds: (x - s * n) / a),
    ),
    (
        "velocity from noise",
        "x0 is missing",
        scheduled(lambda n, x, a, s, da, ds: da * (x - s * n) / a),
    ),
    (
        "velocity from noise",
        "already negative",
        scheduled(lambda n, x, a, s, da, ds: da * (x - s * n) / a - ds * n),
    ),
    (
        "velocity from noise",
        "division by α",
        scheduled(lambda n, x, a, s, da, ds: da * (x - s * n) + ds * n),
    ),
    (
        "velocity from noise",
        "noise for the data",
        scheduled(lambda n, x, a, s, da, ds: da * n + ds * (x - a * n) / s),
    ),
    (
        "velocity from noise",
        "noise for the score",
        lambda path, n, x, t: path.velocity_from_score(n, x, t),
    ),
    (
        "velocity from noise",
        "data minus noise",
        scheduled(lambda n, x, a, s, da, ds: (x - s * n) / a - n),
    ),
    ("width", "the factor is σ'/σ", wide(lambda x, x1, w, t: w**t * w.log() * (x - t * x1) + x1)),
    (
        "width",
        "exponential in t",
        wide(lambda x, x1, w, t: t * w ** (t - 1) / w**t * (x - t * x1) + x1),
    ),
    ("width", "negative already", wide(lambda x, x1, w, t: -w.log() * (x - t * x1) + x1)),
    ("width", "μ' = x1 is missing", wide(lambda x, x1, w, t: w.log() * (x - t * x1))),
    ("width", "not x$", wide(lambda x, x1, w, t: w.log() * x + x1)),
    ("width", "falls linearly", straight),
    (
        "width",
        "each data point has its own",
        wide(lambda x, x1, w, t: w.mean().log() * (x - t * x1) + x1),
    ),
    ("clock", "wrong order", ends(lambda a, s: (a + s, a / (a + s)))),
    ("clock", "inverse", ends(lambda a, s: (a / (a + s), 1 / (a + s)))),
    ("clock", "without the scale", ends(lambda a, s: (a / (a + s), torch.ones_like(a)))),
    ("clock", "this is the ratio", ends(lambda a, s: (a / s, s))),
    ("clock", "α is not the time", ends(lambda a, s: (a, torch.ones_like(a)))),
    ("clock", "rise with α", ends(lambda a, s: (s / (a + s), a + s))),
    ("clock", "shape", ends(lambda a, s: (a / (a + s),))),
    ("constant", "not at 0", flat(lambda w, t: (t, 1 - t))),
    (
        "constant",
        "quarter circle",
        flat(lambda w, t: ((math.pi * t / 2).sin(), (math.pi * t / 2).cos())),
    ),
    ("constant", "exponential", flat(lambda w, t: (t, w**t))),
    ("constant", "bends the way", flat(lambda w, t: (t, (1 - t**2) ** 0.5))),
    ("constant", "not the variance", flat(lambda w, t: (t, (1 - (1 - w**2) * t) ** 0.5))),
    ("constant", "other order", flat(lambda w, t: (1 - (1 - w) * t, t))),
    ("constant", "clock runs unevenly", flat(lambda w, t: (t**2, 1 - (1 - w) * t**2))),
]


TestGraders = grader_tests(
    paths,
    list(GRADERS.values()),
    [(GRADERS[name][0], answer, diagnosis) for name, diagnosis, answer in WRONG],
)
