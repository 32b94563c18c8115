"""Positions, energies, reference samples and weights, against closed forms and other ways."""

import math

import pytest
import torch

from fmtutor import log_prob, sample
from fmtutor.likelihood import standard_normal_log_prob
from fmtutor.molecules import (
    Butane,
    DoubleWell,
    InHelmert,
    InternalCoordinates,
    LennardJones,
    centred,
    centred_log_prob,
    centred_noise,
    effective_sample_size,
    force,
    forward_effective_sample_size,
    helmert,
    hmc,
    log_z,
    log_z_from_data,
    pair_distances,
    r_hat,
    relaxed,
    reweighted,
    shipped,
    torsion,
)
from fmtutor.molecules.shipped_flows import save_shipped
from fmtutor.networks import EGNN

F64 = torch.float64
CHAIN = InternalCoordinates([(0,), (1, 0), (2, 1, 0), (3, 2, 1, 0)])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class TestPositions:
    @pytest.mark.parametrize("n", [2, 3, 13])
    def test_helmert_is_an_isometry_of_centred_positions(self, n):
        h = helmert(n)
        assert h.shape == (n - 1, n)
        torch.testing.assert_close(h @ h.T, torch.eye(n - 1, dtype=F64))
        torch.testing.assert_close(h.T @ h, torch.eye(n, dtype=F64) - 1 / n)

    def test_noise_is_the_standard_normal_law_of_its_dimension(self):
        x = centred_noise(torch.zeros(20_000, 4, 2), torch.Generator().manual_seed(0))
        assert x.mean(1).abs().max() < 1e-6
        y = helmert(4).float() @ x
        covariance = y.flatten(1).T @ y.flatten(1) / len(y)
        torch.testing.assert_close(covariance, torch.eye(6), rtol=0, atol=0.04)

    def test_its_density_is_that_of_the_coordinates_and_not_that_of_all_numbers(self):
        x = centred(draw(5, 4, 2))
        torch.testing.assert_close(centred_log_prob(x), standard_normal_log_prob(helmert(4) @ x))
        missing = centred_log_prob(x) - standard_normal_log_prob(x)
        torch.testing.assert_close(missing, torch.full_like(missing, math.log(2 * math.pi)))

    def test_a_flow_is_the_same_in_positions_and_in_coordinates(self):
        def v(x, t):
            x = centred(x)
            return torch.sin(x) - torch.sin(x).mean(1, keepdim=True) + t.mean() * x

        x = centred(draw(4, 3, 2))
        field = InHelmert(v, 3)
        y = field.coordinates(x)
        torch.testing.assert_close(field.positions(y), x)
        torch.testing.assert_close(
            field.positions(sample(field, y, steps=5)), sample(v, x, steps=5)
        )
        there = log_prob(v, x, base=centred_log_prob, steps=5)
        torch.testing.assert_close(log_prob(field, y, steps=5), there)

    def test_the_density_of_positions_that_are_not_centred_is_not_asked(self):
        with pytest.raises(ValueError, match=r"x must be centred .* its means are up to 2"):
            centred_log_prob(centred(draw(3, 4, 2)) + 2)

    @pytest.mark.parametrize("f", [centred, centred_log_prob, torsion])
    def test_what_are_no_positions_is_refused(self, f):
        with pytest.raises(ValueError, match=r"x must be positions .* but its shape is \[2, 3\]"):
            f(torch.zeros(2, 3))
        with pytest.raises(TypeError, match="floating point"):
            f(torch.zeros(2, 4, 3, dtype=torch.int64))


class TestEnergies:
    ENERGIES = (DoubleWell(), LennardJones(5), LennardJones(4, dim=2, epsilon=2.0), Butane())
    each = pytest.mark.parametrize("energy", ENERGIES, ids=lambda e: type(e).__name__)

    def place(self, energy, seed=0):
        if isinstance(energy, Butane):
            return energy.sample(6, seed=seed).double()
        return draw(6, energy.particles, energy.dim, seed=seed)

    @each
    def test_turning_and_moving_change_nothing(self, energy):
        x = self.place(energy)
        turn, _ = torch.linalg.qr(draw(x.shape[2], x.shape[2]))
        moved = x @ turn + draw(1, 1, x.shape[2], seed=3)
        torch.testing.assert_close(energy(moved), energy(x), rtol=1e-9, atol=1e-9)

    @each
    def test_the_force_is_minus_the_slope(self, energy):
        x, h = self.place(energy), 1e-6
        way = draw(*x.shape, seed=5)
        slope = (energy(x + h * way) - energy(x - h * way)) / (2 * h)
        torch.testing.assert_close(
            -(force(energy, x) * way).sum((1, 2)), slope, rtol=1e-5, atol=1e-4
        )

    def test_values_by_hand(self):
        square = torch.tensor([[[0.0, 0], [5, 0], [0, 3], [5, 3]]], dtype=F64)
        r = torch.tensor([5, 3, 34**0.5, 34**0.5, 3, 5], dtype=F64) - 4
        by_hand = (0.9 * r**4 - 4 * r**2).sum()
        torch.testing.assert_close(DoubleWell()(square)[0], by_hand)
        r, x = pair_distances(square), centred(square)
        by_hand = (3 * (r**-12 - 2 * r**-6)).sum() + x.square().sum() / 2
        torch.testing.assert_close(LennardJones(4, 2, epsilon=3.0)(square)[0], by_hand)
        assert pair_distances(square).tolist()[0] == [5, 3, 34**0.5, 34**0.5, 3, 5]

    def test_where_atoms_overlap_the_energy_is_infinite(self):
        x = torch.zeros(1, 3, 3)
        assert LennardJones(3)(x).item() == math.inf
        assert DoubleWell(3, 3)(x).isfinite()
        chain = Butane().sample(2, seed=0)
        chain[0, 2] = chain[0, 1]
        assert Butane()(chain).isinf().tolist() == [True, False]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: DoubleWell(particles=1), "particles must be at least 2"),
            (lambda: DoubleWell(a=0), "a must be positive"),
            (lambda: DoubleWell(b=math.nan), "a, b and r0 must be finite, but 0.9, nan, 4.0 came"),
            (lambda: pair_distances(torch.zeros(4, 3)), "x must be positions"),
            (lambda: LennardJones(dim=0), "dim must be at least 1"),
            (lambda: LennardJones(epsilon=-1), "epsilon must be positive and finite, but -1 came"),
            (lambda: Butane(0), "temperature must be positive"),
            (lambda: Butane(math.inf), "temperature"),
            (lambda: LennardJones()(torch.zeros(2, 12, 3)), r"\[b 13 3\], but .* \[2, 12, 3\]"),
            (lambda: Butane()(torch.zeros(2, 4, 2)), r"\[b 4 3\]"),
        ],
        ids=range(10),
    )
    def test_what_makes_no_sense_is_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class TestButane:
    def test_torsion_is_what_the_chain_was_made_with_and_a_mirror_changes_its_sign(self):
        phi = torch.linspace(-3.1, 3.1, 9, dtype=F64)
        r = 1 + 0.1 * draw(9, 3).abs()
        theta = 1.5 + 0.2 * draw(9, 2).abs()
        x = CHAIN.positions(torch.cat([r, theta, phi[:, None]], dim=1))
        torch.testing.assert_close(torsion(x), phi)
        torch.testing.assert_close(torsion(-x), -phi)
        b = x[:, 1:] - x[:, :-1]
        torch.testing.assert_close(b.norm(dim=2), r)
        cosine = -(b[:, 1:] * b[:, :-1]).sum(2) / (r[:, 1:] * r[:, :-1])
        torch.testing.assert_close(cosine.acos(), theta)

    def test_samples_have_the_law_of_the_energy(self):
        butane = Butane()
        x = butane.sample(40_000, seed=0).double()
        assert x.mean(1).abs().max() < 1e-6
        trans = (torsion(x).abs() > 2 * math.pi / 3).double().mean().item()
        assert trans == pytest.approx(butane.trans_share(), abs=0.01)
        # The mean energy by quadrature, in internal numbers.
        r = torch.linspace(1.2, 1.9, 4001, dtype=F64)
        theta = torch.linspace(1.2, 2.8, 4001, dtype=F64)
        phi = torch.linspace(-math.pi, math.pi, 4001, dtype=F64)
        c1, c2, c3 = 355.03 / 300, -68.19 / 300, 791.32 / 300
        terms = (
            (3, r.square(), 452_900 / 600 * (r - 1.54).square()),
            (2, theta.sin(), 62_500 / 600 * (theta - math.radians(114)).square()),
            (1, 1, c1 * (1 + phi.cos()) + c2 * (1 - (2 * phi).cos()) + c3 * (1 + (3 * phi).cos())),
        )
        mean = 0.0
        for count, volume, u in terms:
            density = volume * (-u).exp()
            mean += count * ((density * u).sum() / density.sum()).item()
        assert butane(x).mean().item() == pytest.approx(mean, abs=0.04)
        assert (x[:, 0] - x[:, 3]).mean(0).abs().max() < 0.05  # turned at random

    def test_log_z_against_a_normal_law_around_its_samples(self):
        """Z by weights of another law: bonds and angles normal, the torsion uniform."""
        butane = Butane(temperature=200.0)
        g = torch.Generator().manual_seed(0)
        n = 20_000
        widths = (200 / butane.bond_constant) ** 0.5, (200 / butane.angle_constant) ** 0.5
        z = torch.randn(n, 5, generator=g, dtype=F64)
        r = butane.bond + 1.2 * widths[0] * z[:, :3]
        theta = butane.angle + 1.2 * widths[1] * z[:, 3:]
        phi = 2 * math.pi * torch.rand(n, generator=g, dtype=F64) - math.pi
        normal = -0.5 * z.square().sum(1) - 2.5 * math.log(2 * math.pi)
        log_q = normal - 3 * math.log(1.2 * widths[0]) - 2 * math.log(1.2 * widths[1])
        log_q = log_q - math.log(2 * math.pi)  # of the six internal numbers
        volume = 2 * r.log().sum(1) + theta.sin().log().sum(1)
        x = CHAIN.positions(torch.cat([r, theta, phi[:, None]], dim=1))
        log_w = -butane(x) + volume - log_q
        value, error = log_z(log_w)
        turns = math.log(8 * math.pi**2) - 1.5 * math.log(4)
        assert error < 0.02
        assert value + turns == pytest.approx(butane.log_z(), abs=4 * error)

    def test_of_hot_butane_a_third_is_trans(self):
        assert Butane(1e6).trans_share() == pytest.approx(1 / 3, abs=0.002)
        assert Butane(50.0).trans_share() > 0.99


class TestChains:
    def test_against_moments_that_are_known(self):
        """In a bowl the positions are normal; of a pair in the double well E[r] is an integral."""

        def bowl(x):
            return x.square().sum((1, 2))

        chains = hmc(bowl, draw(200, 3, 2), draws=60, warmup=40, seed=1)
        x = chains.samples.flatten(0, 1)
        assert 0.7 < chains.acceptance < 0.95
        assert x.square().sum((1, 2)).mean().item() == pytest.approx(2.0, abs=0.06)
        well = DoubleWell(2, 2, a=0.9, b=-1.0)
        chains = hmc(well, relaxed(well, draw(200, 2, 2)), draws=100, warmup=50, seed=1)
        r = torch.linspace(0, 9, 4000, dtype=F64)
        density = r * (-0.9 * (r - 4) ** 4 + (r - 4) ** 2).exp()
        mean = ((r * density).sum() / density.sum()).item()
        found = pair_distances(chains.samples.flatten(0, 1))
        assert found.mean().item() == pytest.approx(mean, abs=0.03)
        assert r_hat(chains.samples[:, :, 0, 0]) < 1.05

    def test_the_seed_decides(self, global_rng_untouched):
        x = relaxed(DoubleWell(), draw(5, 4, 2))
        one, two, three = (hmc(DoubleWell(), x, draws=3, seed=s).samples for s in (0, 0, 1))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        assert one.mean(2).abs().max() < 1e-12

    def test_overlapping_starts_are_refused_and_relaxing_helps(self):
        energy = LennardJones(13)
        x = torch.zeros(2, 13, 3, dtype=F64)
        with pytest.raises(ValueError, match="but 2 of 2 starts have none"):
            hmc(energy, x, draws=1)
        x = 0.3 * draw(8, 13, 3)
        assert energy(x).max() > 1e6
        low = energy(relaxed(energy, x))
        assert low.max() < 20

    def test_a_step_that_explodes_is_rejected_and_no_error(self):
        x = relaxed(LennardJones(3), draw(4, 3, 3))
        chains = hmc(LennardJones(3), x, draws=5, warmup=0, step=50.0)
        assert chains.acceptance == 0
        torch.testing.assert_close(chains.samples[-1], x)

    def test_an_energy_that_knows_the_place_is_sampled_on_centred_positions(self):
        def held(x):  # the variance along (1, -1)/sqrt 2 is 2/3
            return 1.5 * x[:, 0].square().sum(1)

        chains = hmc(held, draw(200, 2, 1), draws=200, warmup=50, seed=1)
        along = (chains.samples[..., 0, 0] - chains.samples[..., 1, 0]) / 2**0.5
        assert along.var().item() == pytest.approx(2 / 3, rel=0.03)
        assert chains.samples.mean(2).abs().max() < 1e-12

    def test_what_no_chain_can_follow_is_refused(self):
        x = draw(4, 3, 3)
        for step in (0.0, -0.1, math.nan, math.inf):
            with pytest.raises(ValueError, match="step must be positive and finite"):
                hmc(DoubleWell(3, 3), x, draws=1, step=step)
        with pytest.raises(ValueError, match=r"energies must be \[4\], but \[4, 1\] came"):
            hmc(lambda x: x.square().sum((1, 2))[:, None], x, draws=1)
        with pytest.raises(ValueError, match="force must be finite, but that of 3 particles"):
            relaxed(LennardJones(3), torch.zeros(1, 3, 3))
        with pytest.raises(ValueError, match="longest must be positive"):
            relaxed(DoubleWell(3, 3), x, longest=-1)

    def test_r_hat_sees_chains_apart_and_chains_that_drift(self):
        values = draw(400, 6)
        assert r_hat(values) == pytest.approx(1, abs=0.02)
        assert r_hat(values + torch.arange(6)) > 1.5
        assert r_hat(torch.arange(6).expand(400, 6).double()) == math.inf
        assert r_hat(values + torch.linspace(0, 5, 400, dtype=F64)[:, None]) > 1.3
        bad = values.clone()
        bad[3, 2] = math.nan
        with pytest.raises(ValueError, match="values must be finite, but 1 are not"):
            r_hat(bad)
        for shape in ((3, 5), (10, 1), (10,)):
            with pytest.raises(ValueError, match="at least 4 and 2"):
                r_hat(torch.zeros(shape))


class TestWeights:
    def known(self, n=200_000, s=1.3):
        """Weights of N(0, s²) for exp(−x²/2): Z = √2π, the ESS in closed form."""
        z = draw(n)
        log_q = -0.5 * z.square() - math.log(s * math.sqrt(2 * math.pi))
        forward = draw(n, seed=1)
        back = -0.5 * (forward / s).square() - math.log(s * math.sqrt(2 * math.pi))
        return -0.5 * (s * z).square() - log_q, -0.5 * forward.square() - back

    def test_both_sizes_are_the_closed_form(self):
        s = 1.3
        drawn, data = self.known(s=s)
        exact = (2 - 1 / s**2) ** 0.5 / s  # 1/(Z⁻² ∫ w² q)
        assert effective_sample_size(drawn) == pytest.approx(exact, abs=0.01)
        assert forward_effective_sample_size(data) == pytest.approx(exact, abs=0.01)

    def test_log_z_both_ways_and_their_errors(self):
        drawn, data = self.known()
        exact = 0.5 * math.log(2 * math.pi)
        for value, error in (log_z(drawn), log_z_from_data(data)):
            assert 1e-4 < error < 5e-3
            assert value == pytest.approx(exact, abs=4 * error)
        parts = torch.tensor([log_z(w).value for w in drawn[:100_000].split(500)])
        assert parts.std().item() == pytest.approx(log_z(drawn[:500]).error, rel=0.3)

    def test_a_reweighted_mean_and_its_error(self):
        drawn, _ = self.known()
        f = (1.3 * draw(200_000)).square()
        value, error = reweighted(f, drawn)
        assert value == pytest.approx(1.0, abs=4 * error)
        parts = [
            reweighted(a, b).value for a, b in zip(f.split(1000), drawn.split(1000), strict=True)
        ]
        assert torch.tensor(parts).std().item() == pytest.approx(error * 200**0.5, rel=0.3)

    def test_a_constant_changes_log_z_alone(self):
        w = draw(50)
        assert effective_sample_size(w + 900) == pytest.approx(effective_sample_size(w))
        assert log_z(w + 900).value == pytest.approx(log_z(w).value + 900)
        assert reweighted(w, w - 900).value == pytest.approx(reweighted(w, w).value)

    @pytest.mark.parametrize(
        "f",
        [effective_sample_size, forward_effective_sample_size, log_z, log_z_from_data],
        ids=lambda f: f.__name__,
    )
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_weights_that_are_no_numbers_are_refused(self, f, bad):
        with pytest.raises(ValueError, match="1 of 3 values are NaN or inf"):
            f(torch.tensor([0.0, bad, 1.0]))
        with pytest.raises(ValueError, match=r"log_w must be \[n\]"):
            f(torch.zeros(3, 1))

    def test_a_weight_of_zero_counts_for_nothing_but_its_place(self):
        w = torch.tensor([0.0, -math.inf])
        assert effective_sample_size(w) == 0.5
        assert log_z(w).value == pytest.approx(-math.log(2))
        assert forward_effective_sample_size(w) == 0
        with pytest.raises(ValueError, match="not all"):
            log_z(torch.full((3,), -math.inf))
        with pytest.raises(ValueError, match=r"values must be \[2\]"):
            reweighted(torch.zeros(3), w)

    def test_equal_weights_have_no_error_and_a_single_one_has_no_end_of_it(self):
        for n in range(2, 200):
            w = torch.full((n,), 29.7, dtype=F64)
            assert 0 <= log_z(w).error < 1e-6
            assert 0.999 < effective_sample_size(w) <= 1
            assert 0.999 < forward_effective_sample_size(w) <= 1
        assert log_z(w[:1]).error == math.inf

    def test_one_weight_above_all_does_not_flatter(self):
        f = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0])
        heavy = torch.tensor([20.0, 0.0, 0.0, 0.0, 0.0])
        assert reweighted(f, heavy).error == pytest.approx(1, abs=0.01)  # what the others say
        assert reweighted(f, 10 * heavy).error == math.inf
        assert reweighted(f[:1], heavy[:1]).error == math.inf

    def test_samples_of_the_target_have_a_weight(self):
        with pytest.raises(ValueError, match="finite at samples of the target, but 1 are −inf"):
            log_z_from_data(torch.tensor([0.0, -math.inf, 1.0]))

    def test_an_infinite_energy_has_the_weight_zero(self):
        energy = torch.tensor([1.0, 1.0, math.inf])
        assert reweighted(energy, -energy).value == 1
        with pytest.raises(ValueError, match="values must be finite where weights are, but 1"):
            reweighted(torch.tensor([1.0, math.nan]), torch.zeros(2))


class TestShipped:
    def test_what_is_stored_comes_back(self, tmp_path, monkeypatch):
        monkeypatch.setattr("fmtutor.molecules.shipped_flows.FOLDER", tmp_path)
        arguments = {"particles": 3, "dim": 2, "kinds": (0, 1, 0), "width": 8}
        torch.manual_seed(1)
        net = EGNN(**arguments)
        save_shipped("three", net, 1.25, **arguments)
        torch.manual_seed(2)
        expected = torch.rand(1)
        torch.manual_seed(2)
        found, unit = shipped("three")
        assert torch.equal(torch.rand(1), expected), "the reader's random numbers are left alone"
        x = centred(draw(5, 3, 2).float())
        assert unit == 1.25
        assert torch.equal(found(x, 0.3), net(x, 0.3))
        assert not any(p.requires_grad for p in found.parameters())
        with pytest.raises(ValueError, match="name must be one of three, but 'four' came"):
            shipped("four")

    @pytest.mark.parametrize("name", ["butane", "butane-plain", "dw4"])
    def test_the_flows_end_at_low_energies(self, name):
        net, unit = shipped(name)
        energy = DoubleWell() if name == "dw4" else Butane()
        g = torch.Generator().manual_seed(0)
        x0 = centred_noise(torch.empty(200, net.particles, net.dim), g)
        x = unit * sample(net, x0, steps=20, method="rk4")
        mean = -22.5 if name == "dw4" else 3.5
        assert mean - 1 < energy(x).median() < mean + 3
