"""Diffusion and flow matching raced, one difference at a time: names, clocks, weights, samplers.

Every entrant is one network, trained for as many steps on the same batches, and a velocity field
afterwards; every sampler gets every field. Rows that the result holds already are not made again,
so that a run that was cut off goes on; the weights lie beside it meanwhile.

    python benchmarks/race.py plane     # four clusters, checkerboard: minutes
    python benchmarks/race.py pictures  # Fashion-MNIST: hours; --seeds shares them out
    python benchmarks/race.py steps     # what one step of training costs: seconds
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from fmtutor import (
    MLP,
    CondOT,
    Cosine,
    VariancePreserving,
    cfm_loss,
    data,
    minimise,
    sample,
    sample_stochastic,
)
from fmtutor.clocks import forward_sde, log_snr, on_path, time_of_log_snr
from fmtutor.exponential import sample_exponential, times_of_log_snr
from fmtutor.images.data import balanced, to_float, to_uint8
from fmtutor.images.datasets import load_images
from fmtutor.images.features import choose_features
from fmtutor.images.measures import embed
from fmtutor.metrics import frechet_distance, sliced_wasserstein
from fmtutor.networks import RealNVP, UNet, UNetConfig
from fmtutor.notation import Field, align_time
from fmtutor.paths import AffinePath, Karras
from fmtutor.predictions import as_velocity, target_of
from fmtutor.training import TimeSampler, logit_normal

SEEDS = (0, 1, 2)
FIRST, LAST = -10.0, 8.0  # the log-SNR at which a sampler begins, and of its last step but one


# Entrants.


@dataclass(frozen=True)
class Entrant:
    """What a network predicts, on which path, at which times, and in what its error is measured.

    `sigma_data` is the deviation of the data where the prediction is EDM's; `moved` a path on whose
    clock and scale the network is asked instead; `in_velocity` says that the error is that of the
    velocity, whatever is predicted.
    """

    path: AffinePath
    predicts: str
    times: TimeSampler | None = None
    in_velocity: bool = False
    moved: AffinePath | None = None

    def prediction(self, net: Field, sigma_data: float) -> Field:
        if self.moved is not None:
            return on_path(net, self.moved, self.path)
        if self.predicts != "F":
            return net

        def scaled(x: Tensor, t: Tensor, *cond: Tensor) -> Tensor:
            s = torch.hypot(self.path.sigma(t), sigma_data * self.path.alpha(t))
            return net(x / align_time(s, x), t, *cond)

        return scaled

    def field(self, net: Field, sigma_data: float) -> Field:
        predicted = self.prediction(net, sigma_data)
        return as_velocity(predicted, self.path, predicts=self.predicts, sigma_data=sigma_data)

    def loss(
        self, net: Field, x1: Tensor, *cond: Tensor, sigma_data: float, generator: torch.Generator
    ) -> Tensor:
        shown = self.field if self.in_velocity else self.prediction
        return cfm_loss(
            shown(net, sigma_data),
            x1,
            cond=cond,
            t=None if self.times is None else self.times(x1, generator),
            path=self.path,
            target=target_of(
                "velocity" if self.in_velocity else self.predicts, self.path, sigma_data=sigma_data
            ),
            generator=generator,
        )


EDM_TIMES = partial(logit_normal, mean=1.2, std=1.2)  # log σ ~ N(−1.2, 1.2²) with σ = (1 − t)/t
ENTRANTS = {
    "velocity, straight": Entrant(CondOT(), "velocity"),
    "noise, cosine": Entrant(Cosine(), "noise"),
    "noise, variance preserving": Entrant(VariancePreserving(), "noise"),
    "data, straight": Entrant(CondOT(), "data"),
    "F, EDM": Entrant(CondOT(), "F", times=EDM_TIMES),
}
CHANGES = {
    "another weighting: EDM's times": Entrant(CondOT(), "velocity", times=EDM_TIMES),
    "another name: data, weighted as the velocity": Entrant(CondOT(), "data", in_velocity=True),
    "another clock: cosine, weighted as the straight one": Entrant(
        CondOT(), "velocity", moved=Cosine()
    ),
}
"""What differs from the first entrant in one thing each."""


# Samplers: each with n evaluations, from where the log-SNR is FIRST to t = 1.


Sampler = Callable[..., Tensor]


def clock(path: AffinePath, steps: int) -> Tensor:
    first = time_of_log_snr(path, torch.tensor(FIRST, dtype=torch.float64)).item()
    return torch.linspace(first, 1, steps + 1, dtype=torch.float64)


def equal_log_snr(path: AffinePath, steps: int) -> Tensor:
    times = times_of_log_snr(path, FIRST, min(LAST, top(path)), steps - 1)
    return torch.cat([times, times.new_ones(1)])


def levels_of_edm(path: AffinePath, steps: int) -> Tensor:
    levels = log_snr(Karras(), torch.linspace(0, 1, steps, dtype=torch.float64))
    times = time_of_log_snr(path, levels[(levels > FIRST) & (levels < top(path))])
    return torch.cat([times, times.new_ones(1)])


def top(path: AffinePath) -> float:
    """The log-SNR shortly before the data."""
    return log_snr(path, torch.tensor(0.9999, dtype=torch.float64)).item()


def noise_at(path: AffinePath, times: Tensor, x0: Tensor) -> Tensor:
    """The noise where a sampler begins, at the first of its times."""
    return path.sigma(times[0]).to(x0) * x0


def runge_kutta(method: str, cost: int, v: Field, x0: Tensor, path: AffinePath, n: int, **k):
    times = clock(path, n // cost)
    return sample(v, noise_at(path, times, x0), times=times, method=method, **k)


def exponential(method: str, grid, v: Field, x0: Tensor, path: AffinePath, n: int, **k):
    steps = (n + 1) // 2 if method == "heun" else n
    times = grid(path, steps)
    churn = min(40 / len(times), math.sqrt(2) - 1) if k.pop("churned", False) else 0.0
    start = noise_at(path, times, x0)
    return sample_exponential(v, start, path=path, method=method, times=times, churn=churn, **k)


def reverse_sde(v: Field, x0: Tensor, path: AffinePath, n: int, **k):
    times = clock(path, n)

    def diffusion(t: Tensor) -> Tensor:
        return forward_sde(path, t)[1].sqrt()

    start, score = noise_at(path, times, x0), path.score_from_velocity
    return sample_stochastic(v, start, score=score, diffusion=diffusion, times=times, **k)


SAMPLERS: dict[str, Sampler] = {
    "Euler": partial(runge_kutta, "euler", 1),
    "midpoint": partial(runge_kutta, "midpoint", 2),
    "DDIM, own clock": partial(exponential, "ddim", clock),
    "DDIM": partial(exponential, "ddim", equal_log_snr),
    "ancestral": partial(exponential, "ddim", equal_log_snr, eta=1.0),
    "DPM-Solver++ 2M": partial(exponential, "2m", equal_log_snr),
    "Heun (EDM)": partial(exponential, "heun", levels_of_edm),
    "Heun with churn (EDM)": partial(exponential, "heun", levels_of_edm, churned=True),
    "Euler–Maruyama": reverse_sde,
}


# Data.


@dataclass(frozen=True)
class Track:
    """A data set with its network, its training and its yardstick.

    `halved` says that the network is trained under autocast to bfloat16; samplers have float32.
    """

    x1: Tensor
    cond: tuple[Tensor, ...]
    network: Callable[[], nn.Module]
    steps: int
    batch_size: int
    lr: float
    evaluations: tuple[int, ...]
    x0: Tensor
    conditions: tuple[Tensor, ...]
    distance: Callable[[Tensor], float]
    floor: float
    entrants: dict[str, Entrant]
    halved: bool = False


def plane(name: str) -> Track:
    draw = {"four clusters": data.four_clusters, "checkerboard": data.checkerboard}[name]
    x1, real, other = (draw(n, seed=k) for k, n in ((0, 50_000), (1, 4_000), (2, 4_000)))

    def distance(x: Tensor) -> float:
        return sliced_wasserstein(x, real, seed=0).item()

    return Track(
        x1=x1,
        cond=(),
        network=lambda: MLP(2, width=128, depth=3),
        steps=4000,
        batch_size=512,
        lr=2e-3,
        evaluations=(4, 8, 16, 32),
        x0=data.standard_normal(4_000, seed=3),
        conditions=(),
        distance=distance,
        floor=distance(other),
        entrants=ENTRANTS | CHANGES,
    )


def pictures(name: str) -> Track:
    garments = load_images(name)
    embedding = choose_features(garments).embedding
    train = embed(garments.train, embedding)
    labels = torch.arange(10).repeat(40)
    x0 = torch.randn(len(labels), 1, 28, 28, generator=torch.Generator().manual_seed(3))

    def distance(x: Tensor) -> float:
        return frechet_distance(embed(to_uint8(x), embedding), train).item()

    return Track(
        x1=to_float(garments.train),
        cond=(garments.train_labels,),
        network=lambda: UNet(
            UNetConfig(classes=10, patch=2, width=32, mults=(1, 2), attention=(7,), blocks=1)
        ),
        steps=2500,
        batch_size=64,
        lr=2e-3,
        evaluations=(6, 12, 24),
        x0=x0,
        conditions=(labels,),
        distance=distance,
        floor=distance(to_float(garments.test[balanced(garments.test_labels, len(labels))])),
        entrants=ENTRANTS,
        halved=True,
    )


TRACKS: dict[str, dict[str, Callable[[], Track]]] = {
    "plane": {name: partial(plane, name) for name in ("four clusters", "checkerboard")},
    "pictures": {"fashion-mnist": partial(pictures, "fashion-mnist")},
}


# The race.


def trained(track: Track, entrant: Entrant, seed: int, file: Path) -> nn.Module:
    torch.manual_seed(seed)
    net = track.network()
    if file.exists():
        load_model(net, file)
        return net.eval()
    deviation = track.x1.std().item()

    def loss(v: nn.Module, x1: Tensor, *cond: Tensor, generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=track.halved):
            return entrant.loss(v, x1, *cond, sigma_data=deviation, generator=generator)

    net = minimise(
        net,
        track.x1,
        loss,
        cond=track.cond,
        steps=track.steps,
        batch_size=track.batch_size,
        lr=track.lr,
        warmup=100,
        seed=seed,
        progress=False,
    ).model
    file.parent.mkdir(parents=True, exist_ok=True)
    save_model(net, file)
    return net


def sampled(track: Track, entrant: Entrant, net: nn.Module, seed: int) -> list[dict[str, object]]:
    """Return the distance of what each sampler makes of a network, with each of its budgets."""
    v, rows = entrant.field(net, track.x1.std().item()), []
    for sampler, run in SAMPLERS.items():
        for n in track.evaluations:
            torch.manual_seed(seed)
            x = run(v, track.x0, entrant.path, n, cond=track.conditions)
            value = float(f"{track.distance(x):.4g}") if bool(x.isfinite().all()) else None
            rows.append({"sampler": sampler, "nfe": n, "distance": value})
    return rows


def recorded(out: Path) -> dict[str, Any]:
    """Return what a result holds now: another process may have added to it."""
    empty: dict[str, Any] = {"floors": {}, "rows": []}
    return json.loads(out.read_text("utf-8")) if out.exists() else empty


def likelihood_loss(flow: RealNVP, x1: Tensor, generator: torch.Generator) -> Tensor:
    return -flow.log_prob(x1).mean()


def step_costs(rounds: int = 200) -> dict[str, object]:
    """Time a step of flow matching, noise prediction and coupling layers, in turns."""
    batch = data.moons(256, seed=0)
    programs = {
        "flow matching": (MLP(2, width=64), ENTRANTS["velocity, straight"].loss),
        "diffusion": (MLP(2, width=64), ENTRANTS["noise, cosine"].loss),
        "coupling layers": (RealNVP(layers=8, width=32), likelihood_loss),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    optimizers = {name: torch.optim.Adam(net.parameters()) for name, (net, _) in programs.items()}
    for k in range(-10, rounds):  # the first turns warm up
        for name, (net, loss) in programs.items():
            more = {} if isinstance(net, RealNVP) else {"sigma_data": 1.0}
            start = time.perf_counter()
            optimizers[name].zero_grad()
            loss(net, batch, generator=torch.Generator().manual_seed(k), **more).backward()
            optimizers[name].step()
            if k >= 0:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "task": "one step of Adam, batch 256, d = 2, about 10,000 weights, float32",
        "milliseconds": {name: round(1e3 * value, 3) for name, value in median.items()},
        "ratio": {
            name: round(
                statistics.median(
                    mine / theirs
                    for mine, theirs in zip(values, seconds["flow matching"], strict=True)
                ),
                2,
            )
            for name, values in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("race", choices=[*TRACKS, "steps"])
    parser.add_argument("--weights", type=Path, default=Path("_build/race"))
    parser.add_argument("--out", type=Path, help="default: results/race_RACE.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    results = Path(__file__).parent / "results"
    out = options.out or results / f"race_{options.race}.json"
    torch.set_num_threads(1)
    about = {
        "command": f"python benchmarks/race.py {options.race}",
        "machine": machine(),
        "versions": versions("fmtutor"),
    }
    if options.race == "steps":
        text = json.dumps(about | step_costs(), indent=1, ensure_ascii=False)
        out.write_text(text + "\n", "utf-8")
        return
    for name, make in TRACKS[options.race].items():
        track = make()
        for seed in options.seeds:
            for label, entrant in track.entrants.items():
                key = {"data": name, "entrant": label, "seed": seed}
                if any(key.items() <= row.items() for row in recorded(out)["rows"]):
                    continue
                start = time.perf_counter()
                file = options.weights / f"{name}-{label}-{seed}.safetensors".replace(" ", "_")
                net = trained(track, entrant, seed, file)
                seconds = time.perf_counter() - start
                rows = [key | row for row in sampled(track, entrant, net, seed)]
                result = recorded(out) | about
                result["floors"][name] = track.floor
                result["rows"] += rows
                out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
                print(f"{name}, {label}, seed {seed}: {seconds:.0f} s of training", flush=True)


if __name__ == "__main__":
    main()
