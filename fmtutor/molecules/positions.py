"""Positions of particles, `[b n d]`, with their centre at the origin.

Such positions are a subspace of dimension (n − 1)d. Lengths, angles and volume on it are those of
the space around it, so that noise, density and flow are written in positions, and only the number
of dimensions is to be counted right.

Chapter: molecules
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fmtutor.checking import check_callable, check_centred, check_count, check_points
from fmtutor.notation import VelocityField

__all__ = [
    "InHelmert",
    "centred",
    "centred_log_prob",
    "centred_noise",
    "check_positions",
    "helmert",
]


def check_positions(
    x: Tensor, name: str = "x", *, n: int | None = None, dim: int | None = None
) -> None:
    """Refuse what are not positions `x` `[b n d]`, of `n` particles and dimension `dim` if given.

    `name` is the argument's in the error.

    Example:
        >>> check_positions(torch.zeros(2, 3))
        Traceback (most recent call last):
        ValueError: x must be positions [b n d], but its shape is [2, 3]
    """
    check_points(x, name)
    if x.ndim != 3:
        raise ValueError(f"{name} must be positions [b n d], but its shape is {[*x.shape]}")
    if n not in (None, x.shape[1]) or dim not in (None, x.shape[2]):
        wanted = f"[b {n or 'n'} {dim or 'd'}]"
        raise ValueError(f"{name} must be positions {wanted}, but its shape is {[*x.shape]}")


def centred(x: Tensor) -> Tensor:
    """Return positions `x` `[b n d]` less their mean over the particles.

    Equation: eq-molecules-centre

    Example:
        >>> centred(torch.tensor([[[0.0], [1.0], [5.0]]]))[0, :, 0]
        tensor([-2., -1.,  3.])
    """
    check_positions(x)
    return x - x.mean(1, keepdim=True)


def centred_noise(x1: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw the standard normal law of centred positions, one for each of `x1` `[b n d]`.

    Example:
        >>> x0 = centred_noise(torch.zeros(5, 4, 2))
        >>> bool((x0.mean(1).abs() < 1e-6).all())
        True
    """
    noise = torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
    return centred(noise)


def centred_log_prob(x: Tensor) -> Tensor:
    """Return the log-density `[b]` of `centred_noise` at centred positions `x` `[b n d]`.

    It is −½‖x‖² − ½(n − 1)d log 2π, with respect to the volume of the subspace.

    Raises:
        ValueError: If the positions are not centred.

    Equation: eq-molecules-normal

    Example:
        >>> centred_log_prob(torch.zeros(1, 4, 2))  # −3 log 2π
        tensor([-5.5136])
    """
    check_positions(x)
    check_centred(x)
    dimensions = (x.shape[1] - 1) * x.shape[2]
    return -0.5 * (x.square().sum((1, 2)) + dimensions * math.log(2 * math.pi))


def helmert(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return n − 1 orthonormal rows `[n−1 n]`, each with the sum zero: y = Hx are coordinates.

    Row k compares the mean of the first k particles with the next one. `dtype` is that of the rows.

    Equation: eq-molecules-helmert

    Example:
        >>> h = helmert(5)
        >>> torch.allclose(h @ h.T, torch.eye(4, dtype=h.dtype))
        True
    """
    n = check_count("n", n, least=2)
    k = torch.arange(1, n, dtype=dtype)[:, None]
    column = torch.arange(n, dtype=dtype)
    return ((column < k).to(dtype) - k * (column == k)) / (k * (k + 1)).sqrt()


class InHelmert(nn.Module):
    """A field of centred positions, seen in coordinates y = Hx `[b n−1 d]`: y ↦ H v(Hᵀy, t).

    Its divergence is that of `v` and costs n/(n − 1) times less.

    Example:
        >>> field = InHelmert(lambda x, t: -x, particles=3)
        >>> field(torch.ones(1, 2, 1), 0.5)[0, :, 0].round()
        tensor([-1., -1.])
    """

    rows: Tensor

    def __init__(self, v: VelocityField | nn.Module, particles: int) -> None:
        super().__init__()
        check_callable("v", v, "a velocity field")
        self.v = v
        self.register_buffer("rows", helmert(particles), persistent=False)

    def positions(self, y: Tensor) -> Tensor:
        """Return the centred positions `[b n d]` of coordinates `y` `[b n−1 d]`."""
        check_positions(y, "y", n=len(self.rows))
        return self.rows.to(y.dtype).T @ y

    def coordinates(self, x: Tensor) -> Tensor:
        """Return the coordinates `[b n−1 d]` of positions `x` `[b n d]`, whatever their centre."""
        check_positions(x, n=self.rows.shape[1])
        return self.rows.to(x.dtype) @ x

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        """Return velocities `[b n−1 d]` at coordinates `y` `[b n−1 d]`."""
        return self.coordinates(self.v(self.positions(y), t))
