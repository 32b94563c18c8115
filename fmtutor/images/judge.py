"""The judge: how near pictures come to the training pictures, beside what test pictures score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fmtutor.images.classifier import Classifier, accuracy
from fmtutor.images.data import ImageData, balanced
from fmtutor.images.measures import Embedding, embed, precision_recall
from fmtutor.metrics import frechet_distance

__all__ = ["Judge", "held_out_rows"]


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
        rows = held_out_rows(self.data, count, self.seed)
        return self.score(self.data.test[rows], self.data.test_labels[rows])


def held_out_rows(data: ImageData, count: int, seed: int) -> Tensor:
    """Return rows of the test set, as many of each label as there can be, or all of them."""
    return balanced(data.test_labels, min(count, len(data.test)), seed=seed)
