"""What a network is told besides the point: the time, as features it can tell apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["TimeEmbedding"]


class TimeEmbedding(nn.Module):
    r"""Fourier features of time: t ↦ (cos 2πf_j t, sin 2πf_j t), j = 1 ... dim/2.

    The frequencies f_j rise geometrically from ½ to `max_frequency`, so that the slowest feature
    tells t = 0 from t = 1 and the fastest resolves what changes quickly.

    Args:
        dim: Number of features, even.
        max_frequency: Fastest frequency, in cycles per unit of time.

    Raises:
        ValueError: If `dim` is not a positive even number.

    Reference: tancik2020
    Chapter: training
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_frequency: float = 8.0) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"dim must be a positive even number, but {dim} came")
        exponent = torch.linspace(0, 1, dim // 2)
        frequencies = 0.5 * (2 * max_frequency) ** exponent
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times `[b]` as `[b dim]`."""
        angle = 2 * math.pi * t[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=1)
