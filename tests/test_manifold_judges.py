"""The curved spaces beside what other people wrote: scipy and geoopt."""

import math

import geoopt
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import vonmises_fisher
from test_manifolds import F64, points, vectors

from fmtutor.continuity import divergence
from fmtutor.manifolds import Product, Rotations, Sphere, Torus, distance
from fmtutor.manifolds.rotations import hat, quaternion, vee

ROTATIONS = Rotations()


def same(ours, theirs, atol=1e-10):
    torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=F64), atol=atol, rtol=0)


def test_turns_are_those_of_scipy():
    x, y = points(ROTATIONS), points(ROTATIONS, seed=1)
    u = vectors(ROTATIONS, x)
    turn = Rotation.from_rotvec(vee(x.mT @ u).numpy())
    same(ROTATIONS.exp(x, u), (Rotation.from_matrix(x.numpy()) * turn).as_matrix())
    between = Rotation.from_matrix(x.numpy()).inv() * Rotation.from_matrix(y.numpy())
    same(vee(x.mT @ ROTATIONS.log(x, y)), between.as_rotvec())
    same(distance(ROTATIONS, x, y), between.magnitude())
    q = between.as_quat(canonical=True, scalar_first=True)
    same(quaternion(x.mT @ y), q)


@pytest.mark.parametrize("gap", [1e-3, 1e-7])
def test_so_they_are_near_half_a_turn(gap):
    w = (math.pi - gap) * points(Sphere(2))
    m = torch.as_tensor(Rotation.from_rotvec(w.numpy()).as_matrix())
    eye = torch.eye(3, dtype=F64).expand_as(m).contiguous()
    same(ROTATIONS.log(eye, m), hat(w), atol=1e-8)


def test_the_nearest_rotation_is_that_of_scipy():
    x = points(ROTATIONS)
    near = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    vectors_of = torch.eye(3, dtype=F64).numpy()
    theirs = [Rotation.align_vectors(m.T.numpy(), vectors_of)[0].as_matrix() for m in near]
    same(ROTATIONS.project(near), torch.stack([torch.as_tensor(m) for m in theirs]), atol=1e-7)


def test_the_divergence_turns_one_von_mises_fisher_law_into_the_next():
    """Move points along meridians so that each keeps its share of the mass below as κ grows.

    Then the continuity equation says that −∂ log p/∂κ is div v + v·∇ log p.
    """
    kappa, h, sphere = 2.0, 1e-5, Sphere(2)
    m = torch.tensor([0.0, 0.0, 1.0], dtype=F64)
    x = points(sphere)

    def log_p(kappa):
        return torch.as_tensor(vonmises_fisher(m.numpy(), kappa).logpdf(x.numpy()))

    def share(z, kappa):  # of the mass below the height z
        return ((kappa * (z - 1)).exp() - math.exp(-2 * kappa)) / (1 - math.exp(-2 * kappa))

    def field(x, t):
        z = x[:, 2]
        density = kappa * (kappa * (z - 1)).exp() / (1 - math.exp(-2 * kappa))
        climb = -(share(z, kappa + h) - share(z, kappa - h)) / (2 * h) / density
        return sphere.tangent(x, m.expand_as(x)) * (climb / (1 - z**2))[:, None]

    slope = (log_p(kappa + h) - log_p(kappa - h)) / (2 * h)
    along = kappa * field(x, 0.5)[:, 2]
    same(divergence(field, x, 0.5, manifold=sphere) + along, -slope, atol=1e-6)


def test_the_sphere_is_that_of_geoopt():
    ours, theirs = Sphere(3), geoopt.Sphere()
    x, y = points(ours), points(ours, seed=1)
    u = vectors(ours, x)
    same(ours.exp(x, u), theirs.expmap(x, u))
    same(ours.log(x, y), theirs.logmap(x, y))
    same(ours.tangent(x, y), theirs.proju(x, y))
    same(distance(ours, x, y), theirs.dist(x, y), atol=1e-7)  # theirs is an arc cosine


def test_a_product_is_that_of_geoopt():
    ours = Product(Sphere(2), Sphere(1))
    theirs = geoopt.ProductManifold((geoopt.Sphere(), 3), (geoopt.Sphere(), 2))
    x, y = points(ours), points(ours, seed=1)
    same(ours.exp(x, vectors(ours, x)), theirs.expmap(x, vectors(ours, x)))
    same(ours.log(x, y), theirs.logmap(x, y))
    same(distance(ours, x, y), theirs.dist(x, y), atol=1e-7)


def test_angles_are_a_circle_of_scipy_and_of_ours():
    """The distance of angles is that of the points (cos, sin) on a circle, and of turns in 2D."""
    circle, a, b = Torus(1), points(Torus(1)), points(Torus(1), seed=1)
    turns = [Rotation.from_euler("z", angle.numpy()) for angle in (a, b)]
    same(distance(circle, a, b), (turns[0].inv() * turns[1]).magnitude())
