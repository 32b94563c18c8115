"""The globe: its traits, its picture, and the live figure in a browser."""

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

from fmtutor.manifold_oracles import SphereField
from fmtutor.manifolds import Sphere
from fmtutor.widgets import GlobeExplorer
from fmtutor.widgets.globe_explorer import RADIUS, airports

EYE = torch.eye(3, dtype=torch.float64)


def test_the_defaults_and_what_can_be_set():
    figure = GlobeExplorer()
    figure.time, figure.longitude = 0.25, -60
    assert repr(figure) == (
        "GlobeExplorer(field=False, latitude=35, longitude=-60, seed=1, time=0.25, ways=True)"
    )
    for ways, field in ((True, False), (False, True)):
        figure.ways, figure.field = ways, field
        assert figure.picture().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"seed": -1}, "seed"),
        ({"time": 1.2}, "time"),
        ({"time": float("nan")}, "time must be finite"),
        ({"longitude": 181.0}, "longitude"),
        ({"latitude": -91.0}, "latitude"),
    ],
)
def test_bad_values_are_refused(bad, says):
    with pytest.raises(TraitError, match=says):
        GlobeExplorer(**bad)


def test_the_airports_are_on_the_globe():
    x = airports()
    assert x.shape == (200, 3)
    Sphere(2).check(x.float(), "airports")
    assert (x[:, 2] > 0).double().mean() > 0.6, "most of them are in the north"


def test_the_particles_stay_on_the_sphere_and_end_at_airports():
    figure = GlobeExplorer()
    away = []
    for time in (0.0, 0.33, 0.5, 0.97, 1.0):
        figure.time = time
        x = figure.positions()
        torch.testing.assert_close(x.norm(dim=1), torch.ones(300, dtype=torch.float64))
        away.append(figure.distance())
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-3 * RADIUS < away[0]
    figure.time = 0.0
    start = figure.positions()
    figure.time = 0.02  # one step of the midpoint method
    field, h = SphereField(airports()), 0.02
    half = Sphere(2).project(start + h / 2 * field(start, 0.0))
    expected = Sphere(2).project(start + h * field(half, h / 2))
    torch.testing.assert_close(figure.positions(), expected)


def test_the_view_is_a_frame():
    for longitude, latitude in ((0, 0), (120, 40), (-75, -90)):
        view = GlobeExplorer(longitude=longitude, latitude=latitude).view()
        torch.testing.assert_close(view @ view.T, EYE)
        assert torch.det(view) == pytest.approx(1)
    torch.testing.assert_close(GlobeExplorer(longitude=0, latitude=0).view()[2], EYE[0])
    assert GlobeExplorer(latitude=10).view()[1, 2] > 0, "north is up"


def test_alive_and_as_the_package_computes_it(live):
    figure = GlobeExplorer()
    page = live(figure)
    assert page.locator(".fm-figure .fm-control").count() == figure._controls
    for time in (0.5, 0.0, 0.86, 1.0):
        slide(page, "time t", time)
        figure.time = time
        assert numbers(readout(page)) == pytest.approx([time, figure.distance()], abs=0.51)
    page.get_by_role("button", name="New noise").click()
    slide(page, "time t", 0.4)
    figure.seed, figure.time = 2, 0.4
    assert numbers(readout(page)) == pytest.approx([0.4, figure.distance()], abs=0.51)
    assert not page.trouble, page.trouble


def test_each_control_changes_the_picture(live):
    page = live(GlobeExplorer())
    each_changes(
        page,
        [
            lambda: page.get_by_role("button", name="New noise").click(),
            lambda: slide(page, "time t", 0.3),
            lambda: slide(page, "turn east", -90),
            lambda: slide(page, "turn north", -20),
            lambda: control(page, "ways of the particles").uncheck(),
            lambda: control(page, "field").check(),
        ],
    )


def test_it_is_turned_by_dragging_and_by_keyboard(live):
    page = live(GlobeExplorer(longitude=0, latitude=0))
    box = page.locator(".fm-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y + 20)
    page.mouse.up()
    readout(page)
    east = control(page, "turn east")
    north = control(page, "turn north")
    assert float(east.input_value()) > 5
    assert float(north.input_value()) > 2
    before = float(east.input_value())
    east.focus()
    page.keyboard.press("ArrowRight")
    assert float(east.input_value()) == before + 1
    says(page, r"t = 0\.80")
    page.locator(f"canvas[aria-label*=' {before + 1:.0f} degrees east']").wait_for()
    page.mouse.move(x + 60, y)  # without a button nothing turns
    assert float(east.input_value()) == before + 1
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(time=2), change(longitude=None), dict.clear]
    pictures_stay(live, GlobeExplorer, damages)
