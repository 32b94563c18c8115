"""What importance weights tell of a model q, and what they cannot tell.

The weights of samples x ~ q are w = exp(−E(x))/q(x): `log_w = -energy(x) - log_q`. Their mean is Z
where q reaches all that exp(−E) does.

Chapter: molecules
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fmtutor.checking import as_float64, check_points

__all__ = [
    "Estimate",
    "effective_sample_size",
    "forward_effective_sample_size",
    "log_z",
    "log_z_from_data",
    "reweighted",
]


class Estimate(NamedTuple):
    """A `value` and its standard `error`.

    Example:
        >>> Estimate(1.0, 0.1).error
        0.1
    """

    value: float
    error: float


def effective_sample_size(log_w: Tensor) -> float:
    """Return (Σw)²/(n Σw²) of samples of the model, in (0, 1].

    It is about 1/(1 + χ²), and sees only what the model has drawn: a region that it never reaches
    costs nothing.

    Equation: eq-molecules-ess
    Reference: kong1994

    Example:
        >>> effective_sample_size(torch.zeros(10))
        1.0
    """
    log_w = _log_weights(log_w)
    top = 2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)
    return min(1.0, (top - math.log(len(log_w))).exp().item())  # rounding may pass it


def forward_effective_sample_size(log_w: Tensor) -> float:
    """Return 1/(E[w] E[1/w]) over samples of the *target*, in (0, 1].

    The same number as `effective_sample_size` in the limit, estimated where the target is: there a
    region that the model misses has large weights.

    Equation: eq-molecules-forward-ess

    Example:
        >>> round(forward_effective_sample_size(torch.tensor([1.0, 3.0]).log()), 3)
        0.75
    """
    log_w = _log_weights(log_w)
    pair = torch.logsumexp(log_w, 0) + torch.logsumexp(-log_w, 0)
    return min(1.0, (2 * math.log(len(log_w)) - pair).exp().item())


def log_z(log_w: Tensor) -> Estimate:
    """Return the log of the mean weight of samples of the model: log Z from below, on average.

    Of a single sample the error is infinite.

    Equation: eq-molecules-logz

    Example:
        >>> round(log_z(torch.tensor([1.0, 3.0]).log()).value, 3)  # log 2
        0.693
    """
    log_w = _log_weights(log_w)
    n = len(log_w)
    value = (torch.logsumexp(log_w, 0) - math.log(n)).item()
    # Relative variance of the mean: (n Σw²/(Σw)² − 1)/n.
    relative = (1 / effective_sample_size(log_w) - 1) / n if n > 1 else math.inf
    return Estimate(value, math.sqrt(relative))


def log_z_from_data(log_w: Tensor) -> Estimate:
    """Return minus the log of the mean of 1/w over samples of the target: log Z from above.

    Raises:
        ValueError: If a weight is zero: samples of the target have finite energies.

    Equation: eq-molecules-logz

    Example:
        >>> round(log_z_from_data(torch.tensor([0.5, 0.5]).log()).value, 3)  # log ½
        -0.693
    """
    log_w = _log_weights(log_w)
    if not bool(log_w.isfinite().all()):
        count = int((~log_w.isfinite()).sum())
        raise ValueError(f"log_w must be finite at samples of the target, but {count} are −inf")
    value, error = log_z(-log_w)
    return Estimate(-value, error)


def reweighted(values: Tensor, log_w: Tensor) -> Estimate:
    """Return Σ w f / Σ w of `values` f `[n]` at samples of the model, with its standard error.

    The error is √Σ (w̄ (f − mean)/(1 − w̄))² with the weights w̄ scaled to add up to 1: as if each
    sample in turn were left out. Where one has all the weight it is infinite.

    Equation: eq-molecules-reweighted
    Reference: kong1994

    Example:
        >>> round(reweighted(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 1.0]).log()).value, 3)
        0.75
    """
    log_w = _log_weights(log_w)
    f = as_float64(values)
    if f.shape != log_w.shape:
        raise ValueError(f"values must be {[*log_w.shape]}, as log_w is, but {[*f.shape]} came")
    w = torch.softmax(log_w, 0)
    f = torch.where(w > 0, f, 0.0)  # an infinite energy has the weight zero
    if not bool(f.isfinite().all()):
        count = int((~f.isfinite()).sum())
        raise ValueError(f"values must be finite where weights are, but {count} are NaN or inf")
    mean = (w * f).sum()
    others = w.sum() - w
    change = w * (f - mean) / others.clamp(min=torch.finfo(w.dtype).tiny)
    known = bool((others > 1e-12).all())  # less is rounding
    return Estimate(mean.item(), change.square().sum().sqrt().item() if known else math.inf)


def _log_weights(log_w: Tensor) -> Tensor:
    check_points(log_w, "log_w")
    log_w = as_float64(log_w)
    if log_w.ndim != 1:
        raise ValueError(f"log_w must be [n], but {[*log_w.shape]} came")
    bad = int((log_w.isnan() | (log_w == math.inf)).sum())
    if bad or not bool(log_w.isfinite().any()):
        raise ValueError(
            f"log_w must be finite, or −inf for a weight of zero, but {bad} of {len(log_w)} "
            "values are NaN or inf, and not all may be −inf"
        )
    return log_w
