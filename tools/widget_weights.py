"""Train the small networks of the live figures and store their weights beside them.

    python tools/widget_weights.py                 every network
    python tools/widget_weights.py spiral moons    these; the others keep their weights
    python tools/widget_weights.py digits          the one that draws digits
    python tools/widget_weights.py line            the flow map on a line
    python tools/widget_weights.py room            the regression and the flow of plans

What the weights mean is recorded in tests/recorded_networks.json.

The networks are seeded, and half precision is enough for a picture: 20 kB each in the plane, 150 kB
for the digits, 190 kB for the two of the room. Other processors round otherwise, so a run elsewhere
gives networks that are equally good, not equal.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fmtutor import MLP, FitResult, cfm_loss, fit, minimise
from fmtutor.data import DATASETS
from fmtutor.few_steps import lagrangian_loss
from fmtutor.networks import TwoTimes
from fmtutor.policies import Scale, chunks_of, load_demonstrations
from fmtutor.widgets import digit_painter, flow_player, jump_explorer, room_explorer

POINTS = 50_000
STEPS = 8_000
DIGITS = "digits"
DIGIT_STEPS = 10_000
LINE = "line"
LINE_STEPS = 6_000
ROOM = "room"
ROOM_TRAINING: dict[str, Any] = {"steps": 8000, "batch_size": 256, "lr": 2e-3, "warmup": 100}
REST = 33  # of a demonstration, the states after the arrival
HELD_OUT = 300  # of the digits, the last ones: no network has seen them
ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "recorded_networks.json"
DEMONSTRATIONS = ROOT / "benchmarks" / "results" / "policies_demonstrations.safetensors"


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


def squared(net: nn.Module, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    """The loss of the regression."""
    loss: Tensor = (net(seen) - x1).square().mean()
    return loss


def flow_loss(net: nn.Module, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    """The loss of the flow."""
    return cfm_loss(net, x1, cond=seen, generator=generator)


def train_in_the_room() -> Tensor:
    """Train both policies of the room on one set of demonstrations: all that the figure stores.

    They are half as wide as those of benchmarks/policies.py, and so take more steps to be as good.
    """
    episodes = load_demonstrations(DEMONSTRATIONS)["set 0"]
    units, scales = [], []
    for points in chunks_of(episodes, room_explorer.LENGTH):
        scale = Scale(*(part.half().double() for part in Scale.of(points)))  # as they are stored
        units.append(scale.to_unit(points).float())
        scales += [part.half() for part in scale]
    cond, x1 = units
    trained = [
        weights(minimise(net, x1, loss, cond=cond, progress=False, **ROOM_TRAINING))
        for net, loss in zip(room_explorer.networks(), (squared, flow_loss), strict=True)
    ]
    count, of_each = room_explorer.WAYS
    some = episodes[:: len(episodes) // count][:count]
    ways = [e[torch.linspace(0, len(e) - REST, of_each).long(), :2] for e in some]
    return torch.cat([*scales, torch.stack(ways).half().flatten(), *trained])


def weights(result: FitResult) -> Tensor:
    """The weights of a trained network, flat, in half precision."""
    return nn.utils.parameters_to_vector(result.model.parameters()).detach().half()


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


def plans() -> dict[str, Any]:
    """What both networks of the room say at some fixed observations, in units of the scales."""
    known = room_explorer.learned()
    numbers = torch.arange(1.0, 145.0, dtype=torch.float64).sin().round(decimals=3)
    seen, x = numbers[:16].reshape(4, 4), numbers[16:].reshape(2, 64)
    found = known.average(seen), known.flow(x, 0.6, seen[:2])
    average, velocities = ([[round(v, 5) for v in row] for row in y.tolist()] for y in found)
    at = {"seen": seen.tolist(), "x": x.tolist(), "t": 0.6}
    return at | {"average": average, "velocities": velocities}


def record() -> None:
    """Record what the stored weights mean: tests compare Python's and the page's networks."""
    found = {name: outputs(flow_player.network(name), 4, [None]) for name in DATASETS}
    found[DIGITS] = outputs(digit_painter.network(), 1, [3, None])
    found[LINE] = jumps(jump_explorer.network())
    found[ROOM] = plans()
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def main() -> None:
    known = [*DATASETS, DIGITS, LINE, ROOM]
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
        elif name == ROOM:
            np.save(room_explorer.WEIGHTS, train_in_the_room().numpy())
        else:
            plane[name] = weights(train_in_the_plane(name))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if set(names) & set(DATASETS):
        rows = torch.stack([plane[name] for name in DATASETS])
        np.save(flow_player.WEIGHTS, rows.numpy())
    flow_player.network.cache_clear()
    digit_painter.network.cache_clear()
    jump_explorer.network.cache_clear()
    room_explorer.learned.cache_clear()
    record()


if __name__ == "__main__":
    main()
