"""fmtutor beside the libraries that one would otherwise use: flow_matching, torchcfm and POT.

Each case is one task done by each program in the way its own documentation shows, with the same
network object, batch, step count and float type. Programs take turns, so that a change of the
machine's speed meets all of them; the medians and their ratios are reported. Each program has a
process of its own, as for a user of that library alone: what one leaves behind in the memory
allocator decides what large tensors cost the next. And it has a new one in each turn: where a
process happens to lie in memory changes its speed by up to a tenth for all of its life. `make
bench` runs it in an environment of its own. A run of some cases puts their rows into the record of
the machine, each with what it was run with, and leaves the others as they are.

    python benchmarks/peers.py [--rounds 7] [--threads 1] [--out FILE] [CASE ...]
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import ot
import torch
from flow_matching.path import AffineProbPath
from flow_matching.path.scheduler import CondOTScheduler
from flow_matching.solver import ODESolver
from machine import machine, revision, slug, versions
from torch import Tensor
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
from torchcfm.optimal_transport import OTPlanSampler
from torchdyn.core import NeuralODE

from fmtutor import MLP, data, fit, log_prob, minibatch_ot, sample
from fmtutor.entropic import entropic_plan
from fmtutor.likelihood import standard_normal_log_prob

TRAIN_STEPS, BATCH = 200, 512
RUNS = 5  # of a program in a turn
ALONE = "the network alone"
"""What no program can do without: forward passes, and in training backward ones."""


@dataclass
class Case:
    """One task. The first program is ours; `goals` are the ratios that we want to reach.

    `facts` says what else there is to know, such as how far the results of the programs differ.
    """

    name: str
    task: str
    unit: str
    programs: dict[str, Callable[[], object]]
    goals: dict[str, float]
    facts: Callable[[], dict[str, object]]
    per_run: int = 1  # the unit of work is a run divided by this


def network(dim: int = 2) -> MLP:
    torch.manual_seed(0)
    return MLP(dim, width=128, depth=3)


def training() -> Case:
    points, start = data.moons(10_000, seed=0), network()

    def ours(compile: bool = False) -> None:
        model = compiled if compile else copy.deepcopy(start)
        fit(
            model,
            points,
            steps=TRAIN_STEPS,
            batch_size=BATCH,
            lr=1e-3,
            ema=0.0,
            compile=compile,
            progress=False,
        )

    def flow_matching(model: torch.nn.Module | None = None) -> None:
        model = copy.deepcopy(start) if model is None else model
        path = AffineProbPath(scheduler=CondOTScheduler())
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(TRAIN_STEPS):
            optimizer.zero_grad()
            x_1 = points[torch.randint(len(points), (BATCH,))]
            x_0 = torch.randn_like(x_1)
            t = torch.rand(x_1.shape[0])
            draw = path.sample(t=t, x_0=x_0, x_1=x_1)
            loss = torch.pow(model(draw.x_t, draw.t) - draw.dx_t, 2).mean()
            loss.backward()
            optimizer.step()

    def torchcfm(model: torch.nn.Module | None = None) -> None:
        model = copy.deepcopy(start) if model is None else model
        matcher = ConditionalFlowMatcher(sigma=0.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(TRAIN_STEPS):
            optimizer.zero_grad()
            x1 = points[torch.randint(len(points), (BATCH,))]
            x0 = torch.randn_like(x1)
            t, xt, ut = matcher.sample_location_and_conditional_flow(x0, x1)
            loss = torch.mean((model(xt, t) - ut) ** 2)
            loss.backward()
            optimizer.step()

    def alone() -> None:
        model, batch = copy.deepcopy(start), points[:BATCH]
        t = torch.rand(BATCH)
        for _ in range(TRAIN_STEPS):
            model.zero_grad()
            model(batch, t).square().mean().backward()

    compiled = copy.deepcopy(start)
    return Case(
        "training",
        f"one step of Adam on MLP 3×128, batch {BATCH}, d = 2, float32",
        "µs a step",
        {
            "fmtutor": ours,
            "flow_matching": flow_matching,
            "torchcfm": torchcfm,
            "fmtutor, compiled": partial(ours, compile=True),
            "flow_matching, compiled": partial(flow_matching, torch.compile(copy.deepcopy(start))),
            "torchcfm, compiled": partial(torchcfm, torch.compile(copy.deepcopy(start))),
            ALONE: alone,
        },
        goals={"flow_matching": 1.0, "torchcfm": 1.0, ALONE: 1 / 1.3},
        facts=lambda: {
            "note": "fmtutor's step also clips the gradient, schedules the learning rate "
            "and looks for NaN; its EMA is off"
        },
        per_run=TRAIN_STEPS,
    )


def sampling() -> Case:
    model, x0 = network(), torch.randn(10_000, 2, generator=torch.Generator().manual_seed(1))

    class Scalar(torch.nn.Module):
        """The network as torchcfm's documentation wraps it for torchdyn."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, t: Tensor, x: Tensor, *args: object, **kwargs: object) -> Tensor:
            return self.model(x, t.repeat(x.shape[0]))

    solver = ODESolver(velocity_model=lambda x, t: model(x, t.expand(x.shape[0])))
    node = NeuralODE(Scalar(), solver="euler", sensitivity="adjoint")

    def ours(batch_size: int | None = None) -> Tensor:
        return sample(model, x0, method="euler", steps=100, batch_size=batch_size)

    def flow_matching(batch_size: int = len(x0)) -> Tensor:
        groups = x0.split(batch_size)
        return torch.cat([solver.sample(x_init=x, method="euler", step_size=0.01) for x in groups])

    @torch.no_grad()
    def torchdyn() -> Tensor:
        return node.trajectory(x0, t_span=torch.linspace(0, 1, 101))[-1]

    @torch.no_grad()
    def alone() -> Tensor:
        t = torch.tensor(0.5)
        for _ in range(100):
            values = [model(x, t.expand(len(x))) for x in x0.split(1024)]
        return torch.cat(values)

    programs = {
        "fmtutor": partial(ours, 1024),
        "flow_matching": flow_matching,
        "torchcfm with torchdyn": torchdyn,
        "fmtutor, one batch": ours,
        "flow_matching, in groups": partial(flow_matching, 1024),
    }

    def facts() -> dict[str, object]:
        truth = ours()
        gaps = {name: (run() - truth).abs().max().item() for name, run in programs.items()}
        return {"largest_difference_of_samples": gaps}

    return Case(
        "sampling",
        "Euler with 100 steps, 10,000 points, MLP 3×128, d = 2, float32",
        "ms",
        programs | {ALONE: alone},
        goals={"flow_matching": 1.0, "torchcfm with torchdyn": 1.0},
        facts=facts,
    )


def likelihood(dim: int) -> Case:
    model = network(dim)
    x1 = torch.randn(1000, dim, generator=torch.Generator().manual_seed(1))
    solver = ODESolver(velocity_model=lambda x, t: model(x, t.expand(x.shape[0])))

    def ours() -> Tensor:
        return log_prob(model, x1, method="euler", steps=20)

    def flow_matching() -> Tensor:
        # It marks its input as requiring a gradient, so it gets a copy.
        _, log_p = solver.compute_likelihood(
            x_1=x1.clone(),
            log_p0=standard_normal_log_prob,
            method="euler",
            step_size=0.05,
            exact_divergence=True,
        )
        return log_p.detach()

    def facts() -> dict[str, object]:
        return {"largest_difference_in_nats": (ours() - flow_matching()).abs().max().item()}

    return Case(
        f"likelihood, d = {dim}",
        f"exact log-likelihood of 1,000 points, 20 Euler steps, MLP 3×128, d = {dim}, float32",
        "ms",
        {"fmtutor": ours, "flow_matching": flow_matching},
        goals={"flow_matching": 2.0 if dim == 2 else 3.0},
        facts=facts,
    )


def transport(b: int) -> Case:
    x0 = torch.randn(b, 2, generator=torch.Generator().manual_seed(1))
    x1 = data.moons(b, seed=2)
    sampler = OTPlanSampler(method="exact")

    def cost(pairs: tuple[Tensor, ...]) -> float:
        return (pairs[0] - pairs[1]).square().sum(1).mean().item()

    def facts() -> dict[str, object]:
        return {
            "mean_cost": {
                "fmtutor": cost(minibatch_ot(x0, x1)),
                # Its pairs are drawn from the plan with replacement: a mean over many draws.
                "torchcfm": statistics.mean(cost(sampler.sample_plan(x0, x1)) for _ in range(20)),
            },
            "share_of_data_used": {
                "fmtutor": 1.0,
                "torchcfm": len(sampler.sample_plan(x0, x1)[1].unique(dim=0)) / b,
            },
        }

    return Case(
        f"minibatch OT, b = {b}",
        f"optimal pairs of {b} noise and {b} data points, d = 2, float32",
        "ms",
        {
            "fmtutor": lambda: minibatch_ot(x0, x1),
            "torchcfm": lambda: sampler.sample_plan(x0, x1),
        },
        goals={"torchcfm": 1.0 if b == 128 else 1.3},
        facts=facts,
    )


def entropic(b: int, epsilon: float = 0.5) -> Case:
    x0 = torch.randn(b, 2, generator=torch.Generator().manual_seed(1))
    x1 = data.moons(b, seed=2)
    weights = np.full(b, 1 / b)

    def ours() -> Tensor:
        return entropic_plan(x0, x1, epsilon, tol=1e-8)

    def pot(method: str) -> np.ndarray:
        cost = ot.dist(x0.double().numpy(), x1.double().numpy())
        return ot.sinkhorn(
            weights, weights, cost, epsilon, method=method, stopThr=1e-9, numItermax=20_000
        )

    programs: dict[str, Callable[[], object]] = {
        "fmtutor": ours,
        "POT, logarithms": partial(pot, "sinkhorn_log"),
        "POT, plain kernel": partial(pot, "sinkhorn"),
    }

    def facts() -> dict[str, object]:
        plans = {name: np.asarray(run()) for name, run in programs.items()}
        rest = {name: plan - plans["fmtutor"] for name, plan in plans.items() if name != "fmtutor"}
        return {
            "note": "each stops by its own measure: fmtutor at a sum of the columns' errors of "
            "1e-8, POT at a Euclidean norm of them of 1e-9, its default",
            "sum_of_differences_of_plans": {k: float(np.abs(v).sum()) for k, v in rest.items()},
            "sum_of_errors_of_columns": {
                name: float(np.abs(plan.sum(0) - 1 / b).sum()) for name, plan in plans.items()
            },
        }

    return Case(
        f"entropic plan, b = {b}",
        f"entropic plan of {b} noise and {b} data points, ε = {epsilon:g}, d = 2, float64",
        "ms",
        programs,
        goals={"POT, logarithms": 1.0, "POT, plain kernel": 1.0},
        facts=facts,
    )


CASES: dict[str, Callable[[], Case]] = {
    "training": training,
    "sampling": sampling,
    "likelihood-2": partial(likelihood, 2),
    "likelihood-64": partial(likelihood, 64),
    "transport-128": partial(transport, 128),
    "transport-512": partial(transport, 512),
    "transport-1024": partial(transport, 1024),
    "entropic-128": partial(entropic, 128),
    "entropic-512": partial(entropic, 512),
}


def prepare(case: str, threads: int) -> Case:
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", module="torchdyn")
    return CASES[case]()


def work(case: str, program: str, threads: int, parent: Connection) -> None:
    """Run a program a few times, and answer with the median of the seconds and page faults."""
    run = prepare(case, threads).programs[program]
    run()  # warm-up, and compilation
    seconds, faults = [], []
    for _ in range(RUNS):
        start, before = time.perf_counter(), page_faults()
        run()
        seconds.append(time.perf_counter() - start)
        faults.append(page_faults() - before)
    parent.send((statistics.median(seconds), statistics.median(faults)))


def page_faults() -> int:
    """Pages of memory that this process has been given, so far, on touching them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def turn_of(case: str, program: str, threads: int) -> tuple[float, float]:
    """Give a program of a case a process and return the seconds and page faults of a run."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(case, program, threads, theirs))
    process.start()
    theirs.close()  # if the process dies, waiting for its answer ends
    seconds, faults = ours.recv()
    process.join()
    ours.close()
    return seconds, faults


def measure(name: str, rounds: int, threads: int) -> dict[str, object]:
    """Time the programs of a case in turns and return the row of the table."""
    case = prepare(name, threads)
    runs = [
        {program: turn_of(name, program, threads) for program in case.programs}
        for _ in range(rounds)
    ]
    scale = (1e6 if case.unit.startswith("µs") else 1e3) / case.per_run
    ours = next(iter(case.programs))
    return {
        "name": case.name,
        "task": case.task,
        "unit": case.unit,
        "goals": case.goals,
        "facts": case.facts(),
        "programs": {
            program: {
                "median": round(scale * statistics.median(turn[program][0] for turn in runs), 2),
                "runs": [round(scale * turn[program][0], 2) for turn in runs],
                # Turn by turn: both programs of a turn met the same machine.
                "ratio": round(
                    statistics.median(turn[program][0] / turn[ours][0] for turn in runs), 2
                ),
                "page_faults": round(statistics.median(turn[program][1] for turn in runs)),
            }
            for program in case.programs
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=7, help="turns, of which the median counts")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    default = Path(__file__).parent / "results" / "peers" / f"{slug()}.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")

    load = round(os.getloadavg()[0], 1)
    rows = []
    for name in options.cases or CASES:
        row = measure(name, options.rounds, options.threads)
        rows.append(row)
        print(f"\n{row['task']} [{row['unit']}]")
        for program, result in row["programs"].items():
            print(
                f"  {program:<26}{result['median']:>12.2f}{result['ratio']:>8.2f} ×"
                f"{result['page_faults']:>12,} page faults"
            )
    about = {
        "command": f"make bench (rounds {options.rounds}, threads {options.threads})",
        "machine": machine() | {"threads": options.threads, "load_average": load},
        "revision": revision(),
        "versions": versions(
            "fmtutor", "flow_matching", "torchcfm", "torchdyn", "torchdiffeq", "pot"
        ),
    }
    if options.cases and options.out.exists():
        about["command"] = f"python benchmarks/peers.py --rounds {options.rounds} (some cases)"
        result = json.loads(options.out.read_text("utf-8"))
        new = {row["name"]: row | {"run": about} for row in rows}
        old = {row["name"]: row for row in result["cases"]}
        result["cases"] = list((old | new).values())
    else:
        result = about | {"cases": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
