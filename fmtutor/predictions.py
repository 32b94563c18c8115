"""One unknown, many names: what a network may predict, and how one prediction becomes another.

Given the point x_t = α x1 + σ x0, the data x1, the noise x0, the velocity, the score and what
diffusion models call v and F determine each other: two linear equations for two unknowns. A
network that was trained to predict any of them, on any clock, is a velocity field here.

Chapter: diffusion
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import check_callable, check_positive, readable
from fmtutor.notation import (
    Field,
    PathSample,
    Time,
    align_time,
    as_time,
    batch_points,
    batch_time,
)
from fmtutor.paths import AffinePath

__all__ = ["PREDICTIONS", "as_velocity", "convert", "ends_of", "gain", "target_of"]

PREDICTIONS = ("velocity", "data", "noise", "score", "v", "F")
"""What a network may predict: u_t = α' x1 + σ' x0, x1, x0, the score −x0/σ, the v = α x0 − σ x1 of
progressive distillation, and the F of EDM, which has unit variance for data of deviation
`sigma_data`: F = (σ x1 − s² α x0)/(s √(σ² + α² s²)) with s = `sigma_data`."""


def convert(
    value: Tensor,
    xt: Tensor,
    t: Time,
    path: AffinePath,
    *,
    source: str,
    target: str = "velocity",
    sigma_data: float = 1.0,
) -> Tensor:
    """Turn a prediction `value` `[b ...]` at points `xt` of a `path` into another one.

    Exact for a single draw and, since it is linear, for the means given x_t that a network learns.

    Args:
        value: The prediction.
        xt: The points.
        path: The path.
        source: What came, one of `PREDICTIONS`.
        target: What is wanted.
        sigma_data: Standard deviation of the data, for "F".

    Raises:
        ValueError: Where the one does not determine the other: the noise and the score say nothing
            of the data where α = 0, the data nothing of the noise where σ = 0.

    Equation: eq-diffusion-rows
    Reference: salimans2022, karras2022

    Example:
        >>> path, x1, t = CondOT(), torch.ones(1, 2), 0.25
        >>> s = path.sample(torch.zeros(1, 2), x1, t)
        >>> convert(s.x1, s.xt, t, path, source="data", target="velocity")
        tensor([[1., 1.]])
    """
    t = align_time(batch_points(value, "value", xt, t, "xt"), xt)
    _check(source, "source", sigma_data)
    _check(target, "target", sigma_data)
    if source == target:
        return value
    of_value, of_point = _solution(path, t, source, target, sigma_data)
    return of_value * value + of_point * xt


def gain(
    t: Time, path: AffinePath, *, source: str, target: str = "velocity", sigma_data: float = 1.0
) -> Tensor:
    """Return by what an error of a prediction is multiplied in another one, c(t), like `t`.

    Arguments are those of `convert`: `path`, `source`, `target`, `sigma_data`. A squared error of
    the target is c² times that of the source: training on the one is training on the other with
    the weight c².

    Equation: eq-diffusion-gain

    Example:
        >>> t = torch.tensor([0.25, 0.5])
        >>> gain(t, CondOT(), source="noise").abs()  # the velocity from the noise: 1/t
        tensor([4., 2.])
    """
    _check(source, "source", sigma_data)
    _check(target, "target", sigma_data)
    return _solution(path, as_time(t), source, target, sigma_data)[0]


def target_of(
    prediction: str, path: AffinePath, *, sigma_data: float = 1.0
) -> Callable[[PathSample], Tensor]:
    """Return what `cfm_loss(..., target=...)` is to compare a network with that predicts this.

    The `prediction` is one of `PREDICTIONS`, on a `path`, for data of deviation `sigma_data`.

    Equation: eq-diffusion-rows

    Example:
        >>> s = CondOT().sample(torch.zeros(1, 2), torch.ones(1, 2), 0.5)
        >>> target_of("noise", CondOT())(s)
        tensor([[0., 0.]])
    """
    _check(prediction, "prediction", sigma_data)

    def wanted(s: PathSample) -> Tensor:
        p, q = _row(prediction, path, align_time(s.t, s.xt), sigma_data)
        return p * s.x1 + q * s.x0

    return wanted


def ends_of(
    name: str, value: Tensor, xt: Tensor, alpha: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (x0, x1) of a prediction `value` of points `xt` with the scales `alpha`, `sigma`.

    The scales are `[b]`. `name` is any prediction but the velocity, which needs their derivatives,
    too; "F" is that for data of unit deviation.

    Equation: eq-diffusion-rows

    Example:
        >>> half = torch.tensor([0.5])
        >>> ends_of("noise", torch.zeros(1, 2), torch.ones(1, 2), half, half)
        (tensor([[0., 0.]]), tensor([[2., 2.]]))
    """
    if name not in PREDICTIONS[1:]:
        raise ValueError(f"name must be one of {', '.join(PREDICTIONS[1:])}, but {name!r} came")
    alpha, sigma = align_time(alpha, xt), align_time(sigma, xt)
    given = _fixed_row(name, alpha, sigma)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    solved = [_solve(given, wanted, alpha, sigma) for wanted in ((zero, one), (one, zero))]
    x0, x1 = (of_value * value + of_point * xt for of_value, of_point in solved)
    return x0, x1


def as_velocity(
    network: Field, path: AffinePath, *, predicts: str, sigma_data: float = 1.0
) -> Field:
    """Return the velocity field of a `network` that `predicts` something else, on its own `path`.

    `sigma_data` is the standard deviation of the data, for "F".

    At a time where the prediction determines no velocity (the noise at t = 0 of a path of pure
    noise) the field raises.

    Example:
        >>> v = as_velocity(lambda x, t: torch.zeros_like(x), CondOT(), predicts="noise")
        >>> v(torch.ones(1, 2), torch.tensor([0.5]))
        tensor([[2., 2.]])
    """
    check_callable("network", network, "called as network(x, t)")
    _check(predicts, "predicts", sigma_data)

    def field(x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        value = network(x, batch_time(t, x), *cond)
        return convert(value, x, t, path, source=predicts, sigma_data=sigma_data)

    return field


def _row(name: str, path: AffinePath, t: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    """Return p and q of a prediction p x1 + q x0 at times `t`."""
    if name == "velocity":
        return path.d_alpha(t), path.d_sigma(t)
    return _fixed_row(name, path.alpha(t), path.sigma(t), sigma_data)


def _fixed_row(name: str, alpha: Tensor, sigma: Tensor, s: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the same of a prediction that needs the scales alone, and not their derivatives."""
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    norm = s * (sigma.square() + (alpha * s).square()).sqrt()
    rows = {
        "data": (one, zero),
        "noise": (zero, one),
        "score": (zero, -1 / sigma),
        "v": (-sigma, alpha),
        "F": (sigma / norm, -(s**2) * alpha / norm),
    }
    return rows[name]


def _solve(
    given: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], alpha: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the coefficients of p x1 + q x0, given, and of α x1 + σ x0 in r x1 + s x0, wanted."""
    (p, q), (r, s) = given, wanted
    determinant = p * sigma - q * alpha
    return (r * sigma - s * alpha) / determinant, (p * s - q * r) / determinant


def _solution(
    path: AffinePath, t: Tensor, source: str, target: str, sigma_data: float
) -> tuple[Tensor, Tensor]:
    """Return the coefficients of the given prediction and of x_t in the one that is wanted."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    given, wanted = (_row(name, path, t, sigma_data) for name in (source, target))
    of_value, of_point = _solve(given, wanted, alpha, sigma)
    if readable(t) and not bool((of_value.isfinite() & of_point.isfinite()).all()):
        raise ValueError(
            f"{source!r} does not determine {target!r} everywhere on {path}: it says nothing of it "
            f"at a time among {t.min().item():g} ... {t.max().item():g}"
        )
    return of_value, of_point


def _check(name: str, what: str, sigma_data: float) -> None:
    if name not in PREDICTIONS:
        raise ValueError(f"{what} must be one of {', '.join(PREDICTIONS)}, but {name!r} came")
    check_positive("sigma_data", sigma_data)
