"""What figures in space share: a view that can be turned."""

from __future__ import annotations

import torch
from torch import Tensor

from fmtutor.widgets.base import Finite, LiveFigure

__all__ = ["TurnedFigure"]


class TurnedFigure(LiveFigure):
    """A figure in space, seen from a direction: js/turning.js is its twin.

    Attributes:
        longitude: From where it is seen, in degrees east, −180 to 180.
        latitude: The same in degrees north, −90 to 90.
    """

    longitude = Finite(15.0, min=-180.0, max=180.0).tag(sync=True)
    latitude = Finite(35.0, min=-90.0, max=90.0).tag(sync=True)

    def view(self) -> Tensor:
        """Return the directions to the right, up and towards the reader, as rows `[3 3]`."""
        a, b = torch.deg2rad(torch.tensor([self.latitude, self.longitude], dtype=torch.float64))
        ahead = torch.stack([a.cos() * b.cos(), a.cos() * b.sin(), a.sin()])
        right = torch.stack([-b.sin(), b.cos(), torch.zeros_like(b)])
        return torch.stack([right, torch.linalg.cross(ahead, right), ahead])
