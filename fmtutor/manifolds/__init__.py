"""Curved spaces by a few functions each: exp, log, project, inner product, a law to start from.

from fmtutor.manifolds import Sphere
sphere = Sphere(2)
fit(model, data, path=GeodesicPath(sphere), noise=sphere.noise)
sample(model, sphere.noise(data), project=sphere.project)
log_prob(model, data, base=sphere.noise_log_prob, manifold=sphere)

Chapter: manifolds
"""

from fmtutor.manifolds.flat import Euclidean, Torus
from fmtutor.manifolds.product import Product
from fmtutor.manifolds.protocol import Manifold, distance, tolerance
from fmtutor.manifolds.rotations import Rotations
from fmtutor.manifolds.sphere import Sphere

__all__ = [
    "Euclidean",
    "Manifold",
    "Product",
    "Rotations",
    "Sphere",
    "Torus",
    "distance",
    "tolerance",
]
