"""What a step sees: which pictures, with which draws, in which precision."""

import copy
import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from picture_runs import CONFIG, CPU, DATA, fresh_run, step_of

from fmtutor import cfm_loss, drop_labels
from fmtutor.couplings import minibatch_ot
from fmtutor.images import batches
from fmtutor.images.batches import batch_loss, on_device, parts, seed_of, step_rows
from fmtutor.images.data import to_float, to_uint8
from fmtutor.images.prepare import network_config
from fmtutor.networks import UNet


def test_each_picture_at_most_once_in_an_epoch():
    epochs = [torch.cat([step_rows(CONFIG, 50, 6 * e + k) for k in range(6)]) for e in range(3)]
    for rows in epochs:
        assert rows.shape == (48,)
        assert len(rows.unique()) == 48
        assert (rows.min(), rows.max()) <= (1, 49)
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(step_rows(CONFIG, 50, 0), step_rows(replace(CONFIG, seed=1), 50, 0))
    assert torch.equal(step_rows(CONFIG, 50, 13), epochs[2][8:16])


def test_the_loss_is_that_of_the_plane():
    model, config = UNet(network_config(CONFIG, DATA)), replace(CONFIG, label_dropout=0.5)
    pixels, labels = DATA.train[:8], DATA.train_labels[:8]
    g = torch.Generator().manual_seed(3)
    loss = batch_loss(model, pixels, labels, config, null=3, generator=g)
    g.manual_seed(3)
    dropped = drop_labels(labels, 0.5, null=3, generator=g)
    assert 0 < (dropped == 3).sum() < 8
    assert loss == cfm_loss(model, to_float(pixels), labels=dropped, generator=g)


def test_half_of_the_pictures_are_mirrored_where_that_is_right():
    seen = []

    def v(x, t):  # at t = 1 a point is its picture
        seen.append(x)
        return torch.zeros_like(x)

    config = replace(CONFIG, conditional=False)
    pixels = DATA.train[:1].repeat(400, 1, 1, 1)
    draws = {"generator": torch.Generator().manual_seed(0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "cfm_loss", lambda v, x1, **_: v(x1, None).mean())
        batch_loss(v, pixels, None, config, flip=True, **draws)
        batch_loss(v, pixels, None, config, flip=False, **draws)
    plain = to_float(pixels)
    mirrored = (seen[0] == plain.flip(-1)).all(3).all(2).all(1)
    assert 160 < mirrored.sum() < 240
    assert torch.equal(seen[0][~mirrored], plain[~mirrored])
    assert torch.equal(seen[1], plain)


def seen_by_the_loss(config, pixels, *, flip=False, seed=0):
    """The pictures and times that the loss is given."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "cfm_loss", lambda v, x1, **given: seen.append((x1, given["t"])))
        g = torch.Generator().manual_seed(seed)
        batch_loss(None, pixels, None, replace(config, conditional=False), flip=flip, generator=g)
    return seen[0]


def test_pictures_are_moved_by_a_pixel_or_two_along_either_side():
    pixels = torch.arange(5 * 7, dtype=torch.uint8).reshape(1, 1, 5, 7).repeat(2000, 2, 1, 1)
    x, t = seen_by_the_loss(replace(CONFIG, augment=2), pixels)
    assert t is None
    rows, columns = (torch.arange(n)[None] + torch.arange(-2, 3)[:, None] for n in (5, 7))
    found = 0
    for row in rows.clamp(0, 4):  # what lies outside is what is nearest to it
        for column in columns.clamp(0, 6):
            moved = to_float(pixels[0])[:, row][:, :, column]
            share = (x == moved).flatten(1).all(1).float().mean().item()
            assert 0.01 < share < 0.07  # all 25 moves are as likely
            found += share
    assert found == pytest.approx(1)


def test_noise_of_one_level_leaves_the_pixels_as_they_are():
    pixels = torch.full((200, 1, 4, 4), 7, dtype=torch.uint8)
    x, _ = seen_by_the_loss(replace(CONFIG, dequantise=True), pixels)
    noise = (x - to_float(pixels)) * 255 / 2
    assert -0.501 < noise.min() < -0.48
    assert 0.48 < noise.max() < 0.501
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert torch.equal(to_uint8(x), pixels)


def test_times_are_drawn_as_the_settings_say():
    pixels = torch.zeros(4000, 1, 1, 1, dtype=torch.uint8)

    def logits(**change):
        _, t = seen_by_the_loss(replace(CONFIG, **change), pixels)
        return None if t is None else t.logit()

    assert logits() is None  # uniform, drawn where they always were
    normal = logits(times="logit-normal", times_mean=0.5, times_std=0.8)
    assert normal.mean().item() == pytest.approx(0.5, abs=0.05)
    assert normal.std().item() == pytest.approx(0.8, abs=0.04)
    moved = logits(times="logit-normal", times_mean=0.5, times_std=0.8, shift=3.0)
    torch.testing.assert_close(moved, normal - math.log(3), atol=1e-4, rtol=1e-4)
    assert logits(shift=3.0).sigmoid().median().item() == pytest.approx(0.25, abs=0.02)


def test_what_is_off_draws_nothing():
    # So that a run of before is the run of today, bit for bit.
    model, pixels = fresh_run(CONFIG).model, DATA.train[:8]
    config, losses = replace(CONFIG, conditional=False), []
    torch.nn.init.normal_(model.last[2].weight, generator=torch.Generator().manual_seed(0))
    for change in (
        {},
        {"augment": 1},
        {"dequantise": True},
        {"times": "logit-normal"},
        {"shift": 2.0},
    ):
        g = torch.Generator().manual_seed(0)
        given = replace(config, **change)
        losses.append(batch_loss(model, pixels, None, given, generator=g).item())
    g = torch.Generator().manual_seed(0)
    assert losses[0] == cfm_loss(model, to_float(pixels), generator=g).item()
    assert len({*losses}) == 5


def test_the_coupling_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(batches, "cfm_loss", lambda v, x1, **given: asked.append(given["coupling"]))
    for name in ("ot", "independent", "ot-within"):
        config = replace(CONFIG, conditional=name == "ot-within", coupling=name)
        batch_loss(None, DATA.train[:4], None, config)
    assert asked == [minibatch_ot, None, batches.COUPLINGS["ot-within"]]


def test_within_classes_each_keeps_its_noise():
    # Pairs stay in their class, so that the noise of each class is as normal as all of it.
    seen = {}

    def v(x, t, label):
        seen["labels"] = label
        return torch.zeros_like(x)

    config = replace(CONFIG, coupling="ot-within", label_dropout=0.0)
    labels = DATA.train_labels[:9]
    batch_loss(
        v, DATA.train[:9], labels, config, null=3, generator=torch.Generator().manual_seed(0)
    )
    assert seen["labels"].tolist() == labels.sort().values.tolist()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_gradient_is_the_mean_over_the_parts_of_a_batch(accumulate):
    config = replace(CONFIG, accumulate=accumulate, clip=1e9)
    run = fresh_run(config)
    torch.nn.init.normal_(run.model.last[2].weight, generator=torch.Generator().manual_seed(0))
    other, run.step = copy.deepcopy(run.model), 5
    with torch.random.fork_rng():
        loss, norm = step_of(run, config)
    g = torch.Generator().manual_seed(seed_of(0, "step", 5, 0))
    parts = step_rows(config, 50, 5).chunk(accumulate)
    losses = [
        batch_loss(other, DATA.train[r], DATA.train_labels[r], config, null=3, generator=g)
        for r in parts
    ]
    expected = sum(losses) / accumulate
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    squares = [weight.grad.square().sum() for weight in other.parameters()]
    assert norm.item() == pytest.approx(sum(squares).sqrt().item(), rel=1e-5)
    for weight, reference in zip(run.model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, reference.grad, atol=1e-6, rtol=1e-4)


# On an accelerator nothing is looked at: on the device "meta" there is nothing to look at.


ALL = {"augment": 1, "dequantise": True, "times": "logit-normal", "shift": 2.0}


@pytest.mark.parametrize("change", [{}, {"accumulate": 2}, {"conditional": False}, ALL])
@pytest.mark.parametrize("flip", [False, True])
def test_a_step_looks_at_no_number(change, flip):
    config = replace(CONFIG, **change)
    run = fresh_run(config, "meta")
    assert {weight.device.type for weight in run.model.parameters()} == {"meta"}
    batches._order.cache_clear()
    loss, norm = step_of(run, config, "meta", flip=flip)
    assert (loss.shape, norm.shape, run.step) == ((), (), 1)
    assert loss.is_meta
    assert norm.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()


def test_the_order_of_an_epoch_is_sent_once(monkeypatch):
    sent = []
    usual = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda n, **given: sent.append(n) or usual(n, **given))
    batches._order.cache_clear()
    for step in range(12):
        rows = step_rows(CONFIG, 50, step, "meta")
        assert (rows.shape, rows.is_meta) == ((8,), True)
    assert sent == [50, 50]


def test_gradients_are_computed_outside_of_autocast(monkeypatch):
    asked, usual, backward = [], batches.cfm_loss, torch.Tensor.backward

    def noted(act):
        def noting(*args, **given):
            asked.append(torch.is_autocast_enabled("cpu"))
            return act(*args, **given)

        return noting

    monkeypatch.setattr(batches, "cfm_loss", noted(usual))
    monkeypatch.setattr(torch.Tensor, "backward", noted(backward))
    for precision in ("bfloat16", "float32"):
        config = replace(CONFIG, precision=precision)
        step_of(fresh_run(config), config)
    assert asked == [True, False, False, False]


# What decides a run to the bit.


def test_seeds_are_those_of_the_first_edition():
    assert (seed_of(0, "step", 1, 0), seed_of("x")) == (37133330323977370, 5412244524201721)


def test_pictures_are_sent_with_their_labels(monkeypatch):
    meta = torch.device("meta")
    sent = on_device(replace(DATA, flip=True), CONFIG, meta)
    assert (sent.pixels.is_meta, sent.labels.is_meta, sent.flip) == (True, True, True)
    assert on_device(DATA, replace(CONFIG, conditional=False), meta).labels is None
    asked = []
    usual = batches.step_rows

    def recorded(*args):
        asked.append(args)
        return usual(*args)

    monkeypatch.setattr(batches, "step_rows", recorded)
    assert len([*parts(sent, CONFIG, 3, replace(CPU, device=meta))]) == 1
    assert asked == [(CONFIG, 50, 3, meta)]


def test_each_process_and_part_has_its_own_pictures():
    config, sent = replace(CONFIG, accumulate=2), on_device(DATA, CONFIG, CPU.device)
    rows = step_rows(config, 50, 7)
    seen = [[*parts(sent, config, 7, replace(CPU, rank=rank, world=2))] for rank in (0, 1)]
    for rank, own in enumerate(seen):
        assert len(own) == 2
        for k, (pixels, labels) in enumerate(own):
            expected = rows[4 * k + 2 * rank : 4 * k + 2 * rank + 2]
            assert torch.equal(pixels, DATA.train[expected])
            assert torch.equal(labels, DATA.train_labels[expected])


def test_one_generator_decides_all_draws(global_rng_untouched):
    model, losses = fresh_run(CONFIG).model, []
    config = replace(CONFIG, label_dropout=0.5)
    for seed in (3, 3, 4):
        g = torch.Generator().manual_seed(seed)
        draws = {"null": 3, "flip": True, "generator": g}
        loss = batch_loss(model, DATA.train[:8], DATA.train_labels[:8], config, **draws)
        losses.append(loss.item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("precision", "device", "able", "half"),
    [
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),
        ("auto", "cpu", True, False),
        ("float32", "cuda", True, False),
        ("bfloat16", "cuda", False, True),
        ("bfloat16", "cpu", False, True),
    ],
)
def test_the_precision_is_that_of_the_device(monkeypatch, precision, device, able, half):
    asked = []

    def supported(*, including_emulation):
        assert not including_emulation
        return able

    def autocast(*args):
        asked.append(args)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch, "autocast", autocast)
    fused = torch.backends.cuda.flash_sdp_enabled
    with batches.autocast(replace(CONFIG, precision=precision), torch.device(device)):
        assert fused() == (not half or device == "cuda")
    assert asked == ([(device, torch.bfloat16)] if half else [])
    assert fused()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_order_comes_from_memory_that_a_gpu_does_not_wait_for(monkeypatch, device):
    calls = []

    def to(order, where, *, non_blocking=False):
        calls.append((where.type, non_blocking))
        return order

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda order: calls.append("pinned") or order)
    monkeypatch.setattr(torch.Tensor, "to", to)
    batches._order.cache_clear()
    step_rows(CONFIG, 50, 0, device)
    batches._order.cache_clear()
    assert calls == (["pinned"] if device == "cuda" else []) + [(device, True)]
