"""Numbers about pictures: what they are compared in, how close they are, how likely."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fmtutor.checking import as_float64, check_points, check_samples
from fmtutor.images.data import to_float
from fmtutor.likelihood import log_prob
from fmtutor.notation import VelocityField

__all__ = [
    "Embedding",
    "bits_per_dimension",
    "embed",
    "inception",
    "nearest_neighbours",
    "precision_recall",
]

Embedding = Callable[[Tensor], Tensor]
"""Turns pictures `[b c h w]`, uint8, into features `[b d]`."""


@torch.no_grad()
def embed(images: Tensor, embedding: Embedding, *, batch_size: int = 500) -> Tensor:
    """Return the features `[n d]` of pictures `[n c h w]`, uint8, taken in batches.

    Raises:
        TypeError: If the pictures are not uint8.
        ValueError: If the pictures are not `[n c h w]`, or the features not `[n d]`.

    Chapter: images
    """
    _check_images(images)
    features = torch.cat([embedding(part) for part in torch.split(images, batch_size)])
    if features.ndim != 2 or len(features) != len(images):
        raise ValueError(f"features must be [{len(images)} d], but {[*features.shape]} came")
    return features


def inception(
    *, weights: str | Path | None = None, device: torch.device | str = "cpu"
) -> Embedding:
    """Return the 2048 features of the Inception network in which the FID is defined.

    They come from torchmetrics (`pip install 'torchmetrics[image]'`), which downloads the weights
    at first use. Grey pictures are taken as colours with three equal channels.

    Args:
        weights: A file of the weights (torch-fidelity's), instead of the download.
        device: Where the network shall live.

    Returns:
        The embedding.

    Raises:
        OSError: If torchmetrics, one of the packages that it needs, or the weights cannot be
            had; the message is one line and names the cause.

    Reference: heusel2017
    Chapter: images
    """
    options = {} if weights is None else {"feature_extractor_weights_path": str(weights)}
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        network = FrechetInceptionDistance(feature=2048, **options).inception.to(device)
    # Whatever it is: packages that do not fit each other raise errors of many kinds.
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise OSError(
            "the Inception features need torchmetrics[image] and its weights, "
            f"which could not be had: {cause}"
        ) from error

    def embedding(images: Tensor) -> Tensor:
        features: Tensor = network(images.to(device).expand(-1, 3, -1, -1))
        return features

    return embedding


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Return the shares of generated points among real ones, and of real among generated ones.

    Each set is surrounded by balls, one around each of its points, that reach to the k-th nearest
    other point of the set. Precision is the share of generated points inside a ball of the real
    ones: is what comes out real? Recall is the share of real points inside a ball of the generated
    ones: does all that is real come out? Both depend on the number of points and on k; compare them
    with what other real points score.

    Args:
        real: Features of real data `[n d]`, n above k.
        fake: Features of generated data `[m d]`, m above k.
        k: Which neighbour gives the radius.

    Returns:
        Precision and recall, in [0, 1].

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the shapes do not fit, features are not finite, or k is out of range.

    Reference: kynkaanniemi2019
    Chapter: images
    """
    for name, points in (("real", real), ("fake", fake)):
        check_points(points, name, finite=True)
        if points.ndim != 2 or points.shape[1] != real.shape[-1]:
            raise ValueError(
                f"real and fake must be [n d] and [m d], "
                f"but {[*real.shape]} and {[*fake.shape]} came"
            )
        if not 1 <= k < len(points):
            raise ValueError(f"k must lie in [1, {len(points)}) for {name}, but {k} came")

    real, fake = as_float64(real), as_float64(fake)
    return _share_inside(fake, real, k), _share_inside(real, fake, k)


def _share_inside(points: Tensor, support: Tensor, k: int) -> float:
    """Return the share of points inside a ball around a point of the support."""
    # Blocks of rows: all distances at once would need the memory of n × m numbers.
    blocks = torch.split(support, 1000)
    # Each point is its own nearest one, at distance 0: hence the k + 1.
    radius = torch.cat([torch.cdist(b, support).kthvalue(k + 1, dim=1).values for b in blocks])
    inside = [(torch.cdist(part, support) <= radius).any(1) for part in torch.split(points, 1000)]
    return torch.cat(inside).cpu().double().mean().item()


def nearest_neighbours(x: Tensor, data: Tensor, *, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the distances to the k nearest points of a data set, and which ones they are.

    Args:
        x: Points `[n ...]`.
        data: The data set `[m ...]`, m at least k.
        k: Number of neighbours.

    Returns:
        Root mean squares of the differences `[n k]`, rising along a row, in the unit of one
        coordinate; and row numbers of the data `[n k]`.

    Raises:
        TypeError: If the points are not floating point.
        ValueError: If the shapes do not fit, a value is not finite, or k is out of range.

    Chapter: images
    """
    check_samples("x", x, "data", data)
    if not 1 <= k <= len(data):
        raise ValueError(f"k must lie in [1, {len(data)}], but {k} came")
    x, data = x.reshape(len(x), -1), data.reshape(len(data), -1)
    blocks = [_nearest(part, data, k) for part in torch.split(x, 10_000)]
    distance, index = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return distance, index


def _nearest(x: Tensor, data: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best, index = x.new_full((len(x), 0), math.inf), data.new_zeros(len(x), 0, dtype=torch.int64)
    for start in range(0, len(data), 10_000):
        distance = torch.cdist(x, data[start : start + 10_000])
        rows = torch.arange(start, start + distance.shape[1], device=x.device).expand_as(distance)
        both, candidates = torch.cat([best, distance], 1), torch.cat([index, rows], 1)
        best, column = both.topk(min(k, both.shape[1]), largest=False)
        index = candidates.gather(1, column)
    # cdist takes differences of large squares: fine to rank by, too coarse to tell a copy.
    exact = (x[:, None] - data[index]).square().mean(2).sqrt()
    exact, order = exact.sort(dim=1)
    return exact, index.gather(1, order)


def bits_per_dimension(
    v: VelocityField,
    images: Tensor,
    *,
    method: str = "midpoint",
    steps: int = 100,
    divergence: Literal["exact", "hutchinson"] = "hutchinson",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return how many bits a pixel's channel takes under the flow: −log₂ P(image)/d, at most.

    A flow has a density p, an image of whole numbers a probability: that of the box of side w
    around it, w being what two neighbouring levels are apart once they are scaled. A point x drawn
    uniformly from the box (dequantisation) gives log P ≥ E log p(x) + d log w, by Jensen's
    inequality, hence bits ≤ −(E log p(x)/d + log w)/log 2.

    Args:
        v: The velocity field, of pictures scaled by `to_float`.
        images: Pictures `[b c h w]`, uint8.
        method: A method of `sample`. The field of a trained network is steep near t = 1: there
            Heun's method, with few steps, gives too few bits.
        steps: Number of its steps.
        divergence: As in `log_prob`; "hutchinson" leaves the mean as it is and adds noise.
        generator: Generator of the points in the boxes and of the random vectors.

    Returns:
        Bits per dimension `[b]`, one draw of x for each picture.

    Raises:
        TypeError: If the pictures are not uint8.
        ValueError: If they are not `[b c h w]`, or a method is unknown.

    Reference: theis2016
    Chapter: images
    """
    _check_images(images)
    levels = to_float(torch.tensor([0, 1], dtype=torch.uint8))
    w = (levels[1] - levels[0]).item()
    u = torch.rand(images.shape, generator=generator, device=images.device)
    x = to_float(images) + w * (u - 0.5)
    nats = log_prob(v, x, method=method, steps=steps, divergence=divergence, generator=generator)
    return -(nats / images[0].numel() + math.log(w)) / math.log(2)


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, but {images.dtype} came")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(f"images must be [n c h w] with n at least 1, but {[*images.shape]} came")
