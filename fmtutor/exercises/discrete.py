"""The exercises of the chapter `discrete`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fmtutor.exercises.grading import Exercise, grader, uniform
from fmtutor.jumps import sample_tokens
from fmtutor.notation import Field
from fmtutor.paths import MixturePath

__all__ = ["grade_equal_share", "grade_fill", "grade_posterior", "grade_rate"]


def _rate(
    pace: Callable[[float, float], float], leaves: bool = True
) -> Callable[[Tensor, Tensor, float, float], Tensor]:
    def rate_of(x: Tensor, posterior: Tensor, kappa: float, d_kappa: float) -> Tensor:
        here = one_hot(x, posterior.shape[-1]) if leaves else 0
        return pace(kappa, d_kappa) * (posterior - here)

    return rate_of


_TOKENS = torch.tensor([[0, 2, 3], [1, 1, 0]])

grade_rate = grader("grade_rate", Exercise(
    name="rate",
    task="`rate_of(x, posterior, kappa, d_kappa)`, the marginal rates of each token",
    takes="tokens `[b n]`, their posterior `[b n k]` and the numbers κ and κ'; returns rates "
    "`[b n k]`",
    reference=_rate(lambda k, d: d / (1 - k)),
    inputs=[
        (_TOKENS, uniform(1, 2, 3, 4).softmax(-1), 0.3, 0.8),
        (_TOKENS, uniform(2, 2, 3, 5).softmax(-1), 0.7, 1.9),
    ],
    mistakes=[
        ("each row adds up to 0: what is drawn leaves the token that is there",
         _rate(lambda k, d: d / (1 - k), leaves=False)),
        ("only a share 1 − κ is left to become the data's, so the pace is κ'/(1 − κ)",
         _rate(lambda k, d: d)),
        ("the pace depends on what is left, 1 − κ, not on what is done", _rate(lambda k, d: d / k)),
        ("how fast κ rises counts as well", _rate(lambda k, d: 1 / (1 - k))),
    ],
))  # fmt: skip


def _seen(
    agree: Callable[[int, float], float],
    differ: Callable[[int, float], float],
    others: bool = True,
) -> Callable[[Tensor, Tensor, float], Tensor]:
    def posterior_of(table: Tensor, x: Tensor, kappa: float) -> Tensor:
        k = len(table)
        likely = torch.full_like(table, differ(k, kappa))  # [data seen]
        likely.fill_diagonal_(agree(k, kappa))
        rows, columns = likely[:, x[0]].unsqueeze(1), likely[:, x[1]].unsqueeze(0)
        both = [table * rows * columns] * 2 if others else [table * rows, table * columns]
        return torch.stack([p.sum(1 - i) / p.sum() for i, p in enumerate(both)])

    return posterior_of


def _shown(k: int, kappa: float) -> float:
    return kappa + (1 - kappa) / k


def _by_chance(k: int, kappa: float) -> float:
    return (1 - kappa) / k


_TABLE = uniform(3, 4, 4).double() ** 3

grade_posterior = grader("grade_posterior", Exercise(
    name="posterior",
    task="`posterior_of(table, x, kappa)`, the posterior of two tokens whose source is uniform",
    takes="the law of the data `[k k]`, the tokens `[2]` that are seen and the number κ; returns "
    "probabilities `[2 k]`",
    reference=_seen(_shown, _by_chance),
    inputs=[
        (_TABLE, torch.tensor([0, 2]), 0.3),
        (_TABLE, torch.tensor([3, 3]), 0.8),
        (_TABLE.T.contiguous(), torch.tensor([1, 2]), 0.1),
    ],
    mistakes=[
        ("what the other place shows tells of this one, too",
         _seen(_shown, _by_chance, others=False)),
        ("the source may show the data's token as well: they agree with κ + (1 − κ)/k",
         _seen(lambda k, kappa: kappa, _by_chance)),
        ("each other token is shown with (1 − κ)/k: the source is one of k",
         _seen(lambda k, kappa: 1.0, lambda k, kappa: 1 - kappa)),
        ("a token of this source is no mask: what is seen may be noise",
         _seen(lambda k, kappa: 1.0, lambda k, kappa: 0.0)),
    ],
))  # fmt: skip


def _share(
    two: Callable[[int], float], three: Callable[[int], float]
) -> Callable[[int, int], float]:
    def equal_share(k: int, N: int) -> float:
        return three(N) / k**2 + two(N) / k + 1 - three(N) - two(N)

    return equal_share


grade_equal_share = grader("grade_equal_share", Exercise(
    name="equal share",
    task="`equal_share(k, N)`, the share of three equal tokens among samples of three masked "
    "tokens that should be equal",
    takes="the number of tokens and of steps; returns a float",
    reference=_share(lambda N: 3 * (N - 1) / (2 * N**2), lambda N: 1 / N**2),
    inputs=[(2, 1), (2, 4), (5, 3), (16, 10)],
    mistakes=[
        ("if two agree in a later step than the third, they copy it: only the earliest step counts",
         _share(lambda N: 3 * (N - 1) / N**2, lambda N: 1 / N**2)),
        ("three can share a step, too", _share(lambda N: 3 * (N - 1) / (2 * N**2), lambda N: 0.0)),
        ("two of three can share the earliest step, too",
         _share(lambda N: 0.0, lambda N: 1 / N**2)),
        ("the bound says at most so many go wrong; count those that do",
         lambda k, N: 1 - min(1.0, 3 / N)),
    ],
))  # fmt: skip


def _told(x: Tensor, t: Tensor) -> Tensor:
    """Be sure of a token that depends on all that are seen."""
    seen = torch.where(x == 5, 0, x).sum(1, keepdim=True)
    return 200.0 * one_hot((seen + torch.arange(x.shape[1])) % 5, 5)


def _fill(logits: Field, given: Tensor, path: MixturePath, steps: int, seed: int) -> Tensor:
    gap = given == -1
    x0 = torch.where(gap, path.tokens, given)
    return sample_tokens(logits, x0, path, steps=steps, fixed=~gap, seed=seed)


def _overwrite(logits: Field, given: Tensor, path: MixturePath, steps: int, seed: int) -> Tensor:
    drawn = sample_tokens(logits, path.noise(given.clamp(min=0)), path, steps=steps, seed=seed)
    return torch.where(given == -1, drawn, given)


def _forget(logits: Field, given: Tensor, path: MixturePath, steps: int, seed: int) -> Tensor:
    return sample_tokens(logits, path.noise(given.clamp(min=0)), path, steps=steps, seed=seed)


def _guess(logits: Field, given: Tensor, path: MixturePath, steps: int, seed: int) -> Tensor:
    return sample_tokens(logits, given.clamp(min=0), path, steps=steps, seed=seed)


_GAPS = torch.tensor([[1, -1, 3, -1], [4, 2, -1, 0], [-1, 4, 4, 3]])

grade_fill = grader("grade_fill", Exercise(
    name="fill",
    task="`fill(logits, given, path, steps, seed)`, sequences without gaps",
    takes="a network, tokens `[b n]` with −1 in the gaps, a masked path, the number of steps and a "
    "seed; returns tokens `[b n]`",
    reference=_fill,
    inputs=[
        (_told, _GAPS, MixturePath(5), 1, 0),
        (_told, _GAPS[1:], MixturePath(5), 1, 1),
        (_told, _GAPS, MixturePath(5), 4, 2),
    ],
    mistakes=[
        ("the gaps were filled as if nothing were given: what is known must be seen from the start",
         _overwrite),
        ("the tokens that were given are gone", _forget),
        ("a gap is a mask, not the token 0", _guess),
    ],
))  # fmt: skip
