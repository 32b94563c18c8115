"""The exercises of the chapter `quickstart`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.data import cluster_means, four_clusters
from fmtutor.exercises.grading import Exercise, grader, normal, uniform
from fmtutor.notation import VelocityField, align_time
from fmtutor.solvers import sample

__all__ = ["grade_euler", "grade_loss", "grade_one_step", "grade_point"]


def _batch(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise, data and times in single precision, as a reader's network takes them."""
    batch = (normal(seed, *shape), normal(seed + 10, *shape), uniform(seed + 20, shape[0]))
    return batch[0].float(), batch[1].float(), batch[2].float()


def _field(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x.flip(1)) + align_time(torch.as_tensor(t), x) ** 2 - 0.3 * x


Euler = Callable[[VelocityField, Tensor, int], Tensor]


def _euler(
    h: Callable[[int], float] = lambda n: 1 / n,
    clock: Callable[[float], float] = lambda t: t,
    after: float = 0.0,
    moves: bool = True,
) -> Euler:
    """Take steps of a wrong length, at wrong times, or with the velocity of the start."""

    def euler(v: VelocityField, x0: Tensor, steps: int) -> Tensor:
        x = x0
        for k in range(steps):
            t = torch.full((len(x),), min(clock((k + after) / steps), 1.0))
            x = x + h(steps) * v(x if moves else x0, t)
        return x

    return euler


def _too_long(n: int) -> float:
    return 1 / max(n - 1, 1)


def _backward(t: float) -> float:
    return 1 - t


grade_euler = grader("grade_euler", Exercise(
    name="euler",
    task="`mended(v, x0, steps)`, the integration of dx/dt = v(x, t) from 0 to 1",
    takes="a field, points `[b d]` and the number of steps; returns points `[b d]`",
    reference=lambda v, x0, steps: sample(v, x0, steps=steps),
    inputs=[(_field, _batch(13, 32, 2)[0], steps) for steps in (7, 1)],
    mistakes=[
        ("the step is 1/(steps - 1); N steps from 0 to 1 have length 1/N", _euler(_too_long)),
        ("the field is evaluated at the end of each step", _euler(after=1.0)),
        ("the field is asked at x0; ask it where the point is now", _euler(moves=False)),
        ("the clock runs from data to noise; noise is at t = 0", _euler(clock=_backward)),
        ("two errors are left: the step's length, and where the field is asked",
         _euler(_too_long, moves=False)),
        ("two errors are left: the step's length, and the direction of the clock",
         _euler(_too_long, _backward)),
        ("two errors are left: where and when the field is asked",
         _euler(clock=_backward, moves=False)),
        ("it runs from t = 1 to t = 0, which turns data into noise",
         lambda v, x0, steps: sample(v, x0, steps=steps, t0=1.0, t1=0.0)),
        ("the step length is missing: x + h v, with h = 1/steps", _euler(lambda n: 1.0)),
    ],
))  # fmt: skip


def _affine(x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * x + align_time(t, x)


def _square(v: VelocityField, x0: Tensor, x1: Tensor, t: Tensor, time: Tensor) -> Tensor:
    """Return the squared error per entry, with the times [b] brought to the points as `time`."""
    return (v((1 - time) * x0 + time * x1, t) - (x1 - x0)).square()


grade_loss = grader("grade_loss", Exercise(
    name="loss",
    task="`loss(v, x0, x1, t)`, the conditional loss for points of any shape",
    takes="a field, noise and data `[b ...]` and times `[b]`; returns a 0-d tensor",
    reference=lambda v, x0, x1, t: _square(v, x0, x1, t, align_time(t, x1)).mean(),
    # Images with as many rows as there are images in the batch: t[:, None] does not raise.
    inputs=[(_affine, *_batch(14, 64, 2)), (_affine, *_batch(15, 8, 1, 8, 8))],
    mistakes=[
        ("a mean over batch and dimensions is asked for, this sums over dimensions",
         lambda v, x0, x1, t: _square(v, x0, x1, t, align_time(t, x1)).sum() / len(x1)),
        ("t[:, None] aligns with the rows of an image; t needs the shape [b 1 1 1]",
         lambda v, x0, x1, t: _square(v, x0, x1, t, t[:, None]).mean()),
        ("the network must see the mixed point x_t, not the data x1",
         lambda v, x0, x1, t: (v(x1, t) - (x1 - x0)).square().mean()),
    ],
))  # fmt: skip

grade_one_step = grader("grade_one_step", Exercise(
    name="one step",
    task="`one_step(x0, data)`, where a single Euler step of the exact field lands",
    takes="noise `[b d]` and a data set `[n d]`; returns points `[b d]`",
    reference=lambda x0, data: data.mean(0).expand_as(x0),
    inputs=[
        (_batch(17, 16, 2)[0], four_clusters(500, seed=16)[:400] + cluster_means(4, 1.0)[0])
    ],
    mistakes=[
        ("this is the nearest data point; at t = 0 every point is still possible",
         lambda x0, data: data[torch.cdist(x0, data).argmin(1)]),
        ("this is the velocity at t = 0; the step adds it to x0",
         lambda x0, data: data.mean(0) - x0),
    ],
))  # fmt: skip


def _one_point(speed: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda x, t, c: speed(t[:, None]) * (c - x)


grade_point = grader("grade_point", Exercise(
    name="one point",
    task="`field_of_one_point(x, t, c)`, what is learned from one data point c: (c - x)/(1 - t)",
    takes="points `[b d]`, times `[b]` below 1, the data point `[d]`; returns velocities `[b d]`",
    reference=_one_point(lambda t: 1 / (1 - t)),
    inputs=[
        (normal(18, b, 2), uniform(19, b, high=0.95), normal(20, 2)) for b in (2, 16)
    ],
    mistakes=[
        ("the sign is flipped: the points run away from c",
         _one_point(lambda t: -1 / (1 - t))),
        ("the time that remains is missing: a point that is late has to hurry",
         _one_point(torch.ones_like)),
        ("the times [b] divided the coordinates; t[:, None] makes them [b 1]",
         lambda x, t, c: (c - x) / (1 - t)),
    ],
))  # fmt: skip
