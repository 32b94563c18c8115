"""Conditional probability paths: how noise turns into one data point.

The affine ones, x_t = α(t) x1 + σ(t) x0, differ in nothing but the two functions α and σ;
everything else (velocity, target, density, conversions) follows from them here, once.

Chapter: paths
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import readable
from fmtutor.notation import PathSample, Time, align_time, as_time, batch_points, batch_time

__all__ = ["AffinePath", "CondOT", "Cosine", "VariancePreserving"]


class AffinePath(ABC):
    """The Gaussian path x_t = α(t) x1 + σ(t) x0 with x0 ~ N(0, I): p_t(x|x1) = N(αx1, σ²I).

    A subclass gives `alpha`, `sigma` and their derivatives, in the shape of `t`. α rises from
    (nearly) 0 to 1, σ falls from 1 to (nearly) 0.

    Raises:
        ValueError: Where σ(t) = 0, of density, score and velocity as a function of x, since the
            conditional law is a point mass there; where σ' diverges, of target and conversions.

    Equation: eq-paths-flow, eq-paths-velocity, eq-paths-solve, eq-marginal-tweedie
    Reference: lipman2023

    Example:
        >>> path, x1 = CondOT(), torch.ones(1, 2)
        >>> _, _, t, xt, ut = path.sample(torch.zeros(1, 2), x1, 0.5)
        >>> path.data_from_velocity(ut, xt, t)
        tensor([[1., 1.]])
    """

    @abstractmethod
    def alpha(self, t: Time) -> Tensor:
        """Return the scale of the data, α(t)."""

    @abstractmethod
    def sigma(self, t: Time) -> Tensor:
        """Return the scale of the noise, σ(t)."""

    @abstractmethod
    def d_alpha(self, t: Time) -> Tensor:
        """Return the derivative α'(t)."""

    @abstractmethod
    def d_sigma(self, t: Time) -> Tensor:
        """Return the derivative σ'(t)."""

    def half_d_variance(self, t: Time) -> Tensor:
        """Return σσ' = ½ d(σ²)/dt, which stays finite where σ' alone does not."""
        return self.sigma(t) * self.d_sigma(t)

    def sample(
        self, x0: Tensor, x1: Tensor, t: Time, *, generator: torch.Generator | None = None
    ) -> PathSample:
        """Return the point x_t = α x1 + σ x0 with its target u_t = α' x1 + σ' x0."""
        t = batch_points(x0, "x0", x1, t)
        alpha, sigma, d_alpha, d_sigma = self._coefficients(t, x1)
        if not _finite(d_sigma):
            raise ValueError(
                f"the target of {self} has no finite limit at t = 1, where σ' diverges"
            )
        return PathSample(x0, x1, t, alpha * x1 + sigma * x0, d_alpha * x1 + d_sigma * x0)

    def conditional_velocity(self, xt: Tensor, x1: Tensor, t: Time) -> Tensor:
        """Return u_t(x|x1) = (σ'/σ) (x − α x1) + α' x1, which leads towards one data point."""
        t = batch_points(xt, "xt", x1, t)
        alpha, sigma, d_alpha, d_sigma = self._coefficients(t, x1)
        self._refuse_zero(sigma, "the conditional velocity")
        return (d_sigma / sigma) * (xt - alpha * x1) + d_alpha * x1

    def log_prob(self, xt: Tensor, x1: Tensor, t: Time) -> Tensor:
        """Return log p_t(x|x1) = log N(x; α x1, σ² I), `[b]`."""
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
        """
        alpha, sigma, d_alpha, d_sigma = self._solvable(v, xt, t)
        return (d_sigma * xt - sigma * v) / (alpha * d_sigma - d_alpha * sigma)

    def noise_from_velocity(self, v: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Solve the same for the noise, E[x0 | x_t]: x0 = (αv − α'x_t)/(ασ' − α'σ)."""
        alpha, sigma, d_alpha, d_sigma = self._solvable(v, xt, t)
        return (alpha * v - d_alpha * xt) / (alpha * d_sigma - d_alpha * sigma)

    def score_from_velocity(self, v: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Return the score ∇log p_t(x) = −E[x0 | x_t]/σ that belongs to a marginal velocity."""
        x0 = self.noise_from_velocity(v, xt, t)
        sigma = align_time(self.sigma(batch_time(t, xt)), xt)
        self._refuse_zero(sigma, "the score")
        return -x0 / sigma

    def velocity_from_score(self, score: Tensor, xt: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity v = (α'/α)(x + σ²s) − σσ's that belongs to a score s.

        Raises:
            ValueError: If α(t) = 0: pure noise has the same score whatever the data.
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

    With 0 < `sigma_min` < 1 all is finite; with 0 the path ends in the data point itself.

    Equation: eq-quickstart-line, eq-paths-boundary
    Reference: lipman2023

    Example:
        >>> CondOT(sigma_min=0.25).sigma(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1.0000, 0.6250, 0.2500])
    """

    sigma_min: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"sigma_min must lie in [0, 1), but {self.sigma_min} came")

    def alpha(self, t: Time) -> Tensor:
        """Return t."""
        return as_time(t)

    def sigma(self, t: Time) -> Tensor:
        """Return 1 − (1 − σ_min) t."""
        t = as_time(t)
        # Not 1 − (1 − σ_min) t, whose rounding error would be all of σ(1).
        return (1 - t) + self.sigma_min * t if self.sigma_min else 1 - t

    def d_alpha(self, t: Time) -> Tensor:
        """Return 1."""
        return torch.ones_like(as_time(t))

    def d_sigma(self, t: Time) -> Tensor:
        """Return −(1 − σ_min)."""
        return torch.full_like(as_time(t), -(1 - self.sigma_min))


@dataclass(frozen=True)
class Cosine(AffinePath):
    """The quarter circle α = sin(πt/2), σ = cos(πt/2), of constant variance for unit data.

    σ(1) is exactly 0 here, not the rounding error of a cosine; the target is finite everywhere.

    Reference: albergo2023

    Example:
        >>> Cosine().alpha(0.5)
        tensor(0.7071)
    """

    def alpha(self, t: Time) -> Tensor:
        """Return sin(πt/2)."""
        return torch.sin(0.5 * math.pi * as_time(t))

    def sigma(self, t: Time) -> Tensor:
        """Return cos(πt/2) as sin(π(1 − t)/2), so that σ(1) = 0."""
        return torch.sin(0.5 * math.pi * (1 - as_time(t)))

    def d_alpha(self, t: Time) -> Tensor:
        """Return (π/2) cos(πt/2)."""
        return 0.5 * math.pi * self.sigma(t)

    def d_sigma(self, t: Time) -> Tensor:
        """Return −(π/2) sin(πt/2)."""
        return -0.5 * math.pi * self.alpha(t)


@dataclass(frozen=True)
class VariancePreserving(AffinePath):
    """The diffusion path α = exp(−½ ∫_t^1 β), σ = √(1 − α²), with β linear in time.

    β rises from `beta_min` > 0 at the data to `beta_max` at the noise, which is pure only nearly:
    α(0) = exp(−(beta_min + beta_max)/4). σ' diverges like −1/√(1 − t) at the data, σσ' does not.

    Reference: song2021, lipman2023

    Example:
        >>> VariancePreserving().alpha(0.0)
        tensor(0.0066)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(
                "the rates must satisfy 0 < beta_min <= beta_max, "
                f"but beta_min = {self.beta_min} and beta_max = {self.beta_max} came"
            )

    def _integral(self, t: Time) -> Tensor:
        s = 1 - as_time(t)
        return s * self.beta_min + 0.5 * s.square() * (self.beta_max - self.beta_min)

    def alpha(self, t: Time) -> Tensor:
        """Return exp(−½ ∫_t^1 β)."""
        return torch.exp(-0.5 * self._integral(t))

    def sigma(self, t: Time) -> Tensor:
        """Return √(1 − α²), computed without cancellation near t = 1."""
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def d_alpha(self, t: Time) -> Tensor:
        """Return ½ β(t) α(t)."""
        s = 1 - as_time(t)
        return 0.5 * (self.beta_min + s * (self.beta_max - self.beta_min)) * self.alpha(t)

    def d_sigma(self, t: Time) -> Tensor:
        """Return −αα'/σ, which is minus infinity at t = 1."""
        return self.half_d_variance(t) / self.sigma(t)

    def half_d_variance(self, t: Time) -> Tensor:
        """Return σσ' = −αα'."""
        return -self.alpha(t) * self.d_alpha(t)


def _finite(values: Tensor) -> bool:
    # The sum is finite where all of them are, and faster than a look at each.
    return not readable(values) or math.isfinite(values.sum().item())


def _all(condition: Tensor) -> bool:
    # Where nothing may be looked at the caller is trusted.
    return not readable(condition) or bool(condition.all())
