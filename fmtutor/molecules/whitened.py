"""Molecules as points of a flat product: whitened lines, and angles that turn all the way round.

Chapter: molecules
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fmtutor.checking import check_points
from fmtutor.manifolds import Euclidean, Product, Torus
from fmtutor.manifolds.flat import wrap
from fmtutor.molecules.internal import InternalCoordinates
from fmtutor.molecules.positions import check_positions

__all__ = ["WhitenedCoordinates"]


class WhitenedCoordinates:
    """Internal coordinates whose stiff part has mean 0 and covariance I, as the noise has it.

    Bonds, angles and the torsions that stay near one value become numbers of a line, measured from
    their means and made uncorrelated; the `turning` torsions are left as they are, on a torus. So a
    point is `[b d]` of `space`, a flat product in which noise is normal and uniform, and what is
    left to learn is what is neither.

    The law that such points can have is that of molecules of one hand whose stiff torsions are near
    their means (`inside`): the energy knows of mirror images and of turned peptide bonds, too.

    Args:
        coordinates: The internal coordinates.
        turning: Which torsions turn, counted from 0 in the order of the rows.
        mean: Of the stiff coordinates, `[d_line]`, in float64.
        factor: Lower triangle L with covariance L Lᵀ, `[d_line d_line]`, in float64, its diagonal
            positive.

    Equation: eq-molecules-whitened
    """

    def __init__(
        self,
        coordinates: InternalCoordinates,
        turning: Sequence[int],
        mean: Tensor,
        factor: Tensor,
    ) -> None:
        bonds, angles, torsions = coordinates.sizes
        named = set(turning)
        if not named or not named <= set(range(torsions)) or len(named) != len(turning):
            raise ValueError(
                "turning must name one or more different torsions of 0 to "
                f"{torsions - 1}, but {[*turning]} came"
            )
        self.coordinates, self.turning = coordinates, [*turning]
        self._free = torch.tensor([bonds + angles + k for k in turning], dtype=torch.long)
        stiff = set(range(bonds + angles + torsions)) - set(self._free.tolist())
        self._stiff = torch.tensor(sorted(stiff), dtype=torch.long)
        self._round = self._stiff >= bonds + angles
        d = len(self._stiff)
        if mean.shape != (d,) or factor.shape != (d, d):
            raise ValueError(
                f"mean and factor must have shapes [{d}] and [{d} {d}], but {[*mean.shape]} and "
                f"{[*factor.shape]} came"
            )
        finite = bool(mean.isfinite().all()) and bool(factor.isfinite().all())
        positive = bool((factor.diagonal() > 0).all())
        if not finite or not positive or not factor.equal(factor.tril()):
            raise ValueError(
                "mean and factor must be finite, and factor a lower triangle with a positive "
                f"diagonal, but one with a diagonal from {factor.diagonal().min().item():g} came"
            )
        self.mean, self.factor = mean.double(), factor.double()
        self.space = Product(Euclidean(d), Torus(len(turning)))

    @classmethod
    def of(
        cls, x: Tensor, coordinates: InternalCoordinates, turning: Sequence[int]
    ) -> WhitenedCoordinates:
        """Return those of the molecules `x` `[b n 3]`: their mean and covariance.

        Raises:
            ValueError: If they are too few, or too much alike, to have a covariance.
        """
        check_positions(x, n=coordinates.atoms, dim=3)
        d = sum(coordinates.sizes) - len(turning)
        plain = cls(coordinates, turning, torch.zeros(d), torch.eye(d))
        q = coordinates(x.double())[:, plain._stiff]
        # Torsions near π are on both sides of the seam: their mean is that of the directions.
        around = torch.atan2(q.sin().mean(0), q.cos().mean(0))
        centre = torch.where(plain._round, around, q.mean(0))
        off = torch.where(plain._round, wrap(q - centre), q - centre)
        mean = centre + off.mean(0)
        factor, failed = torch.linalg.cholesky_ex(torch.cov(off.T))
        if len(x) <= d or bool(failed):
            raise ValueError(
                f"x must hold more than {d} molecules, none of whose stiff coordinates follows "
                f"from the others, but {len(x)} came"
            )
        return cls(coordinates, turning, mean, factor)

    def points(self, x: Tensor) -> Tensor:
        """Return the points `[b d]` of molecules `x` `[b n 3]`."""
        check_positions(x, n=self.coordinates.atoms, dim=3)
        q = self.coordinates(x.double())
        off = q[:, self._stiff] - self.mean
        off = torch.where(self._round, wrap(off), off)
        z = torch.linalg.solve_triangular(self.factor, off.T, upper=False).T
        return torch.cat([z, wrap(q[:, self._free])], dim=1).to(x.dtype)

    def positions(self, points: Tensor) -> Tensor:
        """Return centred positions `[b n 3]`, in the pose of the rows."""
        return self.coordinates.positions(self._internal(points)).to(points.dtype)

    def log_volume(self, points: Tensor) -> Tensor:
        """Return the log of the volume of centred positions in that of the points, `[b]`."""
        volume = self.coordinates.log_volume(self._internal(points))
        return (volume + self.factor.diagonal().log().sum()).to(points.dtype)

    def inside(self, points: Tensor, within: float = 1.5) -> Tensor:
        """Return which points `[b d]` are molecules of the law that is meant, `[b]`.

        Bonds are positive, angles between 0 and π, and stiff torsions `within` so many radians of
        their means.
        """
        q = self._internal(points)
        r, theta, _ = self.coordinates.parts(q)
        off = (q[:, self._stiff] - self.mean)[:, self._round]
        possible = (r > 0).all(1) & (theta > 0).all(1) & (theta < math.pi).all(1)
        return possible & (off.abs() < within).all(1)

    def _internal(self, points: Tensor) -> Tensor:
        check_points(points, "points")
        if points.shape[1:] != self.space.shape:
            raise ValueError(
                f"points must have shape [b {self.space.dim}], but {[*points.shape]} came"
            )
        z, angles = points.double().tensor_split([len(self._stiff)], dim=1)
        stiff = self.mean + z @ self.factor.T
        q = points.new_zeros(len(points), self.space.dim, dtype=torch.float64)
        q[:, self._stiff], q[:, self._free] = stiff, angles
        return q
