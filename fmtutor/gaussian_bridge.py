"""The Schrödinger bridge between two Gaussians, in closed form: what a learned one is held against.

Chapter: bridges
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_count, check_points, check_positive, check_same
from fmtutor.notation import Time

__all__ = ["GaussianBridge", "schroedinger_cross"]


def schroedinger_cross(cov0: Tensor, cov1: Tensor, sigma: float) -> Tensor:
    """Return Cov(x0, x1) of the Schrödinger bridge between N(·, cov0) and N(·, cov1), `[d d]`.

    It is S^½ M S^−½ with S = `cov0` and M² + σ² M = S^½ `cov1` S^½, for Brownian motion of size
    `sigma`.

    Equation: eq-bridges-gaussian
    Reference: bunne2023

    Example:
        >>> one = torch.eye(1, dtype=torch.float64)
        >>> schroedinger_cross(one, one, 0.0), schroedinger_cross(one, one, 1.0)
        (tensor([[1.]], dtype=torch.float64), tensor([[0.6180]], dtype=torch.float64))
    """
    _check_covariance("cov0", cov0)
    _check_covariance("cov1", cov1)
    check_same("cov0", cov0, "cov1", cov1)
    check_positive("sigma", sigma, zero=True)
    root = _root(cov0)
    values, vectors = torch.linalg.eigh(root @ cov1 @ root)
    # M = ½ (√(4A + σ⁴) − σ²), without the difference of two large numbers.
    m = 2 * values / ((4 * values + sigma**4).sqrt() + sigma**2)
    cross: Tensor = root @ (vectors * m) @ vectors.T @ _inverse(root)
    return cross


@dataclass(frozen=True)
class GaussianBridge:
    """Brownian bridges of size `sigma` between pairs of a Gaussian law, mixed: all in closed form.

    With the covariance `cross` of the pair as `schroedinger` gives it this is the Schrödinger
    bridge; with another one, such as 0 for independent pairs, it is what training on these pairs
    learns. Points are `[b d]`.

    Args:
        mean0: Mean of the source, `[d]`.
        cov0: Its covariance, `[d d]`.
        mean1: Mean of the target.
        cov1: Its covariance.
        cross: Cov(x0, x1), `[d d]`.
        sigma: The size of the Brownian motion.

    Equation: eq-bridges-gaussian
    Reference: bunne2023

    Example:
        >>> zero, one = torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
        >>> bridge = GaussianBridge.schroedinger(zero, one, zero, one, 1.0)
        >>> bridge.covariance(0.5)
        tensor([[1.0590]], dtype=torch.float64)
    """

    mean0: Tensor
    cov0: Tensor
    mean1: Tensor
    cov1: Tensor
    cross: Tensor
    sigma: float

    def __post_init__(self) -> None:
        _check_covariance("cov0", self.cov0)
        _check_covariance("cov1", self.cov1)
        for name in ("cov1", "cross"):
            check_same(name, getattr(self, name), "cov0", self.cov0)
        for name in ("mean0", "mean1"):
            check_same(name, getattr(self, name), "the first row of cov0", self.cov0[0])
        for name in ("mean0", "mean1", "cross"):
            check_points(getattr(self, name), name, finite=True)
        check_positive("sigma", self.sigma, zero=True)
        eigenvalues = torch.linalg.eigvalsh(self.joint())
        if not bool(eigenvalues[0] >= -1e-5 * eigenvalues[-1]):
            raise ValueError(
                "cross must make the covariance of (x0, x1) positive semidefinite, but its least "
                f"eigenvalue is {eigenvalues[0]:.3g} with the cross {self.cross.tolist()}"
            )

    @classmethod
    def schroedinger(
        cls, mean0: Tensor, cov0: Tensor, mean1: Tensor, cov1: Tensor, sigma: float
    ) -> GaussianBridge:
        """Return the Schrödinger bridge between N(mean0, cov0) and N(mean1, cov1)."""
        cross = schroedinger_cross(cov0, cov1, sigma)
        return cls(mean0, cov0, mean1, cov1, cross, sigma)

    def mean(self, t: float) -> Tensor:
        """Return E[x_t], `[d]`."""
        return (1 - t) * self.mean0 + t * self.mean1

    def covariance(self, t: float) -> Tensor:
        """Return Cov(x_t) = (1−t)² S0 + t² S1 + t(1−t)(C + Cᵀ + σ² I), `[d d]`."""
        eye = torch.eye(len(self.cov0)).to(self.cov0)
        between = self.cross + self.cross.T + self.sigma**2 * eye
        return (1 - t) ** 2 * self.cov0 + t**2 * self.cov1 + t * (1 - t) * between

    def joint(self) -> Tensor:
        """Return the covariance of (x0, x1), `[2d 2d]`."""
        upper = torch.cat([self.cov0, self.cross], 1)
        return torch.cat([upper, torch.cat([self.cross.T, self.cov1], 1)])

    def drift_matrix(self, t: float) -> Tensor:
        """Return A in the drift E[x1 − x0 | x] + σ² t ∇log p = A (x − m_t) + m1 − m0, `[d d]`."""
        line = (1 - t) * (self.cross.T - self.cov0) + t * (self.cov1 - self.cross)
        eye = torch.eye(len(self.cov0)).to(self.cov0)
        return (line - self.sigma**2 * t * eye) @ _inverse(self.covariance(t))

    def line(self, x: Tensor, t: Time) -> Tensor:
        """Return E[x1 − x0 | x_t = x], `[b d]`, at one time for all."""
        t = _one(t)
        line = (1 - t) * (self.cross.T - self.cov0) + t * (self.cov1 - self.cross)
        gain = line @ _inverse(self.covariance(t))
        return self.mean1 - self.mean0 + (x - self.mean(t)) @ gain.T

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Return ∇log p_t(x), `[b d]`, at one time for all."""
        t = _one(t)
        return -(x - self.mean(t)) @ _inverse(self.covariance(t))

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity E[x1 − x0 | x] − ½ σ² (1 − 2t) ∇log p_t(x), `[b d]`."""
        t = _one(t)
        return self.line(x, t) - 0.5 * self.sigma**2 * (1 - 2 * t) * self.score(x, t)

    def projected(self, *, steps: int = 400) -> GaussianBridge:
        """Return the bridge over the ends of the diffusion that has this one's drift.

        One step of iterative Markovian fitting: Cov(x0, x1) = S0 Φᵀ, where Φ' = AΦ from Φ = I, by
        the Runge-Kutta method of order 4 with `steps` steps.

        Equation: eq-bridges-imf
        Reference: shi2023
        """
        phi, h = torch.eye(len(self.cov0)).to(self.cov0), 1 / check_count("steps", steps)
        for k in range(steps):
            first, middle, last = (self.drift_matrix((k + c) * h) for c in (0, 0.5, 1))
            k1 = first @ phi
            k2 = middle @ (phi + h / 2 * k1)
            k3 = middle @ (phi + h / 2 * k2)
            phi = phi + h / 6 * (k1 + 2 * k2 + 2 * k3 + last @ (phi + h * k3))
        return replace(self, cross=self.cov0 @ phi.T)

    def sample_ends(
        self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw `n` pairs (x0, x1), each `[n d]`."""
        g = as_generator(seed, generator, self.cov0.device)
        z = torch.randn(
            check_count("n", n), 2 * len(self.cov0), generator=g,
            dtype=self.cov0.dtype, device=self.cov0.device,
        )  # fmt: skip
        pair = z @ _root(self.joint()) + torch.cat([self.mean0, self.mean1])
        x0, x1 = pair.chunk(2, 1)
        return x0, x1


def _one(t: Time) -> float:
    """Return the one time that all points have, as a solver asks."""
    if isinstance(t, Tensor):
        if t.numel() > 1 and not bool((t == t.reshape(-1)[0]).all()):
            raise ValueError("the exact bridge takes one time for all points")
        return float(t.reshape(-1)[0])
    return float(t)


def _root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


def _inverse(matrix: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(matrix)
    return inverse


def _check_covariance(name: str, cov: Tensor) -> None:
    check_points(cov, name, finite=True)
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1]:
        raise ValueError(f"{name} must be [d d], but {[*cov.shape]} came")
    if not bool((cov - cov.T).abs().max() <= 1e-5 * cov.abs().max()) or not bool(
        (torch.linalg.eigvalsh(cov) > 0).all()
    ):
        raise ValueError(f"{name} must be symmetric and positive definite, but {cov.tolist()} came")
