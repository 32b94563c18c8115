"""The exercises of the chapter `guidance`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, returned
from fmtutor.guidance import guided
from fmtutor.notation import VelocityField

__all__ = [
    "grade_average",
    "grade_interval",
    "grade_negative",
    "grade_null",
    "grade_scale",
]


def _normalised(joint: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda prior, rates: joint(prior, rates) / joint(prior, rates).sum()


_PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
_RATES = torch.tensor([0.5, 0.1, 0.2], dtype=torch.float64)

grade_null = grader("grade_null", Exercise(
    name="null",
    task="`null_prior(prior, rates)`, which mixture the null label stands for",
    takes="the probabilities of the labels `[k]` and the rate at which each is dropped `[k]`; "
    "returns the probabilities of the labels in the mixture, `[k]`",
    reference=_normalised(lambda prior, rates: prior * rates),
    inputs=[(_PRIOR, _RATES), (_PRIOR.flip(0), _RATES)],
    mistakes=[
        ("this is the mixture of all data; not every label is dropped alike",
         _normalised(lambda prior, rates: prior)),
        ("these are the labels that keep their label; asked for are those that lose it",
         _normalised(lambda prior, rates: prior * (1 - rates))),
        ("a frequent label is dropped often even at a low rate: its probability counts, too",
         _normalised(lambda prior, rates: rates)),
        ("the rates are probabilities to be dropped, they multiply",
         _normalised(lambda prior, rates: prior / rates)),
        ("probabilities sum to one", lambda prior, rates: prior * rates),
    ],
))  # fmt: skip

grade_scale = grader("grade_scale", Exercise(
    name="scale",
    task="`book_scale(g, off, unconditional)`, a library's number as a scale of this book",
    takes="the library's number, the value at which its guidance is off and the value at which it "
    "gives the unconditional field; returns the scale s",
    reference=lambda g, off, unconditional: (g - unconditional) / (off - unconditional),
    inputs=[(0.25, 2.0, -0.5), (1.5, 0.0, -1.0), (7.5, 1.0, 0.0)],
    mistakes=[
        ("this is the library's own number; where is its guidance off, where at s = 1?",
         lambda g, off, unconditional: g),
        ("1 + g is right for one convention; use off and unconditional",
         lambda g, off, unconditional: 1 + g),
        ("off is s = 1 and unconditional is s = 0; you have them exchanged",
         lambda g, off, unconditional: (g - off) / (unconditional - off)),
        ("the zero is right, the unit is not: off has to become 1",
         lambda g, off, unconditional: g - unconditional),
    ],
))  # fmt: skip


def _mean(
    weights: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Average with `weights(log_p, prior)`, the prior as `[k 1]`."""
    return lambda u_of, log_p, prior: (weights(log_p, prior[:, None])[..., None] * u_of).sum(0)


grade_average = grader("grade_average", Exercise(
    name="average",
    task="`average(u_of, log_p, prior)`, the unconditional field from the conditional ones",
    takes="conditional velocities `[k b d]`, log-densities log p_t(x|y) `[k b]` and the "
    "probabilities of the labels `[k]`; returns velocities `[b d]`",
    reference=_mean(lambda log_p, prior: (log_p + prior.log()).softmax(0)),
    inputs=[
        (normal(1, 3, 4, 2), normal(2, 3, 4), _PRIOR),
        (normal(4, 3, 5, 2), 40 * normal(3, 3, 5) - 800, _PRIOR),  # densities that underflow
    ],
    mistakes=[
        ("weighted by the prior: at x some labels are more likely than others",
         _mean(lambda log_p, prior: prior.expand_as(log_p))),
        ("the prior is missing in Bayes' rule", _mean(lambda log_p, prior: log_p.softmax(0))),
        ("this is the flux: divide by the density p_t(x)",
         _mean(lambda log_p, prior: prior * log_p.exp())),
        ("the weights must sum to one over the labels, not over the points",
         _mean(lambda log_p, prior: (log_p + prior.log()).softmax(1))),
        ("add the logarithm of the prior, not the prior",
         _mean(lambda log_p, prior: (log_p + prior).softmax(0))),
    ],
))  # fmt: skip


def _v_cond(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x.flip(1)) + t.reshape(-1, 1)


def _v_uncond(x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * x - t.reshape(-1, 1).square()


Between = Callable[[VelocityField, VelocityField, float, float, float], VelocityField]


def _between(choose: Callable[..., Tensor]) -> Between:
    """Make a field from `choose(inside, guided, cond, uncond)`, inside as `[b 1]`."""

    def guided_between(
        v_cond: VelocityField, v_uncond: VelocityField, scale: float, first: float, last: float
    ) -> VelocityField:
        def v(x: Tensor, t: Tensor) -> Tensor:
            inside = ((t >= first) & (t < last))[:, None]
            both = guided(v_cond, v_uncond, scale)(x, t)
            return choose(inside, both, v_cond(x, t), v_uncond(x, t))

        return v

    return guided_between


_guided_between = _between(lambda inside, both, cond, uncond: torch.where(inside, both, cond))
_TIMES = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)

grade_interval = grader("grade_interval", Exercise(
    name="interval",
    task="`guided_between(v_cond, v_uncond, scale, first, last)`, guidance for a while",
    takes="two fields, a scale and two times; returns a field that is guided for first ≤ t < last "
    "and conditional otherwise",
    reference=_guided_between,
    # As many points as dimensions: only then does a wrong axis pass without an error.
    inputs=[
        (_v_cond, _v_uncond, 3.0, 0.3, 0.7, normal(5, 3, 3), _TIMES),
        (_v_cond, _v_uncond, 2.0, 0.6, 1.0, normal(6, 3, 3), _TIMES),
        (_v_cond, _v_uncond, 5.0, 0.0, 0.4, normal(7, 3, 3), _TIMES),
    ],
    mistakes=[
        ("this is the function as it was given: look outside the interval, and at the shape of s",
         _between(lambda inside, both, cond, uncond: torch.where(inside[:, 0], both, uncond))),
        ("guided outside the interval, conditional inside",
         _between(lambda inside, both, cond, uncond: torch.where(inside, cond, both))),
        ("outside the interval the field is the conditional one, s = 1, not s = 0",
         _between(lambda inside, both, cond, uncond: torch.where(inside, both, uncond))),
        ("outside the interval nothing moves; it is the conditional field there",
         _between(lambda inside, both, cond, uncond: inside * both)),
        ("the interval is ignored", _between(lambda inside, both, cond, uncond: both)),
        ("t is [b]: each point has a time of its own, not that of the first",
         lambda *given: lambda x, t: _guided_between(*given)(x, t[:1].expand_as(t))),
        ("t is [b]: each point decides for itself, not the first for all",
         _between(lambda inside, both, cond, uncond: torch.where(inside[:1], both, cond))),
        ("the condition [b] was broadcast along the wrong axis: use align_time",
         _between(lambda inside, both, cond, uncond: torch.where(inside[:, 0], both, cond))),
    ],
    probe=returned(2),
))  # fmt: skip

grade_negative = grader("grade_negative", Exercise(
    name="negative",
    task="`weights(s)`, the coefficients of the wanted and the unwanted label",
    takes="the scale s of v_n + s (v_c − v_n); returns (a, b) with v_u + a (v_c − v_u) + "
    "b (v_n − v_u) equal to it",
    reference=lambda s: (s, 1 - s),
    inputs=[(3.0,), (1.0,), (0.5,), (7.5,)],
    mistakes=[
        ("for s above 1 the unwanted label must push away: check the sign of b",
         lambda s: (s, s - 1)),
        ("v_n stands in two places: outside the bracket, too", lambda s: (s, -s)),
        ("the coefficient of v_n − v_u is not zero; put v_c = v_u", lambda s: (s, 0.0)),
        ("a and b are exchanged", lambda s: (1 - s, s)),
    ],
))  # fmt: skip
