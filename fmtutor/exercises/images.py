"""The graders of the chapter `images`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from fmtutor.checks import grade

__all__ = [
    "grade_budget",
    "grade_combine",
    "grade_frechet",
    "grade_patches",
    "grade_pixels",
]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grade_pixels(answer: Callable[[Tensor], Tensor]) -> None:
    """Grade `pixels(x)`, the way back from a sample to the 256 levels of a picture.

    Args:
        answer: Takes samples `[b c h w]`, in [-1, 1] but for small errors; returns the levels, of
            the same shape.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round().clamp(0, 255)

    def cut_off(x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).clamp(0, 255).floor()

    def wraps(x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round() % 256

    def unclamped(x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round()

    def unit(x: Tensor) -> Tensor:
        return (x * 255).round().clamp(0, 255)

    def fractions(x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).clamp(0, 255)

    def coarse(x: Tensor) -> Tensor:
        return ((x + 1) * 128).round().clamp(0, 255)

    grade(
        "pixels",
        answer,
        reference,
        [(0.7 * _random(0, 2, 1, 4, 4),), (0.7 * _random(1, 1, 3, 5, 4),)],
        mistakes=[
            ("the fraction is cut off: every level but the last is half a level too dark", cut_off),
            ("values beyond 255 wrap around: clamp before you turn them into bytes", wraps),
            ("some levels lie outside 0, ..., 255: a sample may overshoot a little", unclamped),
            ("-1 is black here; this takes 0 for black", unit),
            ("a level is a whole number: round", fractions),
            ("1 has to become 255: the factor is 127.5, half of 255", coarse),
        ],
    )


def grade_patches(answer: Callable[[Tensor, int], Tensor]) -> None:
    """Grade `patches(x, p)`, squares of p × p pixels as channels.

    Args:
        answer: Takes pictures `[b c h w]` and p; returns `[b c·p·p h/p w/p]`.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(x: Tensor, p: int) -> Tensor:
        return rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)

    def far_apart(x: Tensor, p: int) -> Tensor:
        return rearrange(x, "b c (p h) (q w) -> b (c p q) h w", p=p, q=p)

    def columns_first(x: Tensor, p: int) -> Tensor:
        return rearrange(x, "b c (h p) (w q) -> b (c q p) h w", p=p, q=p)

    def channels_last(x: Tensor, p: int) -> Tensor:
        return rearrange(x, "b c (h p) (w q) -> b (p q c) h w", p=p, q=p)

    def reshaped(x: Tensor, p: int) -> Tensor:
        b, c, h, w = x.shape
        return x.reshape(b, c * p * p, h // p, w // p)

    grade(
        "patches",
        answer,
        reference,
        [(_random(0, 2, 1, 4, 4), 2), (_random(1, 2, 3, 6, 12), 3)],
        mistakes=[
            (
                "these pixels are far apart in the picture: in (h p) the axis p is the inner one",
                far_apart,
            ),
            ("rows come before columns within a patch: (c p q), not (c q p)", columns_first),
            ("the order of the channels is (c p q), the channel outermost", channels_last),
            ("a reshape alone keeps the order of the pixels, so a row is cut in pieces", reshaped),
        ],
    )


def grade_combine(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `combine(gradients, counts)`, the gradient of a batch from those of its parts.

    Args:
        answer: Takes the gradients `[k d]` of the mean loss of each part and the numbers of
            pictures `[k]` in them; returns the gradient `[d]` of the mean loss of all pictures.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(gradients: Tensor, counts: Tensor) -> Tensor:
        return (counts[:, None] * gradients).sum(0) / counts.sum()

    def plain(gradients: Tensor, counts: Tensor) -> Tensor:
        return gradients.mean(0)

    def added(gradients: Tensor, counts: Tensor) -> Tensor:
        return gradients.sum(0)

    def of_sums(gradients: Tensor, counts: Tensor) -> Tensor:
        return (counts[:, None] * gradients).sum(0)

    def inverse(gradients: Tensor, counts: Tensor) -> Tensor:
        return (gradients / counts[:, None]).sum(0)

    grade(
        "combine",
        answer,
        reference,
        [
            (_random(0, 3, 5), torch.tensor([8.0, 8.0, 3.0], dtype=torch.float64)),
            (_random(1, 2, 4), torch.tensor([16.0, 5.0], dtype=torch.float64)),
        ],
        mistakes=[
            ("right for parts of one size only: a picture in a small part counts too much", plain),
            ("the gradients of means were added: the step grows with the number of parts", added),
            ("this is the gradient of the sum over all pictures, not of their mean", of_sums),
            ("a gradient of a mean is multiplied by its count, not divided by it", inverse),
        ],
    )


def grade_frechet(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Grade `frechet(mean_a, cov_a, mean_b, cov_b)`, the squared distance of two Gaussians.

    Args:
        answer: Takes means `[d]` and covariances `[d d]`; returns a number.

    Raises:
        GradeError: If the answer is wrong.
    """

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        result: Tensor = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
        return result

    def reference(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        cross = root(root(a) @ b @ root(a))
        distance: Tensor = (m_a - m_b).square().sum() + (a + b - 2 * cross).trace()
        return distance

    def commuting(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        distance: Tensor = (m_a - m_b).square().sum() + (a + b - 2 * root(a) @ root(b)).trace()
        return distance

    def entrywise(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        distance: Tensor = (m_a - m_b).square().sum() + (a + b - 2 * (a @ b).abs().sqrt()).trace()
        return distance

    def means_only(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        distance: Tensor = (m_a - m_b).square().sum()
        return distance

    def no_means(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        return reference(m_b, a, m_b, b)

    def not_squared(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        return reference(m_a, a, m_b, b).sqrt()

    def norm(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
        distance: Tensor = reference(m_b, a, m_b, b) + torch.linalg.vector_norm(m_a - m_b)
        return distance

    def covariance(seed: int) -> Tensor:
        factor = _random(seed, 3, 3)
        product: Tensor = factor @ factor.T / math.sqrt(3)
        return product

    grade(
        "frechet",
        answer,
        reference,
        [(_random(s, 3), covariance(s + 1), _random(s + 2, 3), covariance(s + 3)) for s in (0, 10)],
        mistakes=[
            ("tr(√A √B) is right only where A and B commute: take √(√A B √A)", commuting),
            ("the root is that of a matrix, not of its entries", entrywise),
            ("the covariances are missing", means_only),
            ("the means are missing", no_means),
            ("this is the distance, not its square; the FID is the square", not_squared),
            ("the distance of the means enters by its square", norm),
        ],
        tol=1e-5,
    )


def grade_budget(answer: Callable[[int, int, bool], int]) -> None:
    """Grade `steps_within(passes, stages, guided)`, the steps that a budget allows.

    Args:
        answer: Takes the passes of the network that a picture may cost, the stages of the solver
            and whether the field is guided; returns the number of steps.

    Raises:
        GradeError: If the answer is wrong.
    """

    def reference(passes: int, stages: int, guided: bool) -> int:
        return passes // (stages * (2 if guided else 1))

    def forgets_guidance(passes: int, stages: int, guided: bool) -> int:
        return passes // stages

    def forgets_stages(passes: int, stages: int, guided: bool) -> int:
        return passes // (2 if guided else 1)

    def over(passes: int, stages: int, guided: bool) -> int:
        return -(-passes // (stages * (2 if guided else 1)))

    def fractional(passes: int, stages: int, guided: bool) -> float:
        return passes / (stages * (2 if guided else 1))

    grade(
        "steps_within",
        answer,
        reference,
        [(50, 4, True), (30, 4, False), (50, 2, True), (9, 1, True)],
        mistakes=[
            ("a guided field takes two passes an evaluation", forgets_guidance),
            ("a step takes as many evaluations as the method has stages", forgets_stages),
            ("this spends more than there is: round down", over),
            ("a number of steps is whole: round down", fractional),
        ],
    )
