"""Two processes under torchrun, on a CPU, are one run."""

import os
import subprocess
import sys

from forked import free_port
from picture_runs import assert_same, log_of, state_at

from fmtutor.images.config import read_config

SCRIPT = '''
import contextlib, copy, os, sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, sys.argv[2])
from picture_runs import (
    CONFIG, DATA, assert_same, fresh_run, log_of, quick, state_of, with_network,
)

from fmtutor.images import batches, journal, prepare, trainer
from fmtutor.images.batches import on_device
from fmtutor.images.data import to_float
from fmtutor.images.prepare import shared_network
from fmtutor.images.processes import from_first, join_processes, largest, mean_over_ranks

torch.set_num_threads(1)
out = Path(sys.argv[1])


def gather(value):
    both = [torch.empty_like(value) for _ in range(2)]
    dist.all_gather(both, value.contiguous())
    return both


def check_step(ranks, accumulate):
    """The averaged gradient is that of one process on the joined batch."""
    config = replace(CONFIG, accumulate=accumulate, clip=1e9)
    run = fresh_run(config)
    torch.nn.init.normal_(run.model.last[2].weight, generator=torch.Generator().manual_seed(0))
    alone = copy.deepcopy(run.model)
    draws, usual = [], batches.cfm_loss

    def recorded(v, x1, *, labels, coupling, generator, t=None):
        assert t is None  # uniform, drawn here
        x0 = torch.randn(x1.shape, generator=generator)
        t = torch.rand(len(x1), generator=generator)
        draws.append((x1, x0, t, labels))
        return usual(v, x1, x0=x0, t=t, labels=labels)

    batches.cfm_loss = recorded
    net, seen = shared_network(run, config, ranks), on_device(DATA, config, ranks.device)
    assert isinstance(net, DistributedDataParallel)
    assert not net.broadcast_buffers
    loss, norm = trainer.take_step(run, net, seen, config, ranks, torch.Generator())
    batches.cfm_loss = usual
    assert len(draws) == accumulate
    joined = [torch.cat(gather(torch.cat(parts))) for parts in zip(*draws)]
    x1, x0, t, labels = joined
    assert len(x1) == config.batch_size
    rows = trainer.step_rows(config, len(DATA.train), 0)
    expected = to_float(DATA.train[rows])
    assert torch.equal(x1.flatten(1).sort(0).values, expected.flatten(1).sort(0).values)
    assert len(t.unique()) == len(t), "the ranks draw the same times"
    assert len(x0.flatten(1).unique(dim=0)) == len(x0), "the ranks draw the same noise"
    total = usual(alone, x1, x0=x0, t=t, labels=labels)
    total.backward()
    torch.testing.assert_close(torch.tensor(mean_over_ranks(loss, ranks)), total.detach())
    for weight, reference in zip(run.model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, reference.grad, atol=1e-6, rtol=1e-4)


def check_compilation(ranks):
    """What shares the gradients is compiled with the network: it can send the first ones early."""
    compiled, usual = [], torch.nn.Module.compile
    torch.nn.Module.compile = lambda net: compiled.append(net)
    net = shared_network(fresh_run(CONFIG), replace(CONFIG, compile=True), ranks)
    torch.nn.Module.compile = usual
    assert compiled == [net]


def check_data(ranks):
    """The first process reads and decodes for all, and an error of it is one of all."""
    read = []

    def load():
        read.append(rank)
        return DATA

    got = from_first(load, ranks)
    assert read == [0] * (rank == 0)
    assert (got.name, got.classes, got.flip) == (DATA.name, DATA.classes, DATA.flip)
    for name in ("train", "train_labels", "test", "test_labels"):
        assert torch.equal(getattr(got, name), getattr(DATA, name))

    def fail():
        raise FileNotFoundError("there is no directory x")

    try:
        from_first(fail, ranks)
    except FileNotFoundError as error:
        assert str(error) == "there is no directory x"
    else:
        raise AssertionError("the error of rank 0 has not come to this rank")


joined = contextlib.ExitStack()
ranks = joined.enter_context(join_processes("cpu"))
rank = ranks.rank
assert (rank, ranks.world) == (int(os.environ["RANK"]), 2)
assert largest(3 * rank, ranks) == 3
assert mean_over_ranks(torch.tensor(float(rank)), ranks) == 0.5
with torch.random.fork_rng():
    check_step(ranks, 1)
    check_step(ranks, 2)
    check_compilation(ranks)
    check_data(ranks)

# A signal to one process stops both, and the run goes on as if it had not been stopped.
written = []
for module, name in (
    (journal, "add_to_log"), (trainer, "save_run"), (prepare, "save_run"), (trainer, "draw_grid"),
    (trainer, "save_average"),
):
    def noted(*args, usual=getattr(module, name), name=name):
        written.append(name)
        return usual(*args)
    setattr(module, name, noted)
config = with_network(CONFIG, dropout=0.1)
model = quick(out / "whole", config)
usual_step = trainer.take_step


def signalled(run, *rest):
    taken = usual_step(run, *rest)
    if run.step == 5 and rank == 1:
        os.kill(os.getpid(), 15)
    return taken


trainer.take_step = signalled
try:
    quick(out / "parts", config)
except trainer.Stopped as stopped:
    assert stopped.signal == 15
else:
    raise AssertionError("the signal to rank 1 has not stopped this rank")
trainer.take_step = usual_step
dist.barrier()  # until rank 0 has saved
quick(out / "parts", config, resume=True)
assert bool(written) == (rank == 0), f"rank {rank} has written: {written}"
if rank == 0:
    assert_same(state_of(out / "whole"), state_of(out / "parts"))
    assert log_of(out / "whole")[0]["processes"] == 2
joined.close()
(out / f"passed-{rank}").touch()
'''

DYING = """
import os, sys
sys.path.insert(0, sys.argv[2])
import torch
from picture_runs import CONFIG, quick
from pathlib import Path
from fmtutor.images import trainer

torch.set_num_threads(1)
usual = trainer.take_step


def dying(run, *rest):
    taken = usual(run, *rest)
    if run.step == 6 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), 9)
    return taken


trainer.take_step = dying
quick(Path(sys.argv[1]) / "run", CONFIG)
"""


RESTARTED = """
import functools, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from picture_runs import DATA

from fmtutor.images import datasets, journal, trainer
from fmtutor.images.cli import main
from fmtutor.images.processes import join_processes
from fmtutor.images.run import newest_checkpoint

torch.set_num_threads(1)
journal.draw_pictures = functools.partial(journal.draw_pictures, steps=1)
datasets.load_images = lambda name, **given: DATA
top, usual = Path(sys.argv[1]), trainer.take_step
# On a GPU who waits for the dead does not fail, but waits until his torchrun stops him.
FATES = {
    "ddp killed 1": "dies", "fsdp killed 1": "dies", "fsdp nodes 0": "dies", "fsdp nodes 1": "waits"
}
TINY = (
    "train --resume auto --steps 9 --batch-size 8 --patch 2 --width 8 --mults 1 --attention , "
    "--warmup 2 --log-every 3 --save-every 4 --sample-every 100 --device cpu"
)


def dying(run, net, pictures, config, ranks, generator):
    taken = usual(run, net, pictures, config, ranks, generator)
    name = f"{config.parallel} {out.name} {ranks.rank}"
    if run.step == 6 and name in FATES and not (top / name).exists():
        (top / name).touch()
        if FATES[name] == "waits":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pause()
        half = out / "checkpoints" / ".step-0000008.part"  # what it may have been at
        half.mkdir()
        (half / "model.safetensors").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return taken


trainer.take_step = dying
with join_processes("cpu") as ranks:
    assert ranks.world == 2
    alone = os.environ["GROUP_WORLD_SIZE"] == "1"
    for parallel in ("ddp", "fsdp"):
        for name in ("whole", "killed") if alone else ("nodes",):
            out = top / parallel / name
            command = f"{TINY} --parallel {parallel} --out {out}"
            assert main(command.split()) == 0
"""


def torchrun(tmp_path, code):
    command, environment = starts(tmp_path, code, "--standalone", "--nproc_per_node=2")
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=500, check=False
    )


def starts(tmp_path, code, *options):
    """The command that lets torchrun start a script, and its environment."""
    (tmp_path / "script.py").write_text(code)
    script = (str(tmp_path / "script.py"), str(tmp_path), os.path.dirname(__file__))
    command = [sys.executable, "-m", "torch.distributed.run", *options, *script]
    return command, {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_processes_are_one_run(tmp_path):
    done = torchrun(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "passed-0").exists()
    assert (tmp_path / "passed-1").exists()


def test_a_rank_that_dies_ends_the_run_with_an_error(tmp_path):
    done = torchrun(tmp_path, DYING)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000004"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_rank_that_dies_is_started_again_and_the_run_is_as_if_it_had_not(tmp_path):
    """Once in a run of each kind; then on two nodes, which are both here, once in one of them."""
    command, environment = starts(
        tmp_path, RESTARTED, "--standalone", "--nproc_per_node=2", "--max-restarts=2"
    )
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    command, environment = starts(
        tmp_path, RESTARTED, "--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d",
        "--rdzv_id=one", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--max-restarts=1",
    )  # fmt: skip
    nodes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    try:
        assert [node.wait(timeout=500) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.terminate()
    assert {path.name for path in tmp_path.glob("* * ?")} == {
        "ddp killed 1", "fsdp killed 1", "fsdp nodes 0", "fsdp nodes 1"
    }  # fmt: skip
    for parallel in ("ddp", "fsdp"):
        whole, killed, on_nodes = (tmp_path / parallel / n for n in ("whole", "killed", "nodes"))
        config = read_config(log_of(whole)[0]["config"])
        for other in (killed, on_nodes):
            assert_same(state_at(whole, config), state_at(other, config))
            assert [line["step"] for line in log_of(other) if "loss" in line] == [3, 6, 9]
            assert [p.name for p in (other / "checkpoints").iterdir()] == ["step-0000009"]
