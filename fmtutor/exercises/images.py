"""The exercises of the chapter `images`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from fmtutor.exercises.grading import Exercise, grader, normal

__all__ = [
    "grade_combine",
    "grade_floor",
    "grade_frechet",
    "grade_patches",
    "grade_pixels",
]

grade_pixels = grader("grade_pixels", Exercise(
    name="pixels",
    task="`pixels(x)`, the way back from a sample to the 256 levels of a picture",
    takes="samples `[b c h w]`, in [-1, 1] but for small errors; returns the levels, of the same "
    "shape",
    reference=lambda x: ((x + 1) * 127.5).round().clamp(0, 255),
    inputs=[(0.7 * normal(0, 2, 1, 4, 4),), (0.7 * normal(1, 1, 3, 5, 4),)],
    mistakes=[
        ("the fraction is cut off: every level but the last is half a level too dark",
         lambda x: ((x + 1) * 127.5).clamp(0, 255).floor()),
        ("values beyond 255 wrap around: clamp before you turn them into bytes",
         lambda x: ((x + 1) * 127.5).round() % 256),
        ("some levels lie outside 0, ..., 255: a sample may overshoot a little",
         lambda x: ((x + 1) * 127.5).round()),
        ("-1 is black here; this takes 0 for black", lambda x: (x * 255).round().clamp(0, 255)),
        ("a level is a whole number: round", lambda x: ((x + 1) * 127.5).clamp(0, 255)),
        ("1 has to become 255: the factor is 127.5, half of 255",
         lambda x: ((x + 1) * 128).round().clamp(0, 255)),
    ],
))  # fmt: skip


def _rearranged(pattern: str) -> Callable[[Tensor, int], Tensor]:
    return lambda x, p: rearrange(x, pattern, p=p, q=p)


grade_patches = grader("grade_patches", Exercise(
    name="patches",
    task="`patches(x, p)`, squares of p × p pixels as channels",
    takes="pictures `[b c h w]` and p; returns `[b c·p·p h/p w/p]`",
    reference=_rearranged("b c (h p) (w q) -> b (c p q) h w"),
    # With one channel two of the orders are the same: the second input tells them apart.
    inputs=[(normal(0, 2, 1, 4, 4), 2), (normal(1, 2, 3, 6, 12), 3)],
    mistakes=[
        ("these pixels are far apart in the picture: in (h p) the axis p is the inner one",
         _rearranged("b c (p h) (q w) -> b (c p q) h w")),
        ("rows come before columns within a patch: (c p q), not (c q p)",
         _rearranged("b c (h p) (w q) -> b (c q p) h w")),
        ("the order of the channels is (c p q), the channel outermost",
         _rearranged("b c (h p) (w q) -> b (p q c) h w")),
        ("a reshape alone keeps the order of the pixels, so a row is cut in pieces",
         lambda x, p: x.reshape(len(x), -1, x.shape[2] // p, x.shape[3] // p)),
    ],
))  # fmt: skip

grade_combine = grader("grade_combine", Exercise(
    name="combine",
    task="`combine(gradients, counts)`, the gradient of a batch from those of its parts",
    takes="the gradients `[k d]` of the mean loss of each part and the numbers of pictures `[k]` "
    "in them; returns the gradient `[d]` of the mean loss of all pictures",
    reference=lambda gradients, counts: (counts[:, None] * gradients).sum(0) / counts.sum(),
    inputs=[
        (normal(0, 3, 5), torch.tensor([8.0, 8.0, 3.0], dtype=torch.float64)),
        (normal(1, 2, 4), torch.tensor([16.0, 5.0], dtype=torch.float64)),
    ],
    mistakes=[
        ("right for parts of one size only: a picture in a small part counts too much",
         lambda gradients, counts: gradients.mean(0)),
        ("the gradients of means were added: the step grows with the number of parts",
         lambda gradients, counts: gradients.sum(0)),
        ("this is the gradient of the sum over all pictures, not of their mean",
         lambda gradients, counts: (counts[:, None] * gradients).sum(0)),
        ("a gradient of a mean is multiplied by its count, not divided by it",
         lambda gradients, counts: (gradients / counts[:, None]).sum(0)),
    ],
))  # fmt: skip


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    result: Tensor = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return result


def _traces(a: Tensor, b: Tensor, cross: Tensor) -> Tensor:
    trace: Tensor = (a + b - 2 * cross).trace()
    return trace


def _frechet(m_a: Tensor, a: Tensor, m_b: Tensor, b: Tensor) -> Tensor:
    return (m_a - m_b).square().sum() + _traces(a, b, _root(_root(a) @ b @ _root(a)))


def _covariance(seed: int) -> Tensor:
    factor = normal(seed, 3, 3)
    product: Tensor = factor @ factor.T / 3**0.5
    return product


grade_frechet = grader("grade_frechet", Exercise(
    name="frechet",
    task="`frechet(mean_a, cov_a, mean_b, cov_b)`, the squared distance of two Gaussians",
    takes="means `[d]` and covariances `[d d]`; returns a number",
    reference=_frechet,
    inputs=[
        (normal(s, 3), _covariance(s + 1), normal(s + 2, 3), _covariance(s + 3)) for s in (0, 10)
    ],
    mistakes=[
        ("tr(√A √B) is right only where A and B commute: take √(√A B √A)",
         lambda m, a, n, b: (m - n).square().sum() + _traces(a, b, _root(a) @ _root(b))),
        ("the root is that of a matrix, not of its entries",
         lambda m, a, n, b: (m - n).square().sum() + _traces(a, b, (a @ b).abs().sqrt())),
        ("the covariances are missing", lambda m, a, n, b: (m - n).square().sum()),
        ("the means are missing", lambda m, a, n, b: _frechet(n, a, n, b)),
        ("this is the distance, not its square; the FID is the square",
         lambda m, a, n, b: _frechet(m, a, n, b).sqrt()),
        ("the distance of the means enters by its square",
         lambda m, a, n, b: _frechet(n, a, n, b) + (m - n).norm()),
    ],
    tol=1e-5,
))  # fmt: skip

grade_floor = grader("grade_floor", Exercise(
    name="expected",
    task="`expected(n, d, s)`, the Fréchet distance of n perfect samples",
    takes="the number of samples, the number of features and their standard deviation; returns a "
    "number",
    reference=lambda n, d, s: s**2 * d * (d + 5) / (4 * n),
    inputs=[(2000, 64, 0.7), (100, 3, 2.0)],
    mistakes=[
        ("this is the share of the means; the covariance is estimated, too",
         lambda n, d, s: s**2 * d / n),
        ("this is the share of the covariances; the means differ, too",
         lambda n, d, s: s**2 * d * (d + 1) / (4 * n)),
        ("an entry on the diagonal of E has the variance 2/n, twice that of the others",
         lambda n, d, s: s**2 * (d / n + d**2 / (4 * n))),
        ("√(1 + ε) − 1 is about ε/2, so its square is ε²/4",
         lambda n, d, s: s**2 * (d + d * (d + 1)) / n),
        ("the distance is squared: it goes with the variance, not with the standard deviation",
         lambda n, d, s: s * d * (d + 5) / (4 * n)),
        ("the square of an error of the order 1/√n is of the order 1/n",
         lambda n, d, s: s**2 * d * (d + 5) / (4 * n**0.5)),
    ],
))  # fmt: skip
