"""The exercises of the chapter `notation`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal, returned, uniform
from fmtutor.notation import VelocityField, align_time

__all__ = ["grade_contraction", "grade_convert", "grade_guidance", "grade_port"]


def _ported(
    sign: float, clock: Callable[[float], float]
) -> Callable[[VelocityField, Tensor, list[float]], Tensor]:
    """Follow the levels with steps of this sign, the field asked at `clock(level)`."""

    def port(v: VelocityField, x: Tensor, sigmas: list[float]) -> Tensor:
        for now, then in pairwise(sigmas):
            x = x + sign * (now - then) * v(x, torch.full((len(x),), clock(now), dtype=x.dtype))
        return x

    return port


def _field(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x.flip(1)) + align_time(torch.as_tensor(t), x) ** 2 - 0.3 * x


grade_port = grader("grade_port", Exercise(
    name="port",
    task="`mended(v, x, sigmas)`, a sampler over noise levels from 1 to 0 for the book's field",
    takes="a field, noise `[b d]` and a list of levels; returns points `[b d]`",
    reference=_ported(1.0, lambda sigma: 1 - sigma),
    inputs=[(_field, normal(21, 16, 2), levels) for levels in ([1.0, 0.7, 0.3, 0.0], [1.0, 0.0])],
    mistakes=[
        ("the level is not the time: t = 1 - sigma", _ported(1.0, lambda sigma: sigma)),
        ("the levels fall, so their differences are negative, and the field points to the data",
         _ported(-1.0, lambda sigma: 1 - sigma)),
        ("both are still to be mended: the clock and the sign of the steps",
         _ported(-1.0, lambda sigma: sigma)),
    ],
))  # fmt: skip


def _model(x: Tensor, timestep: Tensor) -> Tensor:
    return torch.sin(x) * align_time(timestep / 1000, x) + 0.1 * x


grade_convert = grader("grade_convert", Exercise(
    name="convert",
    task="`convert(model)`, a network with diffusion's clock and sign turned into `v(x, t)`",
    takes="`model(x, timestep)`, which predicts noise minus data at timesteps from 1000 (noise) to "
    "0 (data); returns a field in the book's convention",
    reference=lambda model: lambda x, t: -model(x, 1000 * (1 - t)),
    inputs=[(_model, normal(22, 16, 2), uniform(23, 16))],
    mistakes=[
        ("the clock is right, the sign is not: x0 - x1 points to the noise",
         lambda model: lambda x, t: model(x, 1000 * (1 - t))),
        ("the sign is right, the clock is not: timestep 1000 is noise, and so is t = 0",
         lambda model: lambda x, t: -model(x, 1000 * t)),
        ("sign and clock are both those of the model",
         lambda model: lambda x, t: model(x, 1000 * t)),
        ("the clock of the model runs to 1000, not to 1",
         lambda model: lambda x, t: -model(x, 1 - t)),
    ],
    probe=returned(2),
))  # fmt: skip

grade_guidance = grader("grade_guidance", Exercise(
    name="guided",
    task="`guided(v_cond, v_uncond, w)`, the convention whose zero is off, in the book's form",
    takes="two velocities `[b d]` and the weight w of (1 + w) v_cond - w v_uncond; returns the "
    "guided velocity `[b d]`",
    reference=lambda v_cond, v_uncond, w: (1 + w) * v_cond - w * v_uncond,
    inputs=[(normal(24, 16, 2), normal(25, 16, 2), w) for w in (1.5, 0.0)],
    mistakes=[
        ("w was used as the scale: 0 is off there, 1 is off here",
         lambda v_cond, v_uncond, w: v_uncond + w * (v_cond - v_uncond)),
        ("conditional and unconditional are swapped",
         lambda v_cond, v_uncond, w: (1 + w) * v_uncond - w * v_cond),
    ],
))  # fmt: skip

grade_contraction = grader("grade_contraction", Exercise(
    name="contraction",
    task="`contraction(T)`, how much closer the straight conditional flow brings points",
    takes="a time in [0, 1); returns |ψ_T(a) − ψ_T(b)| / |a − b|",
    reference=lambda time: 1 - time,
    inputs=[(0.3,), (0.9,), (0.0,)],
    mistakes=[
        ("this is the growth of the derivative, 1/(1 - T); the flow contracts",
         lambda time: 1 / (1 - time)),
    ],
))  # fmt: skip
