"""Train the small networks of the live figures and store their weights beside them.

    python tools/widget_weights.py                 every network
    python tools/widget_weights.py spiral moons    these; the others keep their weights
    python tools/widget_weights.py digits          the one that draws digits
    python tools/widget_weights.py line            the flow map on a line

What the weights mean is recorded in tests/recorded_networks.json.

The networks are seeded, and half precision is enough for a picture: 20 kB each in the plane, 150 kB
for the digits. Other processors round otherwise, so a run elsewhere gives networks that are equally
good, not equal.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from fmtutor import MLP, FitResult, fit, minimise
from fmtutor.data import DATASETS
from fmtutor.few_steps import lagrangian_loss
from fmtutor.networks import TwoTimes
from fmtutor.widgets import digit_painter, flow_player, jump_explorer

POINTS = 50_000
STEPS = 8_000
DIGITS = "digits"
DIGIT_STEPS = 10_000
LINE = "line"
LINE_STEPS = 6_000
HELD_OUT = 300  # of the digits, the last ones: no network has seen them
RECORD = Path(__file__).resolve().parents[1] / "tests" / "recorded_networks.json"


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


def train_on_the_line() -> FitResult:
    """Train the average velocity of the jump explorer on itself."""
    torch.manual_seed(0)
    points = jump_explorer.data().sample(POINTS, seed=0).float()
    model = TwoTimes(MLP(**jump_explorer.NETWORK))
    return minimise(
        model, points, lagrangian_loss, steps=LINE_STEPS, batch_size=512, lr=4e-3, progress=False
    )


def weights(result: FitResult) -> torch.Tensor:
    """The weights of a trained network, flat, in half precision."""
    return torch.nn.utils.parameters_to_vector(result.model.parameters()).detach().half()


def outputs(model: MLP, n: int, labels: list[int | None]) -> dict[str, Any]:
    """What a network says at some fixed points of one time, for each label."""
    x = (2 * torch.arange(1.0, n * model.dim + 1).sin()).round(decimals=3).reshape(n, model.dim)
    with torch.no_grad():
        v = [model(x, 0.6) if y is None else model(x, 0.6, y) for y in labels]
    at, *found = ([[round(u, 5) for u in row] for row in rows.tolist()] for rows in (x, *v))
    return {"x": at, "t": 0.6, "labels": labels, "velocities": found}


def jumps(u: TwoTimes) -> dict[str, Any]:
    """What an average velocity says at some fixed points, from one time to another."""
    x = (2 * torch.arange(1.0, 5.0).sin()).round(decimals=3)[:, None]
    at, found = ([[round(v, 5) for v in row] for row in y.tolist()] for y in (x, u(x, 0.3, 0.9)))
    return {"x": at, "s": 0.3, "t": 0.9, "velocities": [found]}


def record() -> None:
    """Record what the stored weights mean: tests compare Python's and the page's networks."""
    found = {name: outputs(flow_player.network(name), 4, [None]) for name in DATASETS}
    found[DIGITS] = outputs(digit_painter.network(), 1, [3, None])
    found[LINE] = jumps(jump_explorer.network())
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def main() -> None:
    known = [*DATASETS, DIGITS, LINE]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(known)} (default: all)")
    names = parser.parse_args().name or known
    plane = flow_player.read_weights() if flow_player.WEIGHTS.exists() else {}
    for name in names:
        start = time.perf_counter()
        if name == DIGITS:
            np.save(digit_painter.WEIGHTS, weights(train_on_digits()).numpy())
        elif name == LINE:
            np.save(jump_explorer.WEIGHTS, weights(train_on_the_line()).numpy())
        else:
            plane[name] = weights(train_in_the_plane(name))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if set(names) & set(DATASETS):
        rows = torch.stack([plane[name] for name in DATASETS])
        np.save(flow_player.WEIGHTS, rows.numpy())
    flow_player.network.cache_clear()
    digit_painter.network.cache_clear()
    jump_explorer.network.cache_clear()
    record()


if __name__ == "__main__":
    main()
