"""Plans around a block: a mean, normal laws and a flow, trained on one another's demonstrations.

demonstrate  Records demonstrations in MuJoCo with the point mass of gymnasium-robotics: a shortest
             way over the cells of the room, ties broken at random, round corners, a wavering aim.
race         Trains each policy on each set with each seed and lets it act in the simulator from
             places that no demonstration began at: success, time, touches, which way. With
             the first seed the flow is trained otherwise, too, in the ways that the chapter names,
             and the mixture for longer.
judge        Records what the simulator does with given forces and with given plans, to hold the
             room of the package against it, and the ways of the regression and of the flow.

    pip install --editable '.[policies]'
    python benchmarks/policies.py demonstrate
    python benchmarks/policies.py race

An hour on one core. Rows that the result holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import is_recorded, processor, recorded, rounded, versions
from safetensors.torch import save_file
from torch import Tensor, nn
from ways import STEP, Cell, along, wavering, way

from fmtutor import CondOT, cfm_loss, minimise, sample
from fmtutor.few_steps import regression_loss
from fmtutor.flow_maps import jump, simulate_pairs
from fmtutor.networks import MixtureDensity, ObservingMLP, TwoTimes, layers_of
from fmtutor.policies import (
    Rollout,
    Room,
    Scale,
    chunks_of,
    follow_plans,
    load_demonstrations,
    push,
    save_demonstrations,
    shifted,
)

RESULTS = Path(__file__).parent / "results"
DATA, OUT = RESULTS / "policies_demonstrations.safetensors", RESULTS / "policies.json"
MAP = [
    [1, 1, 1, 1, 1, 1, 1],
    [1, 0, 0, 0, 0, 0, 1],
    [1, 0, 0, 0, 0, 0, 1],
    [1, 0, 1, 1, 1, 0, 1],
    [1, 0, 0, 0, 0, 0, 1],
    [1, 0, 0, 0, 0, 0, 1],
    [1, 1, 1, 1, 1, 1, 1],
]
SETS, EPISODES, REST = 3, 200, 33  # REST: states kept after the arrival
LENGTH, LIMIT, JUDGED = 32, 180, 100
COMMITMENTS, EVALUATIONS = (8, 16, 32), (1, 2, 4, 10)
TRAINING: dict[str, Any] = {"steps": 2500, "batch_size": 256, "lr": 1e-3, "warmup": 100}
PAIRS, DRAWN = 40_000, 40
ROOM = Room()


# The simulator.


class Simulator:
    """MuJoCo's point mass in the room, many at once; `step` as `Room.step` has it."""

    def __init__(self, count: int) -> None:
        import gymnasium_robotics.envs
        import mujoco
        from gymnasium_robotics.envs.maze.maze_v4 import Maze

        ball = Path(gymnasium_robotics.envs.__file__).parent / "assets" / "point" / "point.xml"
        _, room = Maze.make_maze(str(ball), MAP, 1.0, 0.4)
        self._mujoco, self._model = mujoco, mujoco.MjModel.from_xml_path(room)
        self._balls = [mujoco.MjData(self._model) for _ in range(count)]
        names = [self._model.geom(k).name or "" for k in range(self._model.ngeom)]
        self._walls = {k for k, name in enumerate(names) if name.startswith("block")}

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        after, touched = [], []
        for ball, state, action in zip(
            self._balls, states.tolist(), actions.clamp(-1, 1).tolist(), strict=False
        ):
            ball.qpos[:], ball.qvel[:] = state[:2], np.clip(state[2:], -5, 5)
            ball.ctrl[:] = action
            self._mujoco.mj_step(self._model, ball)
            after.append([*ball.qpos, *ball.qvel])
            touched.append(any({c.geom1, c.geom2} & self._walls for c in ball.contact))
        return torch.tensor(after, dtype=states.dtype), torch.tensor(touched)


def starts(count: int, generator: torch.Generator) -> Tensor:
    """Return balls at rest on the near side of the block, `[b 4]`."""
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    corner = torch.tensor([-0.4, -1.8], dtype=torch.float64)
    return torch.cat([corner + 0.8 * place, torch.zeros(count, 2, dtype=torch.float64)], dim=1)


# Demonstrations.


def reference(start: list[float], rng: np.random.Generator, length: int) -> Tensor:
    """Return where an expert wants to be at each step, `[length 2]`: on a shortest way."""

    def cell(x: float, y: float) -> Cell:
        return int(3.5 - y), int(x + 3.5)

    def free(c: Cell) -> bool:
        return MAP[c[0]][c[1]] == 0

    cells = way(cell(*start), cell(*ROOM.goal), free, rng)
    return along(np.array([start, *((j - 3.0, 3.0 - i) for i, j in cells[1:])]), length)


def demonstrate(seed: int, world: Simulator | None = None) -> list[Tensor]:
    """Return episodes of states `[T 4]`, each a little longer than the way to the goal."""
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    states = starts(EPISODES, g)
    wanted = [reference(place[:2], rng, LIMIT + REST + 1) for place in states.tolist()]
    led = torch.stack(wanted, 1)[1:] + wavering(LIMIT + REST, EPISODES, g)
    plan = led.transpose(0, 1)
    run = follow_plans(
        lambda x: plan - x[:, None, :2], (world or Simulator(EPISODES)).step, never, states,
        commitment=LIMIT + REST, limit=LIMIT + REST,
    )  # fmt: skip
    ends = ROOM.reached(run.states.flatten(0, 1)).reshape(run.states.shape[:2]).int().argmax(0)
    return [run.states[: end + REST, k] for k, end in enumerate(ends.tolist())]


def never(states: Tensor) -> Tensor:
    return torch.zeros(len(states), dtype=torch.bool)


def stored() -> dict[str, list[Tensor]]:
    """Return the sets of demonstrations."""
    return load_demonstrations(DATA)


def judge() -> None:
    """Store a free flight of random forces, each tick, and plans with where balls went on them.

    The plans are those of demonstrations, and straight lines that end in the block. Beside them
    the ways of the race's first two policies, in millimetres.
    """
    g = torch.Generator().manual_seed(0)
    world, state = Simulator(8), torch.tensor([[0.0, -1.5, 0.0, 0.0]], dtype=torch.float64)
    forces = torch.randn(60, 1, 2, generator=g, dtype=torch.float64).clamp(-1, 1)
    flight = [state]
    for force in forces:
        flight.append(world.step(flight[-1], force)[0])
    episodes = stored()["set 0"]
    plans = torch.stack([e[1:66, :2] - e[:1, :2] for e in episodes[:8]])
    first = torch.stack([e[0] for e in episodes[:8]])
    ends = torch.stack([torch.linspace(-1.8, 1.8, 8), torch.zeros(8)], dim=1).double()
    part = torch.linspace(0, 1, 66, dtype=torch.float64)[1:, None]
    lines = part * (ends - first[:, :2])[:, None]
    parts = {"forces": forces, "flight": torch.stack(flight), "first": first}
    for name, plan in {"plans": plans, "lines": lines}.items():
        run = follow_plans(
            lambda x, plan=plan: plan, world.step, never, first, commitment=65, limit=65
        )
        parts |= {name: plan, f"{name} states": run.states, f"{name} touched": run.touched}
    made = Demonstrations(episodes)
    for name in ("regression", FLOW):
        run = made.acts(draws(name, made.train(name, seed=0)[0])[10 if name == FLOW else 1], 32)
        parts[f"{name} acts"] = (run.states[:, :DRAWN, :2] * 1e3).round().to(torch.int16)
    file = RESULTS / "policies_simulated.safetensors"
    about = versions("mujoco", "gymnasium-robotics") | {"command": "policies.py judge"}
    save_file({k: x.contiguous() for k, x in parts.items()}, file, metadata=about)


# Policies: what is trained, and how it draws a plan.


def squared(net: nn.Module, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    return (net(seen) - x1).square().mean()


def unlikely(net: MixtureDensity, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    return -net.log_prob(x1, seen).mean() / x1.shape[1]


def flow_loss(net: ObservingMLP, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    return cfm_loss(net, x1, cond=seen, generator=generator)


def late_loss(net: ObservingMLP, x1: Tensor, seen: Tensor, generator: Any = None) -> Tensor:
    """Times as of pi-0: of density Beta(1.5, 1) from the data, so mostly near the noise."""
    away = torch.rand(len(x1), generator=generator) ** (1 / 1.5)
    return cfm_loss(net, x1, cond=seen, t=1 - 0.999 * away, generator=generator)


def noise(seen: Tensor, g: torch.Generator) -> Tensor:
    return torch.randn(len(seen), 2 * LENGTH, generator=g)


def flow_draw(net: ObservingMLP, seen: Tensor, g: torch.Generator, evaluations: int) -> Tensor:
    return sample(net, noise(seen, g), steps=evaluations, cond=seen)


def jump_draw(net: nn.Module, seen: Tensor, g: torch.Generator) -> Tensor:
    return jump(net, noise(seen, g), cond=seen)


@dataclass
class Warm:
    """Begins with what is left of the last plan, mixed with noise as it is at t = 1/2."""

    net: ObservingMLP
    scale: Scale
    commitment: int
    last: Tensor | None = None

    def __call__(self, seen: Tensor, g: torch.Generator) -> Tensor:
        if self.last is None:
            self.last = flow_draw(self.net, seen, g, 4)
        else:
            plan = self.scale.from_unit(self.last.double()).reshape(len(seen), LENGTH, 2)
            left = self.scale.to_unit(shifted(plan, self.commitment).flatten(1)).float()
            start = CondOT().sample(noise(seen, g), left, 0.5).xt
            self.last = sample(self.net, start, t0=0.5, steps=2, cond=seen)
        return self.last


WIDE = {"width": 256, "depth": 3}
FLOW, JUMP = "flow", "one jump"
BUILT: dict[str, tuple[Callable[..., nn.Module], Callable[..., Tensor]]] = {
    "regression": (lambda **size: layers_of(4, 2 * LENGTH, **size), squared),
    "normal": (lambda **size: MixtureDensity(2 * LENGTH, 4, **size), unlikely),
    "mixture of 5": (lambda **size: MixtureDensity(2 * LENGTH, 4, components=5, **size), unlikely),
    FLOW: (lambda **size: ObservingMLP(2 * LENGTH, 4, **size), flow_loss),
}


@dataclass
class Otherwise:
    """What is trained otherwise: the loss, if not its own, steps, the unit and kind of plans."""

    policy: str = FLOW
    loss: Callable[..., Tensor] | None = None
    steps: int = TRAINING["steps"]
    unit: float | None = None
    kind: str = "positions"


OTHERWISE = {
    "metres": Otherwise(unit=1.0),
    "millimetres": Otherwise(unit=1e-3),
    "forces": Otherwise(kind="forces"),
    "times near the noise": Otherwise(loss=late_loss),
    "8,000 steps": Otherwise(steps=8000),
    "mixture, 8,000 steps": Otherwise("mixture of 5", steps=8000),
}


class Demonstrations:
    """What is trained on: observations and plans, in units."""

    def __init__(
        self, episodes: list[Tensor], unit: float | None = None, kind: str = "positions"
    ) -> None:
        seen, plans = chunks_of(episodes, LENGTH)
        if kind == "forces":
            forces = [torch.cat([f, f[-1:]]) for f in map(forces_of, episodes)]
            plans = torch.cat([f.unfold(0, LENGTH, 1).mT.flatten(1)[: len(e) - LENGTH]
                               for f, e in zip(forces, episodes, strict=True)])  # fmt: skip
        self.kind, self.seen, self.plans = kind, Scale.of(seen), Scale.of(plans)
        if unit is not None:
            self.plans = Scale(torch.zeros(2 * LENGTH), torch.full((2 * LENGTH,), unit))
        self.cond, self.x1 = self.seen.to_unit(seen).float(), self.plans.to_unit(plans).float()

    def train(
        self, name: str, seed: int, loss: Any = None, steps: int = TRAINING["steps"], **size: int
    ) -> tuple[nn.Module, float]:
        torch.manual_seed(seed)
        start = time.process_time()
        build, usual = BUILT[name]
        net = minimise(
            build(**(size or WIDE)), self.x1, loss or usual, cond=self.cond, seed=seed,
            progress=False, **TRAINING | {"steps": steps},
        ).model  # fmt: skip
        return net, time.process_time() - start

    def train_jump(self, flow: nn.Module, seed: int) -> tuple[nn.Module, float]:
        """Regression on pairs of noise and of the flow's own plans."""
        g = torch.Generator().manual_seed(100 + seed)
        torch.manual_seed(seed)
        start = time.process_time()
        rows = torch.randint(len(self.cond), (PAIRS,), generator=g)
        seen = self.cond[rows]
        x0, x1 = simulate_pairs(flow, noise(seen, g), cond=seen)
        net = minimise(
            TwoTimes(BUILT[FLOW][0](**WIDE)), x1, regression_loss, cond=(x0, seen), seed=seed,
            progress=False, **TRAINING,
        ).model  # fmt: skip
        return net, time.process_time() - start

    def acts(self, draw: Callable[..., Tensor], commitment: int, world: Any = None) -> Rollout:
        """Return what becomes of a hundred balls, in the simulator if nothing else is said."""
        g = torch.Generator().manual_seed(5)

        @torch.no_grad()
        def policy(states: Tensor) -> Tensor:
            plans = self.plans.from_unit(draw(self.seen.to_unit(states).float(), g).double())
            plans = plans.reshape(len(states), LENGTH, 2)
            return STEP * plans.cumsum(1) if self.kind == "forces" else plans

        return follow_plans(
            policy, (world or Simulator(JUDGED)).step, ROOM.reached,
            starts(JUDGED, torch.Generator().manual_seed(1000)), commitment=commitment, limit=LIMIT,
            drive=as_it_is if self.kind == "forces" else push,
        )  # fmt: skip


def forces_of(states: Tensor) -> Tensor:
    """Return the steady forces that make each velocity of states `[T 4]` the next, `[T-1 2]`."""
    v, keep = states[:, 2:], 1 / (1 + ROOM.tick * ROOM.damping / ROOM.mass)
    ticks = round(STEP / ROOM.tick)
    gain = ROOM.tick / ROOM.mass * ROOM.strength * sum(keep**k for k in range(1, ticks + 1))
    return (v[1:] - keep**ticks * v[:-1]) / gain


def as_it_is(state: Tensor, target: Tensor, speed: Tensor) -> Tensor:
    """Drive with forces that were planned: their running sum stood for positions."""
    return speed


def measured(run: Rollout) -> dict[str, float]:
    reached = run.reached
    beside = run.states[:, :, 1].abs().argmin(0)
    right = run.states[beside, torch.arange(JUDGED), 0] > 0
    return {
        "success": reached.double().mean().item(),
        "steps": run.steps[reached].double().mean().item(),
        "untouched": (reached & ~run.touched).double().mean().item(),
        "right": right[reached].double().mean().item(),
    }


def milliseconds(draw: Callable[..., Tensor]) -> float:
    """Return the median time of a decision for one ball."""
    seen, g, found = torch.zeros(1, 4), torch.Generator(), []
    for _ in range(200):
        start = time.perf_counter()
        with torch.no_grad():
            draw(seen, g)
        found.append(1e3 * (time.perf_counter() - start))
    return sorted(found)[len(found) // 2]


def draws(name: str, net: nn.Module) -> dict[int, Callable[..., Tensor]]:
    """Return how a policy draws plans in units, by its number of evaluations."""
    if name == FLOW:
        return {n: partial(flow_draw, net, evaluations=n) for n in EVALUATIONS}
    if name == JUMP:
        return {1: partial(jump_draw, net)}
    if name == "regression":
        return {1: lambda seen, g: net(seen)}
    return {1: lambda seen, g: net.sample(seen, generator=g)}


# The race.


def race(seeds: list[int]) -> None:
    for seed in seeds:
        for key, episodes in stored().items():
            done = {name: is_recorded(OUT, {"policy": name, "set": key, "seed": seed})
                    for name in (*BUILT, JUMP, "warm start", *OTHERWISE)}  # fmt: skip
            done |= dict.fromkeys(OTHERWISE, True) if seed else {}
            if all(done.values()):
                continue
            made, flow = Demonstrations(episodes), None
            asked = not (done[FLOW] and done[JUMP] and done["warm start"])
            for name in BUILT:
                if not done[name] or (name == FLOW and asked):
                    net, seconds = made.train(name, seed)
                    flow = net if name == FLOW else flow
                if not done[name]:
                    note(made, name, draws(name, net), key, seed, seconds)
            if not done[JUMP]:
                net, seconds = made.train_jump(flow, seed)
                note(made, JUMP, draws(JUMP, net), key, seed, seconds)
            if not done["warm start"]:
                warm = {c: Warm(flow, made.plans, c) for c in COMMITMENTS[:-1]}
                note(made, "warm start", {2: warm}, key, seed, 0.0)
            for name, how in OTHERWISE.items():
                if not done[name]:
                    other = Demonstrations(episodes, how.unit, how.kind)
                    net, seconds = other.train(how.policy, seed, how.loss, how.steps)
                    ways = draws(how.policy, net)
                    usual = {n: draw for n, draw in ways.items() if n == 4 or len(ways) == 1}
                    note(other, name, usual, key, seed, seconds)


def note(
    made: Demonstrations, name: str, ways: dict[int, Any], key: str, seed: int, seconds: float
) -> None:
    """Let a policy act, and write down what becomes of it."""
    rows = []
    for evaluations, draw in ways.items():
        # Other numbers of evaluations than the usual one are compared at one commitment.
        for commitment in COMMITMENTS if name != FLOW or evaluations == 4 else (16,):
            if isinstance(draw, dict) and commitment not in draw:
                continue
            asked = draw[commitment] if isinstance(draw, dict) else draw
            row = {"policy": name, "set": key, "seed": seed, "evaluations": evaluations}
            row |= {"commitment": commitment} | rounded(measured(made.acts(asked, commitment)))
            if not isinstance(draw, dict):
                row["milliseconds"] = round(milliseconds(draw), 3)
            rows.append(row | {"seconds": round(seconds, 1), "machine": processor()})
    result = {"judged": JUDGED, "limit": LIMIT, "length": LENGTH, "training": TRAINING}
    result |= {"command": "policies.py race"} | recorded(OUT)
    result["versions"] = versions("fmtutor", "mujoco", "gymnasium-robotics")
    result["rows"] += rows
    OUT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(name, key, seed, round(seconds, 1), rows[0], rows[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["demonstrate", "race", "judge"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "race":
        race(options.seeds)
        return
    if options.what == "judge":
        judge()
        return
    sets = {f"set {k}": demonstrate(k) for k in range(SETS)}
    save_demonstrations(sets, DATA, command="policies.py demonstrate")
    for key, episodes in sets.items():
        lengths = torch.tensor([len(e) - REST for e in episodes]).double()
        print(key, f"{lengths.mean():.1f} steps, from {lengths.min():.0f} to {lengths.max():.0f}")


if __name__ == "__main__":
    main()
