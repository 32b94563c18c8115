"""The exercises of the chapter `quickstart`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.data import cluster_means, four_clusters
from fmtutor.exercises.grading import Exercise, grader, normal, uniform
from fmtutor.notation import VelocityField, align_time
from fmtutor.paths import CondOT
from fmtutor.solvers import sample

__all__ = ["grade_euler", "grade_interpolate", "grade_loss", "grade_one_step"]


def _batch(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise, data and times in single precision, as a reader's network takes them."""
    batch = (normal(seed, *shape), normal(seed + 10, *shape), uniform(seed + 20, shape[0]))
    return batch[0].float(), batch[1].float(), batch[2].float()


def _interpolate(x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    s = CondOT().sample(x0, x1, t)
    return s.xt, s.ut


grade_interpolate = grader("grade_interpolate", Exercise(
    name="interpolate",
    task="`interpolate(x0, x1, t) -> (xt, ut)`, the straight path and its target",
    takes="noise `[b d]`, data `[b d]` and times `[b]`; returns two tensors `[b d]`",
    reference=_interpolate,
    # A batch as large as the dimension: the wrong broadcast does not raise there.
    inputs=[_batch(11, 3, 3), _batch(12, 64, 2)],
    mistakes=[
        ("noise and data are swapped: t = 0 is noise, t = 1 is data",
         lambda x0, x1, t: _interpolate(x1, x0, t)),
        ("the target points from data to noise; it is dx_t/dt = x1 - x0",
         lambda x0, x1, t: (_interpolate(x0, x1, t)[0], x0 - x1)),
        ("t [b] was broadcast along the last axis; write t[:, None] for points [b d]",
         lambda x0, x1, t: ((1 - t) * x0 + t * x1, x1 - x0)),
    ],
))  # fmt: skip


def _field(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x.flip(1)) + align_time(torch.as_tensor(t), x) ** 2 - 0.3 * x


Euler = Callable[[VelocityField, Tensor, int], Tensor]


def _euler(h: Callable[[int], float], first: int = 0) -> Euler:
    """Take steps of a wrong length, or from a wrong time on."""

    def euler(v: VelocityField, x: Tensor, steps: int) -> Tensor:
        for k in range(first, steps + first):
            x = x + h(steps) * v(x, torch.full((len(x),), min(k / steps, 1.0)))
        return x

    return euler


grade_euler = grader("grade_euler", Exercise(
    name="euler",
    task="`euler(v, x0, steps)`, the integration of dx/dt = v(x, t) from 0 to 1",
    takes="a field, points `[b d]` and the number of steps; returns points `[b d]`",
    reference=lambda v, x0, steps: sample(v, x0, steps=steps),
    inputs=[(_field, _batch(13, 32, 2)[0], steps) for steps in (7, 1)],
    mistakes=[
        ("the step is 1/(steps - 1); N steps from 0 to 1 have length 1/N",
         _euler(lambda n: 1 / max(n - 1, 1))),
        ("the field is evaluated at the end of each step", _euler(lambda n: 1 / n, first=1)),
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
