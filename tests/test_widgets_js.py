"""The numerics of the live figures, run in Node and held against the package.

Python writes what it computes into a file; the tests in tests/js/ read it and compare.
"""

import base64
import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from fmtutor import (
    MLP,
    CondOT,
    Cosine,
    EmpiricalField,
    GaussianMixture,
    VariancePreserving,
    cfm_loss,
    gaussian_loss_floor,
    guided,
    sample,
    widgets,
)
from fmtutor.data import DATASETS, cluster_means
from fmtutor.entropic import entropic_plan
from fmtutor.exact_bridges import PairedPoints
from fmtutor.exponential import sample_exponential
from fmtutor.flow_maps import jump
from fmtutor.manifold_oracles import SphereField
from fmtutor.manifolds import Sphere
from fmtutor.metrics import energy_distance
from fmtutor.molecules import Butane, torsion
from fmtutor.networks import EGNN
from fmtutor.networks.tokens import TokenTransformer, TokenTransformerConfig
from fmtutor.paths import BrownianBridge
from fmtutor.plotting import COLORS, blend
from fmtutor.policies import follow_plans, push
from fmtutor.widgets import (
    digit_painter,
    flow_player,
    globe_explorer,
    jump_explorer,
    molecule_explorer,
    resolutions,
    room_explorer,
    schedules,
    spelling_explorer,
    token_explorer,
)
from fmtutor.widgets.base import joined_module
from fmtutor.widgets.packing import (
    pack_bytes,
    pack_floats,
    pack_mixture,
    pack_network,
    pack_path,
)
from fmtutor.widgets.rng import Random
from fmtutor.widgets.token_network import light, pack_token_network
from fmtutor.words import english_words

JS = Path(__file__).parent / "js"
RECORDED = json.loads((Path(__file__).parent / "recorded_networks.json").read_text("utf-8"))
MODULES = sorted(JS.glob("*.test.mjs"))
PATHS = [CondOT(), CondOT(0.1), Cosine(), VariancePreserving()]
TIMES = [0.0, 0.13, 0.5, 0.77, 0.95]
DOUBLE = torch.float64
FIGURES = sorted(getattr(widgets, name).file for name in widgets.__all__)
BLENDS = [(0.0, "noise", "data"), (0.37, "noise", "data"), (0.8, "velocity", "learned")]


def plain(value):
    """Bytes and tensors in a form that JSON has."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, torch.Tensor):
        return value.tolist()
    raise TypeError(type(value))


def normal(*shape, seed):
    # Rounded to float32, so that both sides start from the same numbers.
    return Random(seed).normals(*shape).double()


def network(seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP(**settings)


def random_case(seed, n=257):
    def draws(one):
        random = Random(seed)
        return [one(random) for _ in range(n)]

    return {
        "seed": seed,
        "bits": draws(Random.bits),
        "uniforms": draws(Random.uniform),
        "integers": draws(lambda random: random.integer(10)),
        "normals": draws(Random.normal),
    }


def network_case(name, *, dtype="float32", **settings):
    model = network(**settings)
    if dtype == "float16":  # the page and Python compute with the same rounded weights
        model.half().float()
    x = 2 * normal(35, settings.get("dim", 2), seed=1)
    labels = [None, *range(model.classes + 1)] if model.classes else [None]
    with torch.no_grad():
        exact = model.double()
        velocities = [
            [exact(x, t, label) if model.classes else exact(x, t) for t in TIMES]
            for label in labels
        ]
    return {
        "name": name,
        "packed": pack_network(model.float(), dtype),
        "x": x,
        "t": TIMES,
        "labels": labels,
        "velocities": velocities,
    }


def shipped(name):
    """A network of the figures, with the weights that ship."""
    return digit_painter.network() if name == "digits" else flow_player.network(name)


def shipped_case(name):
    return RECORDED[name] | {"name": name, "packed": pack_network(shipped(name), "float16")}


def jump_case():
    """The average velocity that ships: what it says, and where it jumps."""
    figure = jump_explorer.JumpExplorer()
    u, times = jump_explorer.network(), [0.3, 0.45, 0.9]
    x = torch.tensor(RECORDED["line"]["x"])
    return RECORDED["line"] | {
        "packed": figure._network,
        "times": times,
        "jumped": jump(u, x, times),
    }


def guidance_case():
    model = network(width=32, classes=2, seed=3).double()
    x, t, scales = normal(9, 2, seed=4), 0.4, [0.0, 1.0, 2.5, -1.0]
    with torch.no_grad():
        fields = [
            guided(lambda x, t: model(x, t, 1), lambda x, t: model(x, t), scale)(x, t)
            for scale in scales
        ]
    return {
        "packed": pack_network(model.float()),
        "x": x,
        "t": t,
        "scales": scales,
        "guided": fields,
    }


def training_case(name, n=13, steps=4, lr=1e-3, **settings):
    model = network(seed=5, **settings).double()
    packed = pack_network(model)
    x0, x1, t = normal(n, 2, seed=6), 4 * normal(n, 2, seed=7), normal(n, seed=8).sigmoid().float()
    t = t.double()
    labels = torch.arange(n) % (model.classes + 1) if model.classes else None
    drawn = CondOT().sample(x0, x1, t)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        loss = cfm_loss(model, x1, x0=x0, t=t, labels=labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
            first = loss.item()
            assert gradient.norm() > 2, "so that clipping plays a part"
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return {
        "name": name,
        "packed": packed,
        "xt": drawn.xt,
        "t": t,
        "ut": drawn.ut,
        "labels": labels,
        "loss": first,
        "gradient": gradient,
        "steps": steps,
        "lr": lr,
        "params": nn.utils.parameters_to_vector(model.parameters()).detach(),
    }


def path_case(path):
    t = torch.tensor(TIMES, dtype=DOUBLE)
    return {
        "packed": pack_path(path),
        "t": t,
        "values": {
            "alpha": path.alpha(t),
            "sigma": path.sigma(t),
            "dAlpha": path.d_alpha(t),
            "dSigma": path.d_sigma(t),
            "halfDVariance": path.half_d_variance(t),
        },
    }


def empirical_case(path):
    data, x = 2 * normal(20, 2, seed=9), 2 * normal(6, 2, seed=10)
    field = EmpiricalField(path, data)
    return {
        "packed": pack_path(path),
        "data": data,
        "x": x,
        "t": TIMES,
        "posterior": [field.posterior(x, t) for t in TIMES],
        "mean": [field.posterior_mean(x, t) for t in TIMES],
        "velocity": [field(x, t) for t in TIMES],
    }


def a_mixture(dtype=DOUBLE):
    weights = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=dtype)
    stds = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=dtype)
    means = cluster_means(4, 8**0.5).to(dtype)
    return GaussianMixture(means, stds, weights)


def mixture_case(path):
    mixture, x = a_mixture(), 2 * normal(6, 2, seed=11)
    part = GaussianMixture(mixture.means[[1, 3]], mixture.stds[[1, 3]], mixture.weights[[1, 3]])
    return {
        "packed": pack_path(path),
        "mixture": pack_mixture(mixture),
        "x": x,
        "t": TIMES,
        "logProb": [mixture.log_prob_t(path, x, t) for t in TIMES],
        "velocity": [mixture.velocity(path)(x, t) for t in TIMES],
        "score": [mixture.score(path)(x, t) for t in TIMES],
        "only": {
            "components": [1, 3],
            "velocity": [part.velocity(path)(x, t) for t in TIMES],
        },
    }


def solver_case(method, steps, t0=0.0, t1=1.0):
    field, x0 = a_mixture().velocity(CondOT()), normal(5, 2, seed=12)
    path = sample(field, x0, method=method, steps=steps, t0=t0, t1=t1, return_path=True)
    return {"method": method, "steps": steps, "t0": t0, "t1": t1, "path": path}


def assignment_case(n, seed):
    cost = torch.cdist(normal(n, 2, seed=seed), normal(n, 2, seed=seed + 1)).square()
    return {"cost": cost, "columns": linear_sum_assignment(cost.numpy())[1].tolist()}


def distance_case():
    a, b = normal(30, 2, seed=13), normal(40, 2, seed=14) + 1
    return {
        "a": a,
        "b": b,
        "squares": torch.cdist(a, b).square(),
        "energy": energy_distance(a, b),
        "mean": a.mean(0),
        "spread": (a - a.mean(0)).square().sum(1).mean().sqrt(),
    }


def strips_case(points, sigma_min, end=0.98):
    path, x = CondOT(sigma_min), normal(6, 1, seed=15)
    data = torch.tensor(points, dtype=DOUBLE)[:, None]
    field, starts = EmpiricalField(path, data), torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
    each = [point.expand_as(x) for point in data]
    expected = {"weights": [], "velocities": [], "mean": [], "variance": [], "densities": []}
    for t in TIMES:
        times, w = torch.full((len(x),), t, dtype=DOUBLE), field.posterior(x, t)
        u = torch.cat([path.conditional_velocity(x, x1, times) for x1 in each], 1)
        densities = torch.stack([path.log_prob(x, x1, times).exp() for x1 in each], 1)
        variance = (w * (u - field(x, t)).square()).sum(1)
        found = {"weights": w, "velocities": u, "mean": field(x, t), "variance": variance}
        for key, values in (found | {"densities": densities}).items():
            expected[key].append(values)
    return {
        "points": points,
        "sigmaMin": sigma_min,
        "end": end,
        "x": x[:, 0],
        "t": TIMES,
        "expected": expected,
        "starts": starts[:, 0],
        "ends": sample(field, starts, method="rk4", steps=2000, t1=end)[:, 0],
    }


def exponential_case(place, grid, sampler, steps=7):
    """Ends on a schedule after each number of steps, by the package's sampler."""
    path = schedules.schedule_at(place)
    times = schedules.times_on(path, grid, steps)
    x0 = path.sigma(times[0]) * normal(5, 2, seed=19)
    field = schedules.mixture().velocity(path)

    def end(first):
        if sampler == "euler":
            return sample(field, x0, times=first)
        method = "ddim" if sampler == "ancestral" else sampler
        noise = Random(20)  # in place of torch's own: the page draws the same
        drawn = patch("fmtutor.exponential.torch.randn", lambda s, **_: noise.normals(*s).double())
        with drawn:
            eta = float(sampler == "ancestral")
            return sample_exponential(field, x0, path=path, method=method, eta=eta, times=first)

    return {
        "place": place,
        "grid": grid,
        "sampler": sampler,
        "steps": steps,
        "x0": x0,
        "seed": 20,
        "times": times,
        "span": schedules.SPAN,
        "ends": [end(times[:k]) for k in range(2, steps + 2)],
    }


def resolution_case(kind, ratio, garments, times):
    """Mixtures of some garments at some times of the small flow, and what the exact flow knows."""
    path, x1 = CondOT(), resolutions.data(kind, ratio)
    x0 = Random(resolutions.SEED).normals(len(x1), resolutions.SIDE, resolutions.SIDE).double()
    clock, small = "shifted", kind == "small"
    if small:
        x0, clock = resolutions.shrunk_noise(x0, ratio), "same"
    field, own = EmpiricalField(path, x1), [resolutions.time_of(t, clock, ratio) for t in times]
    x = [[t * x1[g - 1] + (1 - t) * x0[g - 1] for t in own] for g in garments]
    found = {"x": [], "logWeights": [], "mean": []}
    for row in x:
        pairs = [(point[None], t) for point, t in zip(row, own, strict=True)]
        found["x"].append([point[0] for point, _ in pairs])
        found["logWeights"].append(
            [(field.posterior(*pair)[0] + 1e-320).log() for pair in pairs]  # JSON has no infinity
        )
        found["mean"].append([field.posterior_mean(*pair)[0] for pair in pairs])
    weights = (field.posterior(t * x1 + (1 - t) * x0, t) for t in own)
    possible = [torch.special.entr(w).sum(1).mean().exp() for w in weights]
    about = {"kind": kind, "ratio": ratio, "small": small, "times": own}
    return about | found | {"data": x1[garments[-1] - 1], "possible": possible}


def resolution_cases():
    garments, t = [3, 57], [0.0, 0.13, 0.35, 0.77, 0.98]
    return {
        "side": resolutions.SIDE,
        "packed": pack_bytes(resolutions.garments()),
        "seed": resolutions.SEED,
        "garments": garments,
        "t": t,
        "cases": [
            resolution_case(kind, ratio, garments, t)
            for ratio in resolutions.RATIOS
            for kind in resolutions.KINDS
        ],
    }


def token_case(name, source, schedule, renewal):
    """The exact chain of pairs: its law, posteriors, and what steps draw."""
    figure = widgets.TokenExplorer(law=name, source=source, schedule=schedule, renewal=renewal)
    law, path = token_explorer.LAWS[name], figure.path
    x = torch.tensor([[0, 3], [path.states - 1, 4], [path.states - 1, path.states - 1]])
    told = path.posterior(law.posterior(path)(x, torch.full((3,), 0.6, dtype=DOUBLE)), x)
    times = torch.linspace(0, 1, 4, dtype=DOUBLE)
    return {
        "table": law.table.flatten(),
        "settings": {"masked": path.masked, "schedule": schedule, "renewal": renewal},
        "law": law.at(path, 0.6).flatten(),
        "x": x,
        "posteriors": told,
        "propagated": law.propagated(path, times, renewal=renewal).flatten(),
        "error": figure.error(3),
        "formula": figure.formula(3),
    }


def token_cases():
    return [
        token_case("moons", "mask", "late", 0.0),
        token_case("moons", "uniform", "cosine", 3.0),
        token_case("two equal tokens", "mask", "straight", 4.0),
        token_case("checkerboard", "uniform", "straight", 0.0),
    ]


def token_network_case(name, network):
    """A light network: logits of sequences, seen and masked."""
    config = network.config
    g = torch.Generator().manual_seed(41)
    x = torch.randint(config.tokens + 1, (7, config.length), generator=g)
    return {"name": name, "packed": pack_token_network(network), "x": x, "logits": network(x, 0.0)}


def token_network_cases():
    torch.manual_seed(40)
    odd = TokenTransformer(TokenTransformerConfig(5, 7, width=12, depth=2, heads=3, mlp_ratio=2))
    with torch.no_grad():
        for weights in odd.parameters():
            weights.normal_(0, 0.3)
    return [
        token_network_case("odd sizes", light(odd)),
        token_network_case("the speller", spelling_explorer.network()),
    ]


def spelling_case(**state):
    figure = widgets.SpellingExplorer(**state)
    path = figure.path()
    return {
        "pattern": figure.pattern,
        "settings": {"count": path.shape[1], "steps": figure.steps, "seed": figure.seed},
        "path": path,
        "known": [spelling_explorer.is_known(word) for word in path[-1]],
    }


def spelling_cases():
    unfinished = torch.cat(english_words())[::10].clone()
    unfinished[:, 1] = spelling_explorer.OPEN
    return {
        "open": unfinished,
        "packed": pack_token_network(spelling_explorer.network()),
        "filter": pack_bytes(spelling_explorer.word_filter()),
        "hashes": spelling_explorer.HASHES,
        "cases": [
            spelling_case(),
            spelling_case(pattern="." * 10, steps=3, seed=5),
            spelling_case(pattern="s" + "." * 9, steps=20, seed=999),
            spelling_case(pattern="q", steps=2),
        ],
    }


def sphere_case(steps=20):
    """The exact field of twelve airports, some places where nothing can come from among them."""
    data, x = globe_explorer.airports()[::17], Sphere(2).project(normal(40, 3, seed=31))
    field, starts = SphereField(data), x[:9]
    times = torch.arange(steps, dtype=DOUBLE) / steps
    settings = {"method": "midpoint", "project": Sphere(2).project, "return_path": True}
    ways = sample(field, starts, times=times, **settings)
    end = data[(ways[-1] @ data.T).argmax(1)]
    return {
        "data": data,
        "x": x,
        "t": TIMES,
        "velocities": [field(x, t) for t in TIMES],
        "starts": starts,
        "steps": steps,
        "ways": torch.cat([ways, end[None]]),
    }


def particles_case(name, dtype="float32", b=7, **settings):
    """Velocities of a network of particles, with random weights."""
    torch.manual_seed(5)
    model = EGNN(**settings).requires_grad_(False)
    for weights in model.parameters():  # the page and Python compute with the same rounded ones
        weights.copy_(weights.half() if dtype == "float16" else weights)
    packed, x = pack_network(model, dtype), normal(b, model.particles, model.dim, seed=44)
    velocities = [model.double()(x, t) for t in TIMES]
    return {"name": name, "packed": packed, "x": x, "t": TIMES, "velocities": velocities}


def molecules_case():
    """Torsions and energies of butane, at rest and torn apart; a whole way of the shipped flow."""
    figure = molecule_explorer.MoleculeExplorer(steps=6)
    x = torch.cat([molecule_explorer.exact()[:5], normal(4, 4, 3, seed=45)])
    ends = []
    for pairs in molecule_explorer.PAIRS:
        figure.pairs = pairs
        ends.append(figure.positions() / figure._settings["unit"])
    figure.time = 0.0
    return {
        "x": x,
        "constants": figure._settings["constants"],
        "torsions": torsion(x),
        "energies": Butane()(x),
        "packed": figure._networks,
        "noise": figure.positions() / figure._settings["unit"],
        "steps": figure.steps,
        "ends": ends,
    }


def bridge_case(seed, epsilon, sigma=0.7, width=0.3, steps=6):
    """A plan, the exact field of its bridges, and the ways of the equation with a seed's noise."""
    x0, x1, x = normal(7, 2, seed=seed), normal(7, 2, seed=seed + 1) + 1, normal(5, 2, seed=40)
    plan = entropic_plan(x0, x1, epsilon, tol=1e-10)
    path = BrownianBridge(sigma, width=width)
    field = PairedPoints(path, x0.repeat_interleave(7, 0), x1.repeat(7, 1), plan.flatten())
    random, way = Random(seed), [x0]
    for k in range(steps):
        drift = field.velocity(way[-1], k / steps) + sigma**2 / 2 * field.score(way[-1], k / steps)
        noise = random.normals(7, 2).double()
        way.append(way[-1] + drift / steps + sigma / math.sqrt(steps) * noise)
    return {
        "x0": x0,
        "x1": x1,
        "epsilon": epsilon,
        "plan": plan,
        "x": x,
        "t": TIMES,
        "settings": {"sigma": sigma, "width": width},
        "velocity": [field.velocity(x, t) for t in TIMES],
        "score": [field.score(x, t) for t in TIMES],
        "seed": seed,
        "steps": steps,
        "way": way,
    }


def balls():
    """States and actions: all over the room, at its walls, at the block, at a corner of it."""
    about = torch.tensor([[2.39, 0.3], [-2.39, 2.39], [0.2, -0.59], [1.58, 0.1], [-1.59, 0.58]])
    places = torch.cat(
        [about.repeat(30, 1) + 0.03 * normal(150, 2, seed=50), normal(50, 2, seed=51)]
    )
    # As far in on both sides, exactly: it is put back at both.
    corner = [1.6 - 0.0625, 0.6 - 0.0625, 0.0, 0.0]
    states = torch.cat([places, 3 * normal(200, 2, seed=52)], dim=1)
    states = torch.cat([states, torch.tensor([corner], dtype=DOUBLE)])
    return states, torch.cat([1.5 * normal(200, 2, seed=53), torch.zeros(1, 2, dtype=DOUBLE)])


def episode_case(plans, start, commitment, limit=60):
    """What becomes of a ball that follows given plans `[n h 2]`, one after the other."""
    asked, hits, room = iter(plans), [], room_explorer.ROOM

    def step(states, actions):
        states, hit = room.step(states, actions)
        hits.append(hit)
        return states, hit

    run = follow_plans(
        lambda states: next(asked)[None], step, room.reached,
        torch.tensor([[*start, 0.0, 0.0]], dtype=DOUBLE), commitment=commitment, limit=limit,
    )  # fmt: skip
    steps = int(run.steps)
    return {
        "plans": plans.flatten(1),
        "start": [*start, 0.0, 0.0],
        "settings": {"commitment": commitment, "limit": limit, "ticks": room_explorer.TICKS},
        "states": run.states[: steps + 1, 0],
        "touching": torch.stack(hits).reshape(-1, room_explorer.TICKS).any(1)[:steps],
        "reached": bool(run.reached),
    }


def room_case():
    """Steps in the room, episodes by given plans, and what the two networks that ship say."""
    figure, room, known = widgets.RoomExplorer(), room_explorer.ROOM, room_explorer.learned()
    states, actions = balls()
    moved, touched = room.step(states, actions)
    assert 40 < touched.sum() < 190
    assert moved[-1].tolist() == [1.6, 0.6, 0, 0], "the last one is at a corner"
    walks = torch.cat([normal(8, 32, 2, seed=54), 0.3 + normal(8, 32, 2, seed=55)]).cumsum(1) / 12
    ball, noise = torch.tensor([[0.1, -1.2, 0.3, 0.8]], dtype=DOUBLE), normal(3, 64, seed=56)
    seen = known.seen.to_unit(ball)
    drawn = {
        n: known.plans.from_unit(sample(known.flow, noise, steps=n, cond=seen.expand(3, -1)))
        for n in (1, 4, 10)
    }
    target, speed = states[:, :2] + 0.1 * normal(201, 2, seed=57), normal(201, 2, seed=58)
    return {
        "settings": figure._settings,
        "learned": figure._learned,
        "states": states,
        "actions": actions,
        "moved": moved,
        "touched": touched,
        "target": target,
        "speed": speed,
        "pushes": push(states, target, speed),
        "episodes": [
            episode_case(walks[:8], (0.3, -1.3), 8),
            episode_case(walks[8:], (-1.9, -0.2), 16),
            episode_case(0 * walks[:2] + torch.linspace(0, 2, 32)[:, None], (-0.2, -2.4), 32),
            episode_case(-walks[:8], (1.0, 2.2), 4, limit=30),
            episode_case(walks[:8] - 5, (0.0, 1.3), 8),  # there from the beginning
        ],
        "ball": ball[0],
        "noise": noise.flatten(),
        "mean": known.plans.from_unit(known.average(seen)),
        "drawn": drawn,
        "recorded": RECORDED["room"],
    }


def half_case():
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, 3e-5, 0.1])
    return {"packed": pack_floats(values, "float16"), "values": values.half().float()}


def write_fixtures(file):
    methods = [("euler", 10), ("midpoint", 7), ("heun", 8), ("rk4", 5)]
    fixtures = {
        "tokens": token_cases(),
        "tokenNetworks": token_network_cases(),
        "spelling": spelling_cases(),
        "random": [random_case(seed) for seed in (0, 1, 2**32 - 1, 20_261_122)],
        "networks": [
            network_case("two by sixteen", width=16, depth=2),
            network_case("three by sixty-four", width=64, depth=3),
            network_case("half precision", width=64, depth=3, dtype="float16"),
            network_case("three classes", width=24, depth=2, classes=3),
            network_case("odd sizes", dim=3, width=13, depth=1, time_dim=6),
        ],
        "shipped": [shipped_case(name) for name in RECORDED if name not in ("line", "room")],
        "jumps": jump_case(),
        "guidance": guidance_case(),
        "training": [
            training_case("plain", width=16, depth=2),
            training_case("odd sizes", width=11, depth=1, time_dim=6),
            training_case("with labels", width=12, depth=3, classes=2),
        ],
        # N(0, I) to N(0, I/4): the floor of the conditional loss is known.
        "descent": {"data": 0.5 * normal(4000, 2, seed=15), "floor": gaussian_loss_floor(1, 0.5)},
        "halves": half_case(),
        "paths": [path_case(path) for path in PATHS],
        "empirical": [empirical_case(path) for path in PATHS],
        "mixtures": [mixture_case(path) for path in PATHS],
        "flow": {
            "x0": normal(5, 2, seed=12),
            "packed": pack_path(CondOT()),
            "mixture": pack_mixture(a_mixture()),
        },
        "solvers": [solver_case(*case) for case in methods]
        + [solver_case("heun", 6, 1.0, 0.0), solver_case("rk4", 4, 0.2, 0.7)],
        "strips": [
            strips_case(*case) for case in (((-1.0, 1.0), 0.0), ((1.5, -0.3), 0.25), ((1, 1), 0.0))
        ],
        "schedules": [pack_path(path) for path in schedules.SCHEDULES.values()],
        "explored": pack_mixture(schedules.mixture()),
        "exponential": [
            exponential_case(place, grid, sampler)
            for place in (0, 0.3, 1, 1.8, 2)
            for grid in schedules.GRIDS
            for sampler in schedules.SAMPLERS
        ],
        "resolutions": resolution_cases(),
        "sphere": sphere_case(),
        "particles": [
            particles_case("chain", particles=4, kinds=range(4)),
            particles_case("half precision", "float16", particles=5, dim=2, kinds=(0, 0, 1, 1, 0)),
            particles_case("odd sizes", particles=3, width=5, depth=2, time_dim=6, radial=7),
        ],
        "molecules": molecules_case(),
        "room": room_case(),
        "bridges": [bridge_case(41, 0.98), bridge_case(43, 0.4, 0.3), bridge_case(45, 50.0, 1.5)],
        "assignments": [assignment_case(n, seed=16 + 2 * n) for n in (1, 2, 9, 64, 150)],
        "distances": distance_case(),
        "colors": COLORS,
        "blends": [[s, a, b, blend(s, a, b)] for s, a, b in BLENDS],
        "modules": {name: joined_module(name) for name in FIGURES},
    }
    file.write_text(json.dumps(fixtures, default=plain), "utf-8")


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory):
    file = tmp_path_factory.mktemp("widgets") / "fixtures.json"
    write_fixtures(file)
    return file


@pytest.fixture(scope="session")
def node():
    executable = shutil.which("node")
    version = executable and subprocess.run(
        [executable, "--version"], capture_output=True, text=True, check=True
    )
    major = int(re.match(r"v(\d+)", version.stdout)[1]) if version else 0
    if major < 20:
        reason = f"node 20 or newer is needed for the figures' tests, found {major or 'none'}"
        if os.environ.get("FMTUTOR_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return executable


@pytest.mark.parametrize("name", [*DATASETS, "digits"])
def test_the_weights_that_ship_mean_what_they_meant(name):
    """In the page, too: tests/js/network.test.mjs. tools/widget_weights.py recorded the outputs."""
    case = RECORDED[name]
    x = torch.tensor(case["x"])
    for label, expected in zip(case["labels"], case["velocities"], strict=True):
        with torch.no_grad():
            v = shipped(name)(x, case["t"], *([] if label is None else [label]))
        torch.testing.assert_close(v, torch.tensor(expected), atol=2e-5, rtol=1e-5)


def test_the_plans_that_ship_mean_what_they_meant():
    case, known = RECORDED["room"], room_explorer.learned()
    seen, x = (torch.tensor(case[name], dtype=DOUBLE) for name in ("seen", "x"))
    found = known.average(seen), known.flow(x, case["t"], seen[: len(x)])
    for numbers, name in zip(found, ("average", "velocities"), strict=True):
        wanted = torch.tensor(case[name], dtype=DOUBLE)
        torch.testing.assert_close(numbers, wanted, atol=2e-5, rtol=1e-5)


def test_every_javascript_test_is_found():
    names = {file.name.split(".")[0] for file in MODULES}
    assert names >= {
        "bridges",
        "exponential",
        "figure",
        "network",
        "oracles",
        "random",
        "resolutions",
        "room",
        "spelling",
        "sphere",
        "strips",
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda file: file.name.split(".")[0])
def test_javascript(module, node, fixtures):
    run = subprocess.run(
        [node, "--test", str(module)],
        env=os.environ | {"FMTUTOR_FIXTURES": str(fixtures)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^# pass [1-9]", run.stdout, re.MULTILINE), run.stdout
