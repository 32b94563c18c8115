"""Conditional paths: where a sample is at time t when its two ends are known."""

from fmtutor.notation import PathSample
from fmtutor.paths.affine import AffinePath, CondOT, Cosine, VariancePreserving
from fmtutor.paths.bridge import BridgePath
from fmtutor.paths.diffusion import Karras, SubVariancePreserving, VarianceExploding

__all__ = [
    "AffinePath",
    "BridgePath",
    "CondOT",
    "Cosine",
    "Karras",
    "PathSample",
    "SubVariancePreserving",
    "VarianceExploding",
    "VariancePreserving",
]
