"""Several processes of a run, each a copy of the test's own: nobody has to import torch again."""

import os
import socket
import traceback
import warnings
from unittest import mock

from fmtutor.images.processes import join_processes


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(world, work):
    """Let so many processes, which srun seems to have started, do `work(ranks)`; all must end well.

    With one it is done here, and its result is returned.
    """
    if world == 1:
        with join_processes("cpu") as ranks:
            return work(ranks)
    place = {
        "SLURM_STEP_NUM_TASKS": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    children = [_child(rank, place, work) for rank in range(world)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * world, "what went wrong is in the captured errors"
    return None


def _child(rank, place, work):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            own = {**place, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
            with mock.patch.dict(os.environ, own), join_processes("cpu") as ranks:
                work(ranks)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child
