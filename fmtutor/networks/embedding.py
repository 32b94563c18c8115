"""What a network is told besides the point: the time, as features it can tell apart.

Chapter: training
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["TimeEmbedding"]


class TimeEmbedding(nn.Module):
    """Fourier features of time, `[b dim]`: t ↦ (cos 2πf_j t, sin 2πf_j t), j = 1 ... dim/2.

    The frequencies f_j rise geometrically from ½ to `max_frequency`, so that the slowest feature
    tells t = 0 from t = 1 and the fastest resolves what changes quickly.

    Reference: tancik2020

    Example:
        >>> TimeEmbedding(16)(torch.tensor([0.0, 1.0]))[:, 0]  # the slowest one
        tensor([ 1., -1.])
    """

    frequencies: Tensor

    def __init__(self, dim: int, max_frequency: float = 8.0) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"dim must be a positive even number, but {dim} came")
        self.dim, self.max_frequency = dim, max_frequency
        self.register_buffer("frequencies", self._frequencies(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times `[b]` as `[b dim]`."""
        angle = 2 * math.pi * t[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    def _frequencies(self) -> Tensor:
        return 0.5 * (2 * self.max_frequency) ** torch.linspace(0, 1, self.dim // 2)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, local_metadata: Any, *rest: Any
    ) -> None:
        """Compute the frequencies anew: no file holds them, and `to_empty` has lost them."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        target = self.frequencies
        if target.is_meta and local_metadata.get("assign_to_params_buffers"):
            target = torch.empty_like(target, device="cpu")  # the weights are taken as they come
        with torch.device("cpu"):
            self.frequencies = target.copy_(self._frequencies())
