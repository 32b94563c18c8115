"""A normalizing flow of affine coupling layers: the exact likelihood of a network that inverts.

Chapter: diffusion
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fmtutor.checking import as_generator, check_count, check_points

__all__ = ["RealNVP"]


class RealNVP(nn.Module):
    """A chain of affine coupling layers that carries data to noise, x ↦ z, and back.

    In each layer one half of the coordinates stays and decides how the other half is scaled and
    shifted: x'' = x' exp(s) + b with (s, b) a function of what stays. The halves take turns. s is
    kept in (−2, 2), so that a layer stretches by at most e². The first layers change nothing.

    Args:
        dim: Dimension d of a point, at least 2.
        layers: Number of coupling layers.
        width: Units of the two hidden layers of each of their networks.

    Equation: eq-diffusion-coupling
    Reference: dinh2017

    Example:
        >>> flow = RealNVP()
        >>> flow.log_prob(torch.zeros(5, 2)).shape, flow.sample(5, seed=0).shape
        (torch.Size([5]), torch.Size([5, 2]))
    """

    def __init__(self, dim: int = 2, layers: int = 8, width: int = 64) -> None:
        super().__init__()
        self.dim = check_count("dim", dim, least=2)
        self.keep, self.move = dim // 2, dim - dim // 2  # of the coordinates, in every layer
        self.networks = nn.ModuleList(
            _network(self.keep, 2 * self.move, width) for _ in range(check_count("layers", layers))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise z `[b d]` that belongs to data `x` `[b d]`, and log|det ∂z/∂x| `[b]`."""
        self._check(x)
        log_det = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for network in self.networks:
            kept, moved = x[:, : self.keep], x[:, self.keep :]
            log_scale, offset = _scale_and_offset(network, kept)
            # What was moved comes first, so that in the next layer it stays.
            x = torch.cat([moved * log_scale.exp() + offset, kept], dim=1)
            log_det = log_det + log_scale.sum(1)
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Return the data `[b d]` that belongs to noise `z` `[b d]`."""
        self._check(z)
        for network in reversed(self.networks):
            moved, kept = z[:, : self.move], z[:, self.move :]
            log_scale, offset = _scale_and_offset(network, kept)
            z = torch.cat([kept, (moved - offset) * (-log_scale).exp()], dim=1)
        return z

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density of `x`, `[b]`: that of its noise plus log|det ∂z/∂x|."""
        z, log_det = self.forward(x)
        return -0.5 * z.square().sum(1) - 0.5 * self.dim * math.log(2 * math.pi) + log_det

    @torch.no_grad()
    def sample(
        self, n: int, *, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw `n` samples `[n d]`: noise, inverted."""
        weight = next(self.parameters())
        g = as_generator(seed, generator, weight.device)
        shape = (check_count("n", n), self.dim)
        z = torch.randn(shape, generator=g, dtype=weight.dtype, device=weight.device)
        return self.inverse(z)

    def _check(self, x: Tensor) -> None:
        check_points(x)
        if x.shape[1:] != (self.dim,):
            raise ValueError(f"x must have shape [b {self.dim}], but {[*x.shape]} came")


def _network(n_in: int, n_out: int, width: int) -> nn.Sequential:
    last = nn.Linear(width, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last
    )


def _scale_and_offset(network: nn.Module, kept: Tensor) -> tuple[Tensor, Tensor]:
    raw, offset = network(kept).chunk(2, dim=1)
    return 2 * torch.tanh(raw / 2), offset
