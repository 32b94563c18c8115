"""The exercises of the chapter `policies`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal

__all__ = ["grade_best", "grade_expectile", "grade_promise", "grade_ratio", "grade_value"]

_P = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
_R = torch.tensor([2.0, -1.0, 0.5, 1.0], dtype=torch.float64)


def _best(p: Tensor, r: Tensor, N: int) -> Tensor:
    order = r.argsort()
    below = torch.cat([p.new_zeros(1), p[order].cumsum(0)])
    found = torch.empty_like(p)
    found[order] = (below**N).diff()
    return found


def _at_least(p: Tensor, r: Tensor) -> Tensor:
    return (p * (r <= r[:, None])).sum(1)


grade_best = grader("grade_best", Exercise(
    name="best of N",
    task="`best_of(p, r, N)`, the law of the best of N draws",
    takes="probabilities `[k]`, rewards `[k]`, no two alike, and the number N; returns "
    "probabilities `[k]`",
    reference=_best,
    inputs=[(_P, _R, 3), (_P.flip(0), _R, 2), (_P, -_R, 5)],
    mistakes=[
        ("that is the probability that all draws are at most as good; take off that all are worse",
         lambda p, r, N: _at_least(p, r) ** N),
        ("a density has N F^(N − 1) q; here F jumps, and the differences of F^N are wanted",
         lambda p, r, N: N * _at_least(p, r) ** (N - 1) * p),
        ("this is the worst of N", lambda p, r, N: _best(p, -r, N)),
        ("this is the chance that an item is among the N", lambda p, r, N: 1 - (1 - p) ** N),
    ],
))  # fmt: skip


def _expectile(
    weigh: Callable[[float, float, float], tuple[float, float]],
) -> Callable[[float, float, float, float], float]:
    def expectile(a: float, b: float, p: float, share: float) -> float:
        low, high = weigh(1 - p, p, share)
        return (low * a + high * b) / (low + high)

    return expectile


grade_expectile = grader("grade_expectile", Exercise(
    name="expectile",
    task="`expectile(a, b, p, share)` of a law of two points",
    takes="the points a < b, the probability p of b, and the share of errors above that counts; "
    "returns a number",
    reference=_expectile(lambda q, p, s: (q * (1 - s), p * s)),
    inputs=[(0.0, 1.0, 0.3, 0.9), (-2.0, 3.0, 0.5, 0.7), (1.0, 4.0, 0.2, 0.2)],
    mistakes=[
        ("that is the mean, where share is one half", _expectile(lambda q, p, s: (q, p))),
        ("errors above, where the value is larger than the answer, have the weight share",
         _expectile(lambda q, p, s: (q * s, p * (1 - s)))),
        ("the probabilities count as well", _expectile(lambda q, p, s: (1 - s, s))),
        ("that is a quantile: the loss is square, not absolute",
         lambda a, b, p, s: b if p > 1 - s else a),
    ],
))  # fmt: skip


def _promise(success: float, episodes: int, checkpoints: int) -> float:
    below, missing = 0.0, 0.0
    for k in range(episodes):
        below += math.comb(episodes, k) * success**k * (1 - success) ** (episodes - k)
        missing += below**checkpoints
    return 1 - missing / episodes


grade_promise = grader("grade_promise", Exercise(
    name="promise",
    task="`promise(success, episodes, checkpoints)`, the mean of the best rate that is seen",
    takes="the true rate and two numbers; returns a number",
    reference=_promise,
    inputs=[(0.5, 4, 3), (0.9, 20, 10), (0.2, 7, 2)],
    mistakes=[
        ("that is the true rate, which the mean of one evaluation is", lambda p, n, m: p),
        ("that is the best of all episodes, not the best rate",
         lambda p, n, m: 1 - (1 - p) ** (n * m)),
        ("that is the chance that some checkpoint has no failure",
         lambda p, n, m: 1 - (1 - p**n) ** m),
        ("the roles of episodes and checkpoints are exchanged", lambda p, n, m: _promise(p, m, n)),
    ],
))  # fmt: skip


def _ratio(
    scale: Callable[[float, float], float], sign: float = 1.0
) -> Callable[[Tensor, Tensor, Tensor, float, float], Tensor]:
    def log_ratio(step: Tensor, new: Tensor, old: Tensor, g: float, h: float) -> Tensor:
        off = (step - h * old).square().sum(1) - (step - h * new).square().sum(1)
        return sign * off / scale(g, h)

    return log_ratio


_MOVES = tuple(normal(seed, 5, 2) for seed in (1, 2, 3))

grade_ratio = grader("grade_ratio", Exercise(
    name="ratio",
    task="`log_ratio(step, new, old, g, h)` of one step of the chain",
    takes="steps x_{k+1} − x_k `[b d]`, the drifts of the new and of the old network `[b d]`, the "
    "size of the noise and the length of a step; returns logarithms `[b]`",
    reference=_ratio(lambda g, h: 2 * g * g * h),
    inputs=[(*_MOVES, 0.7, 0.1), (*_MOVES[::-1], 1.5, 0.04)],
    mistakes=[
        ("new over old, not old over new", _ratio(lambda g, h: 2 * g * g * h, -1.0)),
        ("the variance of a step is g² h, not g²", _ratio(lambda g, h: 2 * g * g)),
        ("the variance of a step is g² h, not g h", _ratio(lambda g, h: 2 * g * h)),
        ("the logarithm of a normal density has a factor of one half",
         _ratio(lambda g, h: g * g * h)),
        ("that is the mean of the ratio's logarithm under the new network, not at this step",
         lambda step, new, old, g, h: h * (new - old).square().sum(1) / (2 * g * g)),
    ],
))  # fmt: skip


grade_value = grader("grade_value", Exercise(
    name="value",
    task="`value(p, r, tau)`, the largest J of a finite law",
    takes="probabilities `[k]`, rewards `[k]` and the temperature; returns a number",
    reference=lambda p, r, tau: tau * (p.log() + r / tau).logsumexp(0),
    inputs=[(_P, _R, 0.5), (_P, _R, 2.0), (_P.flip(0), -_R, 1.3)],
    mistakes=[
        ("that is the behaviour's mean reward, the limit of large τ", lambda p, r, tau: p @ r),
        ("that is the largest reward, the limit of small τ", lambda p, r, tau: r.max()),
        ("the price of leaving the behaviour is missing: that is the tilted law's mean reward",
         lambda p, r, tau: (p.log() + r / tau).softmax(0) @ r),
        ("log Z is in nats; J is in units of reward",
         lambda p, r, tau: (p.log() + r / tau).logsumexp(0)),
    ],
))  # fmt: skip
