"""The exercises of the chapter `few_steps`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, uniform

__all__ = ["grade_arrival", "grade_cliff", "grade_detached", "grade_target"]


def _arrival(
    sign: float = -1.0, span: bool = True, ds: float = 0.0, space: bool = True
) -> Callable[..., Tensor]:
    """Weigh the parts of the identity at the point of arrival."""

    def average(
        u: Tensor, dw_ds: Tensor, dw_dt: Tensor, dw_dx_u: Tensor, s: Tensor, t: Tensor
    ) -> Tensor:
        slope = (dw_dt if ds == 0 else dw_ds) + (dw_dx_u if space else 0)
        return u + sign * ((t - s)[:, None] if span else 1) * slope

    return average


grade_arrival = grader("grade_arrival", Exercise(
    name="arrival",
    task="`average(u, dw_ds, dw_dt, dw_dx_u, s, t)`, the average velocity by the point of arrival",
    takes="the velocity at the point of arrival `[b d]`, the derivatives of w in s, in t, and in x "
    "along u, `[b d]` each, then s and t, `[b]`; returns w, `[b d]`",
    reference=_arrival(),
    inputs=[
        (*(normal(k, 5, 2) for k in (1, 2, 3, 4)), 0.4 * uniform(5, 5), 0.5 + 0.5 * uniform(6, 5)),
        (*(normal(k, 4, 3) for k in (7, 8, 9, 10)), 0.4 * uniform(11, 4), uniform(12, 4)),
    ],
    mistakes=[
        ("this is the identity by the starting point: there the sign is plus", _arrival(sign=1.0)),
        ("the particle is at x at time t: move t along with x, not s", _arrival(ds=1.0)),
        ("the derivative counts as often as there is time: t − s is missing", _arrival(span=False)),
        ("when t moves, the particle moves, too: the part along u is missing",
         _arrival(space=False)),
    ],
))  # fmt: skip


def _net(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Depend on point and times without any symmetry."""
    return torch.stack([x[:, 1] * torch.cos(2 * s) * (1 + t), x[:, 0].sin() + s * t**2], dim=1)


def _target(
    ds: float = 1.0, dt: float = 0.0, sign: float = 1.0, span: bool = True, dx: float = 1.0
) -> Callable[..., Tensor]:
    """Take the derivative in one direction."""

    def target(net: Callable[..., Tensor], x: Tensor, v: Tensor, s: Tensor, t: Tensor) -> Tensor:
        moves = (dx * v, ds * torch.ones_like(s), dt * torch.ones_like(t))
        slope: Tensor = torch.func.jvp(net, (x, s, t), moves)[1]
        return v + sign * ((t - s)[:, None] if span else 1) * slope

    return target


grade_target = grader("grade_target", Exercise(
    name="target",
    task="`target(net, x, v, s, t)`, the target of MeanFlow",
    takes="the network `net(x, s, t)`, points and their conditional velocities `[b d]` and times s "
    "and t, `[b]`; returns `[b d]`",
    reference=_target(),
    inputs=[
        (_net, normal(13, 5, 2), normal(14, 5, 2), 0.5 * uniform(15, 5), uniform(16, 5)),
        (_net, normal(17, 4, 2), normal(18, 4, 2), 0.3 * uniform(19, 4), uniform(20, 4)),
    ],
    mistakes=[
        ("the sign belongs to a clock that runs from the data to the noise", _target(sign=-1.0)),
        ("t stays where it is: only x and s move along the track", _target(dt=1.0)),
        ("this moves t; the particle is at x at time s", _target(ds=0.0, dt=1.0)),
        ("when s moves, the particle moves: the derivative along v is missing", _target(dx=0.0)),
        ("the time is missing in which the point moves: ∂_s of the network", _target(ds=0.0)),
        ("the derivative counts as often as there is time: t − s is missing", _target(span=False)),
    ],
))  # fmt: skip


def _halves(
    detach: tuple[bool, bool] = (True, True), first: bool = False, mean: float = 0.5
) -> Callable[..., Tensor]:
    """Compare a jump with two, of which some, or the jump itself, carry no gradient."""

    def loss(net: Callable[..., Tensor], x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        m = (s + t) / 2
        one = net(x, s, m)
        two = net(x + (m - s)[:, None] * one, m, t)
        one, two = (p.detach() if d else p for p, d in zip((one, two), detach, strict=True))
        whole = net(x, s, t)
        return ((whole.detach() if first else whole) - mean * (one + two)).square().mean()

    return loss


def _value_and_gradient(answer: Callable[..., Any], x: Tensor, s: Tensor, t: Tensor) -> Any:
    """Return the loss plus its derivative in the one weight of a network."""
    weight = torch.tensor(0.7, dtype=x.dtype, requires_grad=True)

    def net(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        s, t = s[:, None].clone(), t[:, None].clone()
        return weight * (x.clone() + 1) ** 2 * (1 + s) * (t - s + 0.5)

    value = answer(net, x, s, t)
    if not isinstance(value, Tensor):
        return value
    if not value.requires_grad:
        return value.detach()
    (slope,) = torch.autograd.grad(value.sum(), weight, allow_unused=True)
    return value.detach() + (0 if slope is None else slope)


grade_detached = grader("grade_detached", Exercise(
    name="detached",
    task="`loss(net, x, s, t)`, one jump against two of half the length",
    takes="the network `net(x, s, t)`, points `[b d]` and times s and t, `[b]`; returns the loss, "
    "0-d, whose gradient is looked at, too",
    reference=_halves(),
    inputs=[
        (normal(21, 6, 2), 0.5 * uniform(22, 6), 0.5 + 0.5 * uniform(23, 6)),
        (normal(24, 4, 3), 0.2 * uniform(25, 4), uniform(26, 4)),
    ],
    mistakes=[
        ("the value is right, the gradient is not: it flows through the target",
         _halves(detach=(False, False))),
        ("the second half carries no gradient now, but the first one does",
         _halves(detach=(False, True))),
        ("the first half carries no gradient now, but the second one does, through its own weights",
         _halves(detach=(True, False))),
        ("nothing learns: the long jump itself must carry the gradient", _halves(first=True)),
        ("the target is the mean of the two halves: each lasts half of the time",
         _halves(mean=1.0)),
    ],
    probe=_value_and_gradient,
))  # fmt: skip


def _cliff(half: Callable[[float], float], two_sided: bool = True) -> Callable[[float], float]:
    def share(slope: float) -> float:
        below = 0.5 * (1 + math.erf(half(slope) / math.sqrt(2)))
        return 2 * below - 1 if two_sided else below

    return share


grade_cliff = grader("grade_cliff", Exercise(
    name="cliff",
    task="`share(slope)`, the share of one-step samples that lie between the two data points",
    takes="the largest slope L of the map; returns the share",
    reference=_cliff(lambda slope: 1 / slope),
    inputs=[(4.0,), (1.3,), (30.0,)],
    mistakes=[
        ("the cliff is 2 high, so it takes 2/L of the line: 1/L on each side",
         _cliff(lambda slope: 2 / slope)),
        ("this is the share below the end of the cliff", _cliff(lambda s: 1 / s, False)),
        ("this counts one half of the cliff", lambda slope: math.erf(1 / slope / 2**0.5) / 2),
        ("this is how wide the cliff is, not what the noise puts there", lambda slope: 2 / slope),
        ("a steeper map leaves fewer points behind", _cliff(lambda slope: slope)),
    ],
))  # fmt: skip
