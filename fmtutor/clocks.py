"""The clocks of diffusions: log-SNR, forward SDEs, and networks that were trained on another clock.

Chapter: diffusion
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.checking import check_callable, check_points, check_same
from fmtutor.notation import Field, Time, align_time, batch_time
from fmtutor.paths import AffinePath, CondOT
from fmtutor.predictions import ends_of

__all__ = [
    "forward_sde",
    "from_diffusers",
    "from_karras",
    "log_snr",
    "on_path",
    "time_of_log_snr",
]


def log_snr(path: AffinePath, t: Time) -> Tensor:
    """Return λ(t) = log(α²/σ²), the log of the signal-to-noise ratio of a `path`, like `t`.

    Equation: eq-diffusion-logsnr
    Reference: kingma2021

    Example:
        >>> log_snr(CondOT(), torch.tensor([0.0, 0.5, 1.0]))
        tensor([-inf, 0., inf])
    """
    return 2 * (path.alpha(t).log() - path.sigma(t).log())


def time_of_log_snr(path: AffinePath, value: Tensor) -> Tensor:
    """Return the time at which a path has the log-SNR `value`, in its shape, by bisection.

    Values beyond those of the path are given its ends, 0 and 1.

    Example:
        >>> time_of_log_snr(CondOT(), torch.tensor([0.0, 100.0], dtype=torch.float64))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    if value.ndim and value.stride(0) == 0:  # one value for all, as a solver gives it
        return time_of_log_snr(path, value[0]).expand(value.shape)
    low, high = torch.zeros_like(value), torch.ones_like(value)
    for _ in range(60):
        middle = (low + high) / 2
        below = log_snr(path, middle) < value
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low  # exactly 0 and 1 for what lies beyond the ends


def forward_sde(path: AffinePath, t: Time) -> tuple[Tensor, Tensor]:
    """Return f and g² of the diffusion dX = f X ds + g dW that is a path in s = 1 − t.

    It carries a data point to N(α x1, σ² I): f = −α'/α, g² = 2σ(σ α'/α − σ').

    Equation: eq-diffusion-forward
    Reference: song2021

    Example:
        >>> f, g2 = forward_sde(VariancePreserving(), torch.tensor([1.0]))  # at the data
        >>> f, g2  # −β/2 and β with β = 0.1
        (tensor([-0.0500]), tensor([0.1000]))
    """
    ratio = path.d_alpha(t) / path.alpha(t)
    return -ratio, 2 * (path.sigma(t).square() * ratio - path.half_d_variance(t))


def on_path(v: Field, source: AffinePath, path: AffinePath = CondOT()) -> Field:
    """Return a velocity field that was learned on one path as one on another, with the same ends.

    The point is scaled to where the source has the same signal-to-noise ratio, the field asked
    there, and its answer read as data and noise. Beyond the ends of the source, which may not
    reach pure noise or data, its end is asked.

    Args:
        v: The field on the path `source`.
        source: The path on which it was learned.
        path: The path on which the result is a field.

    Equation: eq-diffusion-transfer
    Reference: kingma2021

    Example:
        >>> q = GaussianMixture(torch.zeros(1, 2), 0.5)
        >>> moved, x = on_path(q.velocity(Cosine()), Cosine()), torch.ones(1, 2)
        >>> torch.allclose(moved(x, 0.3), q.velocity(CondOT())(x, 0.3))
        True
    """

    def ends(x: Tensor, value: Tensor, *cond: Tensor) -> tuple[Tensor, Tensor]:
        s = time_of_log_snr(source, value)
        x = x * align_time(torch.hypot(source.alpha(s), source.sigma(s)), x)
        u = v(x, s, *cond)
        return source.noise_from_velocity(u, x, s), source.data_from_velocity(u, x, s)

    return _field(ends, path)


def from_karras(
    denoiser: Field,
    path: AffinePath = CondOT(),
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> Field:
    """Return the velocity field of a denoiser D(x1 + σ x0, σ) of x1, as EDM and k-diffusion have.

    At noise levels beyond `sigma_min` and `sigma_max` the denoiser is asked at these.

    Args:
        denoiser: Called as `denoiser(x, sigma, *cond)` with sigmas `[b]`; returns the data.
        path: The path on which the result is a field.
        sigma_min: The least noise that the denoiser knows.
        sigma_max: The most.

    Equation: eq-diffusion-transfer
    Reference: karras2022

    Example:
        >>> v = from_karras(lambda x, sigma: torch.zeros_like(x))  # data that is all zero
        >>> v(torch.ones(1, 2), torch.tensor([0.5]))
        tensor([[-2.0000, -2.0000]])
    """
    check_callable("denoiser", denoiser, "called as denoiser(x, sigma)")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            "the noise must satisfy 0 < sigma_min < sigma_max, "
            f"but sigma_min = {sigma_min} and sigma_max = {sigma_max} came"
        )

    def ends(x: Tensor, value: Tensor, *cond: Tensor) -> tuple[Tensor, Tensor]:
        sigma = (-value / 2).exp().clamp(sigma_min, sigma_max)
        x = x * align_time(torch.hypot(sigma, torch.ones_like(sigma)), x)
        data = denoiser(x, sigma, *cond)
        check_same("the denoiser's result", data, "x", x)
        return (x - data) / align_time(sigma, x), data

    return _field(ends, path)


def from_diffusers(
    network: Field,
    alphas_cumprod: Tensor,
    path: AffinePath = CondOT(),
    *,
    prediction_type: str = "epsilon",
) -> Field:
    """Return the velocity field of a network of the library diffusers, with its discrete clock.

    Its steps 0, ..., n − 1 go from the data to the noise, with the scales √ᾱ and √(1 − ᾱ); between
    two of them the logarithm of the noise-to-signal ratio is linear. Beyond the first and the last
    the network is asked there.

    Args:
        network: Called as `network(x, step, *cond)` with steps `[b]`, not whole numbers.
        alphas_cumprod: ᾱ of the steps, `[n]`, strictly falling, between 0 and 1.
        path: The path on which the result is a field.
        prediction_type: What the network predicts: "epsilon", "sample" or "v_prediction".

    Equation: eq-diffusion-transfer
    Reference: ho2020, salimans2022

    Example:
        >>> steps = torch.linspace(1e-4, 0.02, 1000).sub(1).neg().cumprod(0)
        >>> v = from_diffusers(lambda x, step: torch.zeros_like(x), steps)
        >>> v(torch.ones(1, 2), torch.tensor([0.5]))  # no noise: the data is x/t
        tensor([[2.0000, 2.0000]])
    """
    names = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
    if prediction_type not in names:
        raise ValueError(
            f"prediction_type must be one of {', '.join(names)}, but {prediction_type!r} came"
        )
    check_callable("network", network, "called as network(x, step)")
    bar = _check_schedule(alphas_cumprod)
    levels = 0.5 * ((1 - bar).log() - bar.log())  # log(σ/α), half the log-SNR with its sign changed

    def ends(x: Tensor, value: Tensor, *cond: Tensor) -> tuple[Tensor, Tensor]:
        known = levels.to(value)
        level = (-value / 2).clamp(known[0], known[-1])
        above = torch.searchsorted(known, level.contiguous()).clamp(1, len(known) - 1)
        step = above - (known[above] - level) / (known[above] - known[above - 1])
        answer = network(x, step, *cond)
        check_same("the network's result", answer, "x", x)
        alpha, sigma = ((sign * level).sigmoid().sqrt() for sign in (-2, 2))
        return ends_of(names[prediction_type], answer, x, alpha, sigma)

    return _field(ends, path)


def _field(ends: Callable[..., tuple[Tensor, Tensor]], path: AffinePath) -> Field:
    """Return the field α' x1 + σ' x0 of a path, of what `ends(x, value, *cond)` says, (x0, x1).

    It is asked at x_t/√(α² + σ²), which has the same ends on a path of unit length, and at the
    log-SNR, `[b]`, which is infinite where there is no noise, or nothing else.
    """

    def field(x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
        check_points(x)
        t = batch_time(t, x)
        once = t[:1] if t.stride(0) == 0 else t
        length = torch.hypot(path.alpha(once), path.sigma(once))
        unit = x / align_time(length.expand(t.shape), x)
        x0, x1 = ends(unit, log_snr(path, once).expand(t.shape), *cond)
        t = align_time(t, x)
        return path.d_alpha(t) * x1 + path.d_sigma(t) * x0

    return field


def _check_schedule(alphas_cumprod: Tensor) -> Tensor:
    check_points(alphas_cumprod, "alphas_cumprod")
    bar = alphas_cumprod.detach().double()
    falls = bar.ndim == 1 and len(bar) > 1 and bool((bar.diff() < 0).all())
    if not (falls and bool(bar[0] < 1) and bool(bar[-1] > 0)):
        raise ValueError(
            "alphas_cumprod must be [n], strictly falling, below 1 and above 0, but "
            + (
                f"[{len(bar)}] from {bar[0]:g} to {bar[-1]:g} came"
                if bar.ndim == 1
                else f"shape {[*bar.shape]} came"
            )
        )
    return bar
