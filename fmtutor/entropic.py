"""Entropic optimal transport between two finite sets: Sinkhorn's iteration.

A plan P `[n m]` says how much mass goes from each of n points to each of m. The entropic one is the
least of Σ P_ij |x_i − y_j|² + ε Σ P_ij log P_ij, and has the form exp((f_i + g_j − c_ij)/ε): two
potentials, found by fitting rows and columns in turn.

Chapter: bridges
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fmtutor.checking import as_float64, check_count, check_positive, check_samples

__all__ = ["entropic_plan", "unbalanced_plan"]


def entropic_plan(
    x0: Tensor, x1: Tensor, epsilon: float, *, tol: float = 1e-6, most: int = 20_000
) -> Tensor:
    """Return the entropic plan between points `x0` `[n ...]` and `x1` `[m ...]`, `[n m]`, float64.

    The rows sum to 1/n up to rounding, the columns to 1/m up to `tol` in total. The potentials are
    kept as logarithms, so that no `epsilon` is too small to be written down; between two looks at
    them the iteration multiplies by a kernel that they have made well scaled.

    Args:
        x0: Points on the one side.
        x1: Points on the other.
        epsilon: The weight of the entropy, in the square of the points' unit. The Schrödinger
            bridge of Brownian motion of size σ has ε = 2σ².
        tol: The sum of the columns' errors Σ_j |Σ_i P_ij − 1/m| that is allowed.
        most: The number of iterations after which the attempt ends.

    Raises:
        RuntimeError: If the columns' error is still above `tol` after `most` iterations; the error
            that was reached is named.

    Equation: eq-bridges-sinkhorn
    Reference: peyre2019

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> entropic_plan(x, x, 0.1)
        tensor([[4.9998e-01, 2.2699e-05],
                [2.2699e-05, 4.9998e-01]], dtype=torch.float64)
    """
    cost = _cost(x0, x1, epsilon)
    most = check_count("most", most)
    check_positive("tol", tol)
    n, m = cost.shape
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    for temperature in _falling(cost, epsilon):  # near potentials, from those of warmer problems
        f, g = _sweep(f, g, cost, temperature)
    done = 0
    while True:
        kernel = ((f[:, None] + g - cost) / epsilon).exp()
        u, v, error, steps = _scale(kernel, tol, most - done)
        done += steps
        if error <= tol:
            return kernel * u[:, None] * v
        if done >= most:
            raise RuntimeError(
                f"Sinkhorn's iteration has not converged: after {done} iterations the columns' "
                f"error is {error:.2g}, above tol = {tol:g}; take a larger epsilon than "
                f"{epsilon:g} (the median cost is {cost.median():.3g}), a larger tol or most"
            )
        f, g = _sweep(f + epsilon * u.log(), g + epsilon * v.log(), cost, epsilon)
        done += 1


def unbalanced_plan(
    x0: Tensor,
    x1: Tensor,
    epsilon: float,
    reach: float,
    *,
    tol: float = 1e-6,
    most: int = 20_000,
) -> Tensor:
    """Return the plan whose marginals are wished for, not prescribed, `[n m]`, float64.

    The least of Σ P c + ε KL(P | a bᵀ) + ρ KL(P 1 | a) + ρ KL(Pᵀ 1 | b) with weights a = 1/n,
    b = 1/m and KL(P | Q) = Σ P log(P/Q) − P + Q: mass may be made or lost at a price, rather than
    travel further than about √ρ. Arguments not named here are those of `entropic_plan`.

    Args:
        reach: The price ρ of a unit of mass, in the square of the points' unit.
        tol: The error that is allowed, relative, of the condition Σ_j P_ij = a_i e^(−f_i/ρ) on the
            rows; that on the columns holds up to rounding.

    Raises:
        RuntimeError: If the error is still above `tol` after `most` iterations.

    Equation: eq-bridges-unbalanced
    Reference: peyre2019

    Example:
        >>> x0, x1 = torch.tensor([[0.0], [9.0]]), torch.tensor([[0.0], [0.1], [9.0]])
        >>> plan = unbalanced_plan(x0, x1, 0.1, reach=1.0)
        >>> plan.sum(1)  # the first point has two descendants
        tensor([0.5611, 0.3912], dtype=torch.float64)
    """
    cost = _cost(x0, x1, epsilon)
    check_positive("reach", reach)
    check_positive("tol", tol)
    share = reach / (reach + epsilon)
    a, b = -math.log(cost.shape[0]), -math.log(cost.shape[1])
    f = cost.new_zeros(cost.shape[0])
    for _ in range(check_count("most", most)):
        g = -share * epsilon * ((f[:, None] - cost) / epsilon + a).logsumexp(0)
        fitted = -share * epsilon * ((g - cost) / epsilon + b).logsumexp(1)
        error = float((fitted - f).abs().max()) / (share * epsilon)  # of the logarithms of row sums
        if error <= tol:
            return ((f[:, None] + g - cost) / epsilon + a + b).exp()
        f = fitted
    raise RuntimeError(
        f"the iteration has not converged: after {most} rounds the rows' error is {error:.2g}, "
        f"above tol = {tol:g}; take a larger epsilon than {epsilon:g}, a larger tol or most"
    )


# A scaling beyond this goes into the potentials before anything over- or underflows.
_LARGEST = 1e50
# Looks at the scalings and the columns' error cost as much as an iteration: one in so many.
_LOOK = 10
# Warmer problems come first where costs are more than so many times epsilon: e⁻¹⁰⁰ is 4 · 10⁻⁴⁴.
_FAR = 100


def _scale(kernel: Tensor, tol: float, most: int) -> tuple[Tensor, Tensor, float, int]:
    """Scale columns and rows of a kernel in turn; return scalings, error and iterations."""
    k = kernel.cpu().numpy()  # thousands of small products: a call costs numpy half as much
    n, m = k.shape
    u, v = np.ones(n), np.ones(m)
    error, done = math.inf, 0
    while done < most and error > tol:
        next_u, next_v = u, v
        turns = min(_LOOK, most - done)
        for _ in range(turns):
            next_v = (1 / m) / (next_u @ k)
            next_u = (1 / n) / (k @ next_v)
        done += turns
        if not max(next_u.max(), next_v.max()) < _LARGEST:
            break
        u, v = next_u, next_v
        error = float(np.abs(u @ k * v - 1 / m).sum())
    return torch.from_numpy(u).to(kernel), torch.from_numpy(v).to(kernel), error, done


def _sweep(f: Tensor, g: Tensor, cost: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Fit the columns, then the rows, by logarithms."""
    n, m = cost.shape
    g = -epsilon * (((f[:, None] - cost) / epsilon).logsumexp(0) + math.log(m))
    f = -epsilon * (((g - cost) / epsilon).logsumexp(1) + math.log(n))
    return f, g


def _falling(cost: Tensor, epsilon: float) -> list[float]:
    """Return temperatures from the size of the costs down to `epsilon`, each half of the last."""
    largest = float(cost.max())
    if largest <= _FAR * epsilon:
        return []
    return [epsilon * 2.0**k for k in range(math.ceil(math.log2(largest / epsilon)), -1, -1)]


def _cost(x0: Tensor, x1: Tensor, epsilon: float) -> Tensor:
    """Return squared distances, float64 `[n m]`."""
    check_samples("x0", x0, "x1", x1)
    check_positive("epsilon", epsilon)
    x, y = (as_float64(points.detach()).reshape(len(points), -1) for points in (x0, x1))
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    if not bool(cost.isfinite().all()):
        raise ValueError("x0 and x1 are so far apart that their squared distances overflow")
    return cost
