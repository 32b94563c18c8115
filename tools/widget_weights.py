"""Train the small networks of the live figures and store their weights beside them.

    python tools/widget_weights.py                 every network
    python tools/widget_weights.py spiral moons    these; the others keep their weights
    python tools/widget_weights.py digits          the one that draws digits

The networks are seeded, and half precision is enough for a picture: 20 kB each in the plane, 150 kB
for the digits. Other processors round otherwise, so a run elsewhere gives networks that are equally
good, not equal.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from fmtutor import MLP, FitResult, fit
from fmtutor.data import DATASETS
from fmtutor.widgets import digit_painter, flow_player

POINTS = 50_000
STEPS = 8_000
DIGITS = "digits"
DIGIT_STEPS = 10_000
HELD_OUT = 300  # of the digits, the last ones: no network has seen them


def train_in_the_plane(name: str) -> FitResult:
    """Train the network of the flow player on one data set."""
    torch.manual_seed(0)
    data = DATASETS[name](POINTS, seed=0)
    model = MLP(**flow_player.NETWORK)
    return fit(model, data, steps=STEPS, batch_size=512, lr=4e-3, progress=False)


def train_on_digits() -> FitResult:
    """Train the network of the digit painter, with labels, a tenth of them dropped."""
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(a)[:-HELD_OUT] for a in load_digits(return_X_y=True))
    data = pixels.float() / 8 - 1  # 0, ..., 16 to [−1, 1]
    return fit(
        MLP(**digit_painter.NETWORK),
        data,
        steps=DIGIT_STEPS,
        batch_size=256,
        lr=4e-3,
        labels=labels,
        label_dropout=0.1,
        progress=False,
    )


def weights(result: FitResult) -> torch.Tensor:
    """The weights of a trained network, flat, in half precision."""
    return torch.nn.utils.parameters_to_vector(result.model.parameters()).detach().half()


def main() -> None:
    known = [*DATASETS, DIGITS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(known)} (default: all)")
    names = parser.parse_args().name or known
    plane = flow_player.read_weights() if flow_player.WEIGHTS.exists() else {}
    for name in names:
        start = time.perf_counter()
        if name == DIGITS:
            np.save(digit_painter.WEIGHTS, weights(train_on_digits()).numpy())
        else:
            plane[name] = weights(train_in_the_plane(name))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if set(names) & set(DATASETS):
        rows = torch.stack([plane[name] for name in DATASETS])
        np.save(flow_player.WEIGHTS, rows.numpy())


if __name__ == "__main__":
    main()
