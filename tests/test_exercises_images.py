"""The graders of `images`: the right answer passes, each usual mistake is named."""

import torch
from einops import rearrange
from grading import grader_tests

from fmtutor.exercises import images
from fmtutor.metrics import frechet_distance


def pixels(x):
    return (127.5 * x + 127.5).round().clamp(0, 255).to(torch.uint8)


def patches(x, p):
    b, c, h, w = x.shape
    cut = x.reshape(b, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(b, c * p * p, h // p, w // p)


def combine(gradients, counts):
    return torch.einsum("k,kd->d", counts / counts.sum(), gradients)


def root(matrix):
    u, s, _ = torch.linalg.svd(matrix)
    return u @ torch.diag(s.sqrt()) @ u.T


def frechet(m_a, a, m_b, b):
    # tr √(√A B √A) is the sum of the roots of the eigenvalues of AB.
    cross = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    return (m_a - m_b) @ (m_a - m_b) + a.trace() + b.trace() - 2 * cross


def steps_within(passes, stages, guided):
    return passes // (stages * (1 + guided))


RIGHT = [
    (images.grade_pixels, pixels),
    (images.grade_patches, patches),
    (images.grade_combine, combine),
    (images.grade_frechet, frechet),
    (images.grade_budget, steps_within),
]

WRONG = [
    (images.grade_pixels, lambda x: (127.5 * x + 127.5).clamp(0, 255).to(torch.uint8), "cut off"),
    (images.grade_pixels, lambda x: (127.5 * x + 127.5).round() % 256, "wrap around"),
    (images.grade_pixels, lambda x: (127.5 * x + 127.5).round(), "may overshoot"),
    (images.grade_pixels, lambda x: (255 * x).round().clamp(0, 255), "takes 0 for black"),
    (images.grade_pixels, lambda x: (127.5 * x + 127.5).clamp(0, 255), "whole number"),
    (images.grade_pixels, lambda x: (128 * x + 128).round().clamp(0, 255), "factor is 127.5"),
    (
        images.grade_patches,
        lambda x, p: rearrange(x, "b c (p h) (q w) -> b (c p q) h w", p=p, q=p),
        "far apart",
    ),
    (
        images.grade_patches,
        lambda x, p: rearrange(x, "b c (h p) (w q) -> b (c q p) h w", p=p, q=p),
        "rows come before columns",
    ),
    (
        images.grade_patches,
        lambda x, p: x.reshape(len(x), -1, x.shape[2] // p, x.shape[3] // p),
        "cut in pieces",
    ),
    (
        # With one channel the two orders are the same: the second input tells them apart.
        images.grade_patches,
        lambda x, p: rearrange(x, "b c (h p) (w q) -> b (p q c) h w", p=p, q=p),
        "the channel outermost",
    ),
    (images.grade_patches, lambda x, p: x, "the entries are there, the axes are not"),
    (images.grade_combine, lambda g, n: g.mean(0), "small part counts too much"),
    (images.grade_combine, lambda g, n: g.sum(0), "gradients of means were added"),
    (images.grade_combine, lambda g, n: n @ g, "not of their mean"),
    (images.grade_combine, lambda g, n: (1 / n) @ g, "multiplied by its count"),
    (
        images.grade_frechet,
        lambda m, a, n, b: (m - n) @ (m - n) + (a + b - 2 * root(a) @ root(b)).trace(),
        "A and B commute",
    ),
    (
        images.grade_frechet,
        lambda m, a, n, b: (m - n) @ (m - n) + (a + b - 2 * (a @ b).abs().sqrt()).trace(),
        "not of its entries",
    ),
    (images.grade_frechet, lambda m, a, n, b: (m - n) @ (m - n), "covariances are missing"),
    (images.grade_frechet, lambda m, a, n, b: frechet(m, a, m, b), "means are missing"),
    (images.grade_frechet, lambda m, a, n, b: frechet(m, a, n, b).sqrt(), "FID is the square"),
    (
        images.grade_frechet,
        lambda m, a, n, b: frechet(m, a, m, b) + (m - n).norm(),
        "by its square",
    ),
    (images.grade_budget, lambda n, s, guided: n // s, "two passes an evaluation"),
    (images.grade_budget, lambda n, s, guided: n // (1 + guided), "as the method has stages"),
    (images.grade_budget, lambda n, s, guided: -(-n // (s * (1 + guided))), "more than there is"),
    (images.grade_budget, lambda n, s, guided: n / (s * (1 + guided)), "steps is whole"),
]

TestGraders = grader_tests(images, RIGHT, WRONG)


def test_the_package_agrees_with_the_formula():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g, dtype=torch.float64)
    y = 1.5 * torch.randn(400, 3, generator=g, dtype=torch.float64) + 0.3
    moments = [m for z in (x, y) for m in (z.mean(0), z.T.cov())]
    torch.testing.assert_close(frechet_distance(x, y), frechet(*moments), atol=1e-6, rtol=1e-6)
