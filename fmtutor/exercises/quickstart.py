"""The graders of the chapter `quickstart`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.data import cluster_means, four_clusters
from fmtutor.notation import VelocityField, align_time
from fmtutor.paths import CondOT
from fmtutor.solvers import sample

__all__ = ["grade_euler", "grade_interpolate", "grade_loss", "grade_one_step"]


def _batch(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, *shape, generator=g)
    return x0, x1, torch.rand(shape[0], generator=g)


def grade_interpolate(answer: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Grade `interpolate(x0, x1, t) -> (xt, ut)`, the straight path and its target.

    Args:
        answer: Takes noise `[b d]`, data `[b d]` and times `[b]`; returns two tensors `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        s = CondOT().sample(x0, x1, t)
        return torch.stack([s.xt, s.ut])

    def swapped(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return reference(x1, x0, t)

    def flipped(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        xt, ut = reference(x0, x1, t)
        return torch.stack([xt, -ut])

    def trailing(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return torch.stack([(1 - t) * x0 + t * x1, x1 - x0])

    def stacked(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor | None:
        given: Any = answer(x0, x1, t)
        return None if given is None or given is ... else torch.stack(list(given))

    grade(
        "interpolate",
        stacked,
        reference,
        # A batch as large as the dimension: the wrong broadcast does not raise there.
        [_batch((3, 3), seed=11), _batch((64, 2), seed=12)],
        mistakes=[
            ("noise and data are swapped: t = 0 is noise, t = 1 is data", swapped),
            ("the target points from data to noise; it is dx_t/dt = x1 - x0", flipped),
            (
                "t [b] was broadcast along the last axis; write t[:, None] for points [b d]",
                trailing,
            ),
        ],
    )


def grade_euler(answer: Callable[[VelocityField, Tensor, int], Tensor]) -> None:
    """Grade `euler(v, x0, steps)`, the integration of dx/dt = v(x, t) from 0 to 1.

    Args:
        answer: Takes a field, points `[b d]` and the number of steps; returns points `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x.flip(1)) + align_time(torch.as_tensor(t), x) ** 2 - 0.3 * x

    def reference(x0: Tensor, steps: int) -> Tensor:
        return sample(field, x0, steps=steps)

    def with_step(h: Callable[[int], float], first: int = 0) -> Callable[[Tensor, int], Tensor]:
        def euler(x: Tensor, steps: int) -> Tensor:
            for k in range(first, steps + first):
                x = x + h(steps) * field(x, torch.full((len(x),), min(k / steps, 1.0)))
            return x

        return euler

    def backward(x: Tensor, steps: int) -> Tensor:
        return sample(field, x, steps=steps, t0=1.0, t1=0.0)

    x0, _, _ = _batch((32, 2), seed=13)
    grade(
        "euler",
        lambda x, steps: answer(field, x, steps),
        reference,
        [(x0, 7), (x0, 1)],
        mistakes=[
            ("the step is 1/(steps - 1); N steps from 0 to 1 have length 1/N", with_step(_short)),
            ("the field is evaluated at the end of each step", with_step(lambda n: 1 / n, first=1)),
            ("it runs from t = 1 to t = 0, which turns data into noise", backward),
            ("the step length is missing: x + h v, with h = 1/steps", with_step(lambda n: 1.0)),
        ],
    )


def _short(steps: int) -> float:
    return 1 / max(steps - 1, 1)


def grade_loss(answer: Callable[..., Tensor]) -> None:
    """Grade `loss(v, x0, x1, t)`, the conditional loss for points of any shape.

    Args:
        answer: Takes a field, noise and data `[b ...]` and times `[b]`; returns a 0-d tensor.

    Raises:
        GradeError: If the answer is wrong.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * x + align_time(t, x)

    def loss(x0: Tensor, x1: Tensor, t: Tensor, time: Tensor) -> Tensor:
        xt = (1 - time) * x0 + time * x1
        return (field(xt, t) - (x1 - x0)).square()

    def reference(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return loss(x0, x1, t, align_time(t, x1)).mean()

    def per_point(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return loss(x0, x1, t, align_time(t, x1)).reshape(len(x1), -1).sum(1).mean()

    def column(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return loss(x0, x1, t, t[:, None]).mean()

    def data_in(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return (field(x1, t) - (x1 - x0)).square().mean()

    grade(
        "loss",
        lambda x0, x1, t: answer(field, x0, x1, t),
        reference,
        # Images with as many rows as there are images in the batch: t[:, None] does not raise.
        [_batch((64, 2), seed=14), _batch((8, 1, 8, 8), seed=15)],
        mistakes=[
            ("a mean over batch and dimensions is asked for, this sums over dimensions", per_point),
            ("t[:, None] aligns with the rows of an image; t needs the shape [b 1 1 1]", column),
            ("the network must see the mixed point x_t, not the data x1", data_in),
        ],
    )


def grade_one_step(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `one_step(x0, data)`, where a single Euler step of the exact field lands.

    Args:
        answer: Takes noise `[b d]` and a data set `[n d]`; returns points `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x0: Tensor, data: Tensor) -> Tensor:
        return data.mean(0).expand_as(x0)

    def nearest(x0: Tensor, data: Tensor) -> Tensor:
        return data[torch.cdist(x0, data).argmin(1)]

    def velocity(x0: Tensor, data: Tensor) -> Tensor:
        return data.mean(0) - x0

    data = four_clusters(500, seed=16)[:400] + cluster_means(4, 1.0)[0]
    grade(
        "one step",
        answer,
        reference,
        [(_batch((16, 2), seed=17)[0], data)],
        mistakes=[
            ("this is the nearest data point; at t = 0 every point is still possible", nearest),
            ("this is the velocity at t = 0; the step adds it to x0", velocity),
        ],
    )
