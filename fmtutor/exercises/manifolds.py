"""The exercises of the chapter `manifolds`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmtutor.exercises.grading import Exercise, grader, normal, uniform
from fmtutor.manifolds import Sphere, Torus

__all__ = ["grade_divergence", "grade_hyperboloid", "grade_mean", "grade_velocity"]


def _angles(seed: int, n: int) -> Tensor:
    """Draw angles about ±π, on both sides of the seam."""
    return Torus(1).project(math.pi + 0.8 * normal(seed, n, 1))[:, 0]


def _direction(a: Tensor) -> float:
    return torch.atan2(a.sin().sum(), a.cos().sum()).item()


grade_mean = grader("grade_mean", Exercise(
    name="mean",
    task="`mean_direction(a)`, the direction in which most of the angles lie",
    takes="angles in [−π, π), `[n]`; returns an angle in [−π, π]",
    reference=_direction,
    inputs=[(_angles(1, 7),), (_angles(2, 40),), (0.5 * normal(3, 9),)],
    mistakes=[
        ("the mean of numbers near π and −π is near 0, the opposite direction",
         lambda a: a.mean().item()),
        ("this is modulo 2π, but in [0, 2π), not in [−π, π)",
         lambda a: _direction(a) % (2 * math.pi)),
        ("sine and cosine have changed places", lambda a: math.pi / 2 - _direction(a)),
        ("atan(y/x) knows the line, not the direction: use atan2",
         lambda a: torch.atan(a.sin().sum() / a.cos().sum()).item()),
    ],
))  # fmt: skip


def _velocity(x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    return Sphere(2).log(x, x1) / (1 - t[:, None])


def _flat(x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    return (x1 - x) / (1 - t[:, None])


def _chord(x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    return Sphere(2).tangent(x, _flat(x, x1, t))


def _places(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        normalize(normal(seed, n, 3), dim=1),
        normalize(normal(seed + 50, n, 3), dim=1),
        0.1 + 0.8 * uniform(seed, n),
    )


grade_velocity = grader("grade_velocity", Exercise(
    name="velocity",
    task="`conditional_velocity(x, x1, t)` of the geodesic path on the sphere",
    takes="points x and x1 of the sphere, `[b 3]`, and times `[b]` in (0, 1); returns tangent "
    "vectors `[b 3]`",
    reference=_velocity,
    inputs=[_places(1, 6), _places(2, 3)],
    mistakes=[
        ("this points straight through the inside; project it onto the tangent plane", _flat),
        ("the direction is right, the length is not: a projected chord is sin θ long, the way θ",
         _chord),
        ("the way that is left is gone in the time that is left: divide by 1 − t",
         lambda x, x1, t: _velocity(x, x1, t) * (1 - t[:, None])),
        ("this is the unit vector towards x1; its length should be the angle over 1 − t",
         lambda x, x1, t: normalize(_velocity(x, x1, t), dim=1)),
        ("this leads away from x1", lambda x, x1, t: -_velocity(x, x1, t)),
    ],
))  # fmt: skip


def _divergence(turned: float = 2.0, normal_part: float = 1.0) -> Callable[..., Tensor]:
    """Take the trace, less the part along the normal, less what the curvature adds."""

    def divergence(x: Tensor, w: Tensor, j: Tensor) -> Tensor:
        trace = j.diagonal(dim1=1, dim2=2).sum(1)
        along = torch.einsum("bi,bij,bj->b", x, j, x)
        return trace - normal_part * along - turned * (x * w).sum(1)

    return divergence


def _raw(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    return normalize(normal(seed, n, 3), dim=1), normal(seed + 1, n, 3), normal(seed + 2, n, 3, 3)


grade_divergence = grader("grade_divergence", Exercise(
    name="divergence",
    task="`tangent_divergence(x, w, J)` of the field v(x) = w(x) − (x·w(x)) x on the sphere",
    takes="points of the sphere `[b 3]`, the raw vectors w there `[b 3]` and their derivatives "
    "J_ij = ∂w_i/∂x_j `[b 3 3]`; returns `[b]`",
    reference=_divergence(),
    inputs=[_raw(1, 5), _raw(7, 3)],
    mistakes=[
        ("this is the trace of J: the derivative of w in all three directions, and of w, not of v",
         _divergence(0.0, 0.0)),
        ("this is the divergence of w along the surface; that w leaves the surface counts, too",
         _divergence(0.0, 1.0)),
        ("this is ∇·v in space, with the derivative along the normal: 2 x·w less than it should be",
         _divergence(4.0, 1.0)),
        ("the sphere has two directions along it, not three", _divergence(3.0, 1.0)),
        ("a field that points outwards shrinks areas when it is projected: the sign is minus",
         _divergence(-2.0, 1.0)),
    ],
))  # fmt: skip


def _lorentz(u: Tensor, w: Tensor) -> Tensor:
    """Return u_1 w_1 + u_2 w_2 − u_3 w_3, `[b 1]`."""
    signs = torch.tensor([1.0, 1.0, -1.0], dtype=u.dtype)
    return (signs * u * w).sum(1, keepdim=True)


def _hyperboloid(
    product: Callable[[Tensor, Tensor], Tensor] = _lorentz,
    even: Callable[[Tensor], Tensor] = torch.cosh,
    odd: Callable[[Tensor], Tensor] = torch.sinh,
    scaled: bool = True,
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Make exp and log of the hyperbolic plane, with what a mistake changes in them."""

    def both(x: Tensor, u: Tensor, y: Tensor) -> Tensor:
        length = product(u, u).clamp(min=1e-24).sqrt()
        cosh = -_lorentz(x, y)
        way = y - cosh * x
        way = way / product(way, way).clamp(min=1e-24).sqrt()
        distance = torch.acosh(cosh.clamp(min=1)) if scaled else 1.0
        return torch.stack([even(length) * x + odd(length) * u / length, distance * way])

    return both


def _lifted(z: Tensor) -> Tensor:
    return torch.cat([z, (1 + z.square().sum(1, keepdim=True)).sqrt()], dim=1)


def _sheet(seed: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw points x, tangent vectors at x, and points y of the hyperboloid."""
    x, y, w = _lifted(normal(seed, n, 2)), _lifted(normal(seed + 1, n, 2)), normal(seed + 2, n, 3)
    return x, w + _lorentz(x, w) * x, y


grade_hyperboloid = grader("grade_hyperboloid", Exercise(
    name="hyperboloid",
    task="`hyperboloid(x, u, y)`, exp and log of the hyperbolic plane",
    takes="points x, tangent vectors u at x and points y of the sheet x_1² + x_2² − x_3² = −1, "
    "`[b 3]` each; returns exp_x(u) and log_x(y), stacked, `[2 b 3]`",
    reference=_hyperboloid(),
    inputs=[_sheet(1, 5), _sheet(5, 4)],
    mistakes=[
        ("lengths are taken with the product of R³; here the last square counts negative",
         _hyperboloid(product=lambda u, w: (u * w).sum(1, keepdim=True))),
        ("these are the circles of the sphere: the sheet has cosh and sinh",
         _hyperboloid(even=torch.cos, odd=torch.sin)),
        ("the log has the length 1; it should have that of the way", _hyperboloid(scaled=False)),
        ("the log is right; exp leaves the sheet along a straight line",
         _hyperboloid(even=torch.ones_like, odd=lambda s: s)),
        ("exp sets out in the opposite direction",
         lambda x, u, y: _hyperboloid()(x, -u, y)),
    ],
))  # fmt: skip
