"""Plans, the loop that follows them, and the room that they are followed in."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fmtutor.policies import (
    Room,
    Scale,
    chunks_of,
    follow_plans,
    load_demonstrations,
    push,
    save_demonstrations,
    shifted,
)

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
ROOM = Room()


def never(states):
    return torch.zeros(len(states), dtype=torch.bool)


def at(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(scope="module")
def simulated():
    return load_file(RESULTS / "policies_simulated.safetensors")


class TestRoom:
    def test_without_contact_it_is_the_simulator(self, simulated):
        states = simulated["flight"]
        moved = torch.stack([
            ROOM.step(state, force)[0]
            for state, force in zip(states[:-1], simulated["forces"], strict=True)
        ])  # fmt: skip
        torch.testing.assert_close(moved, states[1:], rtol=0, atol=1e-13)
        assert states[:, :, :2].abs().amax() > 1.5, "it flew far"

    @pytest.mark.parametrize(("name", "least", "most"), [("plans", 0, 1e-12), ("lines", 2e-3, 0.3)])
    def test_plans_end_where_they_do_in_the_simulator(self, simulated, name, least, most):
        run = follow_plans(
            lambda o: simulated[name], ROOM.step, never, simulated["first"], commitment=65, limit=65
        )
        off = (run.states - simulated[f"{name} states"])[..., :2].abs().max()
        assert least <= off < most
        assert torch.equal(run.touched, simulated[f"{name} touched"])

    def test_a_steady_force_tends_to_the_speed_at_which_friction_balances_it(self):
        free = Room(half=1e9, block=(1e-9, 1e-9))
        state = at([5.0, 5.0, 0.0, 0.0])
        for _ in range(200):
            state, _ = free.step(state, at([0.04, 0.0]))
        left = (1 + Room.tick * Room.damping / Room.mass) ** -200
        limit = 0.04 * Room.strength / Room.damping
        assert state[0, 2] == pytest.approx(limit * (1 - left), rel=1e-12)

    @pytest.mark.parametrize(
        ("state", "place", "velocity"),
        [
            ([2.39, 1.5, 4.0, 1.0], 2.4, [0.0, 1.0]),  # the right wall
            ([0.0, -0.61, 1.0, 3.0], -0.6, [1.0, 0.0]),  # the near face of the block
            ([1.61, 0.1, -3.0, 1.0], 1.6, [0.0, 1.0]),  # its right face
        ],
    )
    def test_a_wall_stops_what_runs_into_it_and_nothing_else(self, state, place, velocity):
        moved, touched = ROOM.step(at(state), at([0.0, 0.0]))
        assert touched.item()
        across = 0 if velocity[0] == 0 else 1
        assert moved[0, across] == pytest.approx(place)
        keep = 1 / (1 + ROOM.tick * ROOM.damping / ROOM.mass)
        torch.testing.assert_close(moved[0, 2:], keep * torch.tensor(velocity).double())

    def test_forces_and_speeds_are_limited(self):
        one, _ = ROOM.step(at([2.0, 1.0, 0.0, 0.0]), at([1.0, 0.0]))
        many, _ = ROOM.step(at([2.0, 1.0, 0.0, 0.0]), at([50.0, 0.0]))
        assert torch.equal(one, many)
        fast, _ = ROOM.step(at([-2.0, 1.0, 80.0, 0.0]), at([0.0, 0.0]))
        assert fast[0, 2] < 5

    def test_the_goal_is_a_disc(self):
        near = ROOM.reached(at([0.0, 1.44, 0, 0], [0.0, 1.46, 0, 0], [0.31, 1.31, 0, 0]))
        assert near.tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("state", "action"),
        [(torch.zeros(3, 2), torch.zeros(3, 2)), (torch.zeros(3, 4), torch.zeros(2, 2))],
    )
    def test_other_shapes_are_refused(self, state, action):
        with pytest.raises(ValueError, match=r"shapes \[b 4\] and \[b 2\]"):
            ROOM.step(state, action)

    @pytest.mark.parametrize(
        "wrong", [{"half": -1.0}, {"block": (3.0, 0.5)}, {"near": torch.nan}, {"block": (0.0, 1.0)}]
    )
    def test_rooms_that_cannot_be_are_refused(self, wrong):
        with pytest.raises(ValueError, match="the block smaller than the room, but"):
            Room(**wrong)


class TestPush:
    def test_a_ball_that_is_where_it_should_be_is_left_alone(self):
        state = at([0.3, -1.0, 2.0, 1.0])
        assert push(state, state[:, :2], state[:, 2:]).abs().max() == 0

    def test_it_settles_without_swinging(self):
        free = Room(half=1e9, block=(1e-9, 1e-9))
        state, far = at([5.0, 5.0, 0.0, 0.0]), []
        for _ in range(300):
            state, _ = free.step(state, push(state, at([5.03, 5.0]), at([0.0, 0.0])))
            far.append(state[0, 0].item() - 5.03)
        assert max(far) < 0.03 * 0.05, "it hardly swings over"
        assert abs(far[-1]) < 1e-6


class TestChunks:
    def test_a_chunk_is_what_comes_next_seen_from_now(self):
        g = torch.Generator().manual_seed(0)
        episodes = [torch.randn(n, 4, generator=g) for n in (9, 14)]
        seen, plans = chunks_of(episodes, 5)
        assert seen.shape == (4 + 9, 4)
        assert torch.equal(seen[4 + 3], episodes[1][3])
        wanted = episodes[1][4:9, :2] - episodes[1][3, :2]
        assert torch.equal(plans[4 + 3].reshape(5, 2), wanted)

    @pytest.mark.parametrize(
        ("episode", "said"),
        [
            (torch.zeros(5, 4), r"T above the length of a chunk, 5, but its shape is \[5, 4\]"),
            (torch.zeros(9, 3), r"but its shape is \[9, 3\]"),
            (torch.full((9, 4), torch.nan), "episode 1"),
        ],
    )
    def test_episodes_that_do_not_do_are_named(self, episode, said):
        with pytest.raises(ValueError, match=said):
            chunks_of([torch.zeros(9, 4), episode], 5)

    def test_what_is_left_of_a_plan_begins_where_it_was_left(self):
        g = torch.Generator().manual_seed(0)
        plan = torch.randn(3, 8, 2, generator=g)
        left = shifted(plan, 3)
        torch.testing.assert_close(left[:, :5] + plan[:, 2:3], plan[:, 3:])
        steps = left.diff(dim=1)
        torch.testing.assert_close(steps[:, 4:], steps[:, 3:4].expand(-1, 3, -1))

    @pytest.mark.parametrize("count", [0, 8, -1])
    def test_a_plan_cannot_be_left_before_or_after_it_is(self, count):
        with pytest.raises(ValueError, match="count"):
            shifted(torch.zeros(1, 8, 2), count)

    def test_a_scale_makes_white_and_back(self):
        g = torch.Generator().manual_seed(0)
        x = 5 + 3 * torch.randn(500, 4, generator=g, dtype=torch.float64)
        x[:, 2] = 7.0
        scale = Scale.of(x)
        z = scale.to_unit(x)
        torch.testing.assert_close(z.mean(0), torch.zeros(4).double())
        torch.testing.assert_close(z.std(0), at(1, 1, 0, 1))
        torch.testing.assert_close(scale.from_unit(z), x)

    def test_of_one_point_there_is_no_scale(self):
        with pytest.raises(ValueError, match="at least two"):
            Scale.of(torch.zeros(1, 4))


class TestFollowing:
    def straight(self, speed=1.0, length=20):
        ahead = 0.04 * speed * torch.arange(1, length + 1, dtype=torch.float64)
        plan = torch.stack([torch.zeros_like(ahead), ahead], dim=1)
        return lambda o: plan.expand(len(o), -1, -1)

    def test_a_plan_is_followed(self):
        start = at([2.0, -2.0, 0.0, 1.0], [-2.0, -1.0, 0.0, 1.0])
        run = follow_plans(self.straight(), ROOM.step, never, start, commitment=20, limit=20)
        assert run.states.shape == (21, 2, 4)
        ahead = run.states[-1, :, :2] - start[:, :2] - at([0.0, 0.8])
        assert (ahead[:, 0].abs() < 1e-12).all()
        assert ((ahead[:, 1] > 0) & (ahead[:, 1] < 0.01)).all(), "at most a tick"
        assert not run.touched.any()
        assert run.steps.tolist() == [20, 20]

    @pytest.mark.parametrize(("commitment", "asked"), [(1, 20), (8, 3), (20, 1)])
    def test_it_looks_again_after_so_many_positions(self, commitment, asked):
        seen, policy = [], self.straight()

        def watched(o):
            seen.append(o)
            return policy(o)

        start = at([2.0, -2.0, 0.0, 1.0])
        run = follow_plans(watched, ROOM.step, never, start, commitment=commitment, limit=20)
        assert len(seen) == asked
        for k, o in enumerate(seen):
            assert torch.equal(o, run.states[k * commitment])

    def test_who_has_arrived_stays_and_is_counted_once(self):
        start = at([0.0, 0.7, 0.0, 0.0], [2.2, -2.2, 0.0, 1.0], [2.2, 0.0, 0.0, 1.0])

        def reached(states):
            return states[:, 1] > 0.5

        run = follow_plans(self.straight(), ROOM.step, reached, start, commitment=20, limit=20)
        assert run.reached.tolist() == [True, False, True]
        assert run.steps.tolist() == [0, 20, 13]
        assert torch.equal(run.states[13:, 2], run.states[13, 2].expand(8, 4))

    def test_touching_after_the_arrival_does_not_count(self):
        start = at([2.0, 1.9, 0.0, 2.0], [-2.0, 1.9, 0.0, 2.0])

        def reached(states):
            return (states[:, 0] > 0) & (states[:, 1] > 2.0)

        policy = self.straight(speed=2.0)
        run = follow_plans(policy, ROOM.step, reached, start, commitment=20, limit=20)
        assert run.touched.tolist() == [False, True]

    def test_another_drive_gets_the_velocity_that_is_wanted(self):
        speeds = []

        def drive(state, target, speed):
            speeds.append(speed)
            return torch.zeros_like(target)

        start = at([2.0, -2.0, 0.0, 0.0])
        follow_plans(
            self.straight(1.5), ROOM.step, never, start, commitment=2, limit=2, drive=drive,
            ticks=3, tick=0.02,
        )  # fmt: skip
        assert len(speeds) == 6
        torch.testing.assert_close(torch.cat(speeds), at([0.0, 1.0]).expand(6, 2))

    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            (torch.zeros(1, 4, 2), "at most the length of a plan, 4, but 5 came"),
            (torch.zeros(2, 8, 2), r"shape \[1 h 2\], but \[2, 8, 2\] came"),
            (torch.full((1, 8, 2), torch.inf), "finite"),
        ],
    )
    def test_plans_that_do_not_do_are_refused(self, plan, said):
        with pytest.raises(ValueError, match=said):
            follow_plans(
                lambda o: plan, ROOM.step, never, at([2.0, 0, 0, 0]), commitment=5, limit=9
            )


class TestDemonstrations:
    def test_what_is_stored_comes_back_to_half_a_millimetre(self, tmp_path):
        g = torch.Generator().manual_seed(0)
        sets = {"a": [3 * torch.randn(n, 4, generator=g).double() for n in (5, 9)], "b": []}
        sets["b"] = sets["a"][::-1]
        save_demonstrations(sets, tmp_path / "d.safetensors", command="here")
        back = load_demonstrations(tmp_path / "d.safetensors")
        assert back.keys() == sets.keys()
        for name, episodes in sets.items():
            for was, now in zip(episodes, back[name], strict=True):
                torch.testing.assert_close(now, was, rtol=0, atol=0.501e-3)

    @pytest.mark.parametrize("value", [33.0, -40.0, torch.nan, torch.inf])
    def test_what_does_not_fit_is_refused(self, tmp_path, value):
        with pytest.raises(ValueError, match="those of far do not"):
            save_demonstrations({"far": [torch.full((3, 4), value)]}, tmp_path / "d.safetensors")

    def test_other_files_are_refused(self, tmp_path):
        save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors")
        (tmp_path / "text").write_text("no")
        for name in ("other.safetensors", "text"):
            with pytest.raises(ValueError, match="does not hold demonstrations"):
                load_demonstrations(tmp_path / name)

    def test_those_of_the_book_go_round_the_block_on_both_sides(self):
        sets = load_demonstrations(RESULTS / "policies_demonstrations.safetensors")
        assert [len(episodes) for episodes in sets.values()] == [200, 200, 200]
        for episodes in sets.values():
            ends = torch.stack([e[-1] for e in episodes])
            assert ROOM.reached(ends).double().mean() > 0.98
            beside = torch.stack([e[e[:, 1].abs().argmin(), 0] for e in episodes])
            assert (beside.abs() > 1.59).all()
            assert 0.35 < (beside > 0).double().mean() < 0.65
