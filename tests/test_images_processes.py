"""Which process this is, where it computes, and what it puts back."""

import os

import pytest
import torch
from forked import free_port
from torch import distributed as dist

from fmtutor.images import launch
from fmtutor.images.launch import place_of_process
from fmtutor.images.processes import (
    choose_device,
    from_first,
    join_processes,
    largest,
    mean_over_ranks,
    own_state,
)  # fmt: skip


@pytest.mark.parametrize("name", [None, "auto"])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, name):
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device(name) == torch.device(kind)
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpu", "auto, cpu, cuda, .* but 'gpu' came"), ("cuda:1", "there is no GPU")],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, name, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        choose_device(name)


def test_alone_nothing_is_joined():
    with join_processes("cpu") as ranks:
        assert (ranks.rank, ranks.world, ranks.device) == (0, 1, torch.device("cpu"))
        assert not dist.is_initialized()
        assert largest(7, ranks) == 7
        assert mean_over_ranks(torch.tensor(2.5), ranks) == 2.5
        assert from_first(lambda: "made", ranks) == "made"


SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],other", "SLURM_JOB_ID": "41003", "SLURM_STEP_ID": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "tcp://gpu07:21005"),
        ({"SLURM_STEP_NODELIST": "one"}, "tcp://one:21005"),
        ({"SLURM_STEP_NODELIST": "one,two"}, "tcp://one:21005"),
        ({"SLURM_STEP_NODELIST": "a[1,3]-ib"}, "tcp://a1-ib:21005"),
        ({"SLURM_STEP_NODELIST": "r[2-3]n[01-04,7]x,b"}, "tcp://r2n01x:21005"),
        ({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}, "tcp://10.0.0.1:29500"),
    ],
)
def test_tasks_of_srun_know_their_place(monkeypatch, change, expected):
    for name, value in {**SRUN, **change}.items():
        monkeypatch.setenv(name, value)
    assert place_of_process() == {"init_method": expected, "rank": 2, "world_size": 4, "local": 1}


def test_one_task_of_srun_is_alone(monkeypatch):
    for name, value in {**SRUN, "SLURM_STEP_NUM_TASKS": "1"}.items():
        monkeypatch.setenv(name, value)
    assert place_of_process() is None


def test_tasks_of_srun_that_cannot_meet_are_refused(monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, SRUN[name])
    with pytest.raises(ValueError, match="srun has started 4 tasks, but neither MASTER_ADDR nor"):
        place_of_process()


def test_two_tasks_of_srun_are_one_run(monkeypatch):
    """Each is a copy of this process, with the variables that srun would give it."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "127.0.0.1")
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    children = []
    for rank in range(2):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        monkeypatch.setenv("SLURM_LOCALID", str(rank))
        if (child := os.fork()) == 0:
            try:
                with join_processes("cpu") as ranks:
                    right = (ranks.rank, ranks.world, largest(ranks.rank, ranks)) == (rank, 2, 1)
                os._exit(0 if right and not dist.is_initialized() else 1)
            finally:
                os._exit(2)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def look_for_the_living(rank, waits, tells):
    """Join as a process of torchrun; the first one waits until the other has looked in vain."""
    if rank == 0:
        os.read(waits, 1)
    else:
        launch.time.sleep = lambda seconds: os.write(tells, b"x")
    with join_processes("cpu") as ranks:
        return (ranks.rank, largest(ranks.rank, ranks)) == (rank, 1)


def test_what_dead_processes_have_left_is_not_taken_for_the_living(monkeypatch):
    """torchrun's store knows the port of a store that is gone, or of one that is another's."""
    agent, other = (
        dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in range(2)
    )
    environment = {
        "TORCHELASTIC_RUN_ID": "one", "TORCHELASTIC_USE_AGENT_STORE": "True", "LOCAL_RANK": "0",
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(agent.port),
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for stale in (f"{free_port()} gone", f"{other.port} of-another"):
        agent.set(launch.KEY, stale)
        children, pipe = [], os.pipe()
        for rank in (1, 0):
            monkeypatch.setenv("RANK", str(rank))
            if (child := os.fork()) == 0:
                try:
                    os._exit(0 if look_for_the_living(rank, *pipe) else 1)
                finally:
                    os._exit(2)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]


def test_a_task_takes_a_gpu_of_its_node(monkeypatch):
    for name, value in {**SRUN, "SLURM_LOCALID": "3"}.items():
        monkeypatch.setenv(name, value)
    joined, taken = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(dist, "init_process_group", lambda *a, **given: joined.append((a, given)))
    monkeypatch.setattr(dist, "get_rank", lambda: 2)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: joined.append("left"))
    with join_processes() as ranks:
        assert (ranks.rank, ranks.world, ranks.device) == (2, 4, torch.device("cuda:1"))
    assert taken == [torch.device("cuda:1")]
    (backend, given), left = joined
    assert (backend, left) == (("nccl",), "left")
    assert given["timeout"].total_seconds() >= 3600
    assert given.keys() == {"timeout", "init_method", "rank", "world_size"}


@pytest.mark.parametrize(("local", "backend"), [(2, "nccl"), (3, "gloo")])
def test_more_processes_than_gpus_share_them(local, backend, monkeypatch):
    environment = {
        "TORCHELASTIC_RUN_ID": "one", "LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": str(local),
        "LOCAL_WORLD_SIZE": str(local),
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda name, **given: joined.append(name))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: local)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with join_processes() as ranks:
        assert ranks.device == torch.device("cuda:1")
    assert joined == [backend]


@pytest.mark.parametrize("before", [False, True])
def test_what_a_run_changes_of_torch_is_put_back(monkeypatch, global_rng_untouched, before):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)

    def fail():
        with own_state(torch.device("cpu")):
            assert torch.backends.cudnn.benchmark
            torch.rand(3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert torch.backends.cudnn.benchmark == before
