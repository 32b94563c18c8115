"""The exercises of the chapter `scale`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from fmtutor.exercises.grading import Exercise, GradeError, grader, normal, uniform

__all__ = ["grade_average", "grade_block", "grade_fit", "grade_latent_clock", "grade_zero_start"]


def _clock(ratio: Callable[[float, float], float]) -> Callable[[Tensor, float, float], Tensor]:
    def time_for(t: Tensor, r: float, s: float) -> Tensor:
        return t / (t + ratio(r, s) * (1 - t))

    return time_for


grade_latent_clock = grader("grade_latent_clock", Exercise(
    name="latent clock",
    task="`time_for(t, r, s)`, the time at which a mean of r × r values is as clear as at t",
    takes="times `[b]`, the ratio r and the deviation s of the data; returns times `[b]`",
    reference=_clock(lambda r, s: r * s),
    inputs=[(uniform(1, 5), 2.0, 3.0), (uniform(2, 4), 4.0, 0.3)],
    mistakes=[
        ("the mean of r² independent numbers has the deviation 1/r, not 1/r²",
         _clock(lambda r, s: r**2 * s)),
        ("larger data is clearer, too: it comes earlier, as a larger picture does",
         _clock(lambda r, s: r / s)),
        ("the deviation of the data counts as well", _clock(lambda r, s: r)),
        ("the mean of r × r values has less noise than each of them", _clock(lambda r, s: s)),
        ("this is later: the signal-to-noise ratio has to be divided",
         _clock(lambda r, s: 1 / (r * s))),
        ("a signal-to-noise ratio is one of deviations here, t/(1 − t), not of variances",
         _clock(lambda r, s: (r * s) ** 0.5)),
    ],
))  # fmt: skip


def _block(
    axis: int = -1, one: float = 1.0, skip: float = 1.0, order: tuple[int, int, int] = (0, 1, 2)
) -> Callable[..., Tensor]:
    """Modulate, apply and gate, with what a mistake changes."""

    def block(x: Tensor, c: Tensor, W: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        parts = (silu(c) @ W.T).chunk(3, dim=-1)
        shift, scale, gate = (parts[k][:, None, :] for k in order)
        if axis == -1:
            h = layer_norm(x, x.shape[-1:])
        else:
            h = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        return skip * x + gate * f((one + scale) * h + shift)

    return block


def _inside(x: Tensor, c: Tensor, W: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    shift, scale, gate = (silu(c) @ W.T)[:, None, :].chunk(3, dim=-1)
    return x + f(gate * ((1 + scale) * layer_norm(x, x.shape[-1:]) + shift))


def _rotated(h: Tensor) -> Tensor:
    """Mix the features of a token, and not linearly."""
    return torch.tanh(h).roll(1, dims=-1) + 0.3 * h


grade_block = grader("grade_block", Exercise(
    name="block",
    task="`block(x, c, W, f)`, half of a block of a transformer with adaptive layer norm",
    takes="tokens `[b n d]`, conditions `[b e]`, weights `[3d e]` (shift, scale, gate) and the "
    "layer f; returns tokens `[b n d]`",
    reference=_block(),
    inputs=[
        (normal(1, 2, 5, 4), normal(2, 2, 3), normal(3, 12, 3), _rotated),
        (normal(4, 3, 2, 6), normal(5, 3, 2), normal(6, 18, 2), _rotated),
    ],
    mistakes=[
        ("with a scale of 0 the norm should pass as it is: 1 + scale", _block(one=0.0)),
        ("what the block finds is added to its input", _block(skip=0.0)),
        ("a layer norm is over the features of a token, not over the tokens", _block(axis=1)),
        ("the gate comes after the layer", _inside),
        ("the weights give the shift first, then the scale", _block(order=(1, 0, 2))),
        ("the gate is the last third of the weights", _block(order=(1, 2, 0))),
    ],
))  # fmt: skip


def _alive(begin: Callable[[Tensor, Tensor], Any], G: Tensor, V: Tensor) -> Any:
    """Build the block with the returned weights: is it the identity, and does it learn?"""
    found = begin(G, V)
    if isinstance(found, Tensor):
        raise GradeError("two tensors are expected, G and V")
    if not (isinstance(found, tuple | list) and [*map(torch.is_tensor, found)] == [True, True]):
        return found
    if (found[0].shape, found[1].shape) != (G.shape, V.shape):
        raise GradeError(f"G must be {[*G.shape]} and V {[*V.shape]}, as they came")
    gate, last = (w.detach().clone().double().requires_grad_() for w in found)
    c, x = normal(7, 16, G.shape[1]), normal(8, 16, V.shape[0])
    hidden = silu(x @ normal(9, V.shape[0], V.shape[1]))
    added = (c @ gate.T) * (hidden @ last.T)
    (normal(10, *x.shape) * (x + added)).sum().backward()
    gradients = torch.stack([gate.grad.abs().max(), last.grad.abs().max()])
    return torch.stack([(added.abs().max() < 1e-9).double(), (gradients.max() > 1e-9).double()])


grade_zero_start = grader("grade_zero_start", Exercise(
    name="zero start",
    task="`begin(G, V)`, weights with which a gated layer begins as nothing and yet can learn",
    takes="weights of the gate `[d e]` and of the layer `[d m]`, both drawn at random; returns "
    "both, changed or not",
    reference=lambda G, V: (torch.zeros_like(G), V),
    inputs=[(normal(1, 4, 3), normal(2, 4, 8)), (normal(3, 6, 2), normal(4, 6, 5))],
    mistakes=[
        ("the block is the identity and stays it: a product of two zeros has no gradient",
         lambda G, V: (torch.zeros_like(G), torch.zeros_like(V))),
        ("at its start this block is not the identity", lambda G, V: (G, V)),
    ],
    probe=_alive,
))  # fmt: skip


def _fit(
    held: float = 20.0, sharded: bool = True, activations: bool = False, whole: bool = True
) -> Callable[[float, int, float, float], float]:
    def largest_share(weights: float, devices: int, memory: float, picture: float) -> float:
        bytes_held = held * weights / (devices if sharded else 1)
        share = (memory - bytes_held) / picture * (devices if activations else 1)
        return float(max(0, share // 1)) if whole else share

    return largest_share


grade_fit = grader("grade_fit", Exercise(
    name="what fits",
    task="`largest_share(weights, devices, memory, picture)`, how many pictures fit a device "
    "under FSDP",
    takes="the number of weights, of devices, the bytes of a device and the bytes of activations "
    "of a picture; returns a whole number, 0 where nothing fits",
    reference=_fit(),
    inputs=[(675e6, 8, 16e9, 3e8), (35e6, 2, 8e9, 1.1e8), (675e6, 1, 13e9, 3e8)],
    mistakes=[
        ("each device holds its part of the weights only", _fit(sharded=False)),
        ("one of five is missing: weights, gradient, two moments, average", _fit(held=16.0)),
        ("this is the weights alone: count the gradient, two moments and the average, too",
         _fit(held=4.0)),
        ("weights, gradient, average and one moment are not all: Adam has two", _fit(held=12.0)),
        ("activations belong to a device: they are not shared", _fit(activations=True)),
        ("pictures are whole, and not fewer than none", _fit(whole=False)),
    ],
))  # fmt: skip


def _step(
    weighted: bool = True, late: bool = True, total: bool = False
) -> Callable[[Tensor, Tensor, float], Tensor]:
    def clipped(g: Tensor, clip: float) -> Tensor:
        factor: Tensor = (clip / g.norm(dim=-1, keepdim=True)).clamp(max=1)
        return g * factor

    def step(gradients: Tensor, counts: Tensor, clip: float) -> Tensor:
        share = counts / counts.sum() if weighted else torch.full_like(counts, 1 / len(counts))
        parts = gradients if late else clipped(gradients, clip)
        mean = (share[:, None] * parts).sum(0)
        if total:
            mean = parts.sum(0)
        return clipped(mean, clip) if late else mean

    return step


grade_average = grader("grade_average", Exercise(
    name="average",
    task="`shared_gradient(gradients, counts, clip)`, the gradient that one process would have",
    takes="the gradient of each process's mean loss `[p d]`, how many pictures each had `[p]`, "
    "and the norm to which longer ones are cut; returns a gradient `[d]`",
    reference=_step(),
    inputs=[
        (normal(2, 2, 3), torch.tensor([1.0, 6.0]).double(), 50.0),
        (normal(1, 3, 4), torch.tensor([5.0, 1.0, 2.0]).double(), 0.4),
        (5 * normal(3, 4, 2), torch.tensor([3.0, 3.0, 3.0, 1.0]).double(), 1.0),
    ],
    mistakes=[
        ("the mean of means is the mean of all only where the parts are equally large",
         _step(weighted=False)),
        ("cut what all have found, not what each has", _step(late=False)),
        ("this is a sum: as many processes, as large a step", _step(total=True)),
    ],
))  # fmt: skip
