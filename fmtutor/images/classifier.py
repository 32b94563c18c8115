"""A small classifier of Fashion-MNIST: its features measure distances, its labels count hits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fmtutor.checking import check_labels, check_points
from fmtutor.images.checkpoint import write_atomically
from fmtutor.images.data import to_float

__all__ = ["WEIGHTS", "Classifier", "accuracy", "load_classifier", "save_classifier"]

WEIGHTS = Path(__file__).parent / "weights" / "fashion-classifier.safetensors"
"""The shipped weights, made by `python tools/train_classifier.py`."""


class Classifier(nn.Module):
    """A convolutional network whose last layer but one are features of an image.

    Five convolutions with batch normalisation on three scales, the mean over what is left of the
    plane (these are the features), and a linear layer.

    Args:
        channels: Channels of an image.
        width: Channels of the first convolution; features are four times as many.
        classes: Number of classes.

    Raises:
        ValueError: If a size is below 1; when called, if the images have other channels.

    Chapter: images
    """

    def __init__(self, channels: int = 1, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        if min(channels, width, classes) < 1:
            raise ValueError(
                f"channels, width and classes must be at least 1, "
                f"but {channels}, {width} and {classes} came"
            )
        self.config = {"channels": channels, "width": width, "classes": classes}
        self.body = nn.Sequential(
            _block(channels, width),
            nn.MaxPool2d(2),
            _block(width, 2 * width),
            _block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            _block(2 * width, 4 * width),
            _block(4 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the features `[b 4·width]` of images `[b c h w]` in [-1, 1]."""
        check_points(x)
        channels = self.config["channels"]
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"images must be [b {channels} h w], but {[*x.shape]} came")
        features: Tensor = reduce(self.body(x), "b c h w -> b c", "mean")
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[b classes]` of images `[b c h w]` in [-1, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor, *, batch_size: int = 500) -> float:
    """Return the share of images that the classifier takes for what their labels say.

    Args:
        model: The classifier.
        images: Images `[n c h w]`, uint8.
        labels: Labels `[n]`, int64.
        batch_size: Number of images that are classified together.

    Returns:
        The share, in [0, 1].

    Raises:
        TypeError: If the labels are not int64.
        ValueError: If the labels do not fit the images.

    Chapter: images
    """
    check_labels(labels, len(images), model.config["classes"])
    device = next(model.parameters()).device
    parts = torch.split(images, batch_size)
    guesses = torch.cat([model(to_float(part.to(device))).argmax(1) for part in parts])
    return (guesses.cpu() == labels.cpu()).double().mean().item()


def save_classifier(model: Classifier, path: str | Path, about: dict[str, Any]) -> None:
    """Write a classifier to one safetensors file.

    Args:
        model: The classifier.
        path: The file; its directory must exist.
        about: How it came about, in types that JSON knows: accuracy, command, versions.

    Chapter: images
    """
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"config": json.dumps(model.config), "about": json.dumps(about)}
    write_atomically(path, save(weights, metadata=metadata))


def load_classifier(
    path: str | Path = WEIGHTS, device: torch.device | str = "cpu"
) -> tuple[Classifier, dict[str, Any]]:
    """Return a trained classifier, ready to classify, and how it came about.

    Args:
        path: A file of `save_classifier`; by default the one that comes with the package.
        device: Where the classifier shall live.

    Returns:
        The classifier, and its `about`: `test_accuracy` (a share), `command`, `versions`, ...

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not one of a classifier, or is damaged.

    Chapter: images
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = Classifier(**json.loads(metadata["config"]))
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} holds no classifier: {error}") from error
    return model.to(device).eval().requires_grad_(False), json.loads(metadata["about"])
