"""Conditional probability paths: how noise turns into one data point.

A path says where a sample is at time t when its two ends are known. The affine ones,
x_t = α(t) x1 + σ(t) x0, differ in nothing but the two functions α and σ; everything else
(velocity, target, density, conversions) follows from them here, once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import readable
from fmtutor.notation import PathSample, Time, align_time, batch_points, batch_time

__all__ = ["AffinePath", "CondOT", "Cosine", "VariancePreserving"]


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

    def sample(
        self, x0: Tensor, x1: Tensor, t: Time, *, generator: torch.Generator | None = None
    ) -> PathSample:
        """Mix noise and data and return the point with its target.

        x_t = α x1 + σ x0 and u_t = α' x1 + σ' x0. Nothing is drawn: `generator` plays no part.

        Returns:
            The draw; `xt` and `ut` have the shape of `x1`.

        Raises:
            ValueError: If the target has no finite limit, as where σ' diverges.
        """
        t = batch_points(x0, "x0", x1, t)
        alpha, sigma, d_alpha, d_sigma = self._coefficients(t, x1)
        if not _finite(d_sigma):
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
        t = batch_points(xt, "xt", x1, t)
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
        t = batch_points(xt, "xt", x1, t)
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
        t = batch_points(score, "score", xt, t, "xt")
        alpha, sigma, d_alpha, _ = self._coefficients(t, xt)
        if not _all(alpha != 0):
            raise ValueError(f"the score does not determine the velocity of {self} where α(t) = 0")
        ratio, half = d_alpha / alpha, align_time(self.half_d_variance(t), xt)
        return ratio * (xt + sigma.square() * score) - half * score

    def _coefficients(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        t = align_time(t, x)
        return self.alpha(t), self.sigma(t), self.d_alpha(t), self.d_sigma(t)

    def _solvable(self, v: Tensor, xt: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        coefficients = self._coefficients(batch_points(v, "v", xt, t, "xt"), xt)
        if not _finite(coefficients[3]):
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
        # Not 1 − (1 − σ_min) t, whose rounding error would be all of σ(1).
        return (1 - t) + self.sigma_min * t if self.sigma_min else 1 - t

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


def _tensor(t: Time) -> Tensor:
    return t if isinstance(t, Tensor) else torch.tensor(float(t))


def _finite(values: Tensor) -> bool:
    # The sum is finite where all of them are, and faster than a look at each.
    return not readable(values) or math.isfinite(values.sum().item())


def _all(condition: Tensor) -> bool:
    # Where nothing may be looked at the caller is trusted.
    return not readable(condition) or bool(condition.all())
