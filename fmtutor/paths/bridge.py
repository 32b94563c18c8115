"""Paths between two points that are both given.

Chapter: paths
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_same
from fmtutor.notation import PathSample, Time, align_time, batch_points

__all__ = ["BridgePath"]


@dataclass(frozen=True)
class BridgePath:
    """The bridge p_t(x|x0, x1) = N((1 − t) x0 + t x1, σ² I): a tube of constant width `sigma`.

    Both ends are widened by σ. With σ = 0 it is the straight line itself, and its density raises.
    Target and conditional velocity are x1 − x0 everywhere. Arguments are those of `AffinePath`.

    Reference: tong2024

    Example:
        >>> path = BridgePath(sigma=0.1)
        >>> s = path.sample(torch.zeros(1000, 2), torch.ones(1000, 2), 0.5, seed=0)
        >>> f"{s.xt.mean():.2f}, {s.xt.std():.2f}"
        '0.50, 0.10'
    """

    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma must be finite and at least 0, but {self.sigma} came")

    def sample(
        self,
        x0: Tensor,
        x1: Tensor,
        t: Time,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> PathSample:
        """Draw x_t = (1 − t) x0 + t x1 + σε with ε ~ N(0, I), and the target x1 − x0."""
        t = batch_points(x0, "x0", x1, t)
        time = align_time(t, x1)
        xt = (1 - time) * x0 + time * x1
        if self.sigma > 0:
            g = as_generator(seed, generator, x1.device)
            noise = torch.randn(x1.shape, generator=g, dtype=x1.dtype, device=x1.device)
            xt = xt + self.sigma * noise
        return PathSample(x0, x1, t, xt, x1 - x0)

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return u_t(x|x0, x1) = x1 − x0, whatever `xt` `[b ...]` and `t` are."""
        batch_points(xt, "xt", x1, t)
        check_same("x0", x0, "x1", x1)
        return x1 - x0

    def log_prob(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return log N(x; (1 − t) x0 + t x1, σ² I), `[b]`."""
        time = align_time(batch_points(xt, "xt", x1, t), x1)
        check_same("x0", x0, "x1", x1)
        if self.sigma == 0:
            raise ValueError("the density of BridgePath(0) does not exist: it is a point mass")
        z = (xt - (1 - time) * x0 - time * x1) / self.sigma
        constant = math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        return (-0.5 * z.square() - constant).reshape(len(z), -1).sum(1)
