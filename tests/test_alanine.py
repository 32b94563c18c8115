"""Internal coordinates, a force field and whitened points, against OpenMM and other ways."""

import json
import math
from pathlib import Path

import pytest
import torch

from fmtutor import sample
from fmtutor.molecules import (
    ForceField,
    InternalCoordinates,
    WhitenedCoordinates,
    alanine_coordinates,
    backbone_torsions,
    force,
    helmert,
    shipped_alanine,
    torsion,
)
from fmtutor.molecules.alanine_flow import save_alanine
from fmtutor.molecules.force_field import _GAS
from fmtutor.networks import TangentMLP

F64 = torch.float64
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
TURNING = (0, 1, 10, 13, 16)


@pytest.fixture(scope="module")
def recorded():
    told = json.loads((RESULTS / "alanine_energies.json").read_text("utf-8"))
    return torch.tensor(told["positions"], dtype=F64), torch.tensor(told["energies"], dtype=F64)


@pytest.fixture(scope="module")
def terms():
    import fmtutor.molecules

    file = Path(fmtutor.molecules.__file__).with_name("alanine.json")
    return json.loads(file.read_text("utf-8"))


@pytest.fixture(scope="module")
def molecules(recorded):
    """Shaken molecules, enough to have a covariance."""
    g = torch.Generator().manual_seed(0)
    base = recorded[0][::3].repeat(40, 1, 1)
    return base + 0.02 * torch.randn(base.shape, generator=g, dtype=F64)


class TestInternalCoordinates:
    def test_there_and_back_keeps_distances_and_the_hand(self, recorded):
        coordinates, x = alanine_coordinates(), recorded[0]
        q = coordinates(x)
        back = coordinates.positions(q)
        assert back.mean(1).abs().max() < 1e-12
        torch.testing.assert_close(torch.cdist(back, back), torch.cdist(x, x))
        torch.testing.assert_close(coordinates(back), q)
        mirrored = coordinates(x * torch.tensor([1, 1, -1]))
        torch.testing.assert_close(mirrored[:, -19:].cos(), q[:, -19:].cos())
        torch.testing.assert_close(mirrored[:, -19:].sin(), -q[:, -19:].sin())

    def test_phi_and_psi_are_the_first_torsions(self, recorded):
        coordinates, x = alanine_coordinates(), recorded[0]
        both = torch.stack(backbone_torsions(x), dim=1)
        torch.testing.assert_close(coordinates(x)[:, 41:43], both)

    def test_the_volume_is_the_determinant(self):
        """Of positions in Helmert coordinates, by the internal numbers and three of the pose."""
        chain = InternalCoordinates([(2,), (0, 2), (1, 0, 2), (3, 0, 1, 2), (4, 3, 0, 1)])
        q = torch.tensor([1.2, 1.4, 1.1, 1.5, 1.9, 2.1, 1.3, 0.7, -2.2], dtype=F64)

        def placed(numbers):
            a, b, c = numbers[9:]
            one, zero = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
            turn = torch.eye(3, dtype=F64)
            for angle, (i, j) in ((a, (0, 1)), (b, (0, 2)), (c, (1, 2))):
                plane = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()])
                rows = [[one if m == n else zero for n in range(3)] for m in range(3)]
                for value, (m, n) in zip(plane, ((i, i), (i, j), (j, i), (j, j)), strict=True):
                    rows[m][n] = value
                turn = turn @ torch.stack([torch.stack(row) for row in rows])
            return (helmert(5) @ chain.positions(numbers[None, :9])[0] @ turn.T).flatten()

        # At the pose itself turns by three small angles have the volume of rotations.
        jacobian = torch.func.jacrev(placed)(torch.cat([q, torch.zeros(3, dtype=F64)]))
        log_det = torch.linalg.slogdet(jacobian).logabsdet
        expected = log_det + math.log(8 * math.pi**2)
        torch.testing.assert_close(chain.log_volume(q[None])[0], expected)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([(0,), (1, 0), (2, 1, 0)], "at least four"),
            ([(0,), (1, 0), (2, 1, 0), (3, 2, 1)], r"row 3 must name an atom and 3 different"),
            ([(0,), (1, 0), (2, 1, 0), (3, 4, 1, 0), (4, 3, 2, 1)], "row 3"),
            ([(0,), (1, 0), (2, 1, 1), (3, 2, 1, 0)], "row 2"),
            ([(0,), (1, 0), (2, 1, 0), (2, 2, 1, 0)], "each of the atoms"),
            ([(0,), (1, 0), (2, 1, 0), (5, 2, 1, 0)], "each of the atoms"),
            ([(0.0,), (1, 0), (2, 1, 0), (3, 2, 1, 0)], r"row 0 must name an atom.* \(0.0,\)"),
        ],
    )
    def test_rows_that_place_no_molecule_are_refused(self, rows, message):
        with pytest.raises(ValueError, match=message):
            InternalCoordinates(rows)

    def test_impossible_numbers_are_refused(self):
        chain = InternalCoordinates([(0,), (1, 0), (2, 1, 0), (3, 2, 1, 0)])
        good = torch.tensor([[1.0, 1, 1, 2, 2, 1]])
        for k, value in ((0, -1.0), (3, 3.5), (4, -0.1), (1, math.nan), (5, math.inf)):
            bad = good.repeat(3, 1)
            bad[1, k] = value
            for use in (chain.positions, chain.log_volume):
                with pytest.raises(ValueError, match=r"finite, bonds positive .* 1 of 3 are not"):
                    use(bad)
        with pytest.raises(ValueError, match=r"q must have shape \[b 6\], but \[1, 5\] came"):
            chain.positions(good[:, :5])
        with pytest.raises(ValueError, match=r"\[b 4 3\]"):
            chain(torch.zeros(2, 5, 3))


class TestForceField:
    def test_energies_are_those_of_openmm(self, recorded):
        x, expected = recorded
        found = ForceField.alanine()(x)
        assert ((found - expected) / expected.abs()).abs().max() < 2e-7
        assert expected.max() > 100 > 0 > expected.min()  # near and far from rest

    def test_it_knows_neither_pose_nor_hand_of_what_it_measures(self, recorded):
        x, _ = recorded
        spin = torch.linalg.qr(
            torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
        )
        energy = ForceField.alanine()
        torch.testing.assert_close(energy(x @ spin.Q + 3), energy(x))
        assert energy(x[:3].float()).dtype == torch.float32

    def test_temperature_divides(self, recorded):
        x, _ = recorded
        torch.testing.assert_close(ForceField.alanine(600.0)(x), ForceField.alanine()(x) / 2)

    def test_the_born_radius_of_an_atom_within_another(self):
        """A small atom that lies within a large one, partly or not, by quadrature."""
        for apart in (0.05, 0.12, 0.3):
            terms = {
                "bonds": [[0, 1, 0.1, 0.0]], "angles": [[0, 1, 0, 0.0, 0.0]],
                "torsions": [[0, 1, 0, 1, 1, 0.0, 0.0]], "pairs": [[0, 1, 0.0, 0.1, 0.0]],
                "born": [[0.0, 0.109, 0.8], [0.0, 0.259, 0.8]], "water": 78.5,
            }  # fmt: skip
            r = torch.tensor([[[0.0, 0, 0], [apart, 0, 0]]], dtype=F64)
            own, other = 0.1, 0.2
            # I = (1/4π) ∫ |y|⁻⁴ over the other's ball without the own one: by shells, the share of
            # each that lies in the ball.
            s = torch.linspace(own, apart + other, 400_001, dtype=F64)
            cosine = ((s**2 + apart**2 - other**2) / (2 * s * apart)).clamp(-1, 1)
            shell = (1 - cosine) / 2 / s**2
            psi = own * torch.trapezoid(shell, s)
            bent = torch.tanh(psi - 0.8 * psi**2 + 4.85 * psi**3)
            expected = 1 / (1 / own - bent / 0.109)
            found = ForceField(terms).born_radii(r)[0, 0]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)

    def test_atoms_at_one_place_have_infinite_energy_and_forces_are_finite_elsewhere(
        self, recorded
    ):
        energy, x = ForceField.alanine(), recorded[0][:2].clone()
        assert force(energy, x).isfinite().all()
        x[0, 21] = x[0, 0]
        assert energy(x).isinf().tolist() == [True, False]
        x[1, 3, 0] = math.nan  # no energy, rather than an infinite one that a weight forgives
        with pytest.raises(ValueError, match="finite"):
            energy(x)

    @pytest.mark.parametrize(
        ("term", "row", "message"),
        [
            ("bonds", [0, 22, 0.1, 1.0], r"row 0 of bonds must be 2 atoms of 0 to 21 and 2 finite"),
            ("angles", [-1, 1, 2, 1.0, 1.0], "row 0 of angles"),
            ("torsions", [0, 1, 2, 3, 1, 0.0], "row 0 of torsions must be 4 atoms"),
            ("pairs", [0, 1, 0.1, 0.2, math.nan], "row 0 of pairs"),
            ("pairs", [0.5, 1, 0.1, 0.2, 0.3], "row 0 of pairs"),
        ],
    )
    def test_rows_that_are_not_terms_are_refused(self, terms, term, row, message):
        with pytest.raises(ValueError, match=message):
            ForceField(terms | {term: [row]})

    def test_terms_may_be_empty_and_the_water_must_be_possible(self, terms, recorded):
        x = recorded[0][:2]
        plain = ForceField(terms | {"torsions": [], "pairs": []})
        torch.testing.assert_close(plain.between(x / 10), torch.zeros(2, dtype=F64))
        assert (plain(x) != ForceField.alanine()(x)).all()
        with pytest.raises(ValueError, match="water must be positive"):
            ForceField(terms | {"water": 0})
        with pytest.raises(ValueError, match=r"radii of born must be above 0.009 nm, but 0.005"):
            ForceField(terms | {"born": [[0.1, 0.005, 0.8]] * 22})

    def test_what_is_missing_is_named(self):
        with pytest.raises(ValueError, match="angles, born, pairs, torsions, water"):
            ForceField({"bonds": []})
        with pytest.raises(ValueError, match="temperature"):
            ForceField.alanine(0.0)
        with pytest.raises(ValueError, match=r"\[b 22 3\]"):
            ForceField.alanine()(torch.zeros(1, 21, 3))
        assert pytest.approx(300 * _GAS, rel=1e-6) == 2.494339


class TestWhitenedCoordinates:
    def test_points_are_white_and_come_back(self, molecules):
        coordinates = alanine_coordinates()
        white = WhitenedCoordinates.of(molecules, coordinates, TURNING)
        z = white.points(molecules)
        torch.testing.assert_close(z[:, :55].mean(0), torch.zeros(55, dtype=F64))
        torch.testing.assert_close(torch.cov(z[:, :55].T), torch.eye(55, dtype=F64))
        white.space.check(z)
        torch.testing.assert_close(coordinates(white.positions(z)), coordinates(molecules))

    def test_the_volume_is_the_determinant(self, molecules):
        coordinates = alanine_coordinates()
        white = WhitenedCoordinates.of(molecules, coordinates, TURNING)
        z = white.points(molecules)[:1]
        jacobian = torch.func.jacrev(lambda p: white._internal(p[None])[0])(z[0])
        expected = torch.linalg.slogdet(jacobian).logabsdet + coordinates.log_volume(
            coordinates(molecules[:1])
        )
        torch.testing.assert_close(white.log_volume(z), expected)

    def test_inside_are_molecules_of_one_hand(self, molecules):
        coordinates = alanine_coordinates()
        white = WhitenedCoordinates.of(molecules, coordinates, TURNING)
        z = white.points(molecules)
        assert white.inside(z).all()
        mirrored = white.points(molecules * torch.tensor([1, 1, -1]))
        assert not white.inside(mirrored).any()
        z[0, 0] = -1e4  # a bond of a negative length
        z[1, :55] = 1e4
        assert white.inside(z)[:3].tolist() == [False, False, True]

    def test_molecules_without_a_covariance_are_refused(self, molecules):
        coordinates = alanine_coordinates()
        for few in (molecules[:40], molecules[:55], molecules[:1].repeat(80, 1, 1)):
            with pytest.raises(ValueError, match=f"more than 55 molecules, .* but {len(few)} came"):
                WhitenedCoordinates.of(few, coordinates, TURNING)
        with pytest.raises(TypeError, match=r"x must be a torch.Tensor, but a list came"):
            WhitenedCoordinates.of([1.0], coordinates, TURNING)

    @pytest.mark.parametrize("bad", [torch.eye(55) - 2, -torch.eye(55), math.nan * torch.eye(55)])
    def test_factors_that_are_no_triangles_are_refused(self, bad):
        with pytest.raises(ValueError, match=r"lower triangle with a positive"):
            WhitenedCoordinates(alanine_coordinates(), TURNING, torch.zeros(55), bad)

    def test_what_does_not_fit_is_refused(self, molecules):
        coordinates = alanine_coordinates()
        for turning in ((0, 19), (1, 1), ()):
            with pytest.raises(ValueError, match=r"or more different torsions of 0 to 18, but"):
                WhitenedCoordinates(coordinates, turning, torch.zeros(55), torch.eye(55))
        with pytest.raises(ValueError, match=r"shapes \[55\] and \[55 55\], but \[3\]"):
            WhitenedCoordinates(coordinates, TURNING, torch.zeros(3), torch.eye(55))
        white = WhitenedCoordinates.of(molecules, coordinates, TURNING)
        with pytest.raises(ValueError, match=r"\[b 60\], but \[2, 59\] came"):
            white.positions(torch.zeros(2, 59))


class TestShippedAlanine:
    def test_it_makes_molecules_of_one_hand_near_the_energies_of_the_simulation(self):
        network, white = shipped_alanine()
        assert network(white.space.noise(torch.zeros(3, 60)), 0.5).shape == (3, 60)
        assert not any(p.requires_grad for p in network.parameters())
        x0 = white.space.noise(torch.zeros(200, 60), torch.Generator().manual_seed(0))
        x = white.positions(
            sample(network, x0, steps=20, method="rk4", project=white.space.project)
        )
        told = json.loads((RESULTS / "alanine.json").read_text("utf-8"))
        energy = ForceField.alanine()(x).median().item()
        assert -1 < energy - told["simulation"]["energy_median"] < 4
        side = torsion(x[:, [10, 8, 6, 14]])  # of the carbon beside the backbone
        assert side.sin().sign().sum().abs() == len(x)

    def test_what_is_stored_comes_back(self, tmp_path, monkeypatch, molecules):
        monkeypatch.setattr("fmtutor.molecules.alanine_flow.FILE", tmp_path / "a.safetensors")
        white = WhitenedCoordinates.of(molecules, alanine_coordinates(), TURNING)
        torch.manual_seed(0)
        network = TangentMLP(white.space, width=8, depth=2)
        save_alanine(network, white, width=8, depth=2)
        found, same = shipped_alanine()
        z = white.points(molecules[:4]).float()
        torch.testing.assert_close(found(z, 0.3), network(z, 0.3))
        torch.testing.assert_close(same.positions(z), white.positions(z))
