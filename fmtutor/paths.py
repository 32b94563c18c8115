"""Conditional probability paths: how noise turns into one data point.

A path says where a sample is at time t when its two ends are known. The affine ones,
x_t = α(t) x1 + σ(t) x0, differ in nothing but the two functions α and σ; everything else
(velocity, target, density, conversions) follows from them here, once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.typing import Time, align_time, as_generator, batch_time, check_points, check_same

__all__ = ["AffinePath", "BridgePath", "CondOT", "Cosine", "PathSample", "VariancePreserving"]


class PathSample(NamedTuple):
    """One draw from a path: the two ends, the time, the point between and its velocity.

    Attributes:
        x0: Noise `[b ...]`.
        x1: Data `[b ...]`.
        t: Times `[b]`.
        xt: Points on the path `[b ...]`.
        ut: The regression target, the velocity of the path at `xt`, `[b ...]`.
    """

    x0: Tensor
    x1: Tensor
    t: Tensor
    xt: Tensor
    ut: Tensor


class AffinePath(ABC):
    r"""The Gaussian path x_t = α(t) x1 + σ(t) x0 with x0 ~ N(0, I): p_t(x|x1) = N(αx1, σ²I).

    A subclass gives `alpha`, `sigma` and their derivatives; they take a tensor of times and return
    one of the same shape. α rises from (nearly) 0 to 1, σ falls from 1 to (nearly) 0.

    Where σ(t) = 0 the conditional law is a point mass. The target α'x1 + σ'x0 stays finite there
    if σ' does; the density, the score and the velocity as a function of x do not exist, and asking
    for them raises.

    Args of every method below: points (`x0`, `x1`, `xt`, `v`, `score`) are `[b ...]`, of one shape,
    dtype and device; `t` is a float, a 0-d tensor or `[b]`, in [0, 1].

    Raises of every method below: TypeError if a dtype is not floating point or dtypes differ,
    ValueError if shapes or devices differ or a time lies outside [0, 1]. What else a method
    refuses, it says.

    Reference: lipman2023
    Chapter: paths
    """

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """Return the scale of the data, α(t), in the shape of `t`."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """Return the scale of the noise, σ(t), in the shape of `t`."""

    @abstractmethod
    def d_alpha(self, t: Time) -> Tensor:
        """Return the derivative α'(t), in the shape of `t`."""

    @abstractmethod
    def d_sigma(self, t: Time) -> Tensor:
        """Return the derivative σ'(t), in the shape of `t`."""

    def half_d_variance(self, t: Time) -> Tensor:
        """Return σσ' = ½ d(σ²)/dt, which stays finite where σ' alone does not."""
        return self.sigma(t) * self.d_sigma(t)

    def sample(self, x0: Tensor, x1: Tensor, t: Time) -> PathSample:
        """Mix noise and data and return the point with its target.

        x_t = α x1 + σ x0 and u_t = α' x1 + σ' x0.

        Returns:
            The draw; `xt` and `ut` have the shape of `x1`.

        Raises:
            ValueError: If the target has no finite limit, as where σ' diverges.
        """
        t = _check(x0, "x0", x1, t)
        alpha, sigma, d_alpha, d_sigma = self._coefficients(t, x1)
        if not _all(d_sigma.isfinite()):
            raise ValueError(
                f"the target of {self} has no finite limit at t = 1, where σ' diverges"
            )
        return PathSample(x0, x1, t, alpha * x1 + sigma * x0, d_alpha * x1 + d_sigma * x0)

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time) -> Tensor:
        """Return the velocity that carries the conditional path towards one data point.

        u_t(x|x1) = (σ'/σ) (x − α x1) + α' x1.

        Returns:
            Velocities `[b ...]`.

        Raises:
            ValueError: If σ(t) = 0.
        """
        t = _check(xt, "xt", x1, t)
        alpha, sigma, d_alpha, d_sigma = self._coefficients(t, x1)
        self._refuse_zero(sigma, "the conditional velocity")
        return (d_sigma / sigma) * (xt - alpha * x1) + d_alpha * x1

    def log_prob(self, xt: Tensor, x1: Tensor, t: Time) -> Tensor:
        """Return log p_t(x|x1) = log N(x; α x1, σ² I), summed over the dimensions of a point.

        Returns:
            Log-densities `[b]`, in nats.

        Raises:
            ValueError: If σ(t) = 0.
        """
        t = _check(xt, "xt", x1, t)
        alpha, sigma, _, _ = self._coefficients(t, x1)
        self._refuse_zero(sigma, "the density")
        z = (xt - alpha * x1) / sigma
        return (
            (-0.5 * z.square() - sigma.log() - 0.5 * math.log(2 * math.pi))
            .reshape(len(z), -1)
            .sum(1)
        )

    def data_from_velocity(self, v: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Solve x_t = αx1 + σx0, v = α'x1 + σ'x0 for the data: x1 = (σ'x_t − σv)/(ασ' − α'σ).

        For the marginal velocity this is the posterior mean E[x1 | x_t].

        Returns:
            Data points `[b ...]`.

        Raises:
            ValueError: If σ' diverges there.
        """
        alpha, sigma, d_alpha, d_sigma = self._solvable(v, xt, t)
        return (d_sigma * xt - sigma * v) / (alpha * d_sigma - d_alpha * sigma)

    def noise_from_velocity(self, v: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Solve x_t = αx1 + σx0, v = α'x1 + σ'x0 for the noise: x0 = (αv − α'x_t)/(ασ' − α'σ).

        For the marginal velocity this is the posterior mean E[x0 | x_t].

        Returns:
            Noise `[b ...]`.

        Raises:
            ValueError: If σ' diverges there.
        """
        alpha, sigma, d_alpha, d_sigma = self._solvable(v, xt, t)
        return (alpha * v - d_alpha * xt) / (alpha * d_sigma - d_alpha * sigma)

    def score_from_velocity(self, v: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Return the score ∇log p_t(x) = −E[x0 | x_t]/σ that belongs to a marginal velocity.

        Returns:
            Scores `[b ...]`.

        Raises:
            ValueError: If σ(t) = 0.
        """
        x0 = self.noise_from_velocity(v, xt, t)
        sigma = align_time(self.sigma(batch_time(t, xt)), xt)
        self._refuse_zero(sigma, "the score")
        return -x0 / sigma

    def velocity_from_score(self, score: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity v = (α'/α)(x + σ²s) − σσ's that belongs to a score s.

        Returns:
            Velocities `[b ...]`.

        Raises:
            ValueError: If α(t) = 0: pure noise has the same score whatever the data, so the score
                does not determine the velocity there.
        """
        t = _check(score, "score", xt, t, "xt")
        alpha, sigma, d_alpha, _ = self._coefficients(t, xt)
        if not _all(alpha != 0):
            raise ValueError(f"the score does not determine the velocity of {self} where α(t) = 0")
        ratio, half = d_alpha / alpha, align_time(self.half_d_variance(t), xt)
        return ratio * (xt + sigma.square() * score) - half * score

    def _coefficients(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = self.alpha(t), self.sigma(t), self.d_alpha(t), self.d_sigma(t)
        alpha, sigma, d_alpha, d_sigma = (align_time(value, x) for value in values)
        return alpha, sigma, d_alpha, d_sigma

    def _solvable(self, v: Tensor, xt: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        coefficients = self._coefficients(_check(v, "v", xt, t, "xt"), xt)
        if not _all(coefficients[3].isfinite()):
            raise ValueError(f"{self} cannot be solved for its ends at t = 1, where σ' diverges")
        return coefficients

    def _refuse_zero(self, sigma: Tensor, what: str) -> None:
        if not _all(sigma != 0):
            raise ValueError(
                f"{what} of {self} has no limit where σ(t) = 0 (t = 1): the path has shrunk to a "
                "point; stop before t = 1 or take CondOT(sigma_min > 0)"
            )


@dataclass(frozen=True)
class CondOT(AffinePath):
    """The straight path α = t, σ = 1 − (1 − σ_min) t: conditional optimal transport.

    Defined on all of [0, 1]. With σ_min = 0 it ends in the data point itself, and what is singular
    there raises; with σ_min > 0 every quantity is finite everywhere. The target is
    x1 − (1 − σ_min) x0.

    Attributes:
        sigma_min: Standard deviation left at t = 1, in [0, 1).

    Reference: lipman2023
    Chapter: paths
    """

    sigma_min: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a width outside [0, 1)."""
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"sigma_min must lie in [0, 1), but {self.sigma_min} came")

    def alpha(self, t: Time) -> Tensor:
        """Return t."""
        return _tensor(t)

    def sigma(self, t: Time) -> Tensor:
        """Return 1 − (1 − σ_min) t."""
        t = _tensor(t)
        return (1 - t) + self.sigma_min * t  # no cancellation: σ(1) is σ_min itself

    def d_alpha(self, t: Time) -> Tensor:
        """Return 1."""
        return torch.ones_like(_tensor(t))

    def d_sigma(self, t: Time) -> Tensor:
        """Return −(1 − σ_min)."""
        return torch.full_like(_tensor(t), -(1 - self.sigma_min))


@dataclass(frozen=True)
class Cosine(AffinePath):
    """The quarter circle α = sin(πt/2), σ = cos(πt/2), of constant variance for unit data.

    Defined on all of [0, 1]; at t = 1, where σ = 0, what is singular raises. The target is finite
    everywhere. σ(1) is exactly 0 here, not the rounding error of a cosine.

    Reference: albergo2023
    Chapter: paths
    """

    def alpha(self, t: Time) -> Tensor:
        """Return sin(πt/2)."""
        return torch.sin(0.5 * math.pi * _tensor(t))

    def sigma(self, t: Time) -> Tensor:
        """Return cos(πt/2), written as sin(π(1 − t)/2) so that σ(1) = 0."""
        return torch.sin(0.5 * math.pi * (1 - _tensor(t)))

    def d_alpha(self, t: Time) -> Tensor:
        """Return (π/2) cos(πt/2)."""
        return 0.5 * math.pi * self.sigma(t)

    def d_sigma(self, t: Time) -> Tensor:
        """Return −(π/2) sin(πt/2)."""
        return -0.5 * math.pi * self.alpha(t)


@dataclass(frozen=True)
class VariancePreserving(AffinePath):
    """The diffusion path α = exp(−½ ∫_t^1 β), σ = √(1 − α²), with β linear in time.

    β rises from `beta_min` at the data (t = 1) to `beta_max` at the noise (t = 0). Two things set
    it apart. It reaches pure noise only nearly: α(0) = exp(−(beta_min + beta_max)/4), 0.0066 with
    the usual values. And σ' diverges like −1/√(1 − t) at the data, so that the target, too, has no
    limit at t = 1 and raises there; σσ' stays finite.

    Attributes:
        beta_min: Rate at the data, above 0.
        beta_max: Rate at the noise, at least `beta_min`.

    Reference: song2021, lipman2023
    Chapter: paths
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        """Refuse rates that are not 0 < beta_min <= beta_max."""
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(
                "the rates must satisfy 0 < beta_min <= beta_max, "
                f"but beta_min = {self.beta_min} and beta_max = {self.beta_max} came"
            )

    def _integral(self, t: Time) -> Tensor:
        s = 1 - _tensor(t)
        return s * self.beta_min + 0.5 * s.square() * (self.beta_max - self.beta_min)

    def alpha(self, t: Time) -> Tensor:
        """Return exp(−½ ∫_t^1 β)."""
        return torch.exp(-0.5 * self._integral(t))

    def sigma(self, t: Time) -> Tensor:
        """Return √(1 − α²), computed without cancellation near t = 1."""
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def d_alpha(self, t: Time) -> Tensor:
        """Return ½ β(t) α(t)."""
        s = 1 - _tensor(t)
        return 0.5 * (self.beta_min + s * (self.beta_max - self.beta_min)) * self.alpha(t)

    def d_sigma(self, t: Time) -> Tensor:
        """Return −αα'/σ, which is minus infinity at t = 1."""
        return self.half_d_variance(t) / self.sigma(t)

    def half_d_variance(self, t: Time) -> Tensor:
        """Return σσ' = −αα'."""
        return -self.alpha(t) * self.d_alpha(t)


@dataclass(frozen=True)
class BridgePath:
    """The bridge p_t(x|x0, x1) = N((1 − t) x0 + t x1, σ² I): a tube of constant width.

    It conditions on both ends. Its ends are not exactly noise and data but both widened by σ; with
    σ = 0 it is the straight line itself, the Dirac limit, and its density raises. Target and
    conditional velocity are x1 − x0 wherever in the tube a point lies. Arguments and errors are
    those of `AffinePath`.

    Attributes:
        sigma: Standard deviation of the tube, at least 0.

    Reference: tong2024
    Chapter: paths
    """

    sigma: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a negative width."""
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
        """Draw x_t = (1 − t) x0 + t x1 + σε with ε ~ N(0, I), and the target x1 − x0.

        ε comes from `seed` or `generator`, or with neither from torch's global state.
        """
        t = _check(x0, "x0", x1, t)
        time = align_time(t, x1)
        xt = (1 - time) * x0 + time * x1
        if self.sigma > 0:
            g = as_generator(seed, generator, x1.device)
            noise = torch.randn(x1.shape, generator=g, dtype=x1.dtype, device=x1.device)
            xt = xt + self.sigma * noise
        return PathSample(x0, x1, t, xt, x1 - x0)

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return u_t(x|x0, x1) = x1 − x0, whatever `xt` `[b ...]` and `t` are."""
        _check(xt, "xt", x1, t)
        check_same("x0", x0, "x1", x1)
        return x1 - x0

    def log_prob(self, xt: Tensor, x1: Tensor, t: Time, *, x0: Tensor) -> Tensor:
        """Return log N(x; (1 − t) x0 + t x1, σ² I) in nats, `[b]`.

        Raises:
            ValueError: If the width is 0: the path is then a point mass.
        """
        time = align_time(_check(xt, "xt", x1, t), x1)
        check_same("x0", x0, "x1", x1)
        if self.sigma == 0:
            raise ValueError("the density of BridgePath(0) does not exist: it is a point mass")
        z = (xt - (1 - time) * x0 - time * x1) / self.sigma
        constant = math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        return (-0.5 * z.square() - constant).reshape(len(z), -1).sum(1)


def _check(x: Tensor, name: str, other: Tensor, t: Time, other_name: str = "x1") -> Tensor:
    check_points(x, name)
    check_points(other, other_name)
    check_same(name, x, other_name, other)
    return batch_time(t, x)


def _tensor(t: Time) -> Tensor:
    return t if isinstance(t, Tensor) else torch.tensor(float(t))


def _all(condition: Tensor) -> bool:
    # While a graph is being compiled nothing can be looked at: compiled code trusts its caller.
    return torch.compiler.is_compiling() or bool(condition.all())
