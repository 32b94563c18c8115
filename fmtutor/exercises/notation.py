"""The graders of the chapter `notation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmtutor.checks import grade
from fmtutor.notation import VelocityField, align_time

__all__ = ["grade_align", "grade_contraction", "grade_convert", "grade_guidance"]


def grade_align(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `align(t, x)`, times `[b]` brought to the axes of points `[b ...]`.

    Args:
        answer: Takes times `[b]` and points `[b ...]`; returns times `[b 1 ... 1]`.

    Raises:
        GradeError: If the answer is wrong.
    """
    g = torch.Generator().manual_seed(21)
    shapes = [(4, 4), (5, 3), (8, 1, 8, 8)]
    inputs = [(torch.rand(s[0], generator=g), torch.randn(s, generator=g)) for s in shapes]
    grade(
        "align",
        answer,
        align_time,
        inputs,
    )


def grade_convert(answer: Callable[[Callable[..., Tensor]], VelocityField]) -> None:
    """Grade `convert(model)`, a network with diffusion's clock and sign turned into `v(x, t)`.

    Args:
        answer: Takes `model(x, timestep)`, which predicts noise minus data at timesteps from 1000
            (noise) to 0 (data); returns a field in the book's convention.

    Raises:
        GradeError: If the answer is wrong.
    """

    def model(x: Tensor, timestep: Tensor) -> Tensor:
        return torch.sin(x) * align_time(timestep / 1000, x) + 0.1 * x

    def reference(x: Tensor, t: Tensor) -> Tensor:
        return -model(x, 1000 * (1 - t))

    def same_sign(x: Tensor, t: Tensor) -> Tensor:
        return model(x, 1000 * (1 - t))

    def same_clock(x: Tensor, t: Tensor) -> Tensor:
        return -model(x, 1000 * t)

    def neither(x: Tensor, t: Tensor) -> Tensor:
        return model(x, 1000 * t)

    def unit_clock(x: Tensor, t: Tensor) -> Tensor:
        return -model(x, 1 - t)

    def converted(x: Tensor, t: Tensor) -> Tensor | None:
        field: Any = answer(model)
        return None if field is None or field is ... else field(x, t)

    g = torch.Generator().manual_seed(22)
    x, t = torch.randn(16, 2, generator=g), torch.rand(16, generator=g)
    grade(
        "convert",
        converted,
        reference,
        [(x, t)],
        mistakes=[
            ("the clock is right, the sign is not: x0 - x1 points to the noise", same_sign),
            (
                "the sign is right, the clock is not: timestep 1000 is noise, and so is t = 0",
                same_clock,
            ),
            ("sign and clock are both those of the model", neither),
            ("the clock of the model runs to 1000, not to 1", unit_clock),
        ],
    )


def grade_guidance(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Grade `guided(v_cond, v_uncond, w)`, the convention whose zero is off, in the book's form.

    Args:
        answer: Takes two velocities `[b d]` and the weight w of (1 + w) v_cond - w v_uncond;
            returns the guided velocity `[b d]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(v_cond: Tensor, v_uncond: Tensor, w: float) -> Tensor:
        return (1 + w) * v_cond - w * v_uncond

    def same_number(v_cond: Tensor, v_uncond: Tensor, w: float) -> Tensor:
        return v_uncond + w * (v_cond - v_uncond)

    def swapped(v_cond: Tensor, v_uncond: Tensor, w: float) -> Tensor:
        return (1 + w) * v_uncond - w * v_cond

    g = torch.Generator().manual_seed(23)
    v_cond, v_uncond = torch.randn(2, 16, 2, generator=g)
    grade(
        "guided",
        answer,
        reference,
        [(v_cond, v_uncond, 1.5), (v_cond, v_uncond, 0.0)],
        mistakes=[
            ("w was used as the scale: 0 is off there, 1 is off here", same_number),
            ("conditional and unconditional are swapped", swapped),
        ],
    )


def grade_contraction(answer: Callable[[float], float]) -> None:
    """Grade `contraction(T)`, how much closer the straight conditional flow brings points.

    Args:
        answer: Takes a time in [0, 1); returns |ψ_T(a) − ψ_T(b)| / |a − b|.

    Raises:
        GradeError: If the answer is wrong.
    """
    grade(
        "contraction",
        answer,
        lambda time: 1 - time,
        [(0.3,), (0.9,), (0.0,)],
        mistakes=[
            (
                "this is the growth of the derivative, 1/(1 - T); the flow contracts",
                lambda time: 1 / (1 - time),
            ),
        ],
    )
