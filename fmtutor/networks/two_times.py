"""A network that takes two times, for the average velocity between them.

Chapter: few_steps
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.mlp import MLP
from fmtutor.networks.observing import ObservingMLP
from fmtutor.networks.unet import UNet
from fmtutor.notation import Time, batch_time

__all__ = ["TwoTimes"]


class TwoTimes(nn.Module):
    """An average velocity u(x, s, t): a network v(x, s) of the book that is also told t − s.

    The span t − s enters as slow Fourier features, through two layers of which the last starts at
    0: at first u(x, s, t) = v(x, s), so that a trained velocity field can be given a second time.
    It is called as u(x, s, t) or, with classes, as u(x, s, t, label); with observations of floating
    point in the label's place where the network is one that observes.

    A `Transformer` is refused: its LayerNorm has a forward-mode derivative whose own gradient is
    wrong in torch (pytorch/pytorch issue 196700), and Lagrange's loss follows just that gradient.

    Args:
        network: The network v, an `MLP`, an `ObservingMLP` or a `UNet`.

    Raises:
        TypeError: If the network is another one.

    Reference: geng2025

    Example:
        >>> u = TwoTimes(MLP())
        >>> u(torch.zeros(5, 2), 0.0, 1.0).shape
        torch.Size([5, 2])
    """

    def __init__(self, network: MLP | ObservingMLP | UNet) -> None:
        super().__init__()
        if not isinstance(network, MLP | ObservingMLP | UNet):
            raise TypeError(
                "network must be an MLP, an ObservingMLP or a UNet, but "
                f"{type(network).__name__} came"
            )
        self.network, self.classes = network, network.classes
        n = network.n_embedding
        last = nn.Linear(64, n)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        # Slow: what is told fast of a time is steep in it, and the losses learn from slopes.
        self.features = TimeEmbedding(8, max_frequency=2.0)
        self.span = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), last)

    @property
    def config(self) -> Any:
        """The description of the network v, where it has one: a `UNetConfig`."""
        return getattr(self.network, "config", None)

    def forward(self, x: Tensor, s: Time, t: Time, label: Tensor | int | None = None) -> Tensor:
        """Return average velocities `[b ...]` from time s to time t of points that are at x at s.

        The label is that of the network.
        """
        s, t = batch_time(s, x, unit=False), batch_time(t, x, unit=False)
        return cast("Tensor", self.network(x, s, label, also=self.span(self.features(t - s))))
