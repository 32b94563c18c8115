"""The field of an interpolant in closed form, between two mixtures or over finitely many pairs.

Chapter: bridges
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fmtutor.checking import check_points, check_same
from fmtutor.notation import Time, align_time, batch_time
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import Interpolant

__all__ = ["InterpolatedMixtures", "PairedPoints"]


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
        check_points(x1, "x1", finite=True)
        check_same("x1", x1, "x0", x0)
        if x0.ndim != 2:
            raise ValueError(f"x0 and x1 must be points [n d], but {[*x0.shape]} came")
        self.path, self.x0, self.x1 = path, x0, x1
        weights = x0.new_ones(len(x0)) if weights is None else torch.as_tensor(weights).to(x0)
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
