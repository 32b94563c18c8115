"""Exact answers on the sphere and on the torus: marginal velocities and densities in closed form.

The source is uniform, the path geodesic. Then x_t given x1 is the uniform law with all its
distances to x1 shortened by 1 − t, and the marginal velocity an average of log_x(x1)/(1 − t).

Chapter: manifolds
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmtutor.checking import as_generator, check_count, check_points, check_same, readable
from fmtutor.manifolds import Sphere, Torus
from fmtutor.notation import Time, batch_time

__all__ = ["SphereField", "TorusMixture"]


class SphereField:
    """The marginal velocity of a finite data set `[n d+1]` on the sphere: what a perfect fit has.

    At an angle θ from x1 the conditional density is that of the uniform law on the sphere, 1/A, at
    the angle φ = θ/(1 − t), times the change of volume: (sin φ/sin θ)^(d−1)/((1 − t) A) for φ < π,
    and 0 beyond. Called as `field(x, t)` for t < 1.

    Equation: eq-manifolds-sphere, eq-manifolds-marginal
    Reference: chen2024riemannian

    Example:
        >>> north = torch.tensor([[0.0, 0.0, 1.0]])
        >>> SphereField(north)(torch.tensor([[0.0, 1.0, 0.0]]), 0.25)
        tensor([[0.0000, 0.0000, 2.0944]])
    """

    def __init__(self, data: Tensor) -> None:
        check_points(data, "data", finite=True)
        self.sphere = Sphere(data.reshape(len(data), -1).shape[1] - 1)
        self.sphere.check(data, "data")
        self.data = data

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity `[b d+1]`.

        Where no data point can come from, it leads to the nearest one.
        """
        t, angle, ways = self._ways(x, t)
        weights = self._log_conditional(t, angle).softmax(1)
        nearest = torch.nn.functional.one_hot(angle.argmin(1), len(self.data)).to(x.dtype)
        weights = torch.where(weights.isnan(), nearest, weights)
        return torch.einsum("bn,bnd->bd", weights, ways) / (1 - t)[:, None]

    def log_prob_t(self, x: Tensor, t: Time) -> Tensor:
        """Return log p_t(x), `[b]`; minus infinity where p_t is 0."""
        t, angle, _ = self._ways(x, t)
        return self._log_conditional(t, angle).logsumexp(1) - math.log(len(self.data))

    def _ways(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return times `[b]`, angles to all data points `[b n]` and the logs there `[b n d+1]`."""
        check_points(x)
        check_same("x", x[:1], "data", self.data[:1])
        t = batch_time(t, x)
        if readable(t) and bool((t == 1).any()):
            raise ValueError("the marginal velocity of a finite data set has no limit at t = 1")
        x = self.sphere.project(x)
        b, n = len(x), len(self.data)
        pairs = x.repeat_interleave(n, 0), self.data.repeat(b, 1)
        ways = self.sphere.log(*pairs).reshape(b, n, -1)
        return t, ways.norm(dim=2), ways

    def _log_conditional(self, t: Tensor, angle: Tensor) -> Tensor:
        """Return log p_t(x|x1), `[b n]`."""
        d, left = self.sphere.dim, 1 - t[:, None]
        whole = angle / left
        # sin φ/sin θ without 0/0 at θ = 0; torch.sinc(a) is sin(πa)/(πa).
        ratio = torch.sinc(whole / math.pi) / (left * torch.sinc(angle / math.pi))
        inside = whole < math.pi
        log_p = (d - 1) * torch.where(inside, ratio, 1).log() - left.log()
        constant = self.sphere.noise_log_prob(self.data[:1])
        return torch.where(inside, log_p + constant, -math.inf)


class TorusMixture:
    """A mixture of wrapped Gaussians on the torus, its marginals in closed form.

    Its density is q(x) = Σ_k w_k Σ_n N(x + 2πn; m_k, s_k² I), over all integers n in each
    dimension. Given x1, x_t is uniform on the box of half-width (1 − t)π around it; so p_t is a sum
    over k of products of Gaussian integrals. Points are angles `[b d]`.

    Args:
        means: `[k d]`, angles in [−π, π).
        stds: Standard deviations s_k, `[k]`, in (0, 2].
        weights: Weights, `[k]`; they are divided by their sum. None: equal ones.

    Reference: chen2024riemannian

    Example:
        >>> mixture = TorusMixture(torch.zeros(1, 1), torch.tensor([0.1]))
        >>> mixture(torch.tensor([[1.5]]), 0.5).round(decimals=2)
        tensor([[-2.9200]])
    """

    IMAGES = 3  # to each side; beyond, a std of 2 leaves less than 1e-15

    def __init__(self, means: Tensor, stds: Tensor, weights: Tensor | None = None) -> None:
        check_points(means, "means", finite=True)
        self.torus = Torus(means.reshape(len(means), -1).shape[1])
        self.torus.check(means, "means")
        weights = torch.ones_like(stds) if weights is None else weights
        for name, values in (("stds", stds), ("weights", weights)):
            check_same(name, values, "the first column of means", means[:, 0])
            if not bool((values > 0).all()):
                raise ValueError(f"{name} must be positive, but {values.tolist()} came")
        if bool((stds > 2).any()):
            raise ValueError(f"stds must be at most 2, but {stds.tolist()} came")
        self.means, self.stds, self.weights = means, stds, weights / weights.sum()

    def sample(
        self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `[n d]` points from q."""
        g = as_generator(seed, generator, self.means.device)
        k = torch.multinomial(self.weights, check_count("n", n), replacement=True, generator=g)
        z = torch.randn(
            n, self.torus.dim, generator=g, dtype=self.means.dtype, device=self.means.device
        )
        return self.torus.project(self.means[k] + self.stds[k, None] * z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log q(x), `[b]`."""
        z = self._standard(x)
        log_images = (-0.5 * z.square()).logsumexp(3) - 0.5 * math.log(2 * math.pi)
        log_parts = (log_images - self.stds.log()[:, None]).sum(2)
        return (self.weights.log() + log_parts).logsumexp(1)

    def log_prob_t(self, x: Tensor, t: Time) -> Tensor:
        """Return log p_t(x), `[b]`, for t < 1."""
        return self._parts(x, t)[1].logsumexp(1)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """Return the marginal velocity E[log_x(x1)|x_t = x]/(1 − t), `[b d]`; 0 at t = 1."""
        left, log_joint, offset = self._parts(x, t)
        u = torch.einsum("bk,bkd->bd", log_joint.softmax(1), offset) / left[:, None]
        # Near t = 1 it goes to 0 in proportion to the time left.
        return u * ((1 - batch_time(t, x)) / left)[:, None]

    def _standard(self, x: Tensor) -> Tensor:
        """Return (x + 2πn − m_k)/s_k for all k and n, `[b k d images]`."""
        check_points(x)
        check_same("x", x[:1], "means", self.means[:1])
        n = torch.arange(-self.IMAGES, self.IMAGES + 1, dtype=x.dtype, device=x.device)
        turned = x[:, None, :, None] - self.means[..., None] + 2 * math.pi * n
        return turned / self.stds[:, None, None]

    def _parts(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Return the time left `[b]`, log w_k p_t^k(x) `[b k]`, E[x1 − x|x, k] `[b k d]`.

        The integrals run from x − a to x + a with a = (1 − t)π, over every image of a component: of
        a standard normal density φ(z) the mass, and of z φ(z) minus the differences of φ.
        """
        left = (1 - batch_time(t, x)).clamp(min=1e-3)  # nearer to 0 all digits are lost
        z = self._standard(self.torus.project(x))
        half = (math.pi * left)[:, None, None, None] / self.stds[:, None, None]
        # Mirrored to where the tail is thin: differences of numbers near 1 lose their digits.
        near, far = z.abs() - half, z.abs() + half
        mass = torch.special.ndtr(-near) - torch.special.ndtr(-far)
        tilt = _normal(far) - _normal(near)
        scale = self.stds[:, None]
        whole = mass.sum(3).clamp(min=torch.finfo(x.dtype).tiny)
        moment = scale * (-z.sign() * tilt - z * mass).sum(3)
        log_joint = (whole / (2 * math.pi * left[:, None, None])).log().sum(2)
        return left, self.weights.log() + log_joint, moment / whole


def _normal(z: Tensor) -> Tensor:
    return (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
