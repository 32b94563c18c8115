"""A network for particles that turns with them, moves with them and does not ask which is which.

Chapter: molecules
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmtutor.checking import check_count, check_points, check_positive
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.notation import Time, batch_time

__all__ = ["EGNN"]


class EGNN(nn.Module):
    """A velocity field for n particles in d dimensions: v(Rx + a, t) = R v(x, t), R orthogonal.

    Each particle carries features h_i that say of what kind it is and what time it is. A layer
    lets each pair send both its particles one message, of the sum of their features and of their
    distance, and moves them by w_ij (x_i − x_j), with the weight w_ij of the message; the next one
    sees the distances after that. The velocity is how far all layers have moved a particle. So the
    velocities add up to zero, and particles of one kind may change their names. Distances enter as
    `radial` bumps between 0 and `reach`.

    Args:
        particles: Number n of particles.
        dim: Their dimension d.
        kinds: What kind each particle is, n integers 0, 1, ...; all alike if not given.
        width: Number of features h_i.
        depth: Number of layers.
        time_dim: Number of time features.
        radial: Number of bumps.
        reach: Where the last bump is, in the unit of the positions.

    Reference: satorras2021, schutt2017

    Example:
        >>> v, x = EGNN(particles=4, dim=2), torch.randn(5, 4, 2)
        >>> u = v(x, 0.5)
        >>> u.shape, bool((u.sum(1).abs() < 1e-5).all())
        (torch.Size([5, 4, 2]), True)
    """

    pairs: Tensor
    centres: Tensor
    kinds: Tensor

    def __init__(
        self,
        particles: int,
        dim: int = 3,
        kinds: Sequence[int] | None = None,
        width: int = 32,
        depth: int = 3,
        *,
        time_dim: int = 16,
        radial: int = 24,
        reach: float = 4.0,
    ) -> None:
        super().__init__()
        particles, dim = check_count("particles", particles, least=2), check_count("dim", dim)
        width, depth = check_count("width", width), check_count("depth", depth)
        radial = check_count("radial", radial, least=2)
        kinds = [0] * particles if kinds is None else [operator.index(k) for k in kinds]
        check_positive("reach", reach)
        if len(kinds) != particles or min(kinds) < 0:
            raise ValueError(f"kinds must be {particles} numbers 0, 1, ..., but {kinds} came")
        self.particles, self.dim = particles, dim
        first, second = torch.triu_indices(particles, particles, offset=1)
        one = torch.eye(particles)
        # One row a pair: +1 at one of the two, −1 at the other.
        self.register_buffer("pairs", one[first] - one[second], persistent=False)
        self.register_buffer("centres", torch.linspace(0, reach, radial), persistent=False)
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)
        self.embedding = TimeEmbedding(time_dim)
        self.kind = nn.Embedding(max(kinds) + 1, width)
        self.time = nn.Linear(time_dim, width)
        self.layers = nn.ModuleList(_Layer(width, radial) for _ in range(depth))

    def forward(self, x: Tensor, t: Time) -> Tensor:
        """Return velocities `[b n d]` at positions `[b n d]`."""
        check_points(x)
        if x.shape[1:] != (self.particles, self.dim):
            wanted = f"[b {self.particles} {self.dim}]"
            raise ValueError(f"x must have shape {wanted}, but {[*x.shape]} came")
        pairs = self.pairs.to(x.dtype)
        time = self.time(self.embedding(batch_time(t, x, unit=False)))
        h, y = self.kind(self.kinds) + time[:, None], x
        for layer in self.layers:
            gaps = pairs @ y  # y_i − y_j, `[b pairs d]`
            # Far below every distance that counts; a derivative exists where particles meet.
            lengths = (gaps.square().sum(2, keepdim=True) + 1e-12).sqrt()
            # Far away a bump is 1e-18, not a denormal number, which is slow to multiply.
            far = ((lengths - self.centres) / self.centres[1]).square().clamp(max=80)
            bumps = torch.exp(-0.5 * far)
            h, weights = layer(h, bumps, pairs.abs())
            y = y + pairs.T @ (weights * gaps)
        return (y - x).to(x.dtype)  # under autocast the layers compute in another one


class _Layer(nn.Module):
    def __init__(self, width: int, radial: int) -> None:
        super().__init__()
        self.message = nn.Sequential(
            nn.Linear(width + radial, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.weight = nn.Linear(width, 1)

    def forward(self, h: Tensor, bumps: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Return features `[b n width]` and weights `[b pairs 1]`; `ends` has a row for a pair."""
        m = self.message(torch.cat([ends @ h, bumps], dim=2))
        h = h + self.update(torch.cat([h, ends.T @ m / len(h[0])], dim=2))
        return h, self.weight(m) / len(h[0])
