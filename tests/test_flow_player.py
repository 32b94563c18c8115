"""The flow player: its traits, its picture, and the live figure in a browser."""

import pytest
import torch
from browsing import (
    change,
    control,
    decimals,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    readout,
    says,
    slide,
)
from traitlets import TraitError

from fmtutor.data import DATASETS
from fmtutor.metrics import sliced_wasserstein
from fmtutor.widgets import FlowPlayer
from fmtutor.widgets.flow_player import network, read_weights
from fmtutor.widgets.packing import unpack_network

ONE = {"datasets": ("spiral", "moons"), "particles": 200}


def expected(figure, time):
    """The line of text that belongs to a time, from the package."""
    x = figure.positions(time)
    mean, spread = x.mean(0), (x - x.mean(0)).square().sum(1).mean().sqrt()
    return [time, *mean.tolist(), spread.item()]


def test_the_defaults_and_what_can_be_set():
    figure = FlowPlayer()
    assert (figure.dataset, figure.time, figure.particles) == ("spiral", 1.0, 600)
    assert figure.datasets == tuple(DATASETS)
    assert FlowPlayer(datasets=["rings", "moons"]).dataset == "rings"
    figure.dataset = "moons"
    figure.time = 0.25
    assert repr(figure).startswith("FlowPlayer(arrows=False, dataset='moons'")
    assert "time=0.25" in repr(figure)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"dataset": "swirl"}, "dataset must be one of four clusters.*'swirl' came"),
        ({"datasets": ("moons", "swirl")}, r"datasets must be some of .*swirl"),
        ({"datasets": ()}, "dataset must be one of|datasets must be some of"),
        ({"dataset": "rings", "datasets": ("moons",)}, "rings"),
        ({"particles": 0}, "particles.* less than 1"),
        ({"particles": 2001}, "particles"),
        ({"time": 1.5}, "time"),
        ({"time": float("nan")}, "time"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        FlowPlayer(**bad)


def test_a_bad_change_is_refused_and_leaves_the_figure_as_it_was():
    figure = FlowPlayer(**ONE)
    for name, value in (("dataset", "rings"), ("datasets", ("rings",)), ("particles", 0)):
        with pytest.raises(TraitError):
            setattr(figure, name, value)
    assert (figure.dataset, figure.particles) == ("spiral", 200)
    with pytest.raises(TypeError, match=r"FlowPlayer takes arrows, .* but speed came"):
        FlowPlayer(speed=2)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_networks_are_good_and_are_those_of_the_page(dataset):
    figure = FlowPlayer(dataset, particles=2000)
    data, other = (DATASETS[dataset](2000, seed=seed) for seed in (1, 2))
    reached = sliced_wasserstein(figure.positions(1.0), data)
    assert reached < 2.5 * sliced_wasserstein(other, data)
    page = unpack_network(figure._networks[dataset])
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(page(x, 0.3), network(dataset)(x, 0.3))
    assert read_weights()[dataset].dtype == torch.float16


def test_positions_are_exact_between_the_steps_too():
    figure = FlowPlayer(**ONE)
    assert torch.equal(figure.positions(0.0), figure._path(0.0)[0])
    near = [figure.positions(t) for t in (0.399, 0.4, 0.401)]
    change = (near[2] - near[0]).norm(dim=1)
    assert change.max() < 0.05
    assert change.mean() > 1e-4
    torch.testing.assert_close((near[0] + near[2]) / 2, near[1], atol=2e-3, rtol=0)


def test_alive_and_as_the_package_computes_it(live):
    figure = FlowPlayer(**ONE)
    page = live(figure)
    says(page, r"t = 1\.00")
    seen = [ink(page)]
    for time in (0.0, 0.5, 0.86):
        slide(page, "time t", time)
        found, wanted = decimals(readout(page)), expected(figure, time)
        assert found == pytest.approx(wanted, abs=0.0051), time
        seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 4, "the slider changes the picture"
    assert not page.trouble, page.trouble


def test_menu_boxes_and_number_of_particles(live):
    figure = FlowPlayer(**ONE)
    page = live(figure)
    says(page, r"t = 1\.00")
    before = ink(page)
    control(page, "arrows of the field").check()
    with_arrows = ink(page)
    assert with_arrows[0] > before[0]
    control(page, "trails").uncheck()
    assert ink(page)[0] < with_arrows[0]
    control(page, "data").select_option("moons")
    slide(page, "particles", 300)
    says(page, r"t = 1\.00")
    moons = FlowPlayer("moons", datasets=("moons",), particles=300)
    assert decimals(readout(page)) == pytest.approx(expected(moons, 1.0), abs=0.0051)
    assert "moons" in page.locator("canvas").get_attribute("aria-label")
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(particles=0), dict.clear]
    pictures_stay(live, lambda: FlowPlayer(**ONE), damages)
