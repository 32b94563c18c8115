"""The loop: it learns, it repeats itself, it averages, and it stops where a loss is no number."""

import copy
import inspect
import math
import os
import shutil

import pytest
import scipy.stats
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fmtutor import (
    MLP,
    BridgePath,
    CondOT,
    FitResult,
    GaussianMixture,
    cfm_loss,
    drop_labels,
    fit,
    loss_floor,
    minimise,
    training,
)
from fmtutor.data import cluster_means, four_clusters
from fmtutor.training import (
    _batches,
    beta,
    constant,
    descend,
    ema_decay,
    half_cosine,
    logit_normal,
    shifted,
    update_ema,
)

DATA = four_clusters(2000, seed=0)


def network(seed=0, width=16, depth=1, dtype=torch.float32):
    torch.manual_seed(seed)
    return MLP(2, width, depth, time_dim=4).to(dtype)


def quick(model, data=DATA, **settings):
    defaults = {"steps": 5, "batch_size": 32, "seed": 0, "progress": False}
    return fit(model, data, **(defaults | settings))


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


# It learns.


def test_the_loss_falls_to_its_floor_on_four_clusters():
    torch.manual_seed(0)
    model = MLP(2, 64, 2)
    data = four_clusters(20_000, seed=1)
    before = weights(model)
    result = fit(model, data, steps=800, batch_size=256, lr=4e-3, ema=0.99, seed=0, progress=False)
    assert isinstance(result, FitResult)
    assert result.losses.shape == (800,)
    floor, _ = loss_floor(GaussianMixture(cluster_means(4, 8**0.5), 0.3), seed=0)
    assert result.losses[:5].mean() > floor + 1.0
    assert floor - 0.1 < result.losses[-200:].mean() < floor + 0.25
    held_out = four_clusters(50_000, seed=2)
    with torch.no_grad():
        g = torch.Generator().manual_seed(3)
        assert floor - 0.05 < cfm_loss(result.model, held_out, generator=g) < floor + 0.2
    assert not torch.equal(weights(model), before)  # trained in place


@pytest.mark.parametrize("path", [CondOT(), CondOT(0.1), BridgePath(0.2)], ids=str)
def test_a_run_repeats_itself(path, global_rng_untouched):
    with torch.random.fork_rng():
        model = network()

    def run(seed):
        return quick(copy.deepcopy(model), seed=seed, path=path)

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first.losses, again.losses)
    assert torch.equal(weights(first.model), weights(again.model))
    assert not torch.equal(first.losses, other.losses)


def test_without_a_seed_the_global_state_is_used():
    model = network()

    def run():
        return quick(copy.deepcopy(model), seed=None).losses

    torch.manual_seed(5)
    first = run()
    assert not torch.equal(first, run())
    torch.manual_seed(5)
    assert torch.equal(first, run())


class Recorder(nn.Module):
    """A network that keeps what it was called with."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []

    def forward(self, x, t):
        self.calls.append((x.detach().clone(), t.detach().clone()))
        return self.model(x, t)


def recorded_run(model, **settings):
    """Run `fit` and return all that went in: the points, the times, the pairs, the weights."""
    recorder, pairs, history = Recorder(model), [], []

    def coupling(x0, x1):
        pairs.append((x0, x1))
        history.append(weights(model))
        return x0, x1

    result = quick(recorder, coupling=coupling, **settings)
    return result, recorder.calls, pairs, [*history, weights(model)]


def test_the_loop_is_adam_on_the_conditional_loss():
    # The same steps by hand, from what the network saw: gradients clipped at norm 1, half cosine.
    steps, lr = 12, 0.05
    by_hand, clipped = network(dtype=torch.float64), 0
    result, calls, pairs, history = recorded_run(
        copy.deepcopy(by_hand), data=5 * DATA.double(), steps=steps, lr=lr, ema=0.0
    )
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=lr, foreach=False)
    for step, ((xt, t), (x0, x1)) in enumerate(zip(calls, pairs, strict=True)):
        torch.testing.assert_close(xt, (1 - t)[:, None] * x0 + t[:, None] * x1)
        optimizer.param_groups[0]["lr"] = 0.5 * lr * (1 + math.cos(math.pi * step / steps))
        loss = (by_hand(xt, t) - (x1 - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in by_hand.parameters()]).norm()
        if norm > 1:
            clipped += 1
            for p in by_hand.parameters():
                p.grad /= norm
        optimizer.step()
        assert result.losses[step].item() == pytest.approx(loss.item(), rel=1e-4)
        torch.testing.assert_close(history[step + 1], weights(by_hand), rtol=1e-4, atol=1e-5)
    assert clipped > 0


def test_batches_are_fresh_draws_from_the_data():
    data = torch.arange(7.0)[:, None].expand(7, 2).contiguous()
    _, calls, pairs, _ = recorded_run(network(), data=data, steps=50, batch_size=64)
    for (_, t), (x0, x1) in zip(calls, pairs, strict=True):
        assert x1.shape == x0.shape == (64, 2)
        assert torch.equal(x1[:, 0], x1[:, 1])
        assert set(x1[:, 0].tolist()) <= set(range(7))
        assert t.min() >= 0
        assert t.max() < 1
    counts = torch.bincount(torch.cat([x1[:, 0] for _, x1 in pairs]).long(), minlength=7)
    assert (counts / 3200 - 1 / 7).abs().max() < 0.03  # every point, none more than another
    assert not torch.equal(pairs[0][1], pairs[1][1])
    assert not torch.equal(pairs[0][0], pairs[1][0])
    times = torch.cat([t for _, t in calls])
    assert times.mean().item() == pytest.approx(0.5, abs=0.03)
    assert times.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.02)


def test_path_and_coupling_are_passed_on():
    # x1 = 0: on CondOT(½) the point is (1 − t/2) x0, on a bridge (1 − t) x0 + σε
    zeros = torch.zeros(100, 2)
    _, calls, pairs, _ = recorded_run(network(), data=zeros, path=CondOT(0.5), batch_size=500)
    for (xt, t), (x0, _) in zip(calls, pairs, strict=True):
        torch.testing.assert_close(xt, (1 - 0.5 * t)[:, None] * x0)
    _, calls, pairs, _ = recorded_run(network(), data=zeros, path=BridgePath(0.1), batch_size=500)
    for (xt, t), (x0, _) in zip(calls, pairs, strict=True):
        assert (xt - (1 - t)[:, None] * x0).std().item() == pytest.approx(0.1, rel=0.15)
    model = Recorder(network())
    quick(model, coupling=lambda x0, x1: (0 * x0, 0 * x1 + 3))
    for xt, t in model.calls:
        torch.testing.assert_close(xt, 3 * t[:, None].expand(32, 2))


# The average.


def test_update_ema_by_hand():
    average, model = network(0), network(1)
    old, new = weights(average), weights(model)
    update_ema(average, model, 0.9)
    torch.testing.assert_close(weights(average), 0.9 * old + 0.1 * new)
    assert torch.equal(weights(model), new)
    update_ema(average, model, 1.0)
    torch.testing.assert_close(weights(average), 0.9 * old + 0.1 * new)
    update_ema(average, model, 0.0)
    torch.testing.assert_close(weights(average), new)


def test_update_ema_copies_buffers():
    average, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    model(torch.randn(8, 2))
    update_ema(average, model, 0.9)
    assert torch.equal(average.running_mean, model.running_mean)
    assert average.num_batches_tracked == 1
    assert average.running_mean is not model.running_mean


@pytest.mark.parametrize("ema", [0.5, 0.999])
def test_the_average_of_a_run_is_the_formula(ema):
    model = network()
    result, _, _, history = recorded_run(model, steps=15, ema=ema, lr=0.05)
    average = history[0]
    for step, current in enumerate(history[1:]):
        decay = min(ema, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * current
    torch.testing.assert_close(weights(result.model), average, rtol=1e-4, atol=1e-5)
    assert not torch.equal(weights(result.model), weights(model))


def test_without_an_average_the_model_itself_comes_back():
    model = network()
    result = quick(model, ema=0.0)
    assert result.model is model
    assert not model.training  # ready to sample
    assert all(p.requires_grad for p in model.parameters())


def test_with_an_average_the_result_is_another_network_ready_to_sample():
    model = network()
    result = quick(model)
    assert result.model is not model
    assert not result.model.training
    assert model.training


def test_the_network_is_in_training_mode_while_it_is_trained():
    class Modes(Recorder):
        def forward(self, x, t):
            self.calls.append(self.training)
            return self.model(x, t)

    model = Modes(network()).eval()
    quick(model)
    assert model.calls == [True] * 5


# When a loss is no number.


def test_a_loss_that_overflows_at_once_is_named_and_nothing_is_changed():
    model = network()
    before = weights(model)
    message = r"the loss became inf at step 0 with learning rate 0\.01; take a smaller lr"
    with pytest.raises(FloatingPointError, match=message):
        quick(model, data=torch.full((10, 2), 1e30), lr=0.01)
    assert torch.equal(weights(model), before)


def test_the_step_and_its_learning_rate_are_named_and_the_weights_stay_finite():
    class Breaks(nn.Module):
        """Is fine for three calls."""

        def __init__(self):
            super().__init__()
            self.weight, self.count = nn.Parameter(torch.ones(())), 0

        def forward(self, x, t):
            self.count += 1
            return self.weight * x * (math.nan if self.count == 4 else 1.0)

    model = Breaks()
    with pytest.raises(
        FloatingPointError, match=r"became nan at step 3 with learning rate 0\.005;"
    ):
        quick(model, steps=6, lr=0.01)  # half way down the cosine
    assert model.weight.isfinite()
    assert model.weight != 1
    assert model.count == 4  # it stopped at once


def test_a_learning_rate_far_too_large_ends_in_this_error():
    model = network()
    with pytest.raises(FloatingPointError, match=r"at step \d+ with learning rate"):
        quick(model, lr=1e30, steps=50)
    assert weights(model).isfinite().all()


# The progress bar.


def test_the_progress_bar_can_be_switched_off(capsys):
    quick(network())
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_the_progress_bar_shows_steps_and_loss(capsys):
    quick(network(), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5/5" in captured.err
    assert "loss=" in captured.err


# Other dtypes and shapes.


def test_double_precision():
    result = quick(network(dtype=torch.float64), data=DATA.double())
    assert result.losses.isfinite().all()
    assert next(result.model.parameters()).dtype == torch.float64


def test_images():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x, t):
            return self.weight * x * t.reshape(-1, 1, 1, 1)

    result = quick(Scale(), data=torch.randn(10, 3, 4, 4))
    assert result.losses.shape == (5,)


# Compiled.


def has_compiler():
    return any(map(shutil.which, [os.environ.get("CXX", "c++"), "g++", "clang++"]))


@pytest.mark.parametrize("compile", [False, True])
def test_the_loss_is_compiled_when_asked(compile, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda loss: asked.append(loss) or loss)
    model = network()
    quick(model, compile=compile)
    assert asked == ([cfm_loss] if compile else [])


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler: install g++")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_training_is_the_same_training():
    model = network()
    eager = quick(copy.deepcopy(model), steps=4, ema=0.5)
    compiled = quick(copy.deepcopy(model), steps=4, ema=0.5, compile=True)
    torch.testing.assert_close(compiled.losses, eager.losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights(compiled.model), weights(eager.model), rtol=1e-3, atol=1e-4)
    assert isinstance(compiled.model, MLP)  # no wrapper left around it


# Bad input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, but 0 came"),
        ({"batch_size": 0}, "batch_size must be at least 1, but 0 came"),
        ({"lr": 0.0}, "lr must be positive and finite, but 0.0 came"),
        ({"lr": -1.0}, "lr must be positive and finite"),
        ({"lr": math.nan}, "lr must be positive and finite, but nan"),
        ({"lr": math.inf}, "lr must be positive and finite, but inf"),
        ({"warmup": -1}, r"warmup must lie in \[0, steps\) = \[0, 5\), but -1 came"),
        ({"warmup": 5}, r"\[0, 5\), but 5 came"),
        ({"time_sampler": lambda x1, g: 1 + torch.rand(len(x1))}, r"t must lie in \[0, 1\]"),
        ({"time_sampler": lambda x1, g: torch.rand(len(x1), 1)}, r"t has shape \[32, 1\]"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\), but 1.0 came"),
        ({"ema": -0.1}, r"ema must lie in \[0, 1\)"),
        ({"ema": math.nan}, r"ema must lie in \[0, 1\), but nan"),
        ({"data": torch.zeros(0, 2)}, "data must be a non-empty batch"),
        ({"data": torch.tensor([[0.0, math.nan]])}, "data must be finite, but 1 of 2"),
        ({"data": torch.tensor([[0.0, math.inf]])}, "data must be finite, but 1 of 2"),
        ({"data": torch.zeros(10, 3)}, r"x must have shape \[b 2\]"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_changed(settings, message):
    model = network()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        quick(model, **settings)
    assert torch.equal(weights(model), before)


def test_bad_types_are_refused():
    with pytest.raises(TypeError, match=r"data must be floating point, .* torch\.int64"):
        quick(network(), data=torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(TypeError, match=r"a batch of data must be a torch\.Tensor, but a float"):
        quick(network(), data=[[0.0, 0.0]])
    with pytest.raises(TypeError, match=r"torch\.float32, but data is torch\.float64"):
        quick(network(), data=DATA.double())
    with pytest.raises(ValueError, match="the model is on meta, but the data is on cpu"):
        quick(network().to("meta"))
    with pytest.raises(ValueError, match="the model has no parameters to train"):
        quick(nn.Identity())


# Warm-up.


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_the_learning_rate_rises_linearly_under_the_half_cosine(warmup, monkeypatch):
    rates = []

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    quick(network(), steps=12, lr=0.05, warmup=warmup)
    for k, rate in enumerate(rates):
        rise = min(1.0, (k + 1) / (warmup + 1))
        assert rate == pytest.approx(0.05 * rise * 0.5 * (1 + math.cos(math.pi * k / 12)))
    assert len(rates) == 12


def test_the_learning_rate_that_is_named_knows_the_warmup():
    with pytest.raises(FloatingPointError, match=r"at step 0 with learning rate 0\.002;"):
        quick(network(), data=torch.full((10, 2), 1e30), lr=0.01, warmup=4)


# Times.


def test_the_times_are_those_of_the_sampler():
    def sampler(x1, generator):
        assert isinstance(generator, torch.Generator)
        return 0.25 * torch.rand(len(x1), generator=generator)

    _, calls, pairs, _ = recorded_run(network(), time_sampler=sampler)
    for (xt, t), (x0, x1) in zip(calls, pairs, strict=True):
        assert t.max() < 0.25
        torch.testing.assert_close(xt, (1 - t)[:, None] * x0 + t[:, None] * x1)
    again = quick(network(), time_sampler=sampler)
    assert torch.equal(again.losses, quick(network(), time_sampler=sampler).losses)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.7)])
def test_logit_normal_times_have_a_normal_logit(mean, std):
    g = torch.Generator().manual_seed(0)
    t = logit_normal(torch.zeros(100_000, 3, dtype=torch.float64), g, mean=mean, std=std)
    assert t.shape == (100_000,)
    assert t.dtype == torch.float64
    z = ((t / (1 - t)).log() - mean) / std
    normal = torch.distributions.Normal(0.0, 1.0)
    for level in (-1.5, -0.5, 0.0, 0.5, 1.5):
        share = (z < level).double().mean()
        assert share.item() == pytest.approx(normal.cdf(torch.tensor(level)).item(), abs=0.006)


def test_logit_normal_times_can_be_repeated(global_rng_untouched):
    def draw():
        return logit_normal(DATA[:5], torch.Generator().manual_seed(1))

    assert torch.equal(draw(), draw())
    assert draw().dtype == torch.float32


@pytest.mark.parametrize("bad", [{"std": 0.0}, {"std": math.inf}, {"mean": math.nan}])
def test_logit_normal_refuses_bad_parameters(bad):
    with pytest.raises(ValueError, match="mean must be finite, std positive and finite"):
        logit_normal(DATA, **bad)
    with pytest.raises(TypeError, match="x1 must be floating point"):
        logit_normal(torch.zeros(3, 2, dtype=torch.long))


def test_a_time_density_is_a_weight():
    # E over t ~ w of the loss equals E over uniform t of w(t) times it.
    n, normal = 200_000, torch.distributions.Normal(0.0, 1.0)
    mixture = GaussianMixture(cluster_means(4, 8**0.5, dtype=torch.float64), 0.3)
    g = torch.Generator().manual_seed(2)
    x1 = mixture.sample(n, generator=g)
    v = mixture.velocity(CondOT())

    def field(x, t):  # one that is wrong, more so at late times
        return v(x, t) + 2 * t[:, None]

    drawn = cfm_loss(field, x1, t=logit_normal(x1, g), generator=g)
    t = torch.rand(n, generator=g, dtype=torch.float64)
    s = CondOT().sample(torch.randn(x1.shape, generator=g, dtype=x1.dtype), x1, t)
    weight = normal.log_prob((t / (1 - t)).log()).exp() / (t * (1 - t))
    weighted = (weight * (field(s.xt, t) - s.ut).square().mean(1)).mean()
    assert drawn.item() == pytest.approx(weighted.item(), rel=0.02)


BETAS = [(1.5, 1.0), (1.0, 1.5), (0.5, 0.5), (3.0, 2.0)]


@pytest.mark.parametrize(("a", "b"), BETAS)
def test_beta_times_have_the_moments_of_their_law(a, b):
    # u^(1/a)/(u^(1/a) + v^(1/b)) of uniform u, v, without rejection, has the mean .558 for .600.
    g = torch.Generator().manual_seed(0)
    t = beta(a, b)(torch.zeros(200_000, 3, dtype=torch.float64), g)
    assert t.shape == (200_000,)
    assert t.dtype == torch.float64
    law = scipy.stats.beta(a, b)
    assert t.mean().item() == pytest.approx(law.mean(), abs=4 * law.std() / 200_000**0.5)
    for level in (0.1, 0.5, 0.9):
        assert (t < level).double().mean().item() == pytest.approx(law.cdf(level), abs=0.005)


def test_shifted_times_have_a_shifted_logit(global_rng_untouched):
    x1 = torch.zeros(1000, 3, dtype=torch.float64)
    plain, moved = (
        sampler(x1, torch.Generator().manual_seed(0))
        for sampler in (logit_normal, shifted(4.0, logit_normal))
    )
    torch.testing.assert_close(moved.logit(), plain.logit() - math.log(4))
    u = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = shifted(4.0)(x1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(t, u / (u + 4 * (1 - u)))
    assert torch.equal(shifted(1.0)(x1, torch.Generator().manual_seed(0)), u)


@pytest.mark.parametrize("sampler", [logit_normal, shifted(3.0), beta(1.5, 1.0)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_time_sampler_gives_times_like_the_data(sampler, dtype, global_rng_untouched):
    t = sampler(torch.zeros(1000, 1, 2, 2, dtype=dtype), torch.Generator().manual_seed(0))
    assert t.shape == (1000,)
    assert t.dtype == dtype
    assert bool(((t >= 0) & (t <= 1)).all())
    assert torch.equal(
        t, sampler(torch.zeros(1000, 2, dtype=dtype), torch.Generator().manual_seed(0))
    )
    on_meta = sampler(torch.zeros(5, 2, device="meta"), None)  # reads nothing back
    assert (on_meta.shape, on_meta.device.type) == ((5,), "meta")
    with torch.random.fork_rng():
        model = network()
    assert bool(quick(model, time_sampler=sampler).losses.isfinite().all())


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_bad_time_densities_are_refused(bad):
    for make in (lambda: beta(bad, 1.0), lambda: beta(1.0, bad)):
        with pytest.raises(ValueError, match="a and b must be positive and finite"):
            make()
    with pytest.raises(ValueError, match="ratio must be positive and finite"):
        shifted(bad)


# Labels.


def labelled(n=2000):
    labels = torch.arange(n) % 2
    return DATA[:n] / 4 + torch.tensor([4.0, 0.0]) * (2 * labels[:, None] - 1), labels


def conditional_network(classes=2, width=16):
    torch.manual_seed(0)
    return MLP(2, width, 1, time_dim=4, classes=classes)


class LabelRecorder(nn.Module):
    """A network that keeps the points and labels it was called with."""

    def __init__(self, model, classes):
        super().__init__()
        self.model, self.classes, self.calls = model, classes, []

    def forward(self, x, t, label=None):
        self.calls.append((x.detach().clone(), t.clone(), label.clone()))
        return self.model(x, t, label)


def test_one_network_learns_both_fields():
    data, labels = labelled()
    model = conditional_network(width=32)
    settings = {"steps": 400, "batch_size": 256, "lr": 1e-2, "ema": 0.9}
    trained = quick(model, data, labels=labels, label_dropout=0.3, **settings).model
    with torch.no_grad():
        x, t = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), 0.0
        right, left, both = trained(x, t, 1), trained(x, t, 0), trained(x, t)
    # At t = 0 the exact field is E[x1 | label] − x.
    for field, mean in ((right, 4.0), (left, -4.0), (both, 0.0)):
        assert (field + x).mean(0)[0].item() == pytest.approx(mean, abs=1.0)


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_each_point_keeps_its_label_or_has_none(rate):
    data, labels = labelled()
    recorder = LabelRecorder(conditional_network(), 2)
    quick(
        recorder, data, labels=labels, label_dropout=rate, steps=20, batch_size=500,
        time_sampler=lambda x1, g: torch.ones(len(x1)),
    )  # at t = 1 the point is the data point  # fmt: skip
    points, _, given = (torch.cat(parts) for parts in zip(*recorder.calls, strict=True))
    dropped = given == 2
    assert dropped.float().mean().item() == pytest.approx(rate, abs=0.015)
    assert torch.equal((points[:, 0] > 0).long()[~dropped], given[~dropped])
    assert len({int((call[2] == 2).sum()) for call in recorder.calls}) > 1 or rate == 0


def test_the_default_rate_is_one_tenth():
    data, labels = labelled()
    recorder = LabelRecorder(conditional_network(), 2)
    quick(recorder, data, labels=labels, steps=20, batch_size=1000)
    given = torch.cat([call[2] for call in recorder.calls])
    assert (given == 2).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_coupling_takes_the_labels_along():
    data, labels = labelled()

    def backward(x0, x1, *labels):
        return (x0, x1.flip(0), *(label.flip(0) for label in labels))

    recorder = LabelRecorder(conditional_network(), 2)
    quick(
        recorder, data, labels=labels, label_dropout=0.0, coupling=backward,
        time_sampler=lambda x1, g: torch.ones(len(x1)),
    )  # fmt: skip
    for points, _, given in recorder.calls:
        assert torch.equal((points[:, 0] > 0).long(), given)


def test_a_conditional_run_repeats_itself(global_rng_untouched):
    data, labels = labelled()
    with torch.random.fork_rng():
        model = conditional_network()

    def run(seed):
        return quick(copy.deepcopy(model), data, labels=labels, seed=seed).losses

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_without_labels_the_draws_are_those_of_a_plain_run():
    # What a step draws, in this order: rows, noise, times. Nothing else may take a number.
    recorder = Recorder(network())
    quick(recorder, steps=3, label_dropout=0.5)
    g = torch.Generator().manual_seed(0)
    for xt, t in recorder.calls:
        x1 = DATA[torch.randint(len(DATA), (32,), generator=g)]
        x0 = torch.randn(x1.shape, generator=g)
        assert torch.equal(t, torch.rand(32, generator=g))
        torch.testing.assert_close(xt, (1 - t)[:, None] * x0 + t[:, None] * x1)


def test_bad_labels_are_refused_before_anything_is_changed():
    data, labels = labelled(10)
    model = conditional_network()
    before = weights(model)
    for bad, message in [
        (labels[:9], r"labels must be \[10\], one for each point, but \[9\] came"),
        (labels + 1, r"labels must be 0, \.\.\., 1, but 2 came"),  # the null label is no label
        (labels - 1, "but -1 came"),
        (labels.to("meta"), "the labels are on meta, but the data is on cpu"),
    ]:
        with pytest.raises(ValueError, match=message):
            quick(model, data, labels=bad)
    with pytest.raises(TypeError, match="labels must be an int64 tensor"):
        quick(model, data, labels=labels.float())
    for rate in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"label_dropout must lie in \[0, 1\)"):
            quick(model, data, labels=labels, label_dropout=rate)
    for plain in (network(), Recorder(network())):
        with pytest.raises(ValueError, match="labels came, but the model has no classes"):
            quick(plain, data, labels=labels)
    assert torch.equal(weights(model), before)


# What comes back can be used, and trained on.


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_result_can_be_trained_on(ema):
    frozen = network()
    frozen.layers[0].weight.requires_grad_(False)
    for model in (network(), frozen):
        result = quick(model, ema=ema)
        flags = [p.requires_grad for p in result.model.parameters()]
        assert flags == [p.requires_grad for p in model.parameters()]
        cfm_loss(result.model, DATA[:4]).backward()
        before = weights(result.model)
        assert not torch.equal(weights(quick(result.model, ema=ema).model), before)


def test_a_frozen_model_is_refused():
    with pytest.raises(ValueError, match="all weights of the model are frozen"):
        quick(network().requires_grad_(False))


def test_a_model_with_classes_is_not_trained_without_labels():
    with pytest.raises(ValueError, match="the model has 3 classes, but no labels came"):
        quick(MLP(classes=3))


def test_an_average_in_half_precision_is_refused_where_it_would_stand_still():
    model = network(dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"held in float32 or float64, .* torch\.bfloat16"):
        update_ema(copy.deepcopy(model), model, 0.9999)
    average = copy.deepcopy(model).float()
    with torch.no_grad():
        for p in average.parameters():
            p.zero_()
        for p in model.parameters():
            p.fill_(1.0)
    for _ in range(5000):
        update_ema(average, model, 0.9999)
    expected = torch.full_like(weights(average), 1 - 0.9999**5000)
    torch.testing.assert_close(weights(average), expected, rtol=1e-3, atol=0)


def test_a_model_in_half_precision_is_averaged_in_float32():
    model = network(dtype=torch.bfloat16)
    result = quick(model, data=DATA.bfloat16(), steps=400, ema=0.999, lr=1e-3)
    assert {p.dtype for p in result.model.parameters()} == {torch.bfloat16}
    moved = weights(result.model) - weights(network(dtype=torch.bfloat16))
    assert (moved != 0).float().mean() > 0.5


# The loop for other losses.


def test_minimise_is_the_loop_of_fit():
    def loss(v, x1, *, generator=None):
        return cfm_loss(v, x1, path=CondOT(0.1), generator=generator)

    settings = {"steps": 7, "batch_size": 16, "warmup": 2, "ema": 0.5, "progress": False}
    first, second = network(), network()
    given = minimise(first, DATA, loss, **settings)
    expected = fit(second, DATA, path=CondOT(0.1), **settings)
    assert torch.equal(given.losses, expected.losses)
    assert torch.equal(weights(given.model), weights(expected.model))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [(None, [1, 0.75, 0.25]), (constant, [1, 1, 1]), (lambda done: 1 - done, [1, 2 / 3, 1 / 3])],
)
def test_the_schedule_is_a_function_of_the_share_that_is_done(schedule, rates, monkeypatch):
    seen = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self: seen.append(self.param_groups[0]["lr"]) or step(self),
    )
    minimise(network(), DATA, loss_of_cfm, steps=3, lr=1.0, schedule=schedule, progress=False)
    assert seen == pytest.approx(rates)


def loss_of_cfm(v, x1, *cond, generator=None):
    return cfm_loss(v, x1, cond=cond, generator=generator)


def test_conditions_come_with_their_points():
    data = torch.arange(40.0)[:, None].expand(40, 2)
    cond = (torch.arange(40), 2 * data)
    seen = []

    def loss(v, x1, index, twice, *, generator=None):
        seen.append(index)
        assert torch.equal(x1[:, 0], index.float())
        assert torch.equal(twice, 2 * x1)
        return v(x1, torch.zeros(len(x1))).square().mean()

    minimise(network(), data, loss, cond=cond, steps=4, batch_size=8, lr=1e-9, progress=False)
    assert [len(index) for index in seen] == [8] * 4
    with pytest.raises(ValueError, match=r"cond\[0\] must be \[40 ...\]"):
        minimise(network(), data, loss, cond=torch.zeros(39), progress=False)


def test_a_data_loader_is_gone_through_again_and_again():
    data = TensorDataset(DATA[:48], torch.arange(48))
    seen = []

    def loss(v, x1, index, *, generator=None):
        seen.append(index)
        assert torch.equal(x1, DATA[index])
        return cfm_loss(v, x1, generator=generator)

    loader = DataLoader(data, batch_size=16, shuffle=True)
    minimise(network(), loader, loss, steps=6, progress=False)
    for epoch in (seen[:3], seen[3:]):
        assert torch.cat(epoch).sort().values.tolist() == [*range(48)]
    quick(network(), data=[DATA[:10], DATA[10:30]])  # plain batches will do
    for data, error, message in (
        ([], ValueError, "no batch came of it"),
        (iter([DATA]), ValueError, "gone through again and again"),
        ([(DATA, torch.zeros(3))], ValueError, r"cond\[0\] must be \[2000 ...\]"),
    ):
        with pytest.raises(error, match=message):
            quick(network(), data=data)


def test_a_loss_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="loss must be a function loss"):
        minimise(network(), DATA, None)


def test_a_step_reads_nothing_back_from_an_accelerator():
    model = MLP(2, 8, 1, classes=3).to("meta")
    average = copy.deepcopy(model)
    weights = list(model.parameters())
    optimizer = torch.optim.Adam(weights, fused=False)
    x1 = torch.empty(16, 2, device="meta")
    label = torch.empty(16, dtype=torch.long, device="meta")
    for step in range(2):
        y = drop_labels(label, 0.1, null=3)
        descend(cfm_loss(model, x1, labels=y), weights, optimizer, half_cosine(step / 2))
        update_ema(average, model, ema_decay(step, 0.999))
    rows, *_ = next(_batches(x1, (label,), 4, None))
    assert rows.shape == (4, 2)


# What nobody gives, and what only shows at the edge.


@pytest.mark.parametrize("f", [minimise, fit])
def test_the_settings_that_nobody_gives(f):
    given = {name: p.default for name, p in inspect.signature(f).parameters.items()}
    expected = {"steps": 2000, "batch_size": 512, "lr": 2e-3, "warmup": 0, "ema": 0.999, "seed": 0}
    assert given | expected | {"progress": True} == given


def test_adam_is_the_fused_one_on_a_cpu(monkeypatch):
    given = []

    class Watched(torch.optim.Adam):
        def __init__(self, weights, **settings):
            given.append(settings)
            super().__init__(weights, **settings)

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    quick(network(), steps=1, lr=0.25)
    assert given == [{"lr": 0.25, "fused": True}]


def test_the_bar_shows_the_mean_of_the_last_fifty_losses(monkeypatch):
    bars = []

    class Bar(list):
        def set_postfix(self, **given):
            self.shown.append(given)

    def trange(steps, **given):
        bars.append(Bar(range(steps)))
        bars[-1].shown, bars[-1].given = [], given
        return bars[-1]

    values = iter(range(1000))

    def loss(v, x1, *, generator=None):
        return 0 * v(x1, 0.5).sum() + next(values)

    monkeypatch.setattr(training, "trange", trange)
    for progress in (True, False):
        minimise(network(), DATA, loss, steps=102, batch_size=2, progress=progress)
    shown, hidden = bars
    assert shown.given == {"desc": "fit", "disable": False}
    assert hidden.given == {"desc": "fit", "disable": True}
    means = [0, sum(range(1, 51)) / 50, sum(range(51, 101)) / 50]
    assert shown.shown == [{"loss": f"{mean:.3f}"} for mean in means]
    assert hidden.shown == []


@pytest.mark.parametrize("clip", [None, 0.5, 10.0])
def test_one_step_down_a_gradient(clip):
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    w.grad = torch.ones(2)  # of before, which does not count
    optimizer = torch.optim.SGD([w], lr=100.0)
    descend(w.square().sum() / 2, [w], optimizer, 0.25, **({} if clip is None else {"clip": clip}))
    cut = min(5.0, 1.0 if clip is None else clip) / 5  # the gradient is w, of norm 5
    torch.testing.assert_close(w.data, (1 - 0.25 * cut) * torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_buffers_come_back_as_the_model_has_them_and_on_their_own(dtype, ema):
    model = nn.BatchNorm1d(2).to(dtype)

    def loss(v, x1, *, generator=None):
        return v(x1).square().mean()

    result = minimise(model, DATA.to(dtype), loss, steps=3, ema=ema, progress=False).model
    for name, buffer in model.named_buffers():
        held = result.get_buffer(name)
        assert held.dtype == buffer.dtype
        assert torch.equal(held, buffer)
        assert (held.data_ptr() == buffer.data_ptr()) == (ema == 0)
    assert {p.dtype for p in result.parameters()} == {dtype}


def test_one_class_is_enough_for_labels():
    model = conditional_network(classes=1)
    assert quick(model, labels=torch.zeros(2000, dtype=torch.long)).losses.isfinite().all()
    with pytest.raises(ValueError, match="the model has 1 classes, but no labels came"):
        quick(model)
    with pytest.raises(ValueError, match="the batches of an iterable carry their own"):
        quick(model, data=[DATA], labels=torch.zeros(2000, dtype=torch.long))


@pytest.mark.parametrize(("steps", "looks"), [(1, [(0, 1)]), (52, [(0, 1), (1, 51), (2, 52)])])
def test_on_an_accelerator_losses_are_looked_at_now_and_then(steps, looks, monkeypatch):
    # The meta device stands in for one. It keeps no numbers, so the last line can only fail.
    seen = []
    monkeypatch.setattr(training, "_refuse_nan", lambda losses, a, b, rate: seen.append((a, b)))
    batches = [torch.empty(4, 2, device="meta")]
    with pytest.raises(NotImplementedError, match="meta"):
        quick(network().to("meta"), data=batches, steps=steps, seed=None)
    assert seen == looks


def test_the_noise_and_the_conditions_after_the_labels_are_passed_on():
    labels, extra = torch.arange(40) % 3, torch.arange(40.0)
    data = extra[:, None].expand(40, 2)
    seen = []

    class Told(nn.Module):
        classes = 3

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, t, label, first, second):
            # At t = 1 the point is the data point, and the target is x1 - x0 = x1 - 7.
            assert torch.equal(x[:, 0], first)
            assert torch.equal(second, -first)
            assert torch.equal(label, first.long() % 3)
            seen.append(len(x))
            return self.weight * (x - 7)

    losses = quick(
        Told(), data, labels=labels, cond=(extra, -extra), label_dropout=0.0, lr=1e-9,
        noise=lambda x1, g: torch.full_like(x1, 7.0),
        time_sampler=lambda x1, g: torch.ones(len(x1)),
    ).losses  # fmt: skip
    assert seen == [32] * 5
    assert losses.max() < 1e-9


def test_tokens_are_data_where_the_noise_is_not_gaussian():
    class Half:
        """A path from tokens to points."""

        def sample(self, x0, x1, t, *, generator=None):
            assert x0.dtype == x1.dtype == torch.long
            return CondOT().sample(x0.double(), x1.double(), t.double())

    tokens = torch.randint(5, (40, 2))
    for data in (tokens, [tokens]):
        result = quick(
            network(dtype=torch.float64), data, path=Half(),
            noise=lambda x1, g: torch.zeros_like(x1),
            time_sampler=lambda x1, g: torch.rand(len(x1)),
        )  # fmt: skip
        assert result.losses.isfinite().all()


def test_the_conditions_of_a_batch_have_its_length_whatever_the_loss_does_with_them():
    def loss(v, x1, c, *, generator=None):
        return v(x1, 0.5).square().mean()

    for cond in (torch.zeros(3), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"cond\[0\] must be \[2000 ...\]"):
            minimise(network(), [(DATA, cond)], loss, steps=1, progress=False)


@pytest.mark.parametrize(
    "make", [lambda: logit_normal, lambda: shifted(3.0), lambda: beta(2.0, 1.0)]
)
def test_a_time_sampler_is_told_of_points_and_of_a_generator(make, global_rng_untouched):
    sampler = make()
    with pytest.raises(TypeError, match="x1 must be floating point"):
        sampler(torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="x1 must be a non-empty batch"):
        sampler(torch.zeros(0, 2))
    on_meta = sampler(torch.zeros(3, 2, device="meta"))
    assert (on_meta.shape, on_meta.device.type) == ((3,), "meta")
    drawn = [sampler(torch.zeros(9, 2), torch.Generator().manual_seed(k)) for k in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_run_makes_everything_on_the_device_of_the_model():
    model, other = network(), network()
    expected = quick(model)
    with torch.device("meta"):  # what is made without device= would not fit
        result = quick(other)
    assert torch.equal(result.losses, expected.losses)
    assert torch.equal(weights(result.model), weights(expected.model))


def test_of_several_losses_the_first_that_is_no_number_is_named():
    losses = torch.tensor([1.0, math.inf, 1.0, 1.0, math.nan, math.inf])
    training._refuse_nan(losses, 2, 4, constant)
    with pytest.raises(FloatingPointError, match=r"became nan at step 4 with learning rate 0\.4;"):
        training._refuse_nan(losses, 2, 6, lambda step: step / 10)
