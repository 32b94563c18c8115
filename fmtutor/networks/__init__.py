"""Networks for velocity fields: called as v(x, t), with a condition v(x, t, condition)."""

from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.mlp import MLP
from fmtutor.networks.unet import UNet, UNetConfig

__all__ = ["MLP", "TimeEmbedding", "UNet", "UNetConfig"]
