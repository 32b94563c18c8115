"""Offline reinforcement learning on play: a goal is named that the ball was not recorded for.

A ball wanders between random places of a room and wants nothing; a flow learns its chunks of eight
positions. Then a goal is named, a chunk that comes to it gains 1 and ends the episode, and what can
be learned of that without trying anything acts from a hundred places: the best of N of the flow's
chunks by a critic (implicit Q-learning), the flow trained with weights by advantage, and flow
Q-learning, whose policy of one step stays beside the flow.

tune      One seed and two goals that are not evaluated, over grids of settings.
hurry     The best of N by a critic of 500 steps, for one of the goals of tuning.
evaluate  Five seeds, each with its own play, and two other goals, with the settings found.

The play of a seed is made from it, in seconds. The flow's ends, to which flow Q-learning holds its
policy, are drawn ahead, four to a state, by ten steps of Euler's method. Q's promise is that of the
first chunks, the mean of both Q's; what is obtained is discounted by whole chunks. Seconds are a
core's, for what comes on top of the behaviour's flow. Rows that a result holds are not made again.

    python benchmarks/policies_offline.py tune      # half an hour of a core
    python benchmarks/policies_offline.py evaluate  # three quarters of an hour
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import is_recorded, processor, recorded, rounded, versions
from torch import Tensor, nn
from ways import SPEED, STEP, Cell, along, wavering, way

from fmtutor import cfm_loss, minimise, sample
from fmtutor.molecules import effective_sample_size
from fmtutor.networks import ObservingMLP, layers_of
from fmtutor.policies import Room, Scale, follow_plans, weighted_cfm_loss
from fmtutor.policies.critics import (
    Critic,
    Transitions,
    actor_loss,
    advantage_weights,
    bellman_target,
    iql_loss,
    transitions_of,
)
from fmtutor.training import descend, half_cosine, update_ema

OUT = Path(__file__).parent / "results" / "policies_offline.json"
GOALS, SEEDS = ((0.0, 1.0), (2.0, 1.2)), (0, 1, 2, 3, 4)
TUNING_GOALS, TUNING_SEEDS = ((-2.0, 0.0), (1.5, -1.5)), (100,)
EPISODES, POSITIONS, LENGTH = 100, 500, 8
JITTER = 0.25  # m
JUDGED, LIMIT, AWAY, OFF = 100, 90, 1.0, 0.1  # starts, positions, m from goal and walls at least
DISCOUNT = 0.98**LENGTH
EULER, DRAWS = 10, 4  # steps of the flow; clones of each state that are drawn ahead
CLONING = {"steps": 2500, "batch_size": 256, "lr": 1e-3, "warmup": 100}
CRITIC = {"steps": 3000, "batch_size": 256, "lr": 2e-3, "average": 0.98}
FQL, SIZE = CRITIC, {"width": 256, "depth": 3}
YOUNG = 500  # steps of a critic that is not done
COUNTS, LARGEST = (4, 16, 64), 100.0  # chunks of which the best is taken; weights before their mean
GRID = {"share": (0.9, 0.7), "tau": (0.005, 0.01, 0.02, 0.05), "alpha": (3.0, 10.0, 30.0, 100.0)}
CHOSEN = {"share": (0.9,), "tau": (0.01,), "alpha": (30.0,)}


# Play.


def free(cell: Cell) -> bool:
    """Whether the ball may be in the cell around a place of whole numbers."""
    return max(map(abs, cell)) <= 2 and not (cell[1] == 0 and abs(cell[0]) <= 1)


CELLS = [(x, y) for x in range(-2, 3) for y in range(-2, 3) if free((x, y))]


def reference(rng: np.random.Generator) -> Tensor:
    """Return where a wandering ball wants to be at each position, `[POSITIONS 2]`."""
    here, far = CELLS[rng.integers(len(CELLS))], POSITIONS * SPEED * STEP
    corners = [here + rng.uniform(-JITTER, JITTER, 2)]
    legs = np.zeros(0)
    while legs.sum() < far:
        there = CELLS[rng.integers(len(CELLS))]
        passed = way(here, there, free, rng)[1:] or [there]
        corners += list(np.array(passed) + rng.uniform(-JITTER, JITTER, (len(passed), 2)))
        here, legs = there, np.linalg.norm(np.diff(corners, axis=0), axis=1)
    return along(np.array(corners), POSITIONS)


def play(seed: int) -> list[Tensor]:
    """Return episodes of states `[POSITIONS 4]` of balls that wander from rest, without a goal."""
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    wanted = torch.stack([reference(rng) for _ in range(EPISODES)])
    wanted += wavering(POSITIONS, EPISODES, g).transpose(0, 1)
    rest = torch.cat([wanted[:, 0], torch.zeros(EPISODES, 2, dtype=torch.float64)], dim=1)
    run = follow_plans(
        lambda x: wanted[:, 1:] - x[:, None, :2], Room().step,
        lambda x: torch.zeros(len(x), dtype=torch.bool), rest,
        commitment=POSITIONS - 1, limit=POSITIONS - 1,
    )  # fmt: skip
    return list(run.states.unbind(1))


def starts(room: Room, g: torch.Generator) -> Tensor:
    """Return balls at rest, uniform over the places off walls, block and goal, `[b 4]`."""
    bound = room.half - room.radius - OFF
    x = bound * (2 * torch.rand(50 * JUDGED, 2, generator=g, dtype=torch.float64) - 1)
    block = torch.tensor(room.block, dtype=torch.float64) + room.radius + OFF
    far = torch.linalg.vector_norm(x - torch.tensor(room.goal, dtype=torch.float64), dim=1) > AWAY
    x = x[far & (x.abs() > block).any(1)][:JUDGED]
    return torch.cat([x, torch.zeros_like(x)], dim=1)


# What is learned of play alone, and of its rewards.


def noise(count: int, g: torch.Generator) -> Tensor:
    return torch.randn(count, 2 * LENGTH, generator=g)


class Play:
    """The play of a seed in units, and the flow that learned its chunks, in `seconds`."""

    seconds: float

    def __init__(self, seed: int) -> None:
        self.seed, self.episodes = seed, play(seed)
        plain = self.rewarded(Room(), scaled=False)
        self.seen, self.chunks = Scale.of(plain.observations), Scale.of(plain.chunks)

    def rewarded(self, room: Room, scaled: bool = True) -> Transitions:
        """Return the transitions of play, float32 in units, with the rewards of a room's goal."""
        found = transitions_of(self.episodes, LENGTH, room.reached)
        if not scaled:
            return found
        return Transitions(
            self.seen.to_unit(found.observations).float(),
            self.chunks.to_unit(found.chunks).float(),
            found.rewards.float(), self.seen.to_unit(found.after).float(), found.ended,
        )  # fmt: skip

    @cached_property
    def flow(self) -> nn.Module:
        found, start = self.rewarded(Room()), time.process_time()
        torch.manual_seed(self.seed)
        net = minimise(
            ObservingMLP(2 * LENGTH, 4), found.chunks, clone_loss, cond=found.observations,
            seed=self.seed, progress=False, **CLONING,
        ).model  # fmt: skip
        self.seconds = time.process_time() - start
        return net

    @cached_property
    def clones(self) -> tuple[Tensor, Tensor]:
        """Return noise and where the flow takes it, `[n DRAWS d]` each, after each observation."""
        seen = self.rewarded(Room()).observations.repeat_interleave(DRAWS, 0)
        z = noise(len(seen), torch.Generator().manual_seed(200 + self.seed))
        flow = self.flow  # trained now, if it was not: with gradients
        with torch.no_grad():
            ends = [sample(flow, a, steps=EULER, cond=b)
                    for a, b in zip(z.split(4000), seen.split(4000), strict=True)]  # fmt: skip
        return z.unflatten(0, (-1, DRAWS)), torch.cat(ends).unflatten(0, (-1, DRAWS))


def clone_loss(net: nn.Module, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    return cfm_loss(net, x1, cond=seen, generator=generator)


def train_critic(found: Transitions, share: float, seed: int, steps: int) -> Critic:
    """Return the average of a critic's networks after implicit Q-learning."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(300 + seed)
    critic = Critic(4, 2 * LENGTH, **SIZE)
    target = copy.deepcopy(critic).requires_grad_(False)
    weights, optimizer = parts_of(critic, CRITIC["lr"])
    for k in range(steps):
        rows = torch.randint(len(found.rewards), (CRITIC["batch_size"],), generator=g)
        batch = Transitions(*(part[rows] for part in found))
        loss = iql_loss(critic, target, batch, discount=DISCOUNT, share=share)
        descend(loss, weights, optimizer, CRITIC["lr"] * half_cosine(k / steps))
        update_ema(target, critic, CRITIC["average"])
    return target


def parts_of(net: nn.Module, lr: float) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    weights = list(net.parameters())
    return weights, torch.optim.Adam(weights, lr=lr, fused=True)


# Ways: states in units and a generator to chunks in units.

Draw = Callable[[Tensor, torch.Generator], Tensor]


def cloning(net: nn.Module) -> Draw:
    return lambda seen, g: sample(net, noise(len(seen), g), steps=EULER, cond=seen)


def best_of(count: int, net: nn.Module, critic: Critic) -> Draw:
    """Draw so many chunks and take the one of which the smaller Q is largest."""

    def draw(seen: Tensor, g: torch.Generator) -> Tensor:
        again = seen.repeat_interleave(count, 0)
        chunks = cloning(net)(again, g)
        best = critic(again, chunks).amin(0).reshape(-1, count).argmax(1)
        return chunks.reshape(len(seen), count, -1)[torch.arange(len(seen)), best]

    return draw


def train_weighted(found: Transitions, weights: Tensor, seed: int) -> nn.Module:
    """Return a flow trained as the behaviour's was, but with weights."""

    def loss(net: nn.Module, x1: Tensor, w: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
        return weighted_cfm_loss(net, x1, w, seen, generator=generator)

    torch.manual_seed(seed)
    return minimise(
        ObservingMLP(2 * LENGTH, 4), found.chunks, loss, cond=(weights, found.observations),
        seed=seed, progress=False, **CLONING,
    ).model  # fmt: skip


def train_one_step(
    found: Transitions, clones: tuple[Tensor, Tensor], alpha: float, seed: int
) -> tuple[nn.Module, Critic]:
    """Return a policy of one step and its critic, after flow Q-learning."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(400 + seed)
    policy = layers_of(4 + 2 * LENGTH, 2 * LENGTH, **SIZE)
    critic = Critic(4, 2 * LENGTH, **SIZE)
    target = copy.deepcopy(critic).requires_grad_(False)
    (actors, first), (judges, second) = parts_of(policy, FQL["lr"]), parts_of(critic.q, FQL["lr"])
    for k in range(FQL["steps"]):
        rate = FQL["lr"] * half_cosine(k / FQL["steps"])
        rows = torch.randint(len(found.rewards), (FQL["batch_size"],), generator=g)
        seen, chunk, reward, after, ended = (part[rows] for part in found)
        with torch.no_grad():
            following = target(after, acted(policy, after, noise(len(rows), g))).mean(0)
            wanted = bellman_target(reward, following, ended, DISCOUNT)
        off = (critic(seen, chunk) - wanted).square().mean(1).sum()
        descend(off, judges, second, rate)
        z, cloned = (part[rows, k % DRAWS] for part in clones)
        chunk = acted(policy, seen, z)
        critic.requires_grad_(False)
        loss = actor_loss(critic(seen, chunk), chunk, cloned, alpha)
        descend(loss, actors, first, rate)
        critic.requires_grad_(True)
        update_ema(target, critic, FQL["average"])
    return policy, target


def acted(policy: nn.Module, seen: Tensor, z: Tensor) -> Tensor:
    chunk: Tensor = policy(torch.cat([seen, z], dim=1))
    return chunk


@torch.no_grad()
def measured(made: Play, room: Room, draw: Draw, critic: Critic | None) -> dict[str, Any]:
    """Let balls act, and hold what the critic promises of their first chunks against the return."""
    g = torch.Generator().manual_seed(500 + made.seed)
    first = starts(room, g)
    said: list[Tensor] = []

    def policy(states: Tensor) -> Tensor:
        seen = made.seen.to_unit(states).float()
        chunks = draw(seen, g)
        if critic is not None:
            said.append(critic(seen, chunks).mean(0))
        return made.chunks.from_unit(chunks.double()).reshape(len(states), LENGTH, 2)

    run = follow_plans(policy, room.step, room.reached, first, commitment=LENGTH, limit=LIMIT)
    gained = torch.where(run.reached, DISCOUNT ** ((run.steps - 1) // LENGTH).double(), 0.0)
    return {
        "success": run.reached.double().mean().item(),
        "steps": run.steps[run.reached].double().mean().item(),
        "touched": run.touched.double().mean().item(),
        "promised": said[0].mean().item() if said else None,
        "obtained": gained.mean().item(),
    }


# The runs.


class Run:
    """A seed's play with a goal, and what is written down about it."""

    def __init__(
        self, what: str, made: Play, goal: tuple[float, float], steps: int = CRITIC["steps"]
    ) -> None:
        self.made, self.room, self.steps = made, Room(goal=goal), steps
        self.key = {"run": what, "goal": [*goal], "seed": made.seed}
        self.found, self.critics = made.rewarded(self.room), dict[float, tuple[Critic, float]]()

    def judged(self, share: float) -> tuple[Critic, float]:
        """Return the critic of a share, trained once, and its seconds."""
        if share not in self.critics:
            start = time.process_time()
            critic = train_critic(self.found, share, self.made.seed, self.steps)
            self.critics[share] = critic, time.process_time() - start
        return self.critics[share]

    def clone(self) -> None:
        key = self.key | {"method": "cloning"}
        if not is_recorded(OUT, key):
            draw = cloning(self.made.flow)
            start = time.process_time() - self.made.seconds
            note(key, measured(self.made, self.room, draw, None), start)

    def best(self, share: float, count: int) -> None:
        key = self.key | {"method": "best of N", "share": share, "count": count}
        if not is_recorded(OUT, key):
            critic, seconds = self.judged(share)
            draw, start = best_of(count, self.made.flow, critic), time.process_time()
            note(key, measured(self.made, self.room, draw, critic), start - seconds)

    def weigh(self, share: float, tau: float) -> None:
        key = self.key | {"method": "weighted", "share": share, "tau": tau, "largest": LARGEST}
        if not is_recorded(OUT, key):
            critic, seconds = self.judged(share)
            start = time.process_time() - seconds
            with torch.no_grad():
                seen, chunks = self.found[:2]
                advantage = critic(seen, chunks).amin(0) - critic.value(seen)
            weights = advantage_weights(advantage, tau, largest=LARGEST)
            net = train_weighted(self.found, weights, self.made.seed)
            about = {"effective": effective_sample_size(weights.log())}
            about |= measured(self.made, self.room, cloning(net), critic)
            note(key, about, start)

    def one_step(self, alpha: float) -> None:
        key = self.key | {"method": "flow Q-learning", "alpha": alpha}
        if not is_recorded(OUT, key):
            clones, start = self.made.clones, time.process_time()
            policy, critic = train_one_step(self.found, clones, alpha, self.made.seed)

            def draw(seen: Tensor, g: torch.Generator) -> Tensor:
                return acted(policy, seen, noise(len(seen), g))

            note(key, measured(self.made, self.room, draw, critic), start)


def note(key: dict[str, Any], about: dict[str, Any], start: float) -> None:
    """Write down what became of a way, and the seconds that it took, with its critic's training."""
    row = key | rounded(about) | {"seconds": round(time.process_time() - start, 1)}
    row |= {"machine": processor()}
    result = {"judged": JUDGED, "limit": LIMIT, "length": LENGTH, "discount": DISCOUNT}
    result |= {"episodes": EPISODES, "positions": POSITIONS, "draws": DRAWS}
    result |= {"away": AWAY, "off": OFF}
    result |= {"cloning": CLONING, "critic": CRITIC, "fql": FQL, "size": SIZE}
    result |= {"command": "policies_offline.py evaluate"} | recorded(OUT)
    result["versions"] = versions("fmtutor")
    result["rows"].append(row)
    OUT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(row, flush=True)


def race(what: str, goals: Any, seeds: Any, settings: dict[str, tuple[float, ...]]) -> None:
    for seed in seeds:
        made = Play(seed)
        runs = [Run(what, made, goal) for goal in goals]
        for run in runs:
            run.clone()
            for count in COUNTS:
                run.best(settings["share"][0], count)
        for tau in settings["tau"]:
            for run in runs:
                run.weigh(settings["share"][0], tau)
        for alpha in settings["alpha"]:
            for run in runs:
                run.one_step(alpha)
        for share in settings["share"][1:]:
            for run in runs:
                run.best(share, COUNTS[1])


def hurry(seeds: Any) -> None:
    """Let a critic of few steps choose, for the goal in a corner."""
    for seed in seeds:
        run = Run("young critic", Play(seed), TUNING_GOALS[1], steps=YOUNG)
        for count in COUNTS:
            run.best(CHOSEN["share"][0], count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["tune", "evaluate", "hurry"])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--alphas", type=float, nargs="*", help="others than those of the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "hurry":
        hurry(options.seeds)
        return
    tuning = options.what == "tune"
    settings = GRID if tuning else CHOSEN
    if options.alphas is not None:
        settings = settings | {"alpha": tuple(options.alphas)}
    goals, seeds = (TUNING_GOALS, TUNING_SEEDS) if tuning else (GOALS, options.seeds)
    race(options.what, goals, seeds, settings)


if __name__ == "__main__":
    main()
