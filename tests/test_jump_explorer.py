"""The jump explorer: its traits, its map, and the live figure in a browser."""

import re

import pytest
import torch
from browsing import change, control, ink, no_buffers, pictures_stay, poison, readout, slide
from traitlets import TraitError

from fmtutor import CondOT, sample
from fmtutor.flow_maps import jump
from fmtutor.widgets import JumpExplorer
from fmtutor.widgets.jump_explorer import data, network


def found(page):
    """The numbers of the read-out: s, t, the two errors."""
    return [float(v) for v in re.findall(r"\d+\.\d+", readout(page))]


def agrees(page, **state):
    """Whether the read-out is the package's, to the digits that are shown."""
    figure = JumpExplorer(**state)
    wanted = [figure.s, figure.t, *figure.errors()]
    pairs = zip(found(page), wanted, (2, 2, 3, 3), strict=True)
    return all(abs(seen - value) < 0.6 * 10**-d for seen, value, d in pairs)


def test_the_defaults_and_what_can_be_set():
    figure = JumpExplorer()
    assert repr(figure) == "JumpExplorer(jumps=1, s=0, t=1)"
    figure.s, figure.t, figure.jumps = 0.2, 0.4, 8
    assert figure.times.tolist() == pytest.approx([0.2 + 0.025 * k for k in range(9)])
    assert JumpExplorer(s=0.5, t=0.51).s == 0.5


@pytest.mark.parametrize(
    "bad",
    [{"s": -0.1}, {"s": 0.995}, {"t": 1.1}, {"t": 0.0}, {"jumps": 0}, {"jumps": 9},
     {"s": float("nan")}],
)  # fmt: skip
def test_bad_values_are_refused(bad):
    (name,) = bad
    figure = JumpExplorer()
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=name):
        setattr(figure, name, bad[name])
    assert getattr(figure, name) == before
    with pytest.raises(TraitError, match=r"from s to t, but s = 0\.6 and t = 0\.5 came"):
        JumpExplorer(s=0.6, t=0.5)


def test_the_places_are_those_of_the_package():
    figure = JumpExplorer(s=0.2, t=0.9, jumps=3)
    field, x = data().velocity(CondOT()), figure.start()
    exact, jumped, euler = figure.ends()
    noise = JumpExplorer(s=0.0).start()
    assert noise.median() == 0
    torch.testing.assert_close(noise.std(), torch.tensor(1.0).double(), atol=0.02, rtol=0)
    wanted = sample(field, noise, method="rk4", steps=300, t1=0.9)
    torch.testing.assert_close(exact, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(jumped.float(), jump(network(), x.float(), figure.times))
    torch.testing.assert_close(euler, sample(field, x, steps=3, t0=0.2, t1=0.9))
    error = (jumped - exact).square().mean().sqrt().item()
    assert figure.errors() == pytest.approx((error, (euler - exact).square().mean().sqrt().item()))


def test_what_the_figure_says():
    """One jump is near, one step is at the mean; each between two times that lie close."""
    jumps, euler = JumpExplorer().errors()
    assert jumps < 0.2
    assert euler > 0.9
    jumps, euler = JumpExplorer(jumps=8).errors()
    assert max(jumps, euler) < 0.25
    assert max(JumpExplorer(s=0.4, t=0.45).errors()) < 0.05


def test_the_picture_follows_the_state():
    states = {}, {"jumps": 4}, {"s": 0.5}, {"t": 0.5}
    assert len({JumpExplorer(**state).picture() for state in states}) == 4


def test_alive_and_as_the_package_computes_it(live):
    page = live(JumpExplorer())
    assert page.locator(".fm-figure .fm-control").count() == JumpExplorer()._controls
    assert agrees(page)
    seen = [ink(page)]
    slide(page, "jumps", 4)
    assert agrees(page, jumps=4)
    seen.append(ink(page))
    slide(page, "time s", 0.3)
    assert agrees(page, jumps=4, s=0.3)
    seen.append(ink(page))
    slide(page, "time t", 0.8)
    assert agrees(page, jumps=4, s=0.3, t=0.8)
    seen.append(ink(page))
    assert len({tuple(s) for s in seen}) == 4, "each control changes the picture"
    assert "4 jumps" in page.locator("canvas").get_attribute("aria-label")
    assert not page.trouble, page.trouble


def test_the_two_times_keep_their_order(live):
    page = live(JumpExplorer(s=0.4, t=0.5))
    control(page, "time s").focus()
    page.keyboard.press("End")
    assert agrees(page, s=0.49, t=0.5)
    control(page, "time t").focus()
    page.keyboard.press("Home")
    assert agrees(page, s=0.49, t=0.5)
    page.keyboard.press("ArrowRight")
    assert agrees(page, s=0.49, t=0.51)
    assert not page.trouble, page.trouble


def test_a_damaged_figure_leaves_its_picture(live):
    damages = [poison, no_buffers, change(jumps=0), change(s=1.0), change(_network={})]
    pictures_stay(live, JumpExplorer, damages)
