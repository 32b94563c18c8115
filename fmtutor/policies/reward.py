"""What reward does to a law: the exact tilt of a mixture, and the loss whose minimiser has it.

Chapter: policies
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmtutor.checking import check_points, check_positive, readable
from fmtutor.losses import cfm_loss
from fmtutor.notation import Field, Path
from fmtutor.oracles import GaussianMixture
from fmtutor.paths import CondOT

__all__ = ["tilted", "weighted_cfm_loss"]


def tilted(
    mixture: GaussianMixture, slope: Tensor, tau: float, *, curvature: float = 0.0
) -> GaussianMixture:
    """Return the law proportional to q(x) exp(r(x)/τ) with the reward r = b·x − ½κ‖x‖².

    Each component stays normal: 1/s'² = 1/s² + κ/τ, m' = s'² (m/s² + b/τ), and its weight is
    multiplied by (s'/s)^d exp(½‖m'‖²/s'² − ½‖m‖²/s²).

    Args:
        mixture: The behaviour q, points `[b d]`.
        slope: b, `[d]`.
        tau: The temperature τ > 0: what a nat of divergence from q costs in reward.
        curvature: κ ≥ 0. The reward −½κ‖x − c‖² has b = κc.

    Equation: eq-policies-tilt
    Reference: peters2010

    Example:
        >>> q = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.5)
        >>> tilted(q, torch.tensor([1.0]), tau=1.0).weights
        tensor([0.1192, 0.8808])
    """
    check_positive("tau", tau)
    check_points(slope, "slope", finite=True)
    if slope.shape != mixture.means.shape[1:]:
        raise ValueError(
            f"slope must have shape [{mixture.means.shape[1]}], but {[*slope.shape]} came"
        )
    if not 0 <= curvature < float("inf"):
        raise ValueError(f"curvature must be finite and at least 0, but {curvature} came")
    means, stds, b = mixture.means, mixture.stds, slope.to(mixture.means)
    variances = 1 / (stds.square() ** -1 + curvature / tau)
    moved = variances[:, None] * (means / stds.square()[:, None] + b / tau)
    d = means.shape[1]
    log_weights = (
        mixture.weights.log()
        + 0.5 * d * (variances / stds.square()).log()
        + 0.5 * moved.square().sum(1) / variances
        - 0.5 * means.square().sum(1) / stds.square()
    )
    return GaussianMixture(moved, variances.sqrt(), (log_weights - log_weights.max()).exp())


def weighted_cfm_loss(
    v: Field, x1: Tensor, weights: Tensor, *cond: Tensor, path: Path = CondOT(),
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Return E[w(x1) ‖v(x_t, t) − u_t‖²], whose minimiser draws from the law w(x1) q(x1)/E w, 0-d.

    With weights exp(r(x1)/τ) that is the behaviour q tilted by the reward r.

    Args:
        v: The field to be trained.
        x1: Data `[b ...]`.
        weights: w ≥ 0, `[b]`; advantages with a sign make the gradient of a policy of them.
        cond: Conditions `[b ...]`.
        path: Makes the point and the target.

    Raises:
        ValueError: If the weights are not `[b]`, or not finite.

    Equation: eq-policies-weighted
    Reference: peters2007

    Example:
        >>> x1 = torch.randn(64, 2)
        >>> weighted_cfm_loss(MLP(), x1, x1[:, 0].exp()).backward()
    """
    if not isinstance(weights, Tensor) or weights.shape != x1.shape[:1]:
        came = [*weights.shape] if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(f"weights must have shape [{len(x1)}], but {came} came")
    if readable(weights) and not bool(weights.isfinite().all()):
        raise ValueError("weights must be finite, but NaN or infinity came")

    def distance(prediction: Tensor, target: Tensor) -> Tensor:
        return (weights * (prediction - target).square().flatten(1).mean(1)).mean()

    return cfm_loss(v, x1, cond=cond, path=path, distance=distance, generator=generator)
