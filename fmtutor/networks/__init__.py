"""Networks for velocity fields: called as v(x, t), with a condition v(x, t, condition)."""

from fmtutor.networks.autoencoder import Autoencoder, AutoencoderConfig
from fmtutor.networks.coupling_layers import RealNVP
from fmtutor.networks.embedding import TimeEmbedding
from fmtutor.networks.equivariant import EGNN
from fmtutor.networks.layers import layers_of
from fmtutor.networks.mixture_density import MixtureDensity
from fmtutor.networks.mlp import MLP
from fmtutor.networks.observing import ObservingMLP
from fmtutor.networks.registry import PictureNetwork as PictureNetwork  # a union, for annotations
from fmtutor.networks.registry import architecture, kind_of
from fmtutor.networks.tangent import TangentMLP
from fmtutor.networks.transformer import Transformer, TransformerConfig
from fmtutor.networks.two_times import TwoTimes
from fmtutor.networks.unet import UNet, UNetConfig

__all__ = [
    "EGNN",
    "MLP",
    "Autoencoder",
    "AutoencoderConfig",
    "MixtureDensity",
    "ObservingMLP",
    "RealNVP",
    "TangentMLP",
    "TimeEmbedding",
    "Transformer",
    "TransformerConfig",
    "TwoTimes",
    "UNet",
    "UNetConfig",
    "architecture",
    "kind_of",
    "layers_of",
]
