"""The graders of the chapter `guidance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.guidance import guided
from fmtutor.notation import VelocityField

__all__ = [
    "grade_average",
    "grade_drop",
    "grade_interval",
    "grade_negative",
    "grade_scale",
]

Between = Callable[[VelocityField, VelocityField, float, float, float], VelocityField]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grade_drop(answer: Callable[[Tensor, Tensor, float, int], Tensor]) -> None:
    """Grade `drop(labels, uniform, rate, null)`, label dropout with the random numbers given.

    Args:
        answer: Takes labels `[b]`, uniform random numbers `[b]` in [0, 1), a rate and the null
            label; returns labels `[b]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(labels: Tensor, uniform: Tensor, rate: float, null: int) -> Tensor:
        return torch.where(uniform < rate, null, labels)

    def keeps(labels: Tensor, uniform: Tensor, rate: float, null: int) -> Tensor:
        return torch.where(uniform < rate, labels, null)

    def whole_batch(labels: Tensor, uniform: Tensor, rate: float, null: int) -> Tensor:
        return torch.full_like(labels, null) if uniform[0] < rate else labels

    def to_zero(labels: Tensor, uniform: Tensor, rate: float, null: int) -> Tensor:
        return torch.where(uniform < rate, 0, labels)

    def a_number(labels: Tensor, uniform: Tensor, rate: float, null: int) -> Tensor:
        count = round(rate * len(labels))
        return torch.cat([torch.full_like(labels[:count], null), labels[count:]])

    g = torch.Generator().manual_seed(0)
    labels, uniform = torch.tensor([1, 0, 2, 2, 1, 0, 1, 2]), torch.rand(8, generator=g)
    grade(
        "drop",
        answer,
        reference,
        [(labels, uniform, 0.6, 3), (labels, uniform, 0.2, 3), (labels, uniform, 0.9, 3)],
        mistakes=[
            ("the rate is the share that is dropped, not the share that is kept", keeps),
            (
                "one random number decides for the whole batch; each label needs its own",
                whole_batch,
            ),
            ("0 is a class: the null label is the one given", to_zero),
            ("each label is dropped by its own number, not the first few of the batch", a_number),
        ],
    )


def grade_scale(answer: Callable[[float, float, float], float]) -> None:
    """Grade `book_scale(g, off, unconditional)`, a library's number as a scale of this book.

    Args:
        answer: Takes the library's number, the value at which its guidance is off and the value
            at which it gives the unconditional field; returns the scale s.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(g: float, off: float, unconditional: float) -> float:
        return (g - unconditional) / (off - unconditional)

    def as_it_is(g: float, off: float, unconditional: float) -> float:
        return g

    def plus_one(g: float, off: float, unconditional: float) -> float:
        return 1 + g

    def roles(g: float, off: float, unconditional: float) -> float:
        return (g - off) / (unconditional - off)

    def no_unit(g: float, off: float, unconditional: float) -> float:
        return g - unconditional

    grade(
        "scale",
        answer,
        reference,
        [(0.25, 2.0, -0.5), (1.5, 0.0, -1.0), (7.5, 1.0, 0.0)],
        mistakes=[
            (
                "this is the library's own number; where is its guidance off, where at s = 1?",
                as_it_is,
            ),
            ("1 + g is right for one convention; use off and unconditional", plus_one),
            ("off is s = 1 and unconditional is s = 0; you have them exchanged", roles),
            ("the zero is right, the unit is not: off has to become 1", no_unit),
        ],
    )


def grade_average(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `average(u_of, log_p, prior)`, the unconditional field from the conditional ones.

    Args:
        answer: Takes conditional velocities `[k b d]`, log-densities log p_t(x|y) `[k b]` and the
            probabilities of the labels `[k]`; returns velocities `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def mean(weights: Tensor, u_of: Tensor) -> Tensor:
        return (weights[..., None] * u_of).sum(0)

    def reference(u_of: Tensor, log_p: Tensor, prior: Tensor) -> Tensor:
        return mean((log_p + prior.log()[:, None]).softmax(0), u_of)

    def prior_only(u_of: Tensor, log_p: Tensor, prior: Tensor) -> Tensor:
        return mean(prior[:, None].expand_as(log_p), u_of)

    def no_prior(u_of: Tensor, log_p: Tensor, prior: Tensor) -> Tensor:
        return mean(log_p.softmax(0), u_of)

    def flux(u_of: Tensor, log_p: Tensor, prior: Tensor) -> Tensor:
        return mean(prior[:, None] * log_p.exp(), u_of)

    def over_points(u_of: Tensor, log_p: Tensor, prior: Tensor) -> Tensor:
        return mean((log_p + prior.log()[:, None]).softmax(1), u_of)

    def logs(u_of: Tensor, log_p: Tensor, prior: Tensor) -> Tensor:
        return mean((log_p + prior[:, None]).softmax(0), u_of)

    prior = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    far = 40 * _random(3, 3, 5) - 800  # densities that underflow
    grade(
        "average",
        answer,
        reference,
        [
            (_random(1, 3, 4, 2), _random(2, 3, 4), prior),
            (_random(4, 3, 5, 2), far, prior),
        ],
        mistakes=[
            ("weighted by the prior: at x some labels are more likely than others", prior_only),
            ("the prior is missing in Bayes' rule", no_prior),
            ("this is the flux: divide by the density p_t(x)", flux),
            ("the weights must sum to one over the labels, not over the points", over_points),
            ("add the logarithm of the prior, not the prior", logs),
        ],
    )


def grade_interval(answer: Between) -> None:
    """Grade `guided_between(v_cond, v_uncond, scale, first, last)`, guidance for a while.

    Args:
        answer: Takes two fields, a scale and two times; returns a field that is guided for
            first ≤ t < last and conditional otherwise.

    Raises:
        GradeError: If the answer is wrong.
    """

    def v_cond(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x.flip(1)) + t.reshape(-1, 1)

    def v_uncond(x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * x - t.reshape(-1, 1).square()

    def inside(t: Tensor, first: float, last: float) -> Tensor:
        return ((t >= first) & (t < last))[:, None]

    Case = tuple[float, float, float, Tensor, Tensor]

    def both(scale: float, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return guided(v_cond, v_uncond, scale)(x, t), v_cond(x, t)

    def reference(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(inside(t, first, last), *both(scale, x, t))

    def exchanged(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(inside(t, first, last), *both(scale, x, t)[::-1])

    def unconditional(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(inside(t, first, last), both(scale, x, t)[0], v_uncond(x, t))

    def zero(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return inside(t, first, last) * both(scale, x, t)[0]

    def first_time(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return reference(scale, first, last, x, t[:1].expand_as(t))

    def first_decides(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(inside(t, first, last)[:1], *both(scale, x, t))

    def wrong_axis(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(inside(t, first, last)[:, 0], *both(scale, x, t))

    def always(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor:
        return both(scale, x, t)[0]

    def called(scale: float, first: float, last: float, x: Tensor, t: Tensor) -> Tensor | None:
        field = answer(v_cond, v_uncond, scale, first, last)
        return field(x, t) if callable(field) else None

    times = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    # As many points as dimensions: only then does a wrong axis pass without an error.
    cases: list[Case] = [
        (3.0, 0.3, 0.7, _random(5, 3, 3), times),
        (2.0, 0.6, 1.0, _random(6, 3, 3), times),
        (5.0, 0.0, 0.4, _random(7, 3, 3), times),
    ]
    grade(
        "interval",
        called,
        reference,
        cases,
        mistakes=[
            ("guided outside the interval, conditional inside", exchanged),
            (
                "outside the interval the field is the conditional one, s = 1, not s = 0",
                unconditional,
            ),
            ("outside the interval nothing moves; it is the conditional field there", zero),
            ("the interval is ignored", always),
            ("t is [b]: each point has a time of its own, not that of the first", first_time),
            ("t is [b]: each point decides for itself, not the first for all", first_decides),
            ("the condition [b] was broadcast along the wrong axis: use align_time", wrong_axis),
        ],
    )


def grade_negative(answer: Callable[[float], tuple[float, float]]) -> None:
    """Grade `weights(s)`, the coefficients of the wanted and the unwanted label.

    Args:
        answer: Takes the scale s of v_n + s (v_c − v_n); returns (a, b) with
            v_u + a (v_c − v_u) + b (v_n − v_u) equal to it.

    Raises:
        GradeError: If the answer is wrong.
    """

    def pair(a: float, b: float) -> Tensor:
        return torch.tensor([a, b], dtype=torch.float64)

    def stacked(s: float) -> Tensor | None:
        given: Any = answer(s)
        if given is None or given is ...:
            return None
        return torch.stack([torch.as_tensor(w) for w in given])

    grade(
        "negative",
        stacked,
        lambda s: pair(s, 1 - s),
        [(3.0,), (1.0,), (0.5,), (7.5,)],
        mistakes=[
            ("for s above 1 the unwanted label must push away: check the sign of b", _flip(pair)),
            ("v_n stands in two places: outside the bracket, too", lambda s: pair(s, -s)),
            ("the coefficient of v_n − v_u is not zero; put v_c = v_u", lambda s: pair(s, 0.0)),
            ("a and b are exchanged", lambda s: pair(1 - s, s)),
        ],
    )


def _flip(pair: Callable[[float, float], Tensor]) -> Callable[[float], Tensor]:
    return lambda s: pair(s, s - 1)
