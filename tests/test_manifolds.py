"""The curved spaces: the laws that exp, log, tangent, frame, inner and noise obey, in float64."""

import math

import pytest
import torch

from fmtutor.manifolds import Euclidean, Product, Rotations, Sphere, Torus, distance
from fmtutor.manifolds.flat import wrap
from fmtutor.manifolds.rotations import hat, quaternion, vee

F64 = torch.float64
SPACES = {
    "line": Euclidean(1),
    "space": Euclidean(3),
    "circle": Sphere(1),
    "sphere": Sphere(2),
    "sphere of 4": Sphere(4),
    "torus": Torus(2),
    "rotations": Rotations(),
    "product": Product(Sphere(2), Torus(1), Rotations(), Euclidean(2)),
}
CURVED = {name: space for name, space in SPACES.items() if name not in ("line", "space")}
each = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
each_curved = pytest.mark.parametrize("space", CURVED.values(), ids=CURVED.keys())


def points(space, n=200, seed=0, dtype=F64):
    g = torch.Generator().manual_seed(seed)
    return space.noise(torch.empty(n, *space.shape, dtype=dtype), g)


def vectors(space, x, seed=1, size=1.0):
    """Tangent vectors whose every part is shorter than 0.9 π times the size."""
    g = torch.Generator().manual_seed(seed)
    u = space.tangent(x, torch.randn(x.shape, generator=g, dtype=x.dtype))
    length = u.reshape(len(u), -1).norm(dim=1)
    scale = size * 0.9 * math.pi * torch.rand(len(u), generator=g, dtype=x.dtype) / length
    return scale.reshape(-1, *[1] * (x.ndim - 1)) * u


@each
def test_what_is_drawn_lies_on_the_space(space):
    x = points(space)
    space.check(x)
    torch.testing.assert_close(space.project(x), x)
    space.check_tangent(x, vectors(space, x))


@each
def test_log_undoes_exp(space):
    x = points(space)
    u = vectors(space, x, size=0.7)  # the inner product of rotations makes lengths shorter
    y = space.exp(x, u)
    space.check(y)
    torch.testing.assert_close(space.log(x, y), u, atol=1e-12, rtol=0)


@each
def test_exp_undoes_log(space):
    x, y = points(space), points(space, seed=3)
    u = space.log(x, y)
    space.check_tangent(x, u)
    torch.testing.assert_close(space.exp(x, u), y, atol=1e-12, rtol=0)


@each
def test_of_nothing(space):
    x = points(space)
    zero = torch.zeros_like(x)
    torch.testing.assert_close(space.exp(x, zero), x, atol=1e-14, rtol=0)
    torch.testing.assert_close(space.log(x, x), zero, atol=1e-14, rtol=0)


@each
def test_a_distance_is_a_distance(space):
    x, y, z = (points(space, seed=s) for s in range(3))
    there, back = distance(space, x, y), distance(space, y, x)
    torch.testing.assert_close(there, back, atol=1e-12, rtol=0)
    assert (there > 0).all()
    assert (there <= distance(space, x, z) + distance(space, z, y) + 1e-12).all()


@each
def test_a_geodesic_has_constant_speed(space):
    x, y = points(space), points(space, seed=3)
    u = space.log(x, y)
    whole = distance(space, x, y)
    for s in (0.1, 0.5, 0.8):
        middle = space.exp(x, s * u)
        torch.testing.assert_close(distance(space, x, middle), s * whole, atol=1e-12, rtol=0)
        rest = distance(space, middle, y)
        torch.testing.assert_close(rest, (1 - s) * whole, atol=1e-12, rtol=0)


@each
def test_exp_starts_with_its_velocity(space):
    x = points(space)
    u = vectors(space, x)
    h = 1e-6
    ahead, back = space.exp(x, h * u), space.exp(x, -h * u)
    change = space.log(back, ahead) if isinstance(space, Torus) else ahead - back
    if isinstance(space, Product):
        change[:, 3:4] = wrap(change[:, 3:4])  # its angle
    torch.testing.assert_close(change / (2 * h), u, atol=1e-8, rtol=0)


@each
def test_the_tangent_part_is_the_nearest(space):
    x = points(space)
    g = torch.Generator().manual_seed(5)
    a = torch.randn(x.shape, generator=g, dtype=F64)
    part = space.tangent(x, a)
    torch.testing.assert_close(space.tangent(x, part), part, atol=1e-13, rtol=0)
    rest = ((a - part) * vectors(space, x)).reshape(len(x), -1).sum(1)
    assert rest.abs().max() < 1e-12


@each
def test_the_frame_is_an_orthonormal_basis_of_the_tangent_plane(space):
    x = points(space)
    frame = space.frame(x)
    assert frame.shape == (space.dim, *x.shape)
    flat = frame.reshape(space.dim, len(x), -1)
    gram = torch.einsum("ibn,jbn->bij", flat, flat)
    eye = torch.eye(space.dim, dtype=F64).expand_as(gram)
    torch.testing.assert_close(gram, eye, atol=1e-13, rtol=0)
    for vector in frame:
        space.check_tangent(x, vector.contiguous())
    g = torch.Generator().manual_seed(5)
    a = torch.randn(x.shape, generator=g, dtype=F64).reshape(len(x), -1)
    part = torch.einsum("ibn,bn,ibm->bm", flat, a, flat).reshape(x.shape)
    torch.testing.assert_close(part, space.tangent(x, a.reshape(x.shape)), atol=1e-13, rtol=0)


def test_the_frame_exists_at_the_poles():
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=F64)
    frame = Sphere(2).frame(poles)
    assert (frame[..., 2].abs() < 1e-15).all()
    assert frame.isfinite().all()


@each_curved
def test_the_nearest_point_is_the_nearest(space):
    x = points(space, 50)
    near = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    if isinstance(space, Torus):  # its flat space has no other points, but angles have names
        turns = 2 * math.pi * torch.randint(-3, 4, x.shape).double()
        torch.testing.assert_close(space.project(x + turns), x, atol=1e-13, rtol=0)
        return
    foot = space.project(near)
    space.check(foot)
    around = space.exp(foot, vectors(space, foot, size=0.03))
    gap = (near - foot).reshape(50, -1).norm(dim=1)
    other = (near - around).reshape(50, -1).norm(dim=1)
    if isinstance(space, Product):
        gap, other = (  # its angle counts modulo 2π
            torch.cat([d[:, :3], wrap(d[:, 3:4]), d[:, 4:]], 1).norm(dim=1)
            for d in (near - foot, near - around)
        )
    assert (gap <= other + 1e-12).all()


def test_far_matrices_have_a_nearest_rotation_too():
    g = torch.Generator().manual_seed(1)
    m = torch.randn(100, 3, 3, generator=g, dtype=F64)  # half of them nearer to reflections
    space = Rotations()
    r = space.project(m)
    space.check(r)
    for other in (points(space, 100), space.exp(r, vectors(space, r, size=0.05))):
        assert ((m - r).square().sum((1, 2)) <= (m - other).square().sum((1, 2)) + 1e-12).all()


@each_curved
def test_the_derivative_of_the_nearest_point_is_the_tangent_part(space):
    x = points(space).requires_grad_()
    g = torch.Generator().manual_seed(5)
    a = torch.randn(x.shape, generator=g, dtype=F64)
    # The derivative is a symmetric matrix: forwards and backwards are one.
    (change,) = torch.autograd.grad(space.project(x), x, a)
    x = x.detach()
    torch.testing.assert_close(change, space.tangent(x, a), atol=1e-13, rtol=0)


def turn(seed=9):
    return Rotations().noise(torch.empty(1, 3, 3, dtype=F64), torch.Generator().manual_seed(seed))


def test_turning_everything_turns_the_results_on_the_sphere():
    sphere, r = Sphere(2), turn()[0]
    x, y = points(sphere), points(sphere, seed=3)
    torch.testing.assert_close(sphere.log(x @ r.T, y @ r.T), sphere.log(x, y) @ r.T)
    u = vectors(sphere, x)
    torch.testing.assert_close(sphere.exp(x @ r.T, u @ r.T), sphere.exp(x, u) @ r.T)


@pytest.mark.parametrize("side", ["left", "right"])
def test_turning_everything_turns_the_results_among_rotations(side):
    space, r = Rotations(), turn()

    def turned(m):
        return r @ m if side == "left" else m @ r

    x, y = points(space), points(space, seed=3)
    torch.testing.assert_close(space.log(turned(x), turned(y)), turned(space.log(x, y)))
    same = distance(space, turned(x), turned(y))
    torch.testing.assert_close(same, distance(space, x, y))


def test_moving_everything_moves_the_results_on_the_torus():
    torus, shift = Torus(2), torch.tensor([2.0, -1.0], dtype=F64)
    x, y = points(torus), points(torus, seed=3)
    moved = torus.log(wrap(x + shift), wrap(y + shift))
    torch.testing.assert_close(moved, torus.log(x, y), atol=1e-12, rtol=0)


def test_the_distance_of_rotations_is_the_angle_of_the_turn():
    angle = torch.linspace(0.01, 3.13, 50, dtype=F64)
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=F64), dim=0)
    x = points(Rotations(), 50)
    y = Rotations().exp(x, x @ hat(angle[:, None] * axis))
    torch.testing.assert_close(distance(Rotations(), x, y), angle)
    expm = torch.linalg.matrix_exp(hat(angle[:, None] * axis))
    torch.testing.assert_close(y, x @ expm)


def test_the_log_of_rotations_holds_near_half_a_turn():
    x = points(Rotations(), 60)
    g = torch.Generator().manual_seed(2)
    axis = torch.nn.functional.normalize(torch.randn(60, 3, generator=g, dtype=F64), dim=1)
    off = torch.logspace(-12, -1, 60, dtype=F64)[:, None]
    y = x @ torch.linalg.matrix_exp(hat((math.pi - off) * axis))
    w = vee(x.mT @ Rotations().log(x, y))
    torch.testing.assert_close(w.norm(dim=1), math.pi - off[:, 0], atol=1e-13, rtol=0)
    torch.testing.assert_close(w, (math.pi - off) * axis, atol=1e-10, rtol=0)
    exact = x @ torch.linalg.matrix_exp(hat(math.pi * axis))
    length = vee(x.mT @ Rotations().log(x, exact)).norm(dim=1)
    torch.testing.assert_close(length, torch.full_like(length, math.pi))
    torch.testing.assert_close(
        Rotations().exp(x, Rotations().log(x, exact)), exact, atol=1e-13, rtol=0
    )


def test_the_naive_log_of_rotations_does_not():
    """What the quaternion is for: the skew part of a half turn is nothing but rounding."""
    angle = math.pi - 1e-4
    r = torch.linalg.matrix_exp(hat(torch.tensor([[angle, 0.0, 0.0]])))  # float32
    naive_angle = ((r.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).acos()
    naive = vee(r).norm(dim=1) * naive_angle / naive_angle.sin()
    assert not (naive - angle).abs().item() < 0.01  # NaN, or far off
    good = distance(Rotations(), torch.eye(3)[None], r)
    assert good.item() == pytest.approx(angle, abs=2e-6)


def test_quaternions_of_all_signs():
    r = points(Rotations(), 500)
    q = quaternion(r)
    torch.testing.assert_close(q.norm(dim=1), torch.ones(500, dtype=F64))
    m = hat(q[:, 1:])
    back = torch.eye(3, dtype=F64) + 2 * q[:, :1, None] * m + 2 * m @ m
    torch.testing.assert_close(back, r, atol=1e-13, rtol=0)
    assert {*q.abs().argmax(1).tolist()} == {0, 1, 2, 3}


@pytest.mark.parametrize("gap", [1e-3, 1e-5])
def test_small_and_large_angles_survive_float32(gap):
    x = torch.tensor([[0.0, 0.6, 0.8]], dtype=F64)
    side = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)
    near = Sphere(2).exp(x, gap * side).float()
    x, far = x.float(), -near
    got = distance(Sphere(2), x, near).item()
    assert got == pytest.approx(gap, rel=1e-2 if gap < 1e-4 else 1e-4)
    assert distance(Sphere(2), x, far).item() == pytest.approx(math.pi - gap, abs=1e-6)
    by_cosine = (x * near).sum().clamp(-1, 1).acos().item()
    assert abs(by_cosine / gap - 1) > 0.02


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_to_the_antipode_one_of_the_shortest_ways_is_taken(dtype):
    x = points(Sphere(2), dtype=dtype)
    u = Sphere(2).log(x, -x)
    torch.testing.assert_close(u.norm(dim=1), torch.full((200,), math.pi, dtype=dtype))
    Sphere(2).check_tangent(x, u)
    torch.testing.assert_close(Sphere(2).exp(x, u), -x, atol=2e-6, rtol=0)
    opposite = torch.tensor([[0.5]], dtype=dtype), torch.tensor([[0.5 - math.pi]], dtype=dtype)
    assert Torus(1).log(*opposite).abs().item() == pytest.approx(math.pi)


def test_angles_are_wrapped_into_a_half_open_interval():
    edge = torch.tensor([math.pi, -math.pi, 3 * math.pi, -1e-9 - math.pi])
    for x in (edge, edge.double()):
        assert ((wrap(x) >= -math.pi) & (wrap(x) < math.pi)).all()


def volume(space, x):
    return (-space.noise_log_prob(x)).exp()


def test_the_volumes():
    for space, expected in [
        (Sphere(1), 2 * math.pi),
        (Sphere(2), 4 * math.pi),
        (Sphere(3), 2 * math.pi**2),
        (Torus(2), (2 * math.pi) ** 2),
        (Rotations(), 8 * math.pi**2),
        (Product(Sphere(2), Torus(1)), 8 * math.pi**2),
    ]:
        torch.testing.assert_close(
            volume(space, points(space, 3)), torch.full((3,), expected, dtype=F64)
        )


@pytest.mark.parametrize("space", [Sphere(2), Rotations()], ids=["sphere", "rotations"])
def test_the_noise_fills_the_volume_evenly(space):
    """The share of a small ball: its volume, by the law of volumes of small balls, over all."""
    x = points(space, 200_000)
    radius = 0.5
    centre = points(space, 1, seed=8).expand_as(x)
    share = (distance(space, centre, x) < radius).double().mean().item()
    if isinstance(space, Sphere):
        ball = 2 * math.pi * (1 - math.cos(radius))
    else:  # ∫ 4π r² (sin(r/2)/(r/2))² dr
        ball = 8 * math.pi * (radius - math.sin(radius))
    error = math.sqrt(share / len(x))
    assert share == pytest.approx(ball / volume(space, x[:1]).item(), abs=4 * error)


def test_the_flat_noise_is_normal_and_that_of_angles_uniform():
    line = Euclidean(2)
    x = points(line, 50_000)
    torch.testing.assert_close(x.var(0), torch.ones(2, dtype=F64), atol=0.03, rtol=0)
    expected = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    torch.testing.assert_close(line.noise_log_prob(x), expected)
    angles = points(Torus(1), 50_000)
    torch.testing.assert_close(
        angles.abs().mean(), torch.tensor(math.pi / 2, dtype=F64), atol=0.03, rtol=0
    )
    assert angles.mean().abs() < 0.05


def test_the_parts_of_a_product():
    space = SPACES["product"]
    x = points(space)
    sizes = [part.shape[1:] for part in space.parts(x)]
    assert sizes == [(3,), (1,), (3, 3), (2,)]
    assert (space.shape, space.dim) == ((15,), 8)
    assert space.embed(x).shape == (200, 3 + 2 + 9 + 2)
    y = points(space, seed=3)
    squares = [
        distance(f, p, q) ** 2
        for f, p, q in zip(space.factors, space.parts(x), space.parts(y), strict=True)
    ]
    torch.testing.assert_close(distance(space, x, y) ** 2, torch.stack(squares).sum(0))
    logs = [f.noise_log_prob(p) for f, p in zip(space.factors, space.parts(x), strict=True)]
    torch.testing.assert_close(space.noise_log_prob(x), torch.stack(logs).sum(0))


def test_coordinates_have_no_seam():
    edge = torch.tensor([[math.pi - 1e-9], [-math.pi]], dtype=F64)
    a, b = Torus(1).embed(edge)
    torch.testing.assert_close(a, b, atol=1e-8, rtol=0)


NORTH = torch.tensor([[0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sphere(2).exp(2 * NORTH, NORTH), r"x must lie on the unit sphere.* up to 1$"),
        (lambda: Sphere(2).log(NORTH, 0.9 * NORTH), r"y must lie on the unit sphere"),
        (lambda: Sphere(2).exp(NORTH, 0.1 * NORTH), r"u must be tangent, orthogonal to x"),
        (lambda: Sphere(2).log(NORTH[:, :2], NORTH[:, :2]), r"x must have shape \[b 3\]"),
        (lambda: Sphere(2).log(NORTH, NORTH * torch.nan), r"y must be finite"),
        (lambda: Sphere(0), r"dim must be at least 1, but 0 came"),
        (lambda: Torus(1).log(torch.tensor([[4.0]]), torch.zeros(1, 1)), r"x must be angles in"),
        (lambda: Torus(1).exp(torch.zeros(1, 1), torch.zeros(1, 2)), r"must have one shape"),
        (lambda: Euclidean(2).log(torch.zeros(1, 2), torch.zeros(2, 2)), r"must have one shape"),
        (lambda: Rotations().log(torch.eye(3)[None], -torch.eye(3)[None]), r"y must be orthogon"),
        (lambda: Rotations().check(2 * torch.eye(3)[None]), r"orthogonal .*up to 3"),
        (lambda: Rotations().exp(*2 * [torch.eye(3)[None]]), r"x times a skew matrix"),
        (lambda: Product(), r"at least one factor"),
        (lambda: Product(Torus(1), Sphere(1)).check(torch.ones(1, 3)), r"part 1 of x must lie"),
        (lambda: Product(Torus(1), Sphere(1)).check(torch.ones(1, 4)), r"shape \[b 3\]"),
    ],
)
def test_what_is_not_on_the_space_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_float32_points_are_let_through():
    for space in SPACES.values():
        x, y = points(space, dtype=torch.float32), points(space, seed=3, dtype=torch.float32)
        back = space.exp(x, space.log(x, y))
        torch.testing.assert_close(back, y, atol=1e-5, rtol=0)
        assert back.dtype == torch.float32
