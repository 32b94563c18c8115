"""The network: what goes in, what comes out, and the formula of its time features."""

import math

import pytest
import torch

from fmtutor.networks import MLP, TimeEmbedding, mlp


@pytest.mark.parametrize(
    ("dim", "width", "depth", "time_dim"), [(2, 128, 3, 16), (1, 1, 1, 2), (5, 8, 2, 4)]
)
@pytest.mark.parametrize("b", [1, 2, 5])
def test_shapes(dim, width, depth, time_dim, b):
    model = MLP(dim, width, depth, time_dim)
    v = model(torch.zeros(b, dim), torch.rand(b))
    assert v.shape == (b, dim)
    linear = [layer for layer in model.layers if isinstance(layer, torch.nn.Linear)]
    assert len(linear) == depth + 1
    assert linear[0].in_features == dim + time_dim


def test_the_sizes_that_nobody_gives():
    shapes = [tuple(weight.shape) for weight in MLP().parameters() if weight.ndim == 2]
    assert shapes == [(128, 18), (128, 128), (128, 128), (2, 128)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_form_of_a_time_gives_one_answer(dtype):
    model, x = MLP(3, 16, 2).to(dtype), torch.randn(3, 3, dtype=dtype)
    forms = [0.25, torch.tensor(0.25), torch.full((3,), 0.25), torch.full((3,), 0.25).double()]
    results = [model(x, t) for t in forms]
    for result in results:
        assert result.dtype == dtype
        assert torch.equal(result, results[0])


def test_each_row_is_on_its_own():
    model, x, t = MLP(3, 16, 2).double(), torch.randn(3, 3).double(), torch.rand(3).double()
    for i in range(3):
        torch.testing.assert_close(model(x, t)[i], model(x[i : i + 1], t[i : i + 1])[0])


def test_time_and_point_both_matter():
    torch.manual_seed(0)
    model, x = MLP(2, 16, 2), torch.randn(4, 2)
    assert (model(x, 0.0) - model(x, 1.0)).abs().max() > 1e-3  # the slowest feature tells the ends
    assert (model(x, 0.5) - model(x + 0.1, 0.5)).abs().min() > 0
    assert (model(x, 0.5) - model(x, 0.51)).abs().max() > 1e-5


def test_a_time_slightly_outside_is_allowed_for_finite_differences():
    assert MLP()(torch.zeros(2, 2), 1.0 + 1e-3).isfinite().all()
    assert MLP()(torch.zeros(2, 2), -1e-3).isfinite().all()


@pytest.mark.parametrize(("dim", "top"), [(2, 8.0), (4, 8.0), (16, 8.0), (6, 3.0)])
def test_embedding_by_hand(dim, top):
    t = torch.tensor([0.0, 0.3, 1.0])
    half = dim // 2
    features = TimeEmbedding(dim, top)(t)
    assert features.shape == (3, dim)
    for j in range(half):
        frequency = 0.5 * (top / 0.5) ** (j / max(half - 1, 1))
        for row, time in zip(features, t.tolist(), strict=True):
            angle = 2 * math.pi * frequency * time
            assert row[j].item() == pytest.approx(math.cos(angle), abs=1e-5)
            assert row[half + j].item() == pytest.approx(math.sin(angle), abs=1e-5)


def test_frequencies_run_from_one_half_to_the_fastest():
    frequencies = TimeEmbedding(16, 8.0).frequencies
    assert frequencies[0] == 0.5
    assert frequencies[-1].item() == pytest.approx(8.0)
    ratio = frequencies[1:] / frequencies[:-1]
    torch.testing.assert_close(ratio, ratio[:1].expand(7))  # geometric
    assert TimeEmbedding(16).frequencies[-1].item() == pytest.approx(8.0)


def test_the_embedding_tells_all_times_apart():
    features = TimeEmbedding(16)(torch.linspace(0, 1, 101))
    gaps = torch.cdist(features, features) + 10 * torch.eye(101)
    assert gaps.min() > 0.05


def test_frequencies_are_no_weights():
    model = MLP()
    assert not any("frequencies" in name for name, _ in model.named_parameters())
    assert not any("frequencies" in name for name in model.state_dict())
    assert model.double().embedding.frequencies.dtype == torch.float64  # but they move with it


def test_gradients_reach_every_weight_the_points_and_the_times():
    torch.manual_seed(0)
    model = MLP(2, 8, 2)
    x, t = torch.randn(5, 2, requires_grad=True), torch.rand(5, requires_grad=True)
    model(x, t).square().sum().backward()
    for p in (*model.parameters(), x, t):
        assert p.grad.abs().max() > 0


@pytest.mark.parametrize("sizes", [(0, 8, 2), (2, 0, 2), (2, 8, 0), (-1, 8, 2)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(
        ValueError, match=f"at least 1, but {sizes[0]}, {sizes[1]}, {sizes[2]} came"
    ):
        MLP(*sizes)


@pytest.mark.parametrize("dim", [0, -2, 1, 3])
def test_an_odd_number_of_features_is_refused(dim):
    with pytest.raises(ValueError, match=f"positive even number, but {dim} came"):
        TimeEmbedding(dim)
    with pytest.raises(ValueError, match="positive even number"):
        MLP(time_dim=dim)


def test_bad_points_and_times_are_refused():
    model, good = MLP(), torch.zeros(3, 2)
    for shape in [(3, 3), (3,), (3, 2, 1), (3, 1)]:
        with pytest.raises(ValueError, match=r"x must have shape \[b 2\], but \[3"):
            model(torch.zeros(shape), 0.5)
    with pytest.raises(TypeError, match="floating point"):
        model(good.long(), 0.5)
    with pytest.raises(ValueError, match="non-empty"):
        model(good[:0], 0.5)
    for shape in [(2,), (3, 1), (1, 3)]:
        with pytest.raises(ValueError, match="t has shape"):
            model(good, torch.zeros(shape))


# Labels.


def test_without_classes_nothing_changes():
    # The weights, their names and their random draws are those of a plain stack of layers.
    torch.manual_seed(0)
    model = MLP(2, 8, 1, time_dim=4)
    after = torch.rand(1)
    torch.manual_seed(0)
    first, second = torch.nn.Linear(6, 8), torch.nn.Linear(8, 2)
    assert torch.equal(after, torch.rand(1))
    assert set(model.state_dict()) == {
        f"layers.{i}.{name}" for i in (0, 2) for name in ("weight", "bias")
    }
    x, t = torch.randn(3, 2), torch.rand(3)
    inputs = torch.cat([x, model.embedding(t)], dim=1)
    assert torch.equal(model(x, t), second(torch.nn.functional.silu(first(inputs))))


def test_a_label_is_one_more_input():
    torch.manual_seed(0)
    model, x, t = MLP(2, 8, 2, time_dim=4, classes=3).double(), torch.randn(4, 2), torch.rand(4)
    x, t, label = x.double(), t.double(), torch.tensor([2, 0, 3, 1])
    inputs = torch.cat([x, model.embedding(t), model.labels.weight[label]], dim=1)
    assert model.labels.weight.shape == (4, 4)  # three labels and the null label
    torch.testing.assert_close(model(x, t, label), model.layers(inputs))
    assert model.classes == 3


def test_every_form_of_a_label_gives_one_answer():
    torch.manual_seed(0)
    model, x, t = MLP(2, 8, 2, classes=3), torch.randn(4, 2), torch.rand(4)
    for k in range(4):
        forms = [k, torch.tensor(k), torch.full((4,), k)]
        results = [model(x, t, label) for label in forms]
        for result in results:
            assert torch.equal(result, results[0])
    assert torch.equal(model(x, t), model(x, t, 3))  # None is the null label
    answers = torch.stack([model(x, t, k) for k in range(4)])
    assert torch.pdist(answers.reshape(4, -1)).min() > 1e-2  # and each label counts


def test_each_row_has_its_own_label():
    torch.manual_seed(0)
    model, x, t = MLP(2, 8, 2, classes=2).double(), torch.randn(3, 2).double(), torch.rand(3)
    label = torch.tensor([1, 0, 2])
    for i in range(3):
        alone = model(x[i : i + 1], t[i : i + 1], int(label[i]))[0]
        torch.testing.assert_close(model(x, t, label)[i], alone)


def test_gradients_reach_the_label_that_was_used_and_no_other():
    model = MLP(2, 8, 2, classes=3)
    model(torch.randn(5, 2), 0.5, torch.tensor([0, 0, 2, 2, 2])).square().sum().backward()
    reached = model.labels.weight.grad.abs().amax(1) > 0
    assert reached.tolist() == [True, False, True, False]


def test_bad_labels_are_refused():
    model, x = MLP(classes=3), torch.zeros(5, 2)
    for bad in (-1, 4, torch.tensor([0, 1, 2, 3, 4])):
        with pytest.raises(ValueError, match=r"labels must be 0, \.\.\., 3, but (-1|4) came"):
            model(x, 0.5, bad)
    for bad in (torch.zeros(4), torch.zeros(5), 0.5, torch.zeros(5, dtype=torch.int32), True):
        with pytest.raises(TypeError, match="labels must be an int64 tensor, but torch"):
            model(x, 0.5, bad)
    for shape in [(4,), (1,), (5, 1)]:
        with pytest.raises(ValueError, match=r"labels must be \[5\], one for each point, but \["):
            model(x, 0.5, torch.zeros(shape, dtype=torch.long))
    with pytest.raises(ValueError, match="a label came to a network without classes"):
        MLP()(x, 0.5, 0)
    with pytest.raises(ValueError, match="classes must be at least 0, but -1 came"):
        MLP(classes=-1)


# The divergence in closed form.


def test_under_autocast_the_result_has_the_dtype_of_the_points():
    torch.manual_seed(0)
    model, x, t = MLP(2, 16, 2), torch.randn(5, 2), torch.rand(5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, t)
        value, slope = model.with_divergence()(x, t)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, model(x, t))
    torch.testing.assert_close(rough, model(x, t), atol=0.05, rtol=0.05)
    exact = model.with_divergence()(x, t)  # which autocast does not touch
    torch.testing.assert_close((value, slope), exact, atol=0, rtol=0)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize(
    "t", [0.5, -0.001, 1.001, torch.tensor(0.5), torch.linspace(0.1, 0.9, 4)], ids=str
)
def test_the_closed_form_takes_what_the_network_takes(t, classes):
    torch.manual_seed(0)
    model, x = MLP(2, 8, 2, classes=classes).double(), torch.randn(4, 2).double()
    for label in (None, 1, torch.tensor([2, 0, 3, 1])) if classes else (None,):
        value, slope = model.with_divergence()(x, t, label)
        torch.testing.assert_close(value, model(x, t, label))
        times = torch.as_tensor(t).expand(4).double()
        rows = [
            torch.autograd.functional.jacobian(
                lambda row, s=times[i : i + 1], y=y: model(row[None], s, y)[0], x[i]
            ).trace()
            for i, y in enumerate(label if isinstance(label, torch.Tensor) else [label] * 4)
        ]
        torch.testing.assert_close(slope, torch.stack(rows))
    with pytest.raises(ValueError, match=r"x must have shape \[b 2\], but \[4, 3\] came"):
        model.with_divergence()(torch.zeros(4, 3), t)


@pytest.mark.parametrize(("t", "rows"), [(0.5, 1), (torch.linspace(0, 1, 4), 4)], ids=str)
def test_one_time_for_all_points_is_embedded_once(t, rows, monkeypatch):
    model, x, seen = MLP(2, 8, 2), torch.zeros(4, 2), []
    model.embedding.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    monkeypatch.setattr(mlp, "mlp_with_divergence", lambda *_: lambda x, c: seen.append(len(c)))
    model(x, t)
    model.with_divergence()(x, t)
    assert seen == [rows] * 3


@pytest.mark.parametrize("change", ["subclass", "hook", "layers"])
def test_a_changed_network_has_no_closed_form(change):
    class Other(MLP):
        pass

    model = Other() if change == "subclass" else MLP()
    if change == "hook":
        model.register_forward_hook(lambda module, args, output: 2 * output)
    elif change == "layers":
        model.layers[1] = torch.nn.Tanh()
    assert model.with_divergence() is None
    assert MLP().with_divergence() is not None


def test_the_fastest_time_feature_can_be_set():
    fast, slow = MLP(), MLP(max_frequency=2.0)
    assert (fast.embedding.frequencies.max(), slow.embedding.frequencies.max()) == (8.0, 2.0)


def test_what_it_is_told_also_joins_the_time():
    torch.manual_seed(0)
    model = MLP(2, width=8, depth=1, time_dim=4)
    x, t, also = torch.randn(3, 2), torch.rand(3), torch.randn(3, 4)
    features = model.embedding(t)
    with torch.no_grad():
        model.layers[0].weight[:, 2:] = 0  # only what joins the point
        torch.testing.assert_close(model(x, t, also=also), model(x, t))
        model.layers[0].weight[:, 2:] = 1
        told = model(x, t, also=also)
        model.embedding.forward = lambda t: features + also
    torch.testing.assert_close(told, model(x, t))
