"""Diffusions as paths: what a forward SDE does to a data point, with its clock turned round.

Chapter: diffusion
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_positive
from fmtutor.notation import Time, as_time
from fmtutor.paths.affine import AffinePath, VariancePreserving

__all__ = ["Karras", "SubVariancePreserving", "VarianceExploding"]


@dataclass(frozen=True)
class SubVariancePreserving(VariancePreserving):
    """The path of the sub-VP diffusion: α as `VariancePreserving`, σ = 1 − α².

    There is less noise on the way: σ is the square of what it is on the variance preserving path,
    and its derivative stays finite at the data.

    Equation: eq-diffusion-subvp
    Reference: song2021

    Example:
        >>> SubVariancePreserving().d_sigma(torch.tensor(1.0))
        tensor(-0.1000)
    """

    def sigma(self, t: Time) -> Tensor:
        """Return 1 − α², computed without cancellation near t = 1."""
        return -torch.expm1(-self._integral(t))

    def d_sigma(self, t: Time) -> Tensor:
        """Return −2αα'."""
        return -2 * self.alpha(t) * self.d_alpha(t)

    def half_d_variance(self, t: Time) -> Tensor:
        """Return σσ'."""
        return self.sigma(t) * self.d_sigma(t)


class _Exploding(AffinePath):
    """A path that leaves the data as it is, α = 1, and adds noise until nothing of it is seen."""

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                "the noise must satisfy 0 < sigma_min < sigma_max, "
                f"but sigma_min = {self.sigma_min} and sigma_max = {self.sigma_max} came"
            )

    def alpha(self, t: Time) -> Tensor:
        """Return 1."""
        return torch.ones_like(as_time(t))

    def d_alpha(self, t: Time) -> Tensor:
        """Return 0."""
        return torch.zeros_like(as_time(t))


@dataclass(frozen=True)
class VarianceExploding(_Exploding):
    """The path of the VE diffusion: α = 1, σ = σ_max (σ_min/σ_max)^t, of a geometric clock.

    Its noise at t = 0 has the scale `sigma_max`, not 1: a solution starts at `sigma_max * x0`.

    Equation: eq-diffusion-ve
    Reference: song2021

    Example:
        >>> VarianceExploding(0.01, 100.0).sigma(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1.0000e+02, 1.0000e+00, 1.0000e-02])
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def sigma(self, t: Time) -> Tensor:
        """Return σ_max (σ_min/σ_max)^t."""
        return self.sigma_max * torch.exp(-self._rate * as_time(t))

    def d_sigma(self, t: Time) -> Tensor:
        """Return −σ log(σ_max/σ_min)."""
        return -self._rate * self.sigma(t)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class Karras(_Exploding):
    """The path of EDM: α = 1, σ^(1/ρ) linear in t from `sigma_max` to `sigma_min`.

    Equal steps of this clock are the noise levels of EDM; ρ = 1 makes σ itself linear. As on
    `VarianceExploding` a solution starts at `sigma_max * x0`.

    Equation: eq-diffusion-karras
    Reference: karras2022

    Example:
        >>> Karras(1.0, 4.0, rho=2.0).sigma(torch.tensor([0.0, 0.5, 1.0]))
        tensor([4.0000, 2.2500, 1.0000])
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("rho", self.rho)

    def sigma(self, t: Time) -> Tensor:
        """Return (σ_max^(1/ρ) + t (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ."""
        return self._root(t).pow(self.rho)

    def d_sigma(self, t: Time) -> Tensor:
        """Return the derivative, ρ (σ_min^(1/ρ) − σ_max^(1/ρ)) σ^(1 − 1/ρ)."""
        low, high = self._ends
        return self.rho * (low - high) * self._root(t).pow(self.rho - 1)

    def _root(self, t: Time) -> Tensor:
        low, high = self._ends
        t = as_time(t)
        return (1 - t) * high + t * low

    @property
    def _ends(self) -> tuple[float, float]:
        return math.pow(self.sigma_min, 1 / self.rho), math.pow(self.sigma_max, 1 / self.rho)
