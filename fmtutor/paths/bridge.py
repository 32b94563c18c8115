"""Paths between two points that are both given: a line with a width, which may change on the way.

Chapter: paths
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_positive, check_same, readable
from fmtutor.notation import PathSample, Time, align_time, as_time, batch_points

__all__ = ["BridgePath", "BrownianBridge", "Interpolant"]


class Interpolant(ABC):
    """The path x_t = (1 − t) x0 + t x1 + γ(t) z, z ~ N(0, I): a line of width γ between two points.

    p_t(x|x0, x1) = N((1 − t) x0 + t x1, γ² I). Neither end need be Gaussian. A subclass gives the
    width `gamma`, in the shape of `t`, and `half_d_variance`, γγ' = ½ d(γ²)/dt, which stays finite
    where γ' alone does not. Arguments are those of `AffinePath`; `x0` is the other end.

    Raises:
        ValueError: Where γ = 0, of density and score: the law is a point mass there.

    Reference: albergo2023unifying

    Example:
        >>> class Bulge(Interpolant):
        ...     def gamma(self, t):
        ...         return 0.1 + t * (1 - t)
        ...
        ...     def half_d_variance(self, t):
        ...         return self.gamma(t) * (1 - 2 * t)
        >>> x = torch.zeros(1000, 2)
        >>> f"{Bulge().sample(x, x, torch.full((1000,), 0.5), seed=0).xt.std():.2f}"
        '0.36'
    """

    @abstractmethod
    def gamma(self, t: Time) -> Tensor:
        """Return the width γ(t)."""

    @abstractmethod
    def half_d_variance(self, t: Time) -> Tensor:
        """Return γγ'."""

    def sample(
        self,
        x0: Tensor,
        x1: Tensor,
        t: Time,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> PathSample:
        """Draw x_t, and the target u_t = x1 − x0 + γ' z, infinite where γ' is."""
        t = batch_points(x0, "x0", x1, t)
        time = align_time(t, x1)
        line, gamma = (1 - time) * x0 + time * x1, self.gamma(time)
        g = as_generator(seed, generator, x1.device)
        z = torch.randn(x1.shape, generator=g, dtype=x1.dtype, device=x1.device)
        half = self.half_d_variance(time)
        rate = torch.where(half == 0, half, half / gamma)  # γ', and not 0/0 for a line
        return PathSample(x0, x1, t, line + gamma * z, x1 - x0 + rate * z)

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return u_t(x|x0, x1) = x1 − x0 + (γγ'/γ²)(x − (1 − t) x0 − t x1)."""
        offset, time = self._offset(xt, x1, t, x0)
        return x1 - x0 + self.half_d_variance(time) * offset / self._square(time, "the velocity")

    def conditional_score(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return ∇log p_t(x|x0, x1) = −(x − (1 − t) x0 − t x1)/γ²."""
        offset, time = self._offset(xt, x1, t, x0)
        return -offset / self._square(time, "the score")

    def log_prob(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return log N(x; (1 − t) x0 + t x1, γ² I), `[b]`."""
        offset, time = self._offset(xt, x1, t, x0)
        square = self._square(time, "the density").expand_as(offset)
        terms = -0.5 * (offset.square() / square + square.log() + math.log(2 * math.pi))
        return terms.reshape(len(xt), -1).sum(1)

    def noise(self, s: PathSample) -> Tensor:
        """Return the z of a draw `s`, `[b ...]`; zero where γ is, where it left no trace."""
        time = align_time(s.t, s.xt)
        gamma = self.gamma(time)
        offset = s.xt - (1 - time) * s.x0 - time * s.x1
        return torch.where(gamma > 0, offset / gamma, torch.zeros_like(offset))

    def _offset(self, xt: Tensor, x1: Tensor, t: Time, x0: Tensor) -> tuple[Tensor, Tensor]:
        time = align_time(batch_points(xt, "xt", x1, t), x1)
        check_same("x0", x0, "x1", x1)
        return xt - (1 - time) * x0 - time * x1, time

    def _square(self, time: Tensor, what: str) -> Tensor:
        square = self.gamma(time).square()
        if readable(square) and not bool((square > 0).all()):
            raise ValueError(
                f"{what} of {self} does not exist where γ(t) = 0: it is a point mass there"
            )
        return square


@dataclass(frozen=True)
class BridgePath(Interpolant):
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
        check_positive("sigma", self.sigma, zero=True)

    def gamma(self, t: Time) -> Tensor:
        """Return σ."""
        return torch.full_like(as_time(t), self.sigma)

    def half_d_variance(self, t: Time) -> Tensor:
        """Return 0."""
        return torch.zeros_like(as_time(t))

    def sample(
        self,
        x0: Tensor,
        x1: Tensor,
        t: Time,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> PathSample:
        """Draw x_t and the target x1 − x0; a line, of σ = 0, draws no noise."""
        if self.sigma > 0:
            return super().sample(x0, x1, t, seed=seed, generator=generator)
        t = batch_points(x0, "x0", x1, t)
        time = align_time(t, x1)
        return PathSample(x0, x1, t, (1 - time) * x0 + time * x1, x1 - x0)

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return u_t(x|x0, x1) = x1 − x0, whatever `xt` `[b ...]` and `t` are."""
        self._offset(xt, x1, t, x0)
        return x1 - x0


@dataclass(frozen=True)
class BrownianBridge(Interpolant):
    """Brownian motion of size `sigma` whose two ends are known: γ² = width² + σ² t (1 − t).

    With the `width` 0 it starts in x0 and ends in x1. There γ' is infinite, and the target has an
    infinite variance: train on the line and the score instead (`bridges.bridge_loss`).

    Equation: eq-bridges-brownian
    Reference: tong2024sf2m
    Chapter: bridges

    Example:
        >>> path, x0, x1 = BrownianBridge(1.0), torch.zeros(1000, 2), torch.ones(1000, 2)
        >>> [f"{path.sample(x0, x1, t, seed=0).xt.std():.1f}" for t in (0.0, 0.5, 1.0)]
        ['0.0', '0.5', '0.0']
    """

    sigma: float
    width: float = 0.0

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma, zero=True)
        check_positive("width", self.width, zero=True)

    def gamma(self, t: Time) -> Tensor:
        """Return √(width² + σ² t (1 − t))."""
        t = as_time(t)
        return (self.width**2 + self.sigma**2 * t * (1 - t)).sqrt()

    def half_d_variance(self, t: Time) -> Tensor:
        """Return ½ σ² (1 − 2t)."""
        return 0.5 * self.sigma**2 * (1 - 2 * as_time(t))
