"""Molecules in space: the traits, the picture, and the live figure in a browser."""

import pytest
import torch
from browsing import (
    change,
    control,
    each_changes,
    no_buffers,
    numbers,
    pictures_stay,
    poison,
    readout,
    says,
    slide,
)
from traitlets import TraitError

from fmtutor.molecules import Butane, pair_distances
from fmtutor.widgets import MoleculeExplorer
from fmtutor.widgets.molecule_explorer import MOLECULES, PAIRS, exact, flow


def test_the_defaults_and_what_can_be_set():
    figure = MoleculeExplorer()
    figure.time, figure.pairs, figure.steps = 0.25, "independent", 3
    assert repr(figure) == (
        "MoleculeExplorer(latitude=35, longitude=15, molecule=1, pairs='independent', seed=1, "
        "steps=3, time=0.25, ways=True)"
    )
    for ways in (True, False):
        figure.ways = ways
        assert figure.picture().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"seed": -1}, "seed"),
        ({"time": 1.2}, "time"),
        ({"time": float("nan")}, "time must be finite"),
        ({"pairs": "random"}, "pairs must be one of aligned, independent, but 'random' came"),
        ({"steps": 0}, "steps"),
        ({"steps": 41}, "steps"),
        ({"molecule": 0}, "molecule"),
        ({"molecule": MOLECULES + 1}, "molecule"),
        ({"longitude": 181.0}, "longitude"),
        ({"latitude": -91.0}, "latitude"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        MoleculeExplorer(**bad)


def test_the_noise_is_centred_and_the_steps_are_those_of_euler():
    figure = MoleculeExplorer(steps=4, time=0.0, pairs="independent")
    network, unit = flow("independent")
    x0 = figure.positions() / unit
    assert x0.mean(1).abs().max() < 1e-12
    assert x0.square().sum((1, 2)).mean() == pytest.approx(9, rel=0.2)
    figure.time = 0.25
    x = x0 + network(x0, 0.0) / 4
    torch.testing.assert_close(figure.positions(), unit * x)
    figure.time = 0.375  # half of the next step
    torch.testing.assert_close(figure.positions(), unit * (x + network(x, 0.25) / 8))


def test_what_the_pairs_are_worth_in_few_steps():
    found = {
        pairs: MoleculeExplorer(pairs=pairs, steps=5).energies().median().item() for pairs in PAIRS
    }
    right = Butane()(exact()).median().item()
    assert 0.5 * right < found["aligned"] < 5 * right  # long steps damp, errors add
    assert 2 * found["aligned"] < found["independent"]


def test_a_molecule_is_nearly_that_of_the_data():
    figure = MoleculeExplorer(steps=40)
    made, given = (pair_distances(x).mean(0) for x in (figure.positions(), exact()))
    torch.testing.assert_close(made, given, rtol=0.05, atol=0)


def test_alive_and_as_the_package_computes_it(live):
    figure = MoleculeExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls

    def agrees():
        energies, right = figure.energies(), Butane()(exact())
        expected = [
            *(figure.time, figure.molecule, energies[figure.molecule - 1].item()),
            *(energies.median().item(), right.median().item()),
        ]
        assert numbers(readout(page)) == pytest.approx(expected, rel=2e-3, abs=0.06)

    for time in (0.5, 0.0, 0.86, 1.0):
        slide(page, "time t", time)
        figure.time = time
        agrees()
    slide(page, "steps", 3)
    slide(page, "molecule", 17)
    control(page, "pairs").select_option("independent")
    page.get_by_role("button", name="New noise").click()
    figure.steps, figure.molecule, figure.pairs, figure.seed = 3, 17, "independent", 2
    says(page, "molecule 17")
    agrees()
    assert not page.trouble, page.trouble


def test_each_control_changes_the_picture(live):
    page = live(MoleculeExplorer(time=0.8))
    each_changes(
        page,
        [
            lambda: control(page, "ways of the atoms").uncheck(),
            lambda: page.get_by_role("button", name="New noise").click(),
            lambda: slide(page, "time t", 0.3),
            lambda: control(page, "pairs").select_option("independent"),
            lambda: slide(page, "steps", 2),
            lambda: slide(page, "molecule", 9),
            lambda: slide(page, "turn east", -90),
            lambda: slide(page, "turn north", -20),
        ],
    )


def test_it_is_turned_by_dragging_and_a_dot_chooses_its_molecule(live):
    page = live(MoleculeExplorer(longitude=0, latitude=0))
    box = page.locator(".fm-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(40):  # by a pixel: slow hands turn it as far as quick ones
        page.mouse.move(x - k - 1, y + (k + 1) / 2)
    page.mouse.up()
    readout(page)
    east, north = control(page, "turn east"), control(page, "turn north")
    turned = float(east.input_value())
    assert turned > 8
    assert float(north.input_value()) == pytest.approx(turned / 2, abs=1)
    says(page, "molecule 1 ")
    for k in range(1, 9):
        page.mouse.click(box["x"] + box["width"] * (0.55 + 0.05 * k), y)
        if int(numbers(readout(page))[1]) > 1:
            break
    chosen = int(numbers(readout(page))[1])
    assert chosen > 1
    assert float(control(page, "molecule").input_value()) == chosen
    assert float(east.input_value()) == turned, "a click on the graph does not turn"
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [
        poison,
        no_buffers,
        change(time=2),
        change(pairs="none"),
        change(steps=0),
        dict.clear,
    ]
    pictures_stay(live, MoleculeExplorer, damages)
