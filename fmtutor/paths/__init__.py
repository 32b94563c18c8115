"""Conditional paths: where a sample is at time t when its two ends are known."""

from fmtutor.notation import PathSample
from fmtutor.paths.affine import AffinePath, CondOT, Cosine, VariancePreserving
from fmtutor.paths.bridge import BridgePath, BrownianBridge, Interpolant
from fmtutor.paths.diffusion import Karras, SubVariancePreserving, VarianceExploding
from fmtutor.paths.discrete import CosineSchedule, MixturePath, Power
from fmtutor.paths.geodesic import GeodesicPath

__all__ = [
    "AffinePath",
    "BridgePath",
    "BrownianBridge",
    "CondOT",
    "Cosine",
    "CosineSchedule",
    "GeodesicPath",
    "Interpolant",
    "Karras",
    "MixturePath",
    "PathSample",
    "Power",
    "SubVariancePreserving",
    "VarianceExploding",
    "VariancePreserving",
]
