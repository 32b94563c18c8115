"""Write the garments that the figure at two resolutions shows: 64 of Fashion-MNIST's training set.

    python tools/widget_pictures.py [--data-dir DIR]

As many of each class as there can be, chosen by a seed and sorted by class, go as uint8
`[64 28 28]` into fmtutor/widgets/resolution_explorer.npy. Fashion-MNIST is Zalando SE's, under the
MIT licence.
"""

import argparse
from pathlib import Path

import numpy as np

from fmtutor.images.data import ImageData, balanced
from fmtutor.images.datasets import load_images
from fmtutor.widgets.resolutions import PICTURES

COUNT, SEED = 64, 0


def chosen(data: ImageData) -> np.ndarray:
    """The pictures that are taken, sorted by class."""
    rows = balanced(data.train_labels, COUNT, seed=SEED)
    return data.train[rows[data.train_labels[rows].argsort(stable=True)], 0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    data = load_images("fashion-mnist", data_dir=parser.parse_args().data_dir)
    np.save(PICTURES, chosen(data))
    print(f"written to {PICTURES}")


if __name__ == "__main__":
    main()
