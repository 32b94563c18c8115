"""How good the pictures are: distances, precision and recall, copies, likelihood, at what cost.

Every number stands beside a floor: what real pictures of the test set score in the place of as many
generated ones. A distance between finite samples is not 0, even if all come from one distribution.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.guidance import conditioned
from fmtutor.images.classifier import Classifier, accuracy
from fmtutor.images.datasets import ImageData, to_float
from fmtutor.images.measures import (
    Embedding,
    bits_per_dimension,
    embed,
    nearest_neighbours,
    precision_recall,
)
from fmtutor.images.pictures import draw_pictures
from fmtutor.images.unet import UNet
from fmtutor.metrics import frechet_distance
from fmtutor.solvers import TABLEAUX
from fmtutor.typing import as_generator

__all__ = ["EvaluationConfig", "Judge", "balanced", "evaluate", "steps_for"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on how many pictures.

    A budget counts evaluations of the field (NFE); a guided one takes two passes of the network.

    Attributes:
        samples: Pictures behind the main numbers.
        method: Their solver.
        nfe: Their budget.
        guidance: Their guidance scale, 1 for none.
        curve_samples: Pictures behind each number of the curves.
        curve_methods: Solvers of the curve of quality against budget.
        curve_nfe: Budgets of the curve; each solver gets those that its stages divide.
        curve_guidance: Guidance scales of the other curve, with the main solver and budget.
        likelihood_images: Test pictures whose likelihood is computed; 0 leaves it out.
        likelihood_steps: Steps of Heun's method for it.
        neighbours: The k of precision and recall.
        seed: Seed of the noise, and of the choice of test pictures.
        batch_size: Pictures that travel together.

    Chapter: images
    """

    samples: int = 2000
    method: str = "heun"
    nfe: int = 100
    guidance: float = 1.0
    curve_samples: int = 1000
    curve_methods: tuple[str, ...] = ("euler", "midpoint", "heun", "rk4")
    curve_nfe: tuple[int, ...] = (4, 8, 16, 32)
    curve_guidance: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    likelihood_images: int = 100
    likelihood_steps: int = 25
    neighbours: int = 3
    seed: int = 0
    batch_size: int = 250

    def __post_init__(self) -> None:
        steps_for(self.method, self.nfe)
        if min(self.samples, self.curve_samples) <= self.neighbours:
            raise ValueError(
                f"samples and curve_samples must be above neighbours = {self.neighbours}, "
                f"but {self.samples} and {self.curve_samples} came"
            )


def steps_for(method: str, nfe: int) -> int:
    """Return the number of steps of a solver that take exactly `nfe` evaluations.

    Raises:
        ValueError: If the method has no fixed number of stages, or they do not divide `nfe`.

    Chapter: images
    """
    if method not in TABLEAUX:
        raise ValueError(f"method must be one of {', '.join(TABLEAUX)}, but {method!r} came")
    stages = len(TABLEAUX[method].b)
    if nfe < 1 or nfe % stages:
        raise ValueError(
            f"{method} takes {stages} evaluations a step: nfe must be a multiple, but {nfe} came"
        )
    return nfe // stages


def balanced(labels: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Return `count` row numbers, as many of each label as there can be, chosen at random.

    Args:
        labels: Labels `[n]`.
        count: Number of rows, at most n.
        seed: Seed of the choice.

    Returns:
        Row numbers `[count]`, each once.

    Raises:
        ValueError: If there are fewer rows.

    Chapter: images
    """
    if not 1 <= count <= len(labels):
        raise ValueError(f"count must lie in [1, {len(labels)}], but {count} came")
    order = torch.randperm(len(labels), generator=as_generator(seed))
    # The how manieth of its label each row is: the first ones of all labels come first.
    rank = torch.empty_like(order)
    for label in torch.unique(labels):
        own = (labels[order] == label).nonzero()[:, 0]
        rank[own] = torch.arange(len(own))
    return order[rank.argsort(stable=True)[:count]]


@dataclass(frozen=True)
class Judge:
    """What pictures are compared with.

    Attributes:
        data: The data set.
        embedding: Where they are compared.
        train: Features of all training pictures, `[n d]`.
        classifier: Tells classes; None where there is none for the data set.
        k: The k of precision and recall.
        seed: Seed of the choice of real pictures.

    Chapter: images
    """

    data: ImageData
    embedding: Embedding
    train: Tensor
    classifier: Classifier | None
    k: int
    seed: int

    def score(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Return the numbers of pictures `[n c h w]`, uint8, that are to show labels `[n]`.

        The distance is to all training pictures; precision and recall are against as many of them
        as there are pictures (or against all where there are fewer).
        """
        features = embed(images, self.embedding)
        count = min(len(images), len(self.train))
        real = self.train[balanced(self.data.train_labels, count, seed=self.seed)]
        precision, recall = precision_recall(real, features, k=self.k)
        scores = {
            "count": len(images),
            "frechet": frechet_distance(features, self.train).item(),
            "precision": precision,
            "recall": recall,
        }
        if self.classifier is not None and labels is not None:
            scores["class_accuracy"] = accuracy(self.classifier, images, labels)
        return scores

    def floor(self, count: int) -> dict[str, float]:
        """Return the numbers of as many pictures of the test set, or of all where it has fewer."""
        rows = _test_rows(self.data, count, self.seed)
        return self.score(self.data.test[rows], self.data.test_labels[rows])


def evaluate(
    model: UNet,
    data: ImageData,
    embedding: Embedding,
    classifier: Classifier | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure a trained network and return all numbers, in types that JSON knows.

    All pictures start from the same noise, so that two rows differ by their settings alone.

    Args:
        model: The network, on the device that shall compute.
        data: The data set on which it was trained.
        embedding: Where pictures are compared.
        classifier: Tells classes of pictures; None leaves their accuracy out.
        config: What is measured.
        progress: Whether to show a progress bar.

    Returns:
        `samples` and `floor`, the main numbers of generated and of test pictures; `nfe`, a row for
        each solver and budget, and `guidance`, a row for each scale, with `curve_floor` for both;
        `neighbours`, distances to the nearest training pictures; `bits_per_dimension`; and under
        `about` the settings, the versions, the device.

    Chapter: images
    """
    train = embed(data.train, embedding)
    judge = Judge(data, embedding, train, classifier, config.neighbours, config.seed)
    result: dict[str, Any] = {"about": _about(model, data, config, train.shape[1])}
    result |= {
        "floor": judge.floor(config.samples),
        "curve_floor": judge.floor(config.curve_samples),
    }
    result |= {"nfe": [], "guidance": []}
    runs = _runs(config, model.classes > 0)
    for name, run in tqdm(runs, desc="evaluate", disable=not progress):
        start = time.perf_counter()
        images, labels = _pictures(model, run, config)
        row = run | {"seconds": round(time.perf_counter() - start, 2)}
        row |= judge.score(images, labels)
        if name == "samples":
            result |= {"samples": row, "neighbours": _closeness(images, data, config)}
        else:
            result[name].append(row)
    result["bits_per_dimension"] = _likelihood(model, data, config)
    return result


def _runs(config: EvaluationConfig, conditional: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return the settings of everything that is generated, with the name of its part."""
    main = {
        "method": config.method,
        "nfe": config.nfe,
        "guidance": config.guidance,
        "count": config.samples,
    }
    runs = [("samples", main)]
    short = main | {"count": config.curve_samples}
    for method in config.curve_methods:
        for nfe in config.curve_nfe:
            if nfe % len(TABLEAUX[method].b) == 0:
                runs.append(("nfe", short | {"method": method, "nfe": nfe}))
    if conditional:
        runs += [("guidance", short | {"guidance": scale}) for scale in config.curve_guidance]
    return runs


def _pictures(
    model: UNet, run: dict[str, Any], config: EvaluationConfig
) -> tuple[Tensor, Tensor | None]:
    """Draw pictures, as many of each label as there can be."""
    labels = torch.arange(run["count"]) % model.classes if model.classes else None
    images = draw_pictures(
        model,
        labels,
        count=run["count"],
        scale=run["guidance"],
        method=run["method"],
        steps=steps_for(run["method"], run["nfe"]),
        seed=config.seed,
        batch_size=config.batch_size,
    )
    return images, labels


def _closeness(images: Tensor, data: ImageData, config: EvaluationConfig) -> dict[str, Any]:
    """Compare how near generated pictures and test pictures come to the training pictures."""
    train = to_float(data.train)

    def nearest(pictures: Tensor) -> Tensor:
        x = to_float(pictures)
        distance = nearest_neighbours(x, train)[0]
        if data.flip:  # a copy may be a mirrored one
            distance = distance.minimum(nearest_neighbours(x.flip(-1), train)[0])
        return distance[:, 0]

    rows = _test_rows(data, len(images), config.seed)
    generated, test = nearest(images), nearest(data.test[rows])
    levels = torch.tensor([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
    return {
        "distance": "root mean square of the pixels' differences, pixels in [-1, 1]",
        "levels": [round(level, 2) for level in levels.tolist()],
        "generated": generated.quantile(levels).tolist(),
        "test": test.quantile(levels).tolist(),
        "closer_than_1_percent_of_test": (generated < test.quantile(0.01)).double().mean().item(),
    }


def _likelihood(model: UNet, data: ImageData, config: EvaluationConfig) -> dict[str, Any] | None:
    """Return the bits per dimension of test pictures, given their labels if there are classes."""
    if config.likelihood_images == 0:
        return None
    device = next(model.parameters()).device
    generator = as_generator(config.seed, device=device)
    bits = []
    chosen = _test_rows(data, config.likelihood_images, config.seed)
    for rows in torch.split(chosen, config.batch_size):
        labels = data.test_labels[rows].to(device)
        v = conditioned(model, labels) if model.classes else model
        images, steps = data.test[rows].to(device), config.likelihood_steps
        bits.append(bits_per_dimension(v, images, steps=steps, generator=generator))
    each = torch.cat(bits).double()
    return {
        "mean": each.mean().item(),
        "standard_error": (each.std() / len(each) ** 0.5).item(),
        "count": len(each),
        "given_the_label": model.classes > 0,
    }


def _test_rows(data: ImageData, count: int, seed: int) -> Tensor:
    return balanced(data.test_labels, min(count, len(data.test)), seed=seed)


def _about(
    model: UNet, data: ImageData, config: EvaluationConfig, dimensions: int
) -> dict[str, Any]:
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "data": data.name,
        "config": dataclasses.asdict(config),
        "feature_dimensions": dimensions,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
