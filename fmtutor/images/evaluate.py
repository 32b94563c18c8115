"""How good the pictures are: distances, precision and recall, copies, likelihood, at what cost.

Every number stands beside a floor: what real pictures of the test set score in the place of as many
generated ones. A distance between finite samples is not 0, even if all come from one distribution.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fmtutor.checking import as_generator
from fmtutor.guidance import conditioned
from fmtutor.images.classifier import Classifier
from fmtutor.images.config import EvaluationConfig, steps_for
from fmtutor.images.data import ImageData, balanced, check_images, to_uint8
from fmtutor.images.evaluation import stages
from fmtutor.images.features import Features, choose_features
from fmtutor.images.judge import Judge, held_out_rows
from fmtutor.images.measures import Embedding, bits_per_dimension, embed
from fmtutor.images.neighbours import closeness
from fmtutor.images.objectives import JUMP, velocity_of
from fmtutor.images.pictures import check_jumps, draw_pictures
from fmtutor.networks import PictureNetwork

__all__ = [
    "Features",
    "Judge",
    "balanced",
    "choose_features",
    "evaluate",
]


def evaluate(
    model: PictureNetwork,
    data: ImageData,
    embedding: Embedding,
    classifier: Classifier | None = None,
    config: EvaluationConfig = EvaluationConfig(),
    *,
    guide: PictureNetwork | None = None,
    decode: Callable[[Tensor], Tensor] = to_uint8,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure a trained network and return all numbers, in types that JSON knows.

    All pictures start from the same noise, so that two rows differ by their settings alone.

    Args:
        model: The network, on the device that shall compute.
        data: The data set on which it was trained: pictures, where it was trained on latents, too.
        embedding: Where pictures are compared.
        classifier: Tells classes of pictures; None leaves their accuracy out.
        config: What is measured.
        guide: A weaker network to be guided away from, instead of the network without labels.
        decode: Makes pictures of the flow's ends: `decoder_of` for a network of latents, whose
            likelihood is that of no picture and is left out.
        progress: Whether to show a progress bar.

    Returns:
        `samples` and `floor`, the main numbers of generated and of test pictures; `nfe`, a row for
        each solver and budget, and `guidance`, a row for each scale, with `curve_floor` for both;
        `neighbours`, distances to the nearest training pictures; `bits_per_dimension`; and under
        `about` the settings, the versions, the device.

    Raises:
        TypeError: If pictures are not uint8, or labels not int64.
        ValueError: If data and network do not fit together, guidance is asked of a network without
            classes, or jumps of a velocity field.

    Chapter: images
    """
    check_images(data)
    if data.autoencoder is not None:
        raise ValueError(f"latents of {data.name} came, but its pictures are what is measured")
    if config.guidance != 1 and not model.classes and guide is None:
        raise ValueError(
            f"guidance {config.guidance} came, but the network was trained without classes"
        )
    if JUMP in (config.method, *config.curve_methods):
        check_jumps(model, 1.0, guide)
    train = embed(data.train, embedding)
    judge = Judge(data, embedding, train, classifier, config.neighbours, config.seed)
    result: dict[str, Any] = {"about": _about(model, data, config, train.shape[1])}
    result |= {
        "floor": judge.floor(config.samples),
        "curve_floor": judge.floor(config.curve_samples),
    }
    result |= {"samples": [], "nfe": [], "guidance": []}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    runs = _runs(config, model.classes > 0 or guide is not None)
    for name, run in tqdm(runs, "evaluate", disable=not progress):
        key = tuple(run.values())
        if key not in rows:  # one setting may be on both curves
            start = time.perf_counter()
            images, labels = _pictures(model, run, config, guide, decode)
            seconds = round(time.perf_counter() - start, 2)
            rows[key] = run | {"seconds": seconds} | judge.score(images, labels)
        if name == "samples":
            result["neighbours"] = closeness(
                images, data, seed=config.seed, device=next(model.parameters()).device
            )
        result[name].append(rows[key])
    result["samples"] = result["samples"][0]
    pixels = decode is to_uint8
    result["bits_per_dimension"] = _likelihood(model, data, config) if pixels else None
    return result


def _runs(config: EvaluationConfig, guidable: bool) -> list[tuple[str, dict[str, Any]]]:
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
            if nfe % stages(method) == 0:
                runs.append(("nfe", short | {"method": method, "nfe": nfe}))
    if guidable and config.method != JUMP:
        runs += [("guidance", short | {"guidance": scale}) for scale in config.curve_guidance]
    return runs


def _pictures(
    model: PictureNetwork,
    run: dict[str, Any],
    config: EvaluationConfig,
    guide: PictureNetwork | None,
    decode: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor | None]:
    """Draw pictures, as many of each label as there can be."""
    labels = torch.arange(run["count"]) % model.classes if model.classes else None
    images = draw_pictures(
        model,
        labels,
        count=run["count"],
        scale=run["guidance"],
        within=config.guidance_interval,
        rescale=config.guidance_rescale,
        guide=guide,
        shift=config.shift,
        method=run["method"],
        steps=steps_for(run["method"], run["nfe"]),
        seed=config.seed,
        batch_size=config.batch_size,
        decode=decode,
    )
    return images, labels


def _likelihood(
    model: PictureNetwork, data: ImageData, config: EvaluationConfig
) -> dict[str, Any] | None:
    """Return the bits per dimension of test pictures, given their labels if there are classes."""
    if config.likelihood_images == 0:
        return None
    device = next(model.parameters()).device
    generator = as_generator(config.seed, device=device)
    bits = []
    chosen = held_out_rows(data, config.likelihood_images, config.seed)
    for rows in torch.split(chosen, config.batch_size):
        labels = data.test_labels[rows].to(device)
        v = velocity_of(model)
        v = conditioned(v, labels) if model.classes else v
        images, steps = data.test[rows].to(device), config.likelihood_steps
        bits.append(
            bits_per_dimension(v, images, method="midpoint", steps=steps, generator=generator)
        )
    each = torch.cat(bits).cpu().double()
    error = (each.std() / len(each) ** 0.5).item() if len(each) > 1 else None
    return {
        "mean": each.mean().item(),
        "standard_error": error,
        "count": len(each),
        "method": "midpoint",
        "steps": config.likelihood_steps,
        "given_the_label": model.classes > 0,
    }


def _about(
    model: PictureNetwork, data: ImageData, config: EvaluationConfig, dimensions: int
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
