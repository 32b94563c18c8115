"""How far two samples are apart, and how far the way between them bends.

A distance of samples `x` `[n ...]` and `y` `[m ...]` is 0-d and in the unit of the points.

Chapter: sampling
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fmtutor.checking import as_float64, as_generator, check_count, check_points, check_samples
from fmtutor.couplings import in_common_unit

__all__ = [
    "bending",
    "energy_distance",
    "frechet_distance",
    "sliced_wasserstein",
    "straightness",
    "wasserstein",
]


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, projections: int = 500, p: float = 2.0, seed: int | None = 0
) -> Tensor:
    """Return the sliced Wasserstein distance (E_θ W_p(θ·x, θ·y)^p)^(1/p) of two samples.

    On a line the optimal coupling pairs the sorted points, so each of the `projections` θ costs one
    sort; for m ≠ n the quantile functions are compared on a common grid. `p` is at least 1.

    Reference: bonneel2015

    Example:
        >>> x = standard_normal(1000, seed=0)
        >>> f"{sliced_wasserstein(x, x + torch.tensor([6.0, 8.0])):.0f}"  # 10/√2
        '7'
    """
    x, y = _samples(x, y)
    _check_exponent(p)
    projections = check_count("projections", projections)
    g = as_generator(seed, device=x.device)
    theta = torch.randn(x.shape[1], projections, generator=g, dtype=x.dtype, device=x.device)
    theta = theta / theta.norm(dim=0)
    a, b = (x @ theta).sort(dim=0).values, (y @ theta).sort(dim=0).values
    if len(a) != len(b):
        n = max(len(a), len(b))
        middle = 2 * torch.arange(n, device=x.device) + 1  # the quantile levels, times 2n
        a, b = a[middle * len(a) // (2 * n)], b[middle * len(b) // (2 * n)]
    return _power_mean((a - b).abs(), p)


def wasserstein(x: Tensor, y: Tensor, *, p: float = 2.0) -> Tensor:
    """Return the exact Wasserstein distance W_p = (min_π mean_i ‖x_i − y_π(i)‖^p)^(1/p), `p` ≥ 1.

    The permutation π of the n = m points is found by scipy's assignment solver, in time that grows
    like n³: use it up to a few thousand points.

    Reference: villani2009
    Chapter: couplings

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]])
        >>> f"{wasserstein(x, y):.2f}"
        '2.00'
    """
    x, y = _samples(x, y)
    if len(x) != len(y):
        raise ValueError(f"x and y must hold equally many points, but {len(x)} and {len(y)} came")
    _check_exponent(p)
    x, y, unit = in_common_unit(x, y)
    with torch.no_grad():
        cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").pow(p)
        _, column = linear_sum_assignment(cost.cpu().numpy())
    # The rows come in order. Only the distances of the best pairs carry a gradient.
    distance = torch.linalg.vector_norm(x - y[torch.as_tensor(column)], dim=1)
    return unit * _power_mean(distance, p)


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the energy distance √(2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖), in the root of the unit.

    Zero for equal samples only. The expectations are means over all pairs, a point with itself
    included, which keeps the square root real.

    Reference: szekely2013

    Example:
        >>> energy_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor(3.1623)
    """
    x, y, unit = in_common_unit(*_samples(x, y))
    square = 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
    return unit.sqrt() * square.clamp(min=0).sqrt()


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return ‖m_x − m_y‖² + tr(C_x + C_y − 2 (C_x C_y)^½), the squared W_2 of fitted Gaussians.

    It is reported squared because that is what the FID is.

    Reference: heusel2017
    Chapter: images

    Example:
        >>> x = standard_normal(1000, 3, seed=0)
        >>> f"{frechet_distance(x, x + 1):.3f}"
        '3.000'
    """
    x, y = _samples(x, y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs 2 points, but {len(x)} and {len(y)} came")
    given = x
    x, y = as_float64(x), as_float64(y)
    c_x, c_y = x.T.cov().reshape(x.shape[1], -1), y.T.cov().reshape(y.shape[1], -1)
    values, vectors = torch.linalg.eigh(c_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c_y @ root).clamp(min=0).sqrt().sum()
    mean = (x.mean(0) - y.mean(0)).square().sum()
    square: Tensor = (mean + c_x.trace() + c_y.trace() - 2 * cross).clamp(min=0)  # rounding
    return square.to(given)


def bending(path: Tensor, times: Tensor) -> Tensor:
    """Return ∫E‖ẋ_t − (x_1 − x_0)/(t_1 − t_0)‖² dt, 0-d: zero for straight lines at constant speed.

    The trajectories `path` `[k b ...]` at increasing `times` `[k]` are those of
    `sample(..., return_path=True)`; ẋ is the difference quotient. `straightness` is an older name.

    Equation: eq-couplings-budget
    Reference: liu2023
    Chapter: couplings

    Example:
        >>> path = sample(lambda x, t: 0 * x + 1, torch.zeros(3, 2), steps=4, return_path=True)
        >>> bending(path, torch.linspace(0, 1, 5))
        tensor(0.)
    """
    check_points(path, "path", finite=True)
    if times.shape != path.shape[:1] or len(times) < 2:
        raise ValueError(
            f"times must be [k] with k at least 2 for a path [k b ...], but times is "
            f"{[*times.shape]} and path is {[*path.shape]}"
        )
    h = times.to(path).diff()
    if not bool((h > 0).all()):
        raise ValueError("times must be strictly increasing")
    flat = path.reshape(len(path), path.shape[1], -1)
    velocity = flat.diff(dim=0) / h[:, None, None]
    chord = (flat[-1] - flat[0]) / h.sum()
    return (h * (velocity - chord).square().sum(2).mean(1)).sum()


straightness = bending


def _check_exponent(p: float) -> None:
    if not p >= 1:
        raise ValueError(f"p must be at least 1, but {p} came")


def _power_mean(distance: Tensor, p: float) -> Tensor:
    """Return (mean_i d_i^p)^(1/p), in the unit of the largest one, so that no power overflows."""
    unit = distance.detach().max().clamp(min=torch.finfo(distance.dtype).tiny)
    mean: Tensor = unit * (distance / unit).pow(p).mean().pow(1 / p)
    return mean


def _samples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    check_samples("x", x, "y", y)
    return x.reshape(len(x), -1), y.reshape(len(y), -1).to(x)
