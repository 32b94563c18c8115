"""What flow matching learns on the sphere, the torus and among rotations, beside honest baselines.

sphere      Places of airports (those with an IATA code, from the package `airportsdata`), a fifth
            held out by each seed. Test NLL in nats a point with respect to area on the unit sphere,
            of the flow, the uniform law, a mixture of von Mises-Fisher laws and a kernel density
            (one concentration for all points, and a share of the uniform law, without which a place
            far from all others has no density). Components, concentration and share are chosen on a
            tenth of the training points, held back for this, and the laws then fitted to all.
            Distances from samples to the nearest training airport, beside those of test airports
            and of uniform points, in kilometres, and the integral of the learned density over the
            sphere, by points that share its area evenly.
torus       Backbone angles of proteins: the counts of `rama_ref_data.npy` in the package
            `MDAnalysis`, cells of 4 degrees. Inside a cell points are drawn evenly, so that the law
            is known. KL divergence from it, by samples of it: of the flow, of a kernel density
            (a von Mises kernel at each point, and a share of the uniform law; width and share are
            chosen on 2,000 points held back) and of a histogram with the true cells and a tenth of
            a count in each. Beside it that of the law blurred by a Gaussian of some degrees.
rotations   A mixture of three wrapped Gaussians on SO(3), whose density is known.

    pip install airportsdata MDAnalysis
    python benchmarks/manifolds.py [--seeds 3] [--out FILE]

Each result is written as it is had, and what the file already holds with these settings is not
made again. Two packages give data, and are not imported. Half an hour on one core.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import math
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import machine, versions
from torch import Tensor

from fmtutor import fit, log_prob, sample
from fmtutor.manifolds import Manifold, Rotations, Sphere, Torus, distance
from fmtutor.manifolds.rotations import hat, vee
from fmtutor.networks import TangentMLP
from fmtutor.paths import GeodesicPath

RESULTS = Path(__file__).parent / "results"
EARTH = 6371.0  # mean radius in kilometres
SPHERE, TORUS, ROTATIONS = Sphere(2), Torus(2), Rotations()
SETTINGS: dict[str, dict[str, Any]] = {
    "sphere": {"steps": 10_000, "width": 256, "scales": (3.0, 12.0), "frequencies": 64},
    "torus": {"steps": 24_000, "width": 192, "scales": (2.0,), "frequencies": 48},
    "rotations": {"steps": 6000, "width": 128, "scales": (), "frequencies": 1},
}
TRAINING = {"batch_size": 512, "lr": 2e-3, "ema": 0.999}
LIKELIHOOD = {"method": "rk4", "steps": 25}
BLURS = (2, 4, 6)
COMPONENTS = (25, 50, 100, 200, 400, 800)
CONCENTRATIONS = tuple(100 * 2.0 ** (k / 2) for k in range(14))
SHARES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.08)  # of the uniform law
WIDTHS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # degrees, of a kernel on the torus
KERNELS = ("kernel density", "mixture")  # what the flow is compared with in pairs
EVERYWHERE = 6000  # points of the sphere over which a density is summed


def file_of(package: str, name: str) -> Path:
    """Return the path of a file inside an installed package that is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the data are in the package {package}: pip install {package}")
    return Path(spec.submodule_search_locations[0]) / name


def airports() -> Tensor:
    """Return the places of airports with an IATA code as points of the sphere, `[n 3]`."""
    with file_of("airportsdata", "airports.csv").open(encoding="utf-8") as lines:
        rows = [(float(r["lat"]), float(r["lon"])) for r in csv.DictReader(lines) if r["iata"]]
    lat, lon = torch.deg2rad(torch.tensor(rows, dtype=torch.float64)).T
    x = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
    return SPHERE.project(x)


def estimate(values: Tensor) -> list[float]:
    """Return a mean and its standard error, as a result keeps them."""
    error = values.std() / len(values) ** 0.5
    return [round(values.mean().item(), 4), round(error.item(), 4)]


def train(space: Manifold, kind: str, data: Tensor, seed: int) -> tuple[TangentMLP, float]:
    """Return a trained network and the seconds of the processor that it took."""
    given = SETTINGS[kind]
    torch.manual_seed(seed)
    network = {key: given[key] for key in ("width", "scales", "frequencies")}
    model = TangentMLP(space, **network)
    start = time.process_time()
    model = fit(
        model,
        data.float(),
        path=GeodesicPath(space),
        noise=space.noise,
        steps=given["steps"],
        seed=seed,
        progress=False,
        **TRAINING,
    ).model
    return model, time.process_time() - start


def log_density(model: TangentMLP, x: Tensor) -> Tensor:
    space = model.manifold
    return log_prob(
        model, x.float(), base=space.noise_log_prob, manifold=space, batch_size=500, **LIKELIHOOD
    ).double()


# --- von Mises-Fisher laws on the sphere: κ/(2π (1 − e^(−2κ))) exp(κ (m·x − 1))


def log_kernels(x: Tensor, centres: Tensor, kappa: Tensor) -> Tensor:
    """Return log-densities `[b k]` of von Mises-Fisher laws."""
    constant = (kappa / (2 * math.pi)).log() - torch.log1p(-(-2 * kappa).exp())
    return kappa * (x @ centres.T - 1) + constant


def kernel_density(x: Tensor, data: Tensor, kappa: float) -> Tensor:
    kernels = log_kernels(x, data, torch.full((len(data),), kappa, dtype=x.dtype))
    return kernels.logsumexp(1) - math.log(len(data))


def with_uniform(log_p: Tensor, log_uniform: float, share: float) -> Tensor:
    """Return log-densities of a law to which a share of the uniform one was mixed."""
    return torch.logaddexp(
        log_p + math.log1p(-share), torch.full_like(log_p, log_uniform + math.log(share))
    )


def mixture(data: Tensor, k: int, seed: int, rounds: int = 60) -> Callable[[Tensor], Tensor]:
    """Fit a mixture of von Mises-Fisher laws by expectation and maximisation."""
    g = torch.Generator().manual_seed(seed)
    centres = data[torch.randperm(len(data), generator=g)[:k]]
    kappa, weights = torch.full((k,), 50.0, dtype=data.dtype), torch.full((k,), 1 / k).to(data)
    for _ in range(rounds):
        r = (weights.log() + log_kernels(data, centres, kappa)).softmax(1)
        total = r.sum(0).clamp(min=1e-9)
        mean = r.T @ data / total[:, None]
        length = mean.norm(dim=1).clamp(1e-9, 1 - 1e-9)
        centres = mean / length[:, None]
        kappa = (length * (3 - length**2) / (1 - length**2)).clamp(max=5e4)  # Banerjee's formula
        weights = total / len(data)
    return lambda x: (weights.log() + log_kernels(x, centres, kappa)).logsumexp(1)


def places(x: Tensor) -> list[list[float]]:
    """Return points of the sphere for a figure."""
    return [[round(value, 3) for value in point] for point in x.tolist()]


def on_the_sphere(seed: int) -> dict[str, Any]:
    data = airports()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    test, rest = data[order[: len(data) // 5]], data[order[len(data) // 5 :]]
    held, core = rest[: len(rest) // 10], rest[len(rest) // 10 :]
    flat = SPHERE.noise_log_prob(test[:1]).item()
    kernels = {c: kernel_density(held, core, c) for c in CONCENTRATIONS}
    alone = max(kernels, key=lambda c: kernels[c].mean().item())
    kappa, share = max(
        product(CONCENTRATIONS, SHARES),
        key=lambda cs: with_uniform(kernels[cs[0]], flat, cs[1]).mean().item(),
    )
    k = max(COMPONENTS, key=lambda k: mixture(core, k, seed)(held).mean().item())
    model, seconds = train(SPHERE, "sphere", rest, seed)
    log_p = {
        "uniform": SPHERE.noise_log_prob(test),
        "mixture": mixture(rest, k, seed)(test),
        "kernel density": with_uniform(kernel_density(test, rest, kappa), flat, share),
        "kernel density without it": kernel_density(test, rest, alone),
        "flow": log_density(model, test),
    }
    g = torch.Generator().manual_seed(seed)
    x0 = SPHERE.noise(test.float(), g)
    made = sample(model, x0, method="rk4", steps=25, project=SPHERE.project)
    count, golden = EVERYWHERE, (1 + 5**0.5) / 2  # equal-area points
    z = 1 - 2 * (torch.arange(count, dtype=torch.float64) + 0.5) / count
    phi = 2 * math.pi * torch.arange(count, dtype=torch.float64) / golden
    r = (1 - z**2).sqrt()
    everywhere = torch.stack([r * phi.cos(), r * phi.sin(), z], dim=1)
    integral = log_density(model, everywhere).exp().mean().item() * 4 * math.pi

    def nearest(x: Tensor) -> dict[str, float]:
        cosine = (x.double() @ rest.T).amax(1).clamp(max=1)
        away = EARTH * (2 * ((1 - cosine) / 2).sqrt().asin())
        median, far = away.quantile(torch.tensor([0.5, 0.9], dtype=torch.float64)).tolist()
        return {"median": round(median, 1), "of 10 the 9th": round(far, 1)}

    return {
        "airports": len(data),
        "held_out": len(test),
        "nll": {name: estimate(-v) for name, v in log_p.items()},
        "train_nll": estimate(-log_density(model, rest[:2000])),
        "flow_behind": {name: estimate(log_p[name] - log_p["flow"]) for name in KERNELS},
        "components": k,
        "concentration": round(kappa, 1),
        "share": share,
        "integral": round(integral, 4),
        "km_to_nearest": {
            "samples": nearest(made),
            "test": nearest(test),
            "uniform": nearest(x0),
        },
        "seconds": round(seconds, 1),
        "shown": {"samples": places(made[:800]), "test": places(test[:800])},
    }


def blurred_kl(law: Tensor, degrees: float, fine: int = 8) -> float:
    """Return KL from a law of square cells to itself, blurred on a finer grid by Fourier series."""
    p = law.repeat_interleave(fine, 0).repeat_interleave(fine, 1) / fine**2
    k = torch.fft.fftfreq(len(p), dtype=p.dtype) * len(p)
    damping = (-0.5 * (math.radians(degrees) * k) ** 2).exp()
    q = torch.fft.ifft2(torch.fft.fft2(p) * damping[:, None] * damping).real.clamp(min=1e-300)
    return torch.where(p > 0, p * (p.clamp(min=1e-300) / q).log(), 0).sum().item()


class Angles(NamedTuple):
    """The law of the backbone's angles, and points of it with their log-densities."""

    law: Tensor  # of square cells, φ, then ψ
    cell: float
    data: Tensor
    test: Tensor
    log_q: Tensor  # of the test points


def angles(seed: int) -> Angles:
    import numpy as np

    counts = torch.tensor(np.load(file_of("MDAnalysis", "analysis/data/rama_ref_data.npy")))
    square, cell = (counts / counts.sum()).T, 2 * math.pi / len(counts)  # φ, then ψ
    law = square.reshape(-1)
    g = torch.Generator().manual_seed(seed)

    def draw(n: int) -> tuple[Tensor, Tensor]:
        index = torch.multinomial(law, n, replacement=True, generator=g)
        corner = torch.stack([index // len(counts), index % len(counts)], dim=1)
        x = cell * (corner + torch.rand(n, 2, generator=g, dtype=law.dtype)) - math.pi
        return TORUS.project(x), (law[index] / cell**2).log()

    data, _ = draw(int(counts.sum()))
    return Angles(square, cell, data, *draw(3000))


def on_the_torus(seed: int) -> dict[str, Any]:
    square, cell, data, test, log_q = angles(seed)
    model, seconds = train(TORUS, "torus", data, seed)
    entropy = -(square * (square.clamp(min=1e-300) / cell**2).log()).sum().item()
    return {
        "entropy": round(entropy, 4),
        "uniform_kl": round(2 * math.log(2 * math.pi) - entropy, 4),
        "kl": estimate(log_q - log_density(model, test)),
        "blurred_kl": {f"{d} degrees": round(blurred_kl(square, d), 4) for d in BLURS},
        "seconds": round(seconds, 1),
    }


def kernels_on_the_torus(x: Tensor, data: Tensor, degrees: float) -> Tensor:
    """Return log-densities of a law with a von Mises kernel at each point of the data."""
    kappa = torch.tensor(math.radians(degrees) ** -2, dtype=x.dtype)
    constant = 2 * (2 * math.pi * torch.special.i0e(kappa)).log() + math.log(len(data))
    parts = []
    for some in x.split(100):
        cosines = (some[:, None] - data).cos().sum(2)
        parts.append((kappa * (cosines - 2)).logsumexp(1) - constant)
    return torch.cat(parts)


def others_on_the_torus(seed: int) -> dict[str, Any]:
    square, cell, data, test, log_q = angles(seed)
    held, core = data[:2000], data[2000:]
    flat = TORUS.noise_log_prob(test[:1]).item()
    kernels = {d: kernels_on_the_torus(held, core, d) for d in WIDTHS}
    degrees, share = max(
        product(WIDTHS, SHARES),
        key=lambda ds: with_uniform(kernels[ds[0]], flat, ds[1]).mean().item(),
    )
    n = len(square)

    def cells(x: Tensor) -> Tensor:
        k = ((x + math.pi) / cell).long().clamp(0, n - 1)
        return k[:, 0] * n + k[:, 1]

    counts = torch.bincount(cells(data), minlength=n * n) + 0.1
    log_p = {
        "kernel density": with_uniform(kernels_on_the_torus(test, data, degrees), flat, share),
        "histogram": (counts / counts.sum() / cell**2).log()[cells(test)],
    }
    return {
        "width": degrees,
        "share": share,
        "kl": {name: estimate(log_q - v) for name, v in log_p.items()},
    }


def log_wrapped(x: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
    """Return log-densities of a mixture of laws of exp_c(w), w normal, as long as no w is near π.

    With a = |w|, the density is that of w over (sin(a/2)/(a/2))².
    """
    parts = []
    for centre, s in zip(centres, widths, strict=True):
        w = vee(centre.mT @ ROTATIONS.log(centre.expand_as(x).contiguous(), x))
        angle = w.norm(dim=1)
        normal = -0.5 * (angle / s) ** 2 - 3 * s.log() - 1.5 * math.log(2 * math.pi)
        parts.append(normal - 2 * torch.sinc(angle / (2 * math.pi)).log())
    return torch.stack(parts).logsumexp(0) - math.log(len(centres))


def on_the_rotations(seed: int) -> dict[str, Any]:
    centres = ROTATIONS.noise(
        torch.empty(3, 3, 3, dtype=torch.float64), torch.Generator().manual_seed(5)
    )
    widths = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)

    def draw(n: int) -> Tensor:
        k = torch.randint(3, (n,), generator=g)
        w = widths[k, None] * torch.randn(n, 3, generator=g, dtype=torch.float64)
        return ROTATIONS.exp(centres[k], centres[k] @ hat(w))

    data, test = draw(50_000), draw(1000)
    log_q = log_wrapped(test, centres, widths)
    model, seconds = train(ROTATIONS, "rotations", data, seed)
    x0 = ROTATIONS.noise(test.float(), g)
    made = sample(model, x0, method="rk4", steps=25, project=ROTATIONS.project)
    made = ROTATIONS.project(made.double())
    away = torch.stack(
        [distance(ROTATIONS, c.expand_as(made).contiguous(), made) for c in centres]
    ).min(0)
    return {
        "kl": estimate(log_q - log_density(model, test)),
        "uniform_kl": round((log_q - ROTATIONS.noise_log_prob(test)).mean().item(), 4),
        "shares": [round((away.indices == k).double().mean().item(), 3) for k in range(3)],
        "seconds": round(seconds, 1),
    }


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "sphere": on_the_sphere,
    "torus": on_the_torus,
    "torus, others": others_on_the_torus,
    "rotations": on_the_rotations,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "manifolds.json")
    options = parser.parse_args()
    head = {
        "command": "python benchmarks/manifolds.py",
        "training": TRAINING,
        "likelihood": LIKELIHOOD,
        "machine": machine(),
        "versions": versions(),
    }
    head = json.loads(json.dumps(head))
    chosen = json.loads(json.dumps(SETTINGS))
    old = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    same = {key: old.get(key) for key in head} == head
    rows: dict[str, dict[str, Any]] = {
        part: old["rows"].get(part, {})
        if same and old["settings"].get(part) == chosen.get(part)
        else {}
        for part in PARTS
    }
    for seed in range(options.seeds):
        for part, run in PARTS.items():
            if str(seed) not in rows[part]:
                rows[part][str(seed)] = run(seed)
                brief = {k: v for k, v in rows[part][str(seed)].items() if k != "shown"}
                print(part, seed, brief, flush=True)
                options.out.write_text(
                    json.dumps(head | {"settings": chosen, "rows": rows}) + "\n", "utf-8"
                )
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
