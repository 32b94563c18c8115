"""What the tests share: a profile for hypothesis, a guard for torch's random state, a browser."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"

# Derandomised: a run on another day, or on another machine, tries the same examples.
settings.register_profile(
    "fmtutor", deadline=None, max_examples=30, derandomize=True, database=None
)
settings.load_profile("fmtutor")

# The tensors here are small: a second thread costs more than it gives, beside other jobs much more.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    for item in items:
        if {"browser", "site"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")


@pytest.fixture
def global_rng_untouched():
    """Fail a test in which torch's global random state is consumed or reseeded."""
    torch.manual_seed(987_654_321)
    torch.rand(7)  # a reseeding with this very number would show, too
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the global random state has changed"


@pytest.fixture(scope="session")
def browser():
    from browsing import launch

    with launch() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    from browsing import unavailable

    if not (SITE / "index.html").is_file():
        unavailable("no site in _build/html: run `make book` first")
    return SITE


@pytest.fixture(scope="session")
def address(site):
    """The address at which the built site is served."""
    from browsing import serve

    with serve(site) as url:
        yield url


@pytest.fixture(scope="session")
def live_server(browser, tmp_path_factory):
    from browsing import LivePages, serve

    folder = tmp_path_factory.mktemp("live")
    with serve(folder) as address:
        yield LivePages(browser, address, folder)


@pytest.fixture
def live(live_server):
    """Opens a page with live figures: `page = live(FlowPlayer())`; see browsing.py."""
    before = len(live_server.taken)  # pages that a whole module keeps
    yield live_server
    live_server.release(before)
