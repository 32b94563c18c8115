"""What the unit tests share: one profile for hypothesis, one guard for the global random state."""

import pytest
import torch
from hypothesis import settings

# Derandomised: a run on another day, or on another machine, tries the same examples.
settings.register_profile(
    "fmtutor", deadline=None, max_examples=30, derandomize=True, database=None
)
settings.load_profile("fmtutor")

# The tensors here are small: a second thread costs more than it gives, beside other jobs much more.
torch.set_num_threads(1)


@pytest.fixture
def global_rng_untouched():
    """Fail a test in which torch's global random state is consumed or reseeded."""
    torch.manual_seed(987_654_321)
    torch.rand(7)  # a reseeding with this very number would show, too
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the global random state has changed"
