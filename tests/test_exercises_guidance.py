"""The graders of `guidance`: the right answer passes, each usual mistake is named."""

import torch
from grading import grader_tests

from fmtutor.exercises import guidance
from fmtutor.notation import align_time


def drop(labels, uniform, rate, null):
    return torch.where(uniform < rate, null, labels)


def book_scale(g, off, unconditional):
    return (g - unconditional) / (off - unconditional)


def average(u_of, log_p, prior):
    posterior = (prior.log()[:, None] + log_p).softmax(0)
    return torch.einsum("kb,kbd->bd", posterior, u_of)


def between(inside=lambda t, a, b: (t >= a) & (t < b), outside=lambda c, u: c, flip=False):
    """A family of answers: who is inside, what holds outside, and with both exchanged."""

    def guided_between(v_cond, v_uncond, scale, first, last):
        def v(x, t):
            c, u = v_cond(x, t), v_uncond(x, t)
            parts = (u + scale * (c - u), outside(c, u))
            where = align_time(inside(t, first, last), x)
            return torch.where(where, *(parts[::-1] if flip else parts))

        return v

    return guided_between


def wrong_axis(v_cond, v_uncond, scale, first, last):
    def v(x, t):
        c, u = v_cond(x, t), v_uncond(x, t)
        return torch.where((t >= first) & (t < last), u + scale * (c - u), c)

    return v


def first_time(v_cond, v_uncond, scale, first, last):
    right = between()(v_cond, v_uncond, scale, first, last)
    return lambda x, t: right(x, t[:1].expand(len(t)))


def weights(s):
    return s, 1 - s


RIGHT = [
    (guidance.grade_drop, drop),
    (guidance.grade_scale, book_scale),
    (guidance.grade_average, average),
    (guidance.grade_interval, between()),
    (guidance.grade_negative, weights),
    (guidance.grade_negative, lambda s: torch.tensor([s, 1 - s])),
]

WRONG = [
    (guidance.grade_drop, lambda y, r, p, null: torch.where(r < p, y, null), "share that is kept"),
    (
        guidance.grade_drop,
        lambda y, r, p, null: torch.full_like(y, null) if r[0] < p else y,
        "decides for the whole batch",
    ),
    (guidance.grade_drop, lambda y, r, p, null: drop(y, r, p, 0), "0 is a class"),
    (
        guidance.grade_drop,
        lambda y, r, p, null: torch.where(torch.arange(8) < round(p * 8), null, y),
        "first few of the batch",
    ),
    (guidance.grade_scale, lambda g, off, none: g, "the library's own number"),
    (guidance.grade_scale, lambda g, off, none: 1 + g, "right for one convention"),
    (
        guidance.grade_scale,
        lambda g, off, none: book_scale(g, none, off),
        "you have them exchanged",
    ),
    (guidance.grade_scale, lambda g, off, none: g - none, "off has to become 1"),
    (
        guidance.grade_average,
        lambda u, log_p, prior: torch.einsum("k,kbd->bd", prior, u),
        "weighted by the prior",
    ),
    (
        guidance.grade_average,
        lambda u, log_p, prior: average(u, log_p, torch.ones(3)),
        "the prior is missing",
    ),
    (
        guidance.grade_average,
        lambda u, log_p, prior: torch.einsum("k,kb,kbd->bd", prior, log_p.exp(), u),
        "this is the flux",
    ),
    (
        guidance.grade_average,
        lambda u, log_p, prior: torch.einsum(
            "kb,kbd->bd", (prior.log()[:, None] + log_p).softmax(1), u
        ),
        "not over the points",
    ),
    (
        guidance.grade_average,
        lambda u, log_p, prior: average(u, log_p, prior.exp()),
        "logarithm of",
    ),
    (
        guidance.grade_average,
        lambda u, log_p, prior: (
            torch.einsum("k,kb,kbd->bd", prior, log_p.exp(), u) / (prior @ log_p.exp())[:, None]
        ),
        "NaN or infinite",
    ),
    (guidance.grade_interval, between(flip=True), "conditional inside"),
    (guidance.grade_interval, between(outside=lambda c, u: u), "not s = 0"),
    (guidance.grade_interval, between(outside=lambda c, u: 0 * u), "nothing moves"),
    (guidance.grade_interval, between(lambda t, a, b: t > -1), "the interval is ignored"),
    (guidance.grade_interval, first_time, "not that of the first"),
    (
        guidance.grade_interval,
        between(lambda t, a, b: ((t >= a) & (t < b))[:1].expand(len(t))),
        "not the first for all",
    ),
    (guidance.grade_interval, wrong_axis, "wrong axis"),
    (guidance.grade_negative, lambda s: (s, s - 1), "sign of b"),
    (guidance.grade_negative, lambda s: (s, -s), "two places"),
    (guidance.grade_negative, lambda s: (s, 0.0), "is not zero"),
    (guidance.grade_negative, lambda s: (1 - s, s), "exchanged"),
]

TestGraders = grader_tests(guidance, RIGHT, WRONG)


def test_an_answer_without_a_field_is_no_attempt(capsys):
    guidance.grade_interval(lambda *arguments: None)
    guidance.grade_negative(lambda s: None)
    assert capsys.readouterr().out.count("not attempted yet") == 2
