"""Reward on a law that is known: what each way of using it converges to.

One observation, six normal laws on a ring for the behaviour, a reward whose tilt is a mixture
again. Flow matching with weights, on resampled data, with clipped weights; the exact field of the
behaviour pushed along the gradient of the reward, here or at the expected end; the best of 3, of 6
and of 16; and policy gradients through the steps of a stochastic sampler, with little noise and
with so much that the end forgets the beginning. Rows that the result holds are not made again.

    python benchmarks/policies_bandit.py   # half an hour of a core
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from machine import is_recorded, processor, recorded, rounded, versions
from torch import Tensor, nn

from fmtutor import MLP, CondOT, GaussianMixture, cfm_loss, data, minimise, sample
from fmtutor.metrics import sliced_wasserstein
from fmtutor.notation import VelocityField
from fmtutor.policies import tilted, weighted_cfm_loss

OUT = Path(__file__).parent / "results" / "policies_bandit.json"
BEHAVIOUR = GaussianMixture(data.cluster_means(6, 3.0), 0.3)
PATH, COUNT, SETS, STEPS = CondOT(), 4000, 5, 100
SLOPE = torch.tensor([0.5, 0.0])
CENTRE, CURVATURE = torch.tensor([2.0, 1.0]), 0.25
TRAINING = {"steps": 3000, "batch_size": 512, "lr": 2e-3, "warmup": 100}
CHAIN, BATCH, ROUNDS, PASSES = 25, 512, 300, 2  # of policy gradients


class Task:
    """A reward with its temperature, and the law that is wanted."""

    def __init__(self, kind: str, tau: float) -> None:
        self.kind, self.tau = kind, tau
        b, c = (SLOPE, 0.0) if kind == "linear" else (CURVATURE * CENTRE, CURVATURE)
        self.wanted = tilted(BEHAVIOUR, b, tau, curvature=c)

    def reward(self, x: Tensor) -> Tensor:
        if self.kind == "linear":
            return x @ SLOPE
        return -0.5 * CURVATURE * (x - CENTRE).square().sum(1)

    def slope(self, x: Tensor) -> Tensor:
        return SLOPE.expand_as(x) if self.kind == "linear" else -CURVATURE * (x - CENTRE)


TASKS = [(kind, tau) for kind in ("linear", "quadratic") for tau in (1.0, 0.5)]


# Ways: (task, seed) to samples.


def trained(x1: Tensor, weights: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return minimise(
        MLP(max_frequency=2.0), x1, weighted_cfm_loss, cond=(weights,), seed=seed, progress=False,
        **TRAINING,
    ).model  # fmt: skip


def noise(seed: int) -> Tensor:
    return data.standard_normal(SETS * COUNT, seed=1000 + seed)


def by_weights(task: Task, seed: int, largest: float = math.inf) -> Tensor:
    x1 = BEHAVIOUR.sample(50_000, seed=seed)
    w = (task.reward(x1) / task.tau).softmax(0) * len(x1)
    return sample(trained(x1, w.clamp(max=largest), seed), noise(seed), steps=STEPS)


def by_resampling(task: Task, seed: int) -> Tensor:
    x1, g = BEHAVIOUR.sample(50_000, seed=seed), torch.Generator().manual_seed(seed)
    rows = torch.multinomial((task.reward(x1) / task.tau).softmax(0), len(x1), True, generator=g)
    return sample(trained(x1[rows], torch.ones(len(x1)), seed), noise(seed), steps=STEPS)


def by_field(field: Callable[[Task], VelocityField], task: Task, seed: int) -> Tensor:
    return sample(field(task), noise(seed), steps=STEPS)


def here(task: Task) -> VelocityField:
    """Push along the gradient of the reward at x_t, as if it were known there."""
    u = BEHAVIOUR.velocity(PATH)
    return lambda x, t: u(x, t) + push(t) * task.slope(x) / task.tau


def at_the_end(task: Task) -> VelocityField:
    """Push along the gradient of x_t -> r(E[x1 | x_t]), that is, through the expected end."""
    u = BEHAVIOUR.velocity(PATH)

    def v(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            value = u(y, t)
            (slope,) = torch.autograd.grad(
                task.reward(PATH.data_from_velocity(value, y, t)).sum(), y
            )
        return value.detach() + push(t) * slope / task.tau

    return v


def push(t: Tensor) -> Tensor:
    """Return (1 − t)/t, which makes a change of velocity of a change of score, `[b 1]`."""
    return ((1 - t) / t.clamp(min=1 / STEPS))[:, None]


def best_of(n: int, task: Task, seed: int) -> Tensor:
    x = BEHAVIOUR.sample(n * SETS * COUNT, seed=1000 + seed).reshape(-1, n, 2)
    best = task.reward(x.flatten(0, 1)).reshape(-1, n).argmax(1)
    return x[torch.arange(len(x)), best]


def policy_gradient(size: Callable[[float], float], task: Task, seed: int) -> Tensor:
    """Learn by the likelihood ratios of a chain's steps, clipped, less τ times the divergence.

    The chain is Euler-Maruyama's, whose noise of size g(t) leaves the marginals as they are.
    """
    torch.manual_seed(seed)
    x1 = BEHAVIOUR.sample(50_000, seed=seed)
    behaviour = minimise(
        MLP(max_frequency=2.0), x1, cfm_loss, seed=seed, progress=False, **TRAINING
    ).model
    policy, g = MLP(max_frequency=2.0), torch.Generator().manual_seed(seed)
    policy.load_state_dict(behaviour.state_dict())
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4)
    for step in range(ROUNDS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-4 * math.cos(0.5 * math.pi * step / ROUNDS)
        with torch.no_grad():
            xs = chain(policy, size, torch.randn(BATCH, 2, generator=g), g)
            before, base = (log_steps(net, size, xs) for net in (policy, behaviour))
            gain = task.reward(xs[-1]) - task.tau * (before - base).sum(0)
            advantage = gain - gain.mean()
        for _ in range(PASSES):
            ratio = (log_steps(policy, size, xs) - before).exp()
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return chain(policy, size, noise(seed), g)[-1]


def chain(v: nn.Module, size: Callable[[float], float], x: Tensor, g: torch.Generator) -> Tensor:
    """Return all points of the chain, `[k+1 b 2]`."""
    xs = [x]
    for k in range(CHAIN):
        t = k / CHAIN
        x = x + drift(v, size(t), x, t) / CHAIN
        x = x + size(t) * CHAIN**-0.5 * torch.randn(x.shape, generator=g)
        xs.append(x)
    return torch.stack(xs)


def drift(v: nn.Module, size: float, x: Tensor, t: Tensor | float) -> Tensor:
    value: Tensor = v(x, t)
    return value + 0.5 * size**2 * PATH.score_from_velocity(value, x, t)


def log_steps(v: nn.Module, size: Callable[[float], float], xs: Tensor) -> Tensor:
    """Return the log-densities of a chain's steps but for constants, `[k b]`."""
    t = (torch.arange(CHAIN) / CHAIN).repeat_interleave(xs.shape[1])
    g = torch.tensor([size(k / CHAIN) for k in range(CHAIN)])[:, None, None]
    x = xs[:-1].flatten(0, 1)
    value = v(x, t)
    score = PATH.score_from_velocity(value, x, t)
    value, score = value.reshape(xs[1:].shape), score.reshape(xs[1:].shape)
    off = xs[1:] - xs[:-1] - (value + 0.5 * g**2 * score) / CHAIN
    return -0.5 * (off.square().sum(2) / g[:, :, 0] ** 2) * CHAIN


def forgetful(t: float) -> float:
    """The size of noise with which the end is independent of the beginning."""
    return math.sqrt(2 * (1 - t) / (t + 1 / CHAIN))


WAYS: dict[str, Callable[[Task, int], Tensor]] = {
    "behaviour": lambda task, seed: BEHAVIOUR.sample(SETS * COUNT, seed=1000 + seed),
    "exact field": partial(by_field, lambda task: task.wanted.velocity(PATH)),
    "weighted": by_weights,
    "resampled": by_resampling,
    "weights below 2": partial(by_weights, largest=2.0),
    "reward's slope here": partial(by_field, here),
    "slope at the expected end": partial(by_field, at_the_end),
    **{f"best of {n}": partial(best_of, n) for n in (3, 6, 16)},
    "policy gradient, noise 0.5": partial(policy_gradient, lambda t: 0.5),
    "policy gradient, forgetful": partial(policy_gradient, forgetful),
}


def measured(task: Task, x: Tensor, seed: int) -> dict[str, float]:
    """Return means over sets of `COUNT` points; the floor is that of two sets of the wanted law."""
    real = [task.wanted.sample(COUNT, seed=100 + 10 * seed + k) for k in range(SETS)]
    off = [sliced_wasserstein(a, b).item() for a, b in zip(x.split(COUNT), real, strict=True)]
    floor = [sliced_wasserstein(a, b).item() for a, b in combinations(real, 2)]
    return {
        "distance": sum(off) / len(off),
        "floor": sum(floor) / len(floor),
        "reward": task.reward(x).mean().item(),
        "wanted": task.reward(torch.cat(real)).mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS, metavar="WAY")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for kind, tau in TASKS:
            task = Task(kind, tau)
            for name in options.ways:
                if name.startswith("policy gradient") and (kind, tau) != ("linear", 0.5):
                    continue  # two minutes each
                key = {"reward_is": kind, "tau": tau, "way": name, "seed": seed}
                if is_recorded(options.out, key):
                    continue
                start = time.process_time()
                x = WAYS[name](task, seed)
                row = key | {"seconds": round(time.process_time() - start, 1)}
                row |= rounded(measured(task, x, seed))
                result = {"command": "policies_bandit.py", "machine": processor()}
                result |= {"training": TRAINING, "count": COUNT} | recorded(options.out)
                result["versions"] = versions("fmtutor")
                result["rows"].append(row)
                options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
                print(row, flush=True)


if __name__ == "__main__":
    main()
