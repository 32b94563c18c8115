"""The continuity equation ∂p/∂t + ∇·(pu) = 0: its terms by automatic differentiation.

Each row of a field's result may depend only on the same row of the points `x`, by operations that
are recorded (not in numpy, nor under `torch.no_grad`).

Chapter: continuity
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fmtutor.checking import check_callable, check_count, check_points, check_same, readable
from fmtutor.manifolds import Manifold
from fmtutor.notation import Time, VelocityField, batch_time

__all__ = [
    "continuity_residual",
    "divergence",
    "divergence_probes",
    "tangent_probes",
    "velocity_and_divergence",
]


def divergence(
    v: VelocityField,
    x: Tensor,
    t: Time,
    *,
    method: Literal["exact", "hutchinson"] = "exact",
    generator: torch.Generator | None = None,
    differentiable: bool = False,
    manifold: Manifold | None = None,
) -> Tensor:
    """Return the divergence ∇·v(x, t) = Σ_i ∂v_i/∂x_i, `[b]`, `differentiable` or not.

    The `method` "exact" takes one backward pass for each dimension of a point, "hutchinson" one
    in all: with random signs ε, ε·(∂v/∂x)ε has the divergence as its mean. On a `manifold` the sum
    is over directions along it, one for each of its dimensions.

    Reference: hutchinson1990, grathwohl2019

    Example:
        >>> divergence(lambda x, t: -3 * x, torch.zeros(2, 2), 0.5)
        tensor([-6., -6.])
    """
    check_points(x)
    check_callable("the field", v, "called as v(x, t)")
    if manifold is not None:
        manifold.check(x)
    probes = tangent_probes(manifold, x, divergence_probes(x, method, generator), method)
    return velocity_and_divergence(v, x, batch_time(t, x), probes, differentiable=differentiable)[1]


def divergence_probes(
    x: Tensor,
    method: Literal["exact", "hutchinson"] = "exact",
    generator: torch.Generator | None = None,
    probes: int = 1,
) -> Tensor:
    """Return vectors e for which Σ e·(∂v/∂x)e is the divergence at `x`, or has it as its mean.

    Their `method` is "exact", the d unit vectors `[d b ...]`, or "hutchinson", as many `probes` of
    random signs `[n b ...]`, divided by √n.

    Reference: hutchinson1990
    Chapter: likelihood

    Example:
        >>> divergence_probes(torch.zeros(5, 2), "hutchinson", probes=3).shape
        torch.Size([3, 5, 2])
    """
    if method == "exact":
        d = math.prod(x.shape[1:])
        basis = torch.eye(d, dtype=x.dtype, device=x.device)
        return basis.reshape(d, 1, *x.shape[1:]).expand(d, *x.shape)
    if method == "hutchinson":
        shape = (check_count("probes", probes), *x.shape)
        signs = torch.randint(2, shape, generator=generator, device=x.device)
        return (2 * signs - 1).to(x.dtype) / math.sqrt(probes)
    raise ValueError(f"method must be 'exact' or 'hutchinson', but {method!r} came")


def tangent_probes(
    manifold: Manifold | None,
    x: Tensor,
    probes: Tensor,
    method: Literal["exact", "hutchinson"] = "exact",
) -> Tensor:
    """Return the vectors that take the place of `probes` at points `x` on or near a `manifold`.

    For the `method` "exact" they are the orthonormal frame of the tangent plane, else the tangent
    parts of the random ones. Without a manifold they are the probes themselves.

    Equation: eq-manifolds-divergence
    Chapter: manifolds

    Example:
        >>> from fmtutor.manifolds import Sphere
        >>> x = torch.tensor([[0.0, 0.0, 1.0]])
        >>> tangent_probes(Sphere(2), x, divergence_probes(x)).shape
        torch.Size([2, 1, 3])
    """
    if manifold is None:
        return probes
    x = manifold.project(x.detach())
    return manifold.frame(x) if method == "exact" else manifold.tangent(x, probes)


def velocity_and_divergence(
    v: VelocityField, x: Tensor, t: Tensor, probes: Tensor, *, differentiable: bool = False
) -> tuple[Tensor, Tensor]:
    """Return v(x, t) `[b ...]` and its divergence `[b]` from one forward pass.

    The `probes` are those of `divergence_probes`; `differentiable` results have a graph.

    Equation: eq-likelihood-augmented
    Chapter: likelihood

    Example:
        >>> x = torch.ones(1, 2)
        >>> velocity_and_divergence(lambda x, t: x**2, x, torch.zeros(1), divergence_probes(x))
        (tensor([[1., 1.]]), tensor([4.]))
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, t = (a.clone() if a.is_inference() else a for a in (x, t))  # nothing else is recorded
        x = x if differentiable and x.requires_grad else x.detach().requires_grad_()
        u = v(x, t)
        check_same("v(x, t)", u, "x", x)
        if not u.requires_grad:
            _refuse_unrecorded(v, x.detach(), t, u)
            return u, x.new_zeros(len(x))
        divergences = x.new_zeros(len(x))
        # One pass for each probe: a batched one would keep the activations of all of them at once.
        for left, probe in zip(range(len(probes) - 1, -1, -1), probes, strict=True):
            (row,) = torch.autograd.grad(
                u,
                x,
                probe,
                retain_graph=differentiable or left > 0,
                create_graph=differentiable,
                materialize_grads=True,
            )
            divergences = divergences + (row * probe).reshape(len(x), -1).sum(1)
    return (u, divergences) if differentiable else (u.detach(), divergences)


def _refuse_unrecorded(v: VelocityField, x: Tensor, t: Tensor, u: Tensor) -> None:
    """Tell a field that does not depend on x, of divergence 0, from one that left no graph."""
    elsewhere = v(x + 0.5, t)
    if readable(u) and not torch.equal(elsewhere, u):
        raise ValueError(
            "v(x, t) depends on x, but its computation was not recorded, as under torch.no_grad() "
            "or in numpy: its divergence cannot be computed"
        )


def continuity_residual(
    log_prob: Callable[[Tensor, Tensor], Tensor],
    v: VelocityField,
    x: Tensor,
    t: Time,
    *,
    manifold: Manifold | None = None,
) -> Tensor:
    """Return ∂log p/∂t + ∇·v + v·∇log p, `[b]`: zero where density and field fit.

    This is the continuity equation divided by p, which does not underflow where p does. The
    log-density is called as `log_prob(x, t)`. On a `manifold` it is one with respect to the volume
    there, and v is tangent.

    Equation: eq-continuity-log

    Example:
        >>> mixture, path = GaussianMixture(cluster_means(4, 2.0), 0.5), CondOT()
        >>> x, log_p = standard_normal(9, seed=0), lambda x, t: mixture.log_prob_t(path, x, t)
        >>> (continuity_residual(log_p, mixture.velocity(path), x, 0.5).abs() < 1e-3).all()
        tensor(True)
    """
    check_points(x)
    t = batch_time(t, x)
    leaves = x.detach().requires_grad_(), t.detach().requires_grad_()
    with torch.enable_grad():
        log_p = log_prob(*leaves)
        if log_p.shape != x.shape[:1]:
            raise ValueError(
                f"log_prob must return shape [{len(x)}] for x of shape {[*x.shape]}, "
                f"but it returned {[*log_p.shape]}"
            )
        score, d_t = torch.autograd.grad(log_p.sum(), leaves, materialize_grads=True)
    with torch.no_grad():
        u = v(x, t)
    return d_t + divergence(v, x, t, manifold=manifold) + (u * score).reshape(len(x), -1).sum(1)
