"""Exact answers: marginal velocities, scores and densities in closed form.

For a mixture of Gaussians and for a finite set of points the marginal velocity
u_t(x) = E[u_t(x | x1) | x_t = x] is a softmax over components or points, so that everything
learned can be held against the truth.

Chapter: marginal
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fmtutor.checking import as_generator, check_count, check_points, check_same, readable
from fmtutor.notation import Time, VelocityField, align_time, batch_time
from fmtutor.paths import AffinePath

__all__ = ["EmpiricalField", "GaussianMixture"]


class GaussianMixture:
    """The data distribution q(x) = Σ_k w_k N(x; m_k, s_k² I), its marginals in closed form.

    Along an affine path it stays a mixture: p_t(x) = Σ_k w_k N(x; α m_k, V_k I) with
    V_k = α² s_k² + σ²; r_k(x, t) is the posterior weight of component k. Points are `[b d]`.

    Args:
        means: `[k d]`.
        stds: Standard deviations s_k > 0, `[k]` or one float for all.
        weights: Weights w_k > 0, `[k]`; they are divided by their sum. None: equal ones.

    Equation: eq-marginal-component, eq-marginal-mixture, eq-marginal-tweedie
    Reference: lipman2024guide

    Example:
        >>> mixture = GaussianMixture(cluster_means(4, 8**0.5), 0.3)
        >>> u = mixture.velocity(CondOT())
        >>> u(torch.tensor([[1.5, 1.5]]), 0.75).round()
        tensor([[2., 2.]])
    """

    def __init__(self, means: Tensor, stds: Tensor | float, weights: Tensor | None = None) -> None:
        check_points(means, "means", finite=True)
        if means.ndim != 2:
            raise ValueError(f"means must have shape [k d], but {[*means.shape]} came")
        k = len(means)
        self.means = means
        self.stds = self._per_component(
            "stds",
            torch.as_tensor(stds, dtype=means.dtype, device=means.device).expand(k)
            if not isinstance(stds, Tensor) or stds.ndim == 0
            else stds,
        )
        weights = means.new_ones(k) if weights is None else weights
        weights = self._per_component("weights", weights)
        self.weights = weights / weights.sum()

    def _per_component(self, name: str, values: Tensor) -> Tensor:
        k = len(self.means)
        if values.shape != (k,):
            raise ValueError(
                f"{name} must have shape [{k}], one a mean, but {[*values.shape]} came"
            )
        if not bool(((values > 0) & values.isfinite()).all()):
            raise ValueError(f"{name} must be positive and finite, but {values.tolist()} came")
        return values.to(self.means)

    def sample(
        self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `[n d]` points from q."""
        n = check_count("n", n)
        g = as_generator(seed, generator, self.means.device)
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        mean, std = self.means[k], self.stds[k, None]
        return mean + std * torch.randn(
            mean.shape, generator=g, dtype=mean.dtype, device=mean.device
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log q(x), `[b]`."""
        self._check(x)
        return self._log_joint(x, self.means, self.stds.square()).logsumexp(1)

    def log_prob_t(self, path: AffinePath, x: Tensor, t: Time) -> Tensor:
        """Return log p_t(x), `[b]`."""
        return self._log_joint(x, *self._components(path, x, t)[:2]).logsumexp(1)

    def velocity(self, path: AffinePath) -> VelocityField:
        """Return the marginal velocity u_t(x) = Σ_k r_k(x, t) u_t^k(x), as a field `v(x, t)`.

        u_t^k(x) = α' m_k + ½(V_k'/V_k)(x − α m_k) is that of component k alone. Finite on [0, 1].
        """

        def v(x: Tensor, t: Time) -> Tensor:
            mean, variance, u = self._components(path, x, t)
            r = self._log_joint(x, mean, variance).softmax(1)
            return torch.einsum("bk,bkd->bd", r, u)

        return v

    def score(self, path: AffinePath) -> VelocityField:
        """Return the score ∇log p_t(x) = −Σ_k r_k(x, t) (x − α m_k)/V_k, called as `s(x, t)`."""

        def s(x: Tensor, t: Time) -> Tensor:
            mean, variance, _ = self._components(path, x, t)
            r = self._log_joint(x, mean, variance).softmax(1)
            return -torch.einsum("bk,bkd->bd", r / variance, x[:, None] - mean)

        return s

    def target_variance(self, path: AffinePath) -> Callable[[Tensor, Time], Tensor]:
        """Return Var[u_t | x_t = x], the mean over dimensions, `[b]`: what no field can fit.

        Within component k it is (ασ' − α'σ)² s_k²/V_k, between components that of the u_t^k.
        """

        def variance_of_target(x: Tensor, t: Time) -> Tensor:
            mean, variance, u = self._components(path, x, t)
            r = self._log_joint(x, mean, variance).softmax(1)
            a, s = path.alpha(batch_time(t, x)), path.sigma(batch_time(t, x))
            da, ds = path.d_alpha(batch_time(t, x)), path.d_sigma(batch_time(t, x))
            within = (a * ds - da * s).square()[:, None] * self.stds.square() / variance
            centre = torch.einsum("bk,bkd->bd", r, u)
            between = (u - centre[:, None]).square().mean(2)
            return (r * (within + between)).sum(1)

        return variance_of_target

    def _components(self, path: AffinePath, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean `[b k d]`, variance `[b k]` and velocity at x `[b k d]` of each component."""
        self._check(x)
        t = batch_time(t, x)
        alpha, d_alpha = path.alpha(t)[:, None], path.d_alpha(t)[:, None]
        mean = alpha[..., None] * self.means
        variance = (alpha * self.stds).square() + path.sigma(t).square()[:, None]
        half_d = alpha * d_alpha * self.stds.square() + path.half_d_variance(t)[:, None]
        u = d_alpha[..., None] * self.means + (half_d / variance)[..., None] * (x[:, None] - mean)
        return mean, variance, u

    def _log_joint(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return log w_k + log N(x; mean_k, variance_k I), `[b k]`."""
        square = (x[:, None] - mean).square().sum(2)
        normaliser = x.shape[1] * (variance.log() + math.log(2 * math.pi))
        return self.weights.log() - 0.5 * (square / variance + normaliser)

    def _check(self, x: Tensor) -> None:
        check_points(x)
        if x.shape[1:] != self.means.shape[1:]:
            raise ValueError(
                f"x must have shape [b {self.means.shape[1]}] as the means do, "
                f"but {[*x.shape]} came"
            )
        check_same("x", x[:1], "means", self.means[:1])


class EmpiricalField:
    """The marginal velocity of a finite data set `[n ...]`: exact, what a perfect fit would learn.

    u_t(x) = (σ'/σ)(x − α m) + α' m with the posterior mean m = Σ_i w_i x1_i, where
    w_i = softmax_i(−‖x − α x1_i‖²/(2σ²)). Up to a constant the logits are the dot product of a
    query with a key: attention over the `data`, by one fused kernel. Called as `field(x, t)`; the
    affine `path` must have σ(t) > 0 there.

    Equation: eq-marginal-posterior, eq-marginal-mean, eq-marginal-attention
    Reference: lipman2023

    Example:
        >>> field = EmpiricalField(CondOT(), torch.tensor([[-1.0], [1.0]]))
        >>> field(torch.tensor([[0.5]]), 0.5)
        tensor([[0.5232]])
    """

    def __init__(self, path: AffinePath, data: Tensor) -> None:
        check_points(data, "data", finite=True)
        self.path = path
        self.data = data
        flat = data.reshape(len(data), -1)
        # About the centre the squared norms, and with them the rounding errors, are smallest.
        self._centre = flat.mean(0)
        points = flat - self._centre
        self._keys = torch.cat([points, -0.5 * points.square().sum(1, keepdim=True)], dim=1)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity, `[b ...]`."""
        t, alpha, sigma = self._schedule(x, t)
        mean = self.posterior_mean(x, t)
        ratio = align_time(self.path.d_sigma(t) / sigma, x)
        return (
            ratio * (x - align_time(alpha, x) * mean) + align_time(self.path.d_alpha(t), x) * mean
        )

    def posterior_mean(self, x: Tensor, t: Time) -> Tensor:
        """Return E[x1 | x_t = x] `[b ...]`: attention with the data as keys and as values."""
        query = self._query(x, t)[None, None]
        keys = self._keys[None, None]
        mean = F.scaled_dot_product_attention(query, keys, keys, scale=1.0)[0, 0, :, :-1]
        return (mean + self._centre).reshape(x.shape)

    def posterior(self, x: Tensor, t: Time) -> Tensor:
        """Return the posterior weight of each data point, `[b n]`; each row sums to one."""
        return (self._query(x, t) @ self._keys.T).softmax(1)

    def target_variance(self, x: Tensor, t: Time) -> Tensor:
        """Return Var[u_t | x_t = x], the mean over dimensions, `[b]`: what no field can fit.

        u_t = (α' − ασ'/σ) x1 + (σ'/σ) x, so it is (α' − ασ'/σ)² times the posterior variance of x1.
        """
        t, alpha, sigma = self._schedule(x, t)
        slope = self.path.d_alpha(t) - alpha * self.path.d_sigma(t) / sigma
        second = self.posterior(x, t) @ (-2 * self._keys[:, -1])  # E‖x1 − centre‖²
        mean = self.posterior_mean(x, t).reshape(len(x), -1) - self._centre
        return slope.square() * (second - mean.square().sum(1)).clamp(min=0) / mean.shape[1]

    def _query(self, x: Tensor, t: Time) -> Tensor:
        _, alpha, sigma = self._schedule(x, t)
        flat = x.reshape(len(x), -1) - alpha[:, None] * self._centre
        scale = (alpha / sigma.square())[:, None]
        return torch.cat([scale * flat, alpha[:, None] * scale], dim=1)

    def _schedule(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        check_points(x)
        if x.shape[1:] != self.data.shape[1:]:
            raise ValueError(
                f"x must hold points of shape {[*self.data.shape[1:]]} as the data does, "
                f"but x is {[*x.shape]}"
            )
        check_same("x", x[:1], "data", self.data[:1])
        t = batch_time(t, x)
        sigma = self.path.sigma(t)
        if readable(sigma) and not bool((sigma > 0).all()):
            raise ValueError(
                f"the marginal velocity of a finite data set has no limit where σ(t) = 0 (t = 1 "
                f"on {self.path}): stop before t = 1 or take CondOT(sigma_min > 0)"
            )
        return t, self.path.alpha(t), sigma
