"""The population that is simulated: its motion, its branches, who descends from whom."""

import pytest
import torch

from fmtutor.branching import grow

TIMES = [0.0, 0.25, 0.5, 0.75, 1.0]


def test_it_is_seeded_and_of_the_size_asked_for(global_rng_untouched):
    first, again, other = (grow(50, TIMES, seed=k, division=1.0) for k in (0, 0, 1))
    assert first.points.shape == (5, 50, 2)
    assert first.parents.shape == (5, 50)
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, other.points)


def test_cells_move_and_decide():
    points = grow(4000, TIMES, seed=0).points
    expected = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(points[..., 0].mean(1), expected, rtol=0, atol=0.05)
    # Along x it is Brownian motion with a drift: the variance grows by NOISE² a unit of time.
    variance = 0.09 + 0.25 * torch.tensor(TIMES)
    torch.testing.assert_close(points[..., 0].var(1), variance, rtol=0.1, atol=0)
    between = (points[..., 1].abs() < 0.5).float().mean(1)
    assert between[0] > 0.85
    assert between[-1] < 0.1
    upper = (points[-1, :, 1] > 0).float().mean()
    assert abs(upper - 0.5) < 0.04


def test_without_division_each_cell_is_its_own_parent():
    population = grow(100, TIMES, seed=0)
    assert torch.equal(population.parents, torch.arange(100).expand(5, 100))
    # A decision that was taken late is kept by its descendant.
    late = population.points[3:, :, 1]
    kept = (late[0] * late[1] > 0)[late[0].abs() > 1].float().mean()
    assert kept > 0.98


def test_the_branch_that_divides_takes_over_and_has_several_descendants():
    population = grow(4000, TIMES, division=3.0, seed=0)
    assert (population.points[-1, :, 1] > 0).float().mean() > 0.75
    children = torch.bincount(population.parents[-1], minlength=4000).double()
    upper = population.points[3, :, 1] > 1
    lower = population.points[3, :, 1] < -1
    assert 1.5 < children[upper].mean() / children[lower].mean() < 3.0  # e^(3/4) = 2.1
    torch.testing.assert_close(children.sum(), torch.tensor(4000.0, dtype=torch.float64))


def test_daughters_are_born_where_their_mother_is():
    population = grow(500, [0.0, 0.5, 0.505], division=20.0, seed=0)
    before, after = population.points[1:]
    parent = population.parents[2]
    assert (parent != torch.arange(500)).any()
    assert (after - before[parent]).norm(dim=1).max() < 0.4


@pytest.mark.parametrize("times", [[], [0.5, 0.5], [0.2, 0.1], [-0.1], [0.0, 1.1]])
def test_bad_times_are_refused(times):
    with pytest.raises(ValueError, match="times must increase in"):
        grow(5, times)


@pytest.mark.parametrize("division", [-1.0, float("nan"), 1e6])
def test_a_rate_of_division_that_no_step_can_hold_is_refused(division):
    with pytest.raises(ValueError, match="division must be in"):
        grow(3, [0.0], division=division)


def test_times_between_the_steps_are_refused():
    with pytest.raises(ValueError, match="in steps of 1/200"):
        grow(3, [0.0, 0.3333])
