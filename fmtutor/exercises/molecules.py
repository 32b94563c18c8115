"""The exercises of the chapter `molecules`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmtutor.couplings import aligned
from fmtutor.exercises.grading import Exercise, grader, normal
from fmtutor.molecules import centred, centred_log_prob, effective_sample_size

__all__ = ["grade_density", "grade_size", "grade_turn", "grade_velocity"]


def _shifted(count: int) -> float:
    return 0.5 * count * math.log(2 * math.pi)


grade_density = grader("grade_density", Exercise(
    name="density",
    task="`log_density(x, s)`, the log-density of centred noise whose numbers have the standard "
    "deviation s",
    takes="centred positions, `[b n d]`, and s > 0, a float; returns `[b]`",
    reference=lambda x, s: centred_log_prob(x / s)
    - (x.shape[1] - 1) * x.shape[2] * math.log(s),
    inputs=[(centred(normal(1, 4, 3, 2)), 1.0), (centred(normal(2, 3, 5, 3)), 1.7),
            (centred(normal(3, 2, 2, 1)), 0.4)],
    mistakes=[
        ("this counts all n·d numbers; the centre takes d of them away",
         lambda x, s: centred_log_prob(x / s) - _shifted(x.shape[2])
         - x.shape[1] * x.shape[2] * math.log(s)),
        ("this takes one dimension away; the centre has d",
         lambda x, s: centred_log_prob(x / s) - _shifted(x.shape[2] - 1)
         - (x.shape[1] * x.shape[2] - 1) * math.log(s)),
        ("the volume: wider noise is thinner, by s in each dimension",
         lambda x, s: centred_log_prob(x / s)),
        ("the exponent is −‖x‖²/(2s²)",
         lambda x, s: centred_log_prob(x / s) - (x.shape[1] - 1) * x.shape[2] * math.log(s)
         - 0.5 * (x / s).square().sum((1, 2))),
    ],
))  # fmt: skip


def _turn(x0: Tensor, x1: Tensor, mirrors: bool = False) -> Tensor:
    return aligned(range(x0.shape[1]), mirrors=mirrors)(x0, x1)[0]


def _matrix(x0: Tensor, x1: Tensor, place: int = -1) -> Tensor:
    """Return the turns `[b d d]`, with the sign that may be needed at a place of the diagonal."""
    u, _, vh = torch.linalg.svd(x0.mT @ x1)
    signs = torch.ones(x0.shape[0], x0.shape[2], 1, dtype=x0.dtype)
    signs[:, place, 0] = torch.linalg.det(u @ vh).sign()
    turn: Tensor = u @ (signs * vh)
    return turn


def _clouds(seed: int, b: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    return centred(normal(seed, b, n, d)), centred(normal(seed + 50, b, n, d))


grade_turn = grader("grade_turn", Exercise(
    name="turn",
    task="`turned(x0, x1)`, each x0 turned (without a mirror) to be nearest to its x1",
    takes="centred positions, `[b n d]` each; returns `[b n d]`",
    reference=_turn,
    inputs=[_clouds(1, 8, 4, 3), _clouds(2, 6, 3, 2)],
    mistakes=[
        ("this may be a mirror image; make the determinant one",
         lambda x0, x1: _turn(x0, x1, mirrors=True)),
        ("this turns the other way: the transpose",
         lambda x0, x1: x0 @ _matrix(x0, x1).mT),
        ("the sign belongs to the smallest singular value, the last one",
         lambda x0, x1: x0 @ _matrix(x0, x1, place=0)),
        ("this turns x1 to x0; x0 is to be turned", lambda x0, x1: _turn(x1, x0)),
    ],
))  # fmt: skip


def _size(log_w: Tensor) -> float:
    return effective_sample_size(log_w)


grade_size = grader("grade_size", Exercise(
    name="size",
    task="`effective_size(log_w)`, the effective sample size as a share of the samples",
    takes="logarithms of weights, `[n]`, of any size; returns a float in (0, 1]",
    reference=_size,
    inputs=[(normal(1, 30),), (3 * normal(2, 50) - 5000,), (normal(3, 20) + 5000,)],
    mistakes=[
        ("this looks at the largest weight alone; all squares count",
         lambda log_w: (1 / (len(log_w) * log_w.softmax(0).max())).item()),
        ("this is the number of samples; the share is wanted",
         lambda log_w: len(log_w) * effective_sample_size(log_w)),
        ("the square of the sum over the sum of squares, and not the other way round",
         lambda log_w: 1 / effective_sample_size(log_w)),
        ("these are the logarithms; the weights are their exponentials",
         lambda log_w: (log_w.sum() ** 2 / log_w.square().sum() / len(log_w)).item()),
    ],
))  # fmt: skip


def _weight(r: Tensor) -> Tensor:
    return torch.exp(-r) - 0.3


def _differences(x: Tensor) -> Tensor:
    return x[:, :, None] - x[:, None, :]


def _velocity(x: Tensor) -> Tensor:
    gap = _differences(x)
    return (_weight(gap.norm(dim=3))[..., None] * gap).sum(2)


def _unit(x: Tensor) -> Tensor:
    gap = _differences(x)
    r: Tensor = gap.norm(dim=3)[..., None]
    return (_weight(r) * gap / r.clamp(min=1e-9)).sum(2)


def _from_centre(x: Tensor) -> Tensor:
    r = _differences(x).norm(dim=3)
    return _weight(r).sum(2)[..., None] * centred(x)


grade_velocity = grader("grade_velocity", Exercise(
    name="velocity",
    task="`velocity(x)`, Σ_j w(r_ij)(x_i − x_j) with w(r) = e^(−r) − 0.3",
    takes="positions, `[b n d]`; returns `[b n d]`",
    reference=_velocity,
    inputs=[(normal(1, 3, 4, 2),), (normal(2, 2, 5, 3),)],
    mistakes=[
        ("the differences have the other sign: x_i − x_j", lambda x: -_velocity(x)),
        ("these are unit vectors; the differences keep their length", _unit),
        ("the weights multiply the distance to the centre; each belongs to one pair",
         _from_centre),
    ],
))  # fmt: skip
