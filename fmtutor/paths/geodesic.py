"""Paths between two points of a curved space.

Chapter: manifolds
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_same, readable
from fmtutor.manifolds import Manifold
from fmtutor.notation import PathSample, Time, align_time, batch_points, batch_time

__all__ = ["GeodesicPath"]


@dataclass(frozen=True)
class GeodesicPath:
    """The shortest way from x0 to x1 on a `manifold`, at constant speed.

    x_t = exp_{x1}((1 − t) log_{x1} x0), on flat space the straight line of `CondOT`. The velocity
    as a function of place, log_x(x1)/(1 − t), has no limit at t = 1.

    Equation: eq-manifolds-geodesic
    Reference: chen2024riemannian

    Example:
        >>> from fmtutor.manifolds import Sphere
        >>> north, east = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> GeodesicPath(Sphere(2)).sample(north, east, 0.5).xt
        tensor([[0.7071, 0.0000, 0.7071]])
    """

    manifold: Manifold

    def sample(
        self, x0: Tensor, x1: Tensor, t: Time, *, generator: torch.Generator | None = None
    ) -> PathSample:
        """Return the point at `t` between `x0` and `x1` `[b ...]`, and its velocity."""
        t = batch_points(x0, "x0", x1, t)
        time, m = align_time(t, x1), self.manifold
        xt = m.exp(x1, (1 - time) * m.log(x1, x0))
        # The way ahead over the time left, or the way back over the time spent:
        # whichever time is longer, so that nothing is divided by a small number.
        early = time < 0.5
        way = m.log(xt, torch.where(early, x1, x0))
        return PathSample(x0, x1, t, xt, way / torch.where(early, 1 - time, -time))

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time) -> Tensor:
        """Return u_t(x|x1) = log_x(x1)/(1 − t), for t < 1."""
        check_same("xt", xt, "x1", x1)
        t = batch_time(t, xt)
        if readable(t) and bool((t == 1).any()):
            raise ValueError("the conditional velocity of a geodesic has no limit at t = 1")
        return self.manifold.log(xt, x1) / (1 - align_time(t, xt))
