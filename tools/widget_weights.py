"""Train the small networks of the live figures and store their weights beside them.

    python tools/widget_weights.py                 every network
    python tools/widget_weights.py spiral moons    these; the others keep their weights

The networks are seeded, and half precision is enough for a picture: 20 kB each. Other processors
round otherwise, so a run elsewhere gives networks that are equally good, not equal.
"""

import argparse
import time

import numpy as np
import torch

from fmtutor import MLP, fit
from fmtutor.data import DATASETS
from fmtutor.widgets.flow_player import NETWORK, WEIGHTS, read_weights

POINTS = 50_000
STEPS = 8_000


def train(name: str) -> torch.Tensor:
    """The weights of a network trained on one data set, flat, in half precision."""
    torch.manual_seed(0)
    data = DATASETS[name](POINTS, seed=0)
    result = fit(MLP(**NETWORK), data, steps=STEPS, batch_size=512, lr=4e-3, progress=False)
    weights = torch.nn.utils.parameters_to_vector(result.model.parameters())
    return weights.detach().half()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(DATASETS)} (default: all)")
    names = parser.parse_args().name or list(DATASETS)
    weights = read_weights() if WEIGHTS.exists() else {}
    for name in names:
        start = time.perf_counter()
        weights[name] = train(name)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    np.save(WEIGHTS, torch.stack([weights[name] for name in DATASETS]).numpy())


if __name__ == "__main__":
    main()
