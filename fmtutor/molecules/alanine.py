"""Alanine dipeptide: 22 atoms, a force field, and the two angles by which it is known.

Chapter: molecules
"""

from __future__ import annotations

from torch import Tensor

from fmtutor.molecules.internal import InternalCoordinates, torsion
from fmtutor.molecules.positions import check_positions

__all__ = ["ELEMENTS", "TURNING", "alanine_coordinates", "backbone_torsions"]

ELEMENTS = "HCHHCONHCHCHHHCONHCHHH"
"""The element of each atom: acetyl (6 atoms), alanine (10), methylamide (6)."""

TURNING = (0, 1, 10, 13, 16)
"""Which torsions of `alanine_coordinates` turn all the way round: φ, ψ, three methyl groups."""

# Along the backbone first. An atom beside one that has its place is turned from that one, so that
# its torsion is nearly constant: what is left to turn are φ, ψ and the three methyl groups.
_ROWS = [
    (6,), (8, 6), (14, 8, 6),  # N, Cα, C
    (4, 6, 8, 14), (16, 14, 8, 6),  # C before: φ; N after: ψ
    (1, 4, 6, 8), (18, 16, 14, 8),  # the ends, across the peptide bonds
    (5, 4, 6, 1), (7, 6, 8, 4), (15, 14, 8, 16), (17, 16, 14, 18),  # O, H, O, H in their planes
    (10, 8, 6, 14), (9, 8, 6, 14),  # Cβ and Hα: which hand it has
    (0, 1, 4, 6), (2, 1, 4, 0), (3, 1, 4, 0),  # methyl groups
    (11, 10, 8, 6), (12, 10, 8, 11), (13, 10, 8, 11),
    (19, 18, 16, 14), (20, 18, 16, 19), (21, 18, 16, 19),
]  # fmt: skip


def alanine_coordinates() -> InternalCoordinates:
    """Return the internal coordinates of alanine dipeptide, the first torsions φ and ψ.

    Example:
        >>> alanine_coordinates().sizes
        (21, 20, 19)
    """
    return InternalCoordinates(_ROWS)


def backbone_torsions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles φ and ψ of the backbone at positions `x` `[b 22 3]`, `[b]` each.

    Example:
        >>> phi, psi = backbone_torsions(torch.randn(5, 22, 3))
        >>> phi.shape
        torch.Size([5])
    """
    check_positions(x, n=22, dim=3)
    return torsion(x[:, [4, 6, 8, 14]]), torsion(x[:, [6, 8, 14, 16]])
