"""Where pictures are compared: in the features of a classifier, of Inception, or as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmtutor.images.classifier import Classifier, load_classifier
from fmtutor.images.data import ImageData, to_float
from fmtutor.images.measures import Embedding, inception
from fmtutor.images.published import GARMENTS

__all__ = ["NOT_COMPARABLE", "Features", "choose_features"]

NOT_COMPARABLE = """
distances are taken between pixels, since the classifier does not know these pictures: they rank
runs on the same data, but they are no FID and cannot be compared with a published one. That is what
--features inception --samples 50000 gives
"""
"""What is to be said where `choose_features` has chosen pixels by itself."""


class Features(NamedTuple):
    """Where pictures are compared.

    Attributes:
        embedding: Gives the features.
        classifier: Tells classes; None where there is none for the data set.
        about: What they are, in types that JSON knows.

    Chapter: images
    """

    embedding: Embedding
    classifier: Classifier | None
    about: dict[str, Any]


def choose_features(
    data: ImageData,
    kind: str = "auto",
    *,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Features:
    """Return the features in which the pictures of a data set are compared.

    Args:
        data: The data set.
        kind: "classifier", that of Fashion-MNIST; "inception"; "pixels"; or "auto", the classifier
            for its data set and pixels for any other.
        weights: A file with the weights of the Inception network, instead of a download.
        device: Where networks shall live.

    Returns:
        The features. The classifier of Fashion-MNIST comes with all of them, for its data set.

    Raises:
        OSError: If the Inception network cannot be had.
        ValueError: If the kind is unknown, or the classifier does not know the data set.

    Chapter: images
    """
    classifier, trained = load_classifier(device=device)
    # A folder of pictures may have that name, too.
    known = (data.name, data.classes) == (trained["data"], GARMENTS)
    judge = classifier if known else None
    if kind == "inception":
        return Features(inception(weights=weights, device=device), judge, {"kind": kind})
    if kind == "classifier" or (kind == "auto" and known):
        if not known:
            raise ValueError(f"the classifier knows {trained['data']}, but {data.name} came")

        def embedding(images: Tensor) -> Tensor:
            return classifier.features(to_float(images.to(device)))

        return Features(embedding, classifier, {"kind": "classifier", **trained})

    def pixels(images: Tensor) -> Tensor:
        return to_float(images.to(device)).flatten(1)

    if kind in ("auto", "pixels"):
        return Features(pixels, judge, {"kind": "pixels"})
    raise ValueError(f"kind must be auto, classifier, inception or pixels, but {kind!r} came")
