"""The layers of the small networks.

Chapter: training
"""

from __future__ import annotations

import itertools

from torch import nn

__all__ = ["layers_of"]


def layers_of(n_in: int, n_out: int, width: int, depth: int) -> nn.Sequential:
    """Return `depth` hidden layers of `width` units with SiLU, and a linear one: `n_in` to `n_out`.

    Example:
        >>> layers_of(4, 2, width=8, depth=3)(torch.zeros(5, 4)).shape
        torch.Size([5, 2])
    """
    sizes = [n_in, *[width] * depth]
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*hidden, nn.Linear(width, n_out))
