"""The exercises of the chapter `diffusion`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform

__all__ = ["grade_checkpoint", "grade_forward", "grade_reverse", "grade_schedule"]


def _forward(
    clock: Callable[[Tensor], Tensor] = lambda t: 1 - t,
    signal: float = 1.0,
    share: Callable[[float, float], float] = lambda a, c: c / (2 * a),
    power: float = 0.5,
) -> Callable[[float, float, Tensor], Tensor]:
    """Make the scales of the equation, with what a mistake changes in them."""

    def scales(a: float, c: float, t: Tensor) -> Tensor:
        decay = torch.exp(-a * clock(t))
        variance = share(a, c) * (1 - decay**2)
        return torch.stack([decay**signal, variance**power])

    return scales


grade_forward = grader("grade_forward", Exercise(
    name="forward",
    task="`path_of(a, c, t)`, the path of the diffusion dX = −a X ds + √c dW",
    takes="two positive floats and times `[b]`; returns [α, σ], stacked, `[2 b]`",
    reference=_forward(),
    inputs=[(0.7, 1.5, uniform(1, 5)), (3.0, 0.5, uniform(2, 4))],
    mistakes=[
        ("this is in the time of the diffusion, s; the book's runs from noise to data",
         _forward(clock=lambda t: t)),
        ("this is the variance; σ is its root", _forward(power=1.0)),
        ("the variance grows at the rate c, not c²: the equation has √c",
         _forward(share=lambda a, c: c**2 / (2 * a))),
        ("this is variance preserving for every c; c decides how much noise there is",
         _forward(share=lambda a, c: 1.0)),
        ("the pull acts twice on a variance: divide by 2a", _forward(share=lambda a, c: c / a)),
        ("α falls like exp(−a s), its square like exp(−2 a s)", _forward(signal=2.0)),
    ],
))  # fmt: skip


def _reverse(
    pull: float, score: float, noise: Callable[[float, float], float] = lambda g, h: g * h**0.5
) -> Callable[..., Tensor]:
    """Weigh the pull, the score and the noise of the step."""

    def step(x: Tensor, s: Tensor, f: float, g: float, h: float, xi: Tensor) -> Tensor:
        return x + h * (pull * f * x + score * g**2 * s) + noise(g, h) * xi

    return step


grade_reverse = grader("grade_reverse", Exercise(
    name="reverse",
    task="`reverse_step(x, score, f, g, h, xi)`, a step of the reverse equation towards the data",
    takes="points and scores `[b d]`, f, g and h, floats, and noise `[b d]`; returns points "
    "`[b d]`",
    reference=_reverse(-1, 1),
    inputs=[
        (normal(1, 5, 2), normal(2, 5, 2), -0.7, 1.3, 0.1, normal(3, 5, 2)),
        (normal(4, 3, 3), normal(5, 3, 3), -2.0, 0.6, 0.3, normal(6, 3, 3)),
    ],
    mistakes=[
        ("this is the step as it was given: towards the data dt is −ds", _reverse(1, -1)),
        ("the pull still has the sign of the other direction", _reverse(1, 1)),
        ("the score still has the sign of the other direction; it points to the data",
         _reverse(-1, -1)),
        ("the flow has half the score; with the noise g it takes the whole", _reverse(-1, 0.5)),
        ("the noise of a step has the variance g² h",
         _reverse(-1, 1, lambda g, h: g * h)),
        ("the noise has no direction: any sign will do, but it has to be there",
         _reverse(-1, 1, lambda g, h: 0.0)),
    ],
))  # fmt: skip


def _net(x: Tensor, step: Tensor) -> Tensor:
    """Depend on point and step without any symmetry."""
    s = step[:, None] / 1000
    return torch.stack([x[:, 1] * torch.cos(3 * s[:, 0]), x[:, 0].sin() + 2 * s[:, 0]], dim=1)


def _converted(
    step: Callable[[Tensor], Tensor] = lambda t: 2000 / math.pi * torch.atan((1 - t) / t),
    length: Callable[[Tensor], Tensor] = lambda t: (t**2 + (1 - t) ** 2).sqrt(),
    sign: float = 1.0,
    whole: bool = True,
) -> Callable[..., Tensor]:
    """Ask the network for a step and at a point divided by a length."""

    def field(net: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor) -> Tensor:
        at = t[:, None]
        noise = net(x / length(at), step(t))
        data = (x - (1 - at) * noise) / at if whole else x - (1 - at) * noise
        return sign * (data - noise)

    return field


grade_checkpoint = grader("grade_checkpoint", Exercise(
    name="checkpoint",
    task="`converted(net, x, t)`, a noise network of a cosine schedule as a velocity",
    takes="the network `net(x, step)`, points `[b d]` and times `[b]` in (0, 1); returns "
    "velocities on the straight path, `[b d]`",
    reference=_converted(),
    inputs=[
        (_net, normal(7, 5, 2), 0.1 + 0.8 * uniform(8, 5)),
        (_net, normal(9, 4, 2), 0.1 + 0.8 * uniform(10, 4)),
    ],
    mistakes=[
        ("the network's clock was read as ours: the same noise comes at another time",
         _converted(step=lambda t: 1000 * (1 - t))),
        ("the network's clock runs from the data to the noise; at t near 1 the step is near 0",
         _converted(step=lambda t: 2000 / math.pi * torch.atan(t / (1 - t)))),
        ("the network is told 1000 s, not s",
         _converted(step=lambda t: 2 / math.pi * torch.atan((1 - t) / t))),
        ("the network is used to points of another length: scale before you ask",
         _converted(length=torch.ones_like)),
        ("this points from data to noise; a velocity goes the other way", _converted(sign=-1.0)),
        ("the data is (x − (1 − t) x0)/t: the division is missing", _converted(whole=False)),
    ],
))  # fmt: skip


def _width(rate: Callable[..., Tensor], scaled: bool = True) -> Callable[..., float]:
    def width(a: Tensor, s: Tensor, da: Tensor, ds: Tensor, w: float) -> float:
        steps = 1 + rate(a, s, da, ds, w) / len(a)
        return float(steps.prod() / (w if scaled else 1))

    return width


def _rate(a: Tensor, s: Tensor, da: Tensor, ds: Tensor, w: float) -> Tensor:
    return (a * da * w**2 + s * ds) / (a**2 * w**2 + s**2)


def _scales(n: int, power: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    t = torch.arange(n, dtype=torch.float64) / n
    return t**power, 1 - t**2, power * t ** (power - 1), -2 * t


grade_schedule = grader("grade_schedule", Exercise(
    name="schedule",
    task="`euler_width(alpha, sigma, d_alpha, d_sigma, w)`, the width that Euler's method gives",
    takes="the scales and their derivatives at the times k/n, `[n]` each, and the width w of the "
    "data; returns the width generated over w",
    reference=_width(_rate),
    inputs=[(*_scales(6, 1.0), 0.3), (*_scales(15, 2.0), 0.1)],
    mistakes=[
        ("this is the width; asked for is its share of w", _width(_rate, scaled=False)),
        ("the field is V'/(2V): half of the derivative of the variance",
         _width(lambda *c: 2 * _rate(*c))),
        ("the data has a width: V = α² w² + σ², not σ²",
         _width(lambda a, s, da, ds, w: ds / s)),
        ("the data has the variance w²",
         _width(lambda a, s, da, ds, w: _rate(a, s, da, ds, w**0.5))),
    ],
))  # fmt: skip
