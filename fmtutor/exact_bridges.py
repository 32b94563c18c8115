"""Bridges in closed form: what a learned one is held against.

Between two Gaussians the Schrödinger bridge is known; between two mixtures of Gaussians, or two
finite sets that a plan couples, so is the field of every interpolant.

Chapter: bridges
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_count, check_points, check_same
from fmtutor.notation import Time, align_time, batch_time
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import Interpolant

__all__ = ["GaussianBridge", "InterpolatedMixtures", "PairedPoints", "schroedinger_cross"]


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
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma must be finite and at least 0, but {sigma} came")
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


@dataclass(frozen=True)
class InterpolatedMixtures:
    """An interpolant between two mixtures of Gaussians, independent of each other.

    Given the components j and k it is Gaussian with mean (1−t) a_j + t b_k and variance
    (1−t)² r_j² + t² s_k² + γ²; the marginal is the mixture of these.

    Args:
        source: The law of x0.
        target: The law of x1.
        path: The interpolant.

    Equation: eq-bridges-interpolant, eq-bridges-velocity
    Reference: albergo2023unifying

    Example:
        >>> one = GaussianMixture(torch.zeros(1, 2), 1.0)
        >>> InterpolatedMixtures(one, one, BrownianBridge(1.0)).score(torch.ones(1, 2), 0.5)
        tensor([[-1.3333, -1.3333]])
    """

    source: GaussianMixture
    target: GaussianMixture
    path: Interpolant

    def log_prob_t(self, x: Tensor, t: Time) -> Tensor:
        """Return log p_t(x), `[b]`."""
        return self._parts(x, t)[0].logsumexp(1)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity, `[b d]`."""
        log_joint, offset, variance, difference, slope = self._parts(x, t)
        each = difference + (slope / variance)[..., None] * offset
        return torch.einsum("bk,bkd->bd", log_joint.softmax(1), each)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Return ∇log p_t(x), `[b d]`."""
        log_joint, offset, variance, _, _ = self._parts(x, t)
        return -torch.einsum("bk,bkd->bd", log_joint.softmax(1) / variance, offset)

    def _parts(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return log w + log N `[b k]`, x − mean, variance, b − a and half the variance's slope."""
        check_points(x)
        time = batch_time(t, x)[:, None]
        a, b = self.source, self.target
        j = torch.arange(len(a.means)).repeat_interleave(len(b.means))
        k = torch.arange(len(b.means)).repeat(len(a.means))
        start, end = a.means[j], b.means[k]
        mean = (1 - time)[..., None] * start + time[..., None] * end
        r, s = a.stds[j].square(), b.stds[k].square()
        variance = (1 - time) ** 2 * r + time**2 * s + self.path.gamma(time).square()
        slope = time * s - (1 - time) * r + self.path.half_d_variance(time)
        offset = x[:, None] - mean
        log_normal = -0.5 * (
            offset.square().sum(2) / variance + x.shape[1] * (2 * torch.pi * variance).log()
        )
        log_joint = (a.weights[j] * b.weights[k]).log() + log_normal
        return log_joint, offset, variance, end - start, slope


class PairedPoints:
    """An interpolant over a finite set of weighted pairs: what a perfect fit to them would learn.

    Args:
        path: The interpolant, with γ > 0 wherever it is asked.
        x0: First ends, `[n d]`.
        x1: Last ends, `[n d]`.
        weights: The mass of each pair, `[n]`; None for equal ones.

    Equation: eq-bridges-velocity
    Reference: tong2024sf2m

    Example:
        >>> x0, x1 = torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]])
        >>> PairedPoints(BrownianBridge(1.0), x0, x1).velocity(torch.zeros(1, 1), 0.5)
        tensor([[0.]])
    """

    def __init__(
        self, path: Interpolant, x0: Tensor, x1: Tensor, weights: Tensor | None = None
    ) -> None:
        check_points(x0, "x0", finite=True)
        check_same("x1", x1, "x0", x0)
        self.path, self.x0, self.x1 = path, x0, x1
        weights = x0.new_ones(len(x0)) if weights is None else weights.to(x0)
        if weights.shape != (len(x0),) or not bool((weights >= 0).all() and weights.sum() > 0):
            raise ValueError(
                f"weights must be [{len(x0)}], at least 0 and not all 0, "
                f"but {[*weights.shape]} came"
            )
        self._log_weights = (weights / weights.sum()).log()

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity, `[b d]`."""
        r, offset, square, time = self._posterior(x, t)
        back = torch.einsum("bn,bnd->bd", r, offset)
        return r @ (self.x1 - self.x0) + self.path.half_d_variance(time) / square * back

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Return ∇log p_t(x), `[b d]`."""
        r, offset, square, _ = self._posterior(x, t)
        return -torch.einsum("bn,bnd->bd", r, offset) / square

    def _posterior(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        check_same("x", x[:1], "x0", self.x0[:1])
        time = align_time(batch_time(t, x), x)
        offset = x[:, None] - (1 - time[..., None]) * self.x0 - time[..., None] * self.x1
        square = self.path.gamma(time).square()
        if not bool((square > 0).all()):
            raise ValueError(f"the field of {self.path} has no limit where γ(t) = 0")
        logits = self._log_weights - offset.square().sum(2) / (2 * square)
        return logits.softmax(1), offset, square, time


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
