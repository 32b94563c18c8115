"""Bonds, angles and torsions in place of positions: a molecule without its place and pose.

Chapter: molecules
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fmtutor.checking import check_points
from fmtutor.molecules.positions import centred, check_positions

__all__ = ["InternalCoordinates", "bond_angle", "torsion"]


def torsion(x: Tensor) -> Tensor:
    """Return the torsions φ in (−π, π], `[...]`, of chains of four atoms `x` `[... 4 3]`.

    It is the angle between the plane of the first three atoms and that of the last three: π where
    the chain is a zigzag (trans), 0 where its ends are on one side (cis). A mirror changes its
    sign.

    Equation: eq-molecules-torsion

    Example:
        >>> zigzag = torch.tensor([[[-1.0, 1, 0], [-1, 0, 0], [0, 0, 0], [0, -1, 0]]])
        >>> torsion(zigzag)
        tensor([3.1416])
    """
    _check_atoms(x, 4)
    a, b, c = (x[..., 1:, :] - x[..., :-1, :]).unbind(-2)
    n, m = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    across = torch.linalg.cross(b, n) / torch.linalg.vector_norm(b, dim=-1, keepdim=True)
    # −0 + 0 is 0: the zigzag has the torsion π, not −π.
    return torch.atan2((across * m).sum(-1) + 0.0, (n * m).sum(-1))


def bond_angle(x: Tensor) -> Tensor:
    """Return the angles at the second of three atoms `x` `[... 3 3]`, in [0, π], `[...]`.

    Example:
        >>> bond_angle(torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1, 0]]))
        tensor(1.5708)
    """
    _check_atoms(x, 3)
    a, b = x[..., 0, :] - x[..., 1, :], x[..., 2, :] - x[..., 1, :]
    # By the tangent, which is right near 0 and π, where the cosine has lost its digits.
    return torch.atan2(torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=-1), (a * b).sum(-1))


def _check_atoms(x: Tensor, count: int) -> None:
    if not isinstance(x, Tensor) or x.numel():  # a force field may have no torsion at all
        check_points(x)
    if x.shape[-2:] != (count, 3):
        raise ValueError(f"x must be positions [... {count} 3], but its shape is {[*x.shape]}")


class InternalCoordinates:
    """The 3n − 6 numbers that fix n atoms up to place and pose: bonds, angles, torsions.

    Each row places one atom by three that have their place already: `(i, j, k, l)` says how far i
    is from j, the angle i–j–k and the torsion i–j–k–l. The first rows are shorter: `(i,)`,
    `(i, j)` and `(i, j, k)`. So q is n − 1 bonds, then n − 2 angles, then n − 3 torsions, each in
    the order of the rows.

    Args:
        rows: One for each atom.

    Equation: eq-molecules-internal

    Example:
        >>> chain = InternalCoordinates([(0,), (1, 0), (2, 1, 0), (3, 2, 1, 0)])
        >>> q = torch.tensor([[1.5, 1.5, 1.5, 2.0, 2.0, 3.0]])
        >>> torch.allclose(chain(chain.positions(q)), q)
        True
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = [tuple(row) for row in rows]
        placed: set[int] = set()
        for k, row in enumerate(self.rows):
            others = set(row[1:])
            whole = all(isinstance(i, int) for i in row)
            if (
                not whole
                or len(row) != min(k + 1, 4)
                or len(others) != len(row) - 1
                or not others <= placed
            ):
                raise ValueError(
                    f"row {k} must name an atom and {min(k, 3)} different ones that have their "
                    f"place, but {row} came"
                )
            placed.add(row[0])
        self.atoms = len(self.rows)
        if placed != set(range(self.atoms)) or self.atoms < 4:
            raise ValueError(
                "rows must place each of the atoms 0, ..., n − 1 once, of at least four, but came "
                f"for {[row[0] for row in self.rows]}"
            )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The number of bonds, of angles and of torsions."""
        return self.atoms - 1, self.atoms - 2, self.atoms - 3

    def parts(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bonds, the angles and the torsions of coordinates `q` `[b 3n−6]`."""
        check_points(q, "q")
        if q.shape[1:] != (3 * self.atoms - 6,):
            raise ValueError(f"q must have shape [b {3 * self.atoms - 6}], but {[*q.shape]} came")
        bonds, angles, _ = self.sizes
        return q[:, :bonds], q[:, bonds : bonds + angles], q[:, bonds + angles :]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the coordinates `[b 3n−6]` of positions `x` `[b n 3]`, torsions in (−π, π]."""
        check_positions(x, n=self.atoms, dim=3)
        bonds, angles, turns = ([row[:size] for row in self.rows[size - 1 :]] for size in (2, 3, 4))
        ends = x[:, torch.tensor(bonds)]
        return torch.cat(
            [
                torch.linalg.vector_norm(ends[:, :, 0] - ends[:, :, 1], dim=2),
                bond_angle(x[:, torch.tensor(angles)]),
                torsion(x[:, torch.tensor(turns)]),
            ],
            dim=1,
        )

    def positions(self, q: Tensor) -> Tensor:
        """Return centred positions `[b n 3]` with the coordinates `q`, in the pose of the rows.

        There the way from the first atom to the second is along the first axis, and the third lies
        in the plane of the first two.
        """
        r, theta, phi = self._possible(q)
        zero = torch.zeros_like(r[:, 0])
        at: dict[int, Tensor] = {}
        for k, (i, *others) in enumerate(self.rows):
            if k == 0:
                at[i] = torch.zeros(len(q), 3, dtype=q.dtype, device=q.device)
            elif k == 1:
                at[i] = torch.stack([r[:, 0], zero, zero], dim=1)
            elif k == 2:
                (j, other), angle = others, theta[:, 0]
                along = (at[other] - at[j]) / r[:, :1]
                side = torch.stack([zero, angle.sin(), zero], dim=1)
                at[i] = at[j] + r[:, 1:2] * (angle.cos()[:, None] * along + side)
            else:
                near, next_, far = (at[j] for j in others)
                at[i] = _placed(near, next_, far, r[:, k - 1], theta[:, k - 2], phi[:, k - 3])
        return centred(torch.stack([at[i] for i in range(self.atoms)], dim=1))

    def log_volume(self, q: Tensor) -> Tensor:
        """Return the log of the volume of centred positions in that of `q`, all poses taken, `[b]`.

        The density of an invariant law at positions x, in the volume of centred positions, is
        that of their coordinates q over this volume.
        """
        r, theta, _ = self._possible(q)
        constant = math.log(8 * math.pi**2) - 1.5 * math.log(self.atoms)
        return 2 * r.log().sum(1) + theta.sin().log().sum(1) + constant

    def _possible(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r, theta, phi = self.parts(q)
        good = (r > 0).all(1) & (theta > 0).all(1) & (theta < math.pi).all(1)
        bad = ~(good & q.isfinite().all(1))
        if bool(bad.any()):
            r, theta, _ = self.parts(q[bad][:1])
            raise ValueError(
                "coordinates must be finite, bonds positive and angles between 0 and π, but "
                f"{int(bad.sum())} of {len(q)} are not; the first has bonds from "
                f"{r.min().item():g}, angles from {theta.min().item():g} to "
                f"{theta.max().item():g}"
            )
        return r, theta, phi


def _placed(b: Tensor, c: Tensor, d: Tensor, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
    """Return the place of an atom at bond r from b, angle θ with c and torsion φ with d."""
    along = (c - b) / torch.linalg.vector_norm(c - b, dim=1, keepdim=True)
    normal = torch.linalg.cross(c - d, b - c)
    normal = normal / torch.linalg.vector_norm(normal, dim=1, keepdim=True)
    side = torch.linalg.cross(along, normal)
    flat, up = theta.sin() * phi.cos(), theta.sin() * phi.sin()
    step = theta.cos()[:, None] * along + flat[:, None] * side + up[:, None] * normal
    place: Tensor = b + r[:, None] * step
    return place
