"""The solver lab: its traits, its picture, and the live figure in a browser."""

import re

import pytest
import torch
from browsing import (
    change,
    control,
    drag,
    each_changes,
    ink,
    no_buffers,
    pictures_stay,
    poison,
    readout,
    rests,
    says,
    settled,
    slide,
)
from traitlets import TraitError

from fmtutor import CondOT, GaussianMixture, sample
from fmtutor.solvers import TABLEAUX
from fmtutor.widgets import SolverLab
from fmtutor.widgets.solver_lab import INKS, MIXTURES, NAMES, STEPS

DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−", "0123456789--")


def values(text):
    """Number of steps, evaluations, and the two errors, of the line of text."""
    pattern = r"N = (\d+): NFE = (\d+), error of a typical point (\S+), from x₀ (\S+)"
    n, nfe, *errors = re.search(pattern, text).groups()
    plain = (error.translate(DIGITS).replace("·10", "e") for error in errors)
    return [int(n), int(nfe), *map(float, plain)]


def expected(figure):
    numbers = [figure.steps, figure.evaluations, figure.error(), figure.point()[2]]
    # The page shows three decimals of an error of at least 0.01, else two digits.
    return [pytest.approx(x, abs=5.1e-4 if x >= 0.01 else 0.051 * x) for x in numbers]


# All points of the curves are then measured before the first frame, and the picture stands still.
CALM = {"reduced_motion": "reduce"}


def test_the_defaults_and_what_can_be_set():
    figure = SolverLab()
    assert (figure.method, figure.steps, figure.dataset) == ("euler", 4, "three clusters")
    figure.method, figure.steps, figure.x0 = "rk4", 7, [1, -1.5]
    assert figure.evaluations == 28
    start = "SolverLab(dataset='three clusters', method='rk4', steps=7, x0="
    assert repr(figure).startswith(start)
    assert figure.x0 == (1.0, -1.5)
    assert figure.positions().shape == (8, 101, 2)
    assert figure.picture().startswith(b"\x89PNG")
    assert INKS.keys() == NAMES.keys() == TABLEAUX.keys()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"method": "dopri5"}, "method must be one of euler, .* but 'dopri5' came"),
        ({"dataset": "moons"}, "dataset must be one of three clusters.* but 'moons' came"),
        ({"steps": 0}, "steps"),
        ({"steps": 65}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"x0": (0.0, 3.4)}, r"x0 must lie within 3.3 of zero, but \(0.0, 3.4\) came"),
        ({"x0": (float("nan"), 0.0)}, "must be finite"),
        ({"x0": (1.0,)}, "x0"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        SolverLab(**bad)
    figure = SolverLab()
    before = repr(figure)
    for name, value in bad.items():
        with pytest.raises(TraitError):
            setattr(figure, name, value)
    assert repr(figure) == before


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match=r"SolverLab takes dataset, .* but speed came"):
        SolverLab(speed=2)


def test_one_euler_step_collapses_to_the_mean():
    end = SolverLab(steps=1).positions()[-1]
    means, _, weights = (torch.tensor(part) for part in MIXTURES["three clusters"])
    assert (end - weights @ means).abs().max() < 1e-6


def test_each_method_shows_its_order_and_one_gaussian_is_a_trap():
    def order(dataset, method):
        figure = SolverLab(dataset=dataset, method=method)
        return torch.log2(torch.tensor(figure.error(steps=32) / figure.error(steps=64))).item()

    for method, tableau in TABLEAUX.items():
        assert order("three clusters", method) == pytest.approx(tableau.order, abs=0.25)
    assert order("one Gaussian", "midpoint") == pytest.approx(3, abs=0.1)


def test_the_errors_are_distances_to_the_exact_flow():
    """For one Gaussian the exact end is known: m + s x0."""
    figure = SolverLab("heun", steps=6, dataset="one Gaussian", x0=(-1.0, 0.5))
    (mean,), (std,), _ = (torch.tensor(part).double() for part in MIXTURES["one Gaussian"])
    end = figure.positions()
    distances = (end[-1] - mean - std * end[0]).norm(dim=1)
    assert figure.error() == pytest.approx(distances.median().item(), rel=1e-6)
    x0 = torch.tensor([[-1.0, 0.5]], dtype=torch.float64)
    u = GaussianMixture(mean[None], std.item()).velocity(CondOT())
    error = (sample(u, x0, method="heun", steps=6) - mean - std * x0).norm().item()
    assert figure.point()[2] == pytest.approx(error, rel=1e-5)


def test_alive_and_as_the_package_computes_it(live):
    figure = SolverLab()
    page = live(figure, **CALM)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    assert values(readout(page)) == expected(figure)
    seen = [ink(page)]
    for method, steps, dataset in (
        ("euler", 1, "three clusters"),
        ("heun", 16, "one Gaussian"),
        ("rk4", 40, "three clusters"),
    ):
        control(page, "solver").select_option(method)
        control(page, "data").select_option(dataset)
        slide(page, "steps N", STEPS.index(steps))
        figure.method, figure.steps, figure.dataset = method, steps, dataset
        assert values(readout(page)) == expected(figure), method
        assert NAMES[method] in readout(page)
        assert NAMES[method] in page.locator("canvas").get_attribute("aria-label")
        seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 4
    assert not page.trouble, page.trouble


def test_each_control_changes_the_picture(live):
    page = live(SolverLab(), **CALM)
    each_changes(
        page,
        [
            lambda: slide(page, "steps N", 6),
            lambda: control(page, "solver").select_option("midpoint"),
            lambda: control(page, "data").select_option("one Gaussian"),
        ],
    )


def test_keyboard_and_dragging(live):
    figure = SolverLab("midpoint", x0=(-1.0, 2.0))
    page = live(figure, **CALM)
    steps = control(page, "steps N")
    steps.focus()
    page.keyboard.press("ArrowRight")
    says(page, r"N = 5: NFE = 10")
    assert steps.get_attribute("aria-valuetext") == "5"
    page.keyboard.press("Home")
    says(page, r"N = 1: NFE = 2")
    page.keyboard.press("End")
    says(page, r"N = 64: NFE = 128")
    slide(page, "steps N", STEPS.index(4))
    before = ink(page)
    point = page.get_by_role("slider", name="x₀")
    point.focus()
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowRight")
    assert ink(page) != before
    assert point.get_attribute("aria-valuetext") == "−0.90, 1.50"
    figure.x0 = (-0.9, 1.5)
    assert values(readout(page)) == expected(figure)
    drag(point, 60, 40)
    text = readout(page)
    assert values(text)[3] != pytest.approx(figure.point()[2], abs=1e-3)
    figure.x0 = [
        float(part) for part in point.get_attribute("aria-valuetext").translate(DIGITS).split(", ")
    ]
    assert values(text)[3] == pytest.approx(figure.point()[2], abs=0.02)
    assert not page.trouble, page.trouble


def test_the_curves_grow_and_then_nothing_moves_by_itself(live):
    calm, page = live(SolverLab(), **CALM), live(SolverLab())
    assert ink(page) == ink(calm)
    figure = page.locator(".fm-figure")
    assert rests(figure) == settled(figure)
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(steps=0), change(method="leap"), dict.clear]
    pictures_stay(live, SolverLab, damages)
