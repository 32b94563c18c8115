"""Packed sets: opened without being read, refused if they are not what they say, trained from."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from picture_runs import CONFIG, CPU, DATA, assert_same, fail_at, fresh_run, quick, state_of
from test_images_pack import contents, packed

from fmtutor.images import batches
from fmtutor.images import packed as packed_sets
from fmtutor.images.batches import on_device, parts, step_rows
from fmtutor.images.checkpoint import sha256_of
from fmtutor.images.data import check_images
from fmtutor.images.manifest import Manifest, read_manifest
from fmtutor.images.packed import ask_for, load_packed, verify_packed
from fmtutor.images.prepare import begin_run, check_fit
from fmtutor.images.trainer import Stopped

FILES = ("train.bin", "train-labels.bin", "test.bin", "test-labels.bin")

MANIFEST = """\
{
 "format": "fmtutor.packed 1",
 "name": "dots",
 "classes": [
  "é",
  "b"
 ],
 "flip": false,
 "autoencoder": null,
 "dtype": "uint8",
 "shape": [
  1,
  2,
  2
 ],
 "chunk": 8192,
 "files": {
  "train-labels.bin": {
   "rows": 2,
   "sha256": [
    "4cbbd8ca5215b8d161aec181a74b694f4e24b001d5b081dc0030ed797a8973e0"
   ]
  },
  "train.bin": {
   "rows": 2,
   "sha256": [
    "8a851ff82ee7048ad09ec3847f1ddf44944104d2cbd17ef4e3db22c6785a0d45"
   ]
  },
  "test-labels.bin": {
   "rows": 1,
   "sha256": [
    "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8"
   ]
  },
  "test.bin": {
   "rows": 1,
   "sha256": [
    "e0e6e3c1c64422cc76229d0c35ba817a281f8fc4014faa3e9152428a08a73ab3"
   ]
  }
 },
 "about": {
  "scale": 0.5
 },
 "sha256": "bf2041ee97acc9195a9dbfb572f7946dbfb4606333c9f316b56aba11d72730e8"
}
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A packed set in chunks of seven pictures; tests that change it take a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fmtutor.images.pack.CHUNK_BYTES", 7 * 16)
        out = tmp_path_factory.mktemp("kept") / "set"
        packed(out)
    return out


@pytest.fixture
def copied(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "set"))


# Larger than memory.


def huge(out, rows=100_000, shape=(3, 1024, 1024)):
    """A set of 314 GB whose pictures are holes in a file, all but number 77,777."""
    labels = torch.arange(rows) % 3
    hashes = [sha256_of(labels.numpy().tobytes())]
    files = {
        "train-labels.bin": {"rows": rows, "sha256": hashes},
        "train.bin": {"rows": rows, "sha256": []},
        "test-labels.bin": {"rows": 1, "sha256": [sha256_of(bytes(8))]},
        "test.bin": {"rows": 1, "sha256": []},
    }
    manifest = Manifest("huge", DATA.classes, True, None, "uint8", shape, 1, files, {})
    out.mkdir()
    (out / "train-labels.bin").write_bytes(labels.numpy().tobytes())
    (out / "test-labels.bin").write_bytes(bytes(8))
    row = manifest.row_bytes("train.bin")
    for name, count in (("train", rows), ("test", 1)):
        with (out / f"{name}.bin").open("wb") as file:
            file.truncate(count * row)
            if count > 77_777:
                file.seek(77_777 * row)
                file.write(bytes([7]) * row)
    (out / "manifest.json").write_bytes(manifest.as_bytes())
    return out


def test_a_set_larger_than_memory_is_opened_checked_and_read_row_by_row(tmp_path):
    data = load_packed(huge(tmp_path / "huge"))
    assert data.train.nbytes == 314_572_800_000
    check_images(data)
    check_fit(CONFIG, data, CPU)
    assert data.train[77_777].unique().tolist() == [7]
    assert data.train[77_778].unique().tolist() == [0]
    seen = on_device(data, CONFIG, CPU.device)
    order = torch.cat([step_rows(CONFIG, 100_000, step) for step in range(100_000 // 8)])
    step = int((order == 77_777).nonzero()) // 8
    ((pixels, labels),) = parts(seen, CONFIG, step, CPU)
    assert pixels.shape == (8, 3, 1024, 1024)
    assert pixels.amax((1, 2, 3)).sort().values.tolist() == [0] * 7 + [7]
    assert torch.equal(labels, step_rows(CONFIG, 100_000, step) % 3)


# What is refused.


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_length_is_named_with_the_one_expected(copied, name):
    path = copied / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    expected = (
        rf"{name} is truncated: it has {len(content) - 1} bytes, expected were {len(content)}"
    )
    with pytest.raises(ValueError, match=expected):
        load_packed(copied)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=rf"{name} is another file: it has {len(content) + 1} byt"):
        load_packed(copied)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no {name} in .*set, a packed set"):
        load_packed(copied)


def test_a_directory_without_a_manifest_is_no_packed_set(copied):
    (copied / "manifest.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no packed set in .*set: it has no manifest\.json"
    ):
        load_packed(copied)


def test_every_changed_byte_of_a_manifest_is_noticed(copied):
    path = copied / "manifest.json"
    content = path.read_bytes()
    for k, byte in enumerate(content):
        path.write_bytes(content[:k] + bytes([byte ^ 1]) + content[k + 1 :])
        with pytest.raises(ValueError, match=r"manifest\.json (is damaged|has the format)"):
            load_packed(copied)
    for damaged in (content[:-1], content + b"\n", content[: len(content) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            load_packed(copied)
    path.write_bytes(content)
    load_packed(copied)


def test_a_changed_manifest_is_told_with_the_hash_that_was_expected(copied):
    path, manifest = copied / "manifest.json", read_manifest(copied)
    path.write_bytes(path.read_bytes().replace(b'"dots"', b'"cats"'))
    with pytest.raises(ValueError, match=f"is damaged: .*, expected was {manifest.sha256}"):
        load_packed(copied)


@pytest.mark.parametrize("content", ["[]", "7", '"fmtutor.packed 1"', "{}", "no JSON", "null"])
def test_what_is_no_manifest_is_told_what_one_is(copied, content):
    (copied / "manifest.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"json is damaged, or no manifest: .* 'fmtutor\.packed 1'"
    ):
        load_packed(copied)


def test_a_manifest_of_another_version_is_refused(copied):
    path = copied / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"packed 1", b"packed 2"))
    expected = r"has the format 'fmtutor\.packed 2', but 'fmtutor\.packed 1' was expected"
    with pytest.raises(ValueError, match=expected):
        load_packed(copied)


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_labels_of_another_set_are_refused(copied, tmp_path, part):
    labels = {f"{part}_labels": getattr(DATA, f"{part}_labels").flip(0)}
    packed(tmp_path / "other", replace(DATA, **labels))
    shutil.copy(tmp_path / "other" / f"{part}-labels.bin", copied)
    (expected,) = read_manifest(copied).files[f"{part}-labels.bin"]["sha256"]
    with pytest.raises(ValueError, match=rf"{part}-labels\.bin is .* another file: .*{expected}"):
        load_packed(copied)


@pytest.mark.parametrize(
    ("name", "byte", "rows"),
    [("train.bin", 0, "0 to 6"), ("train.bin", 7 * 16, "7 to 13"), ("train.bin", -1, "49 to 49"),
     ("test.bin", 50, "0 to 6")],
)  # fmt: skip
def test_a_changed_byte_of_a_picture_is_found_by_verification(copied, name, byte, rows):
    assert verify_packed(copied, progress=False) == read_manifest(copied)
    content = bytearray((copied / name).read_bytes())
    content[byte] ^= 1
    (copied / name).write_bytes(content)
    load_packed(copied)  # pictures are not read
    with pytest.raises(ValueError, match=rf"{name} is damaged or another file: its rows {rows} ha"):
        verify_packed(copied, progress=False)


# Training.


def test_training_is_the_same_to_the_bit(kept, tmp_path):
    quick(tmp_path / "memory", replace(CONFIG, sample_every=5))
    quick(tmp_path / "packed", replace(CONFIG, sample_every=5), load_packed(kept))
    assert_same(state_of(tmp_path / "memory"), state_of(tmp_path / "packed"))
    for name in ("step-0000005.png", "step-0000009.png"):
        both = [(tmp_path / run / "samples" / name).read_bytes() for run in ("memory", "packed")]
        assert both[0] == both[1]


def test_a_run_is_resumed_with_its_own_set_and_with_no_other(kept, tmp_path):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            quick(out, data=load_packed(kept))
    packed(tmp_path / "other", replace(DATA, train=DATA.train ^ 1))
    with pytest.raises(ValueError, match=f"has sha256 {read_manifest(kept).sha256}, but"):
        quick(out, data=load_packed(tmp_path / "other"), resume=True)
    quick(out, data=load_packed(Path(shutil.copytree(kept, tmp_path / "moved"))), resume=True)
    quick(tmp_path / "whole")
    assert_same(state_of(out), state_of(tmp_path / "whole"))


def test_a_run_says_what_it_was_trained_on(kept):
    about = begin_run(CONFIG, load_packed(kept), CPU).metadata
    assert (about["data"], about["pictures"], about["autoencoder"]) == ("dots", 50, None)
    assert about["sha256"] == read_manifest(kept).sha256
    assert fresh_run(CONFIG).metadata["sha256"] == ""


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_rows_of_the_next_step_are_asked_for(kept, monkeypatch, accumulate):
    asked, config = [], replace(CONFIG, accumulate=accumulate)
    monkeypatch.setattr(batches, "ask_for", lambda pixels, rows: asked.append(rows))
    seen = on_device(load_packed(kept), config, CPU.device)
    ranks = replace(CPU, rank=1, world=2)
    for step in range(8):  # an epoch has six
        for _ in parts(seen, config, step, ranks):
            pass
        own = step_rows(config, 50, step + 1).reshape(accumulate, 2, -1)[:, 1]
        assert torch.equal(asked[-1], own.flatten())
    assert len(asked) == 8
    for _ in parts(on_device(DATA, config, CPU.device), config, 0, ranks):
        pass
    assert len(asked) == 8


def test_whole_pages_are_asked_for(monkeypatch):
    class Mapping:
        def madvise(self, *given):
            calls.append(given)

    calls, pixels = [], torch.zeros(9, 1, 30, 50, dtype=torch.uint8)
    ask_for(pixels, torch.tensor([1]))  # in memory
    pixels.mapping = Mapping()
    monkeypatch.setattr(packed_sets.mmap, "PAGESIZE", 4096, raising=False)
    monkeypatch.setattr(packed_sets.mmap, "MADV_WILLNEED", 3, raising=False)
    ask_for(pixels, torch.tensor([5, 0]))
    assert calls == [(3, 4096, 9000 - 4096), (3, 0, 1500)]
    monkeypatch.delattr(packed_sets.mmap, "MADV_WILLNEED")
    ask_for(pixels, torch.tensor([5, 0]))  # a system that cannot be asked
    assert len(calls) == 2


def test_the_system_can_be_asked_for_every_row(kept):
    data = load_packed(kept)
    ask_for(data.train, torch.arange(50))
    ask_for(data.test, torch.arange(7))
    assert torch.equal(data.train, DATA.train)


# On a GPU.


@pytest.mark.parametrize(("room", "where"), [(0, "cuda"), (-1, "cpu")])
def test_a_gpu_gets_all_pictures_if_it_has_room(monkeypatch, room, where):
    sent = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (4 * DATA.train.nbytes + room, 1))
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device: sent.append(device.type) or x)
    on_device(DATA, CONFIG, torch.device("cuda"))
    assert sent == [where, where]


def test_rows_go_to_a_gpu_from_memory_that_it_does_not_wait_for(kept, monkeypatch):
    calls = []

    def to(values, where, *, non_blocking=False):
        calls.append((values.dtype, where.type, non_blocking))
        return values

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: calls.append("pinned") or x)
    seen = on_device(load_packed(kept), CONFIG, CPU.device)
    monkeypatch.setattr(torch.Tensor, "to", to)
    batches._order.cache_clear()
    ((pixels, _),) = parts(seen, CONFIG, 0, replace(CPU, device=torch.device("cuda")))
    batches._order.cache_clear()
    sent = [call for call in calls if call == "pinned" or call[1] == "cuda"]
    assert sent == ["pinned", (torch.uint8, "cuda", True), "pinned", (torch.int64, "cuda", True)]
    assert torch.equal(pixels, DATA.train[step_rows(CONFIG, 50, 0)])


def test_a_set_is_known_by_what_is_in_it(kept, tmp_path):
    known = {read_manifest(kept).sha256}
    for k, change in enumerate(
        ({"train": DATA.train ^ 1}, {"test_labels": DATA.test_labels.flip(0)})
    ):
        known.add(packed(tmp_path / str(k), replace(DATA, **change)).sha256)
    assert len(known) == 3
    stored = json.loads((kept / "manifest.json").read_text())
    assert stored["sha256"] in known
    assert set(contents(kept)) == {*FILES, "manifest.json"}


def test_the_format_is_what_it_was(tmp_path):
    # Sets are packed once and kept: what is written today has to be read tomorrow.
    pixels = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    labels = torch.tensor([1, 0, 1])
    data = replace(
        DATA, train=pixels[:2], train_labels=labels[:2], test=pixels[2:], test_labels=labels[2:]
    )
    packed(tmp_path / "set", data, classes=("é", "b"), about={"scale": 0.5})
    found = contents(tmp_path / "set")
    assert found["train.bin"] == bytes(range(8))
    assert found["test.bin"] == bytes(range(8, 12))
    assert found["train-labels.bin"] == b"\1" + bytes(15)
    assert found["test-labels.bin"] == b"\1" + bytes(7)
    assert found["manifest.json"].decode() == MANIFEST
    (tmp_path / "set" / "test.bin").write_bytes(bytes(4))
    assert load_packed(tmp_path / "set").test.tolist() == [[[[0, 0], [0, 0]]]]
    halves = torch.tensor([1.0, -2.0]).half().view(2, 1, 1, 1)
    packed(tmp_path / "latents", replace(data, train=halves, test=halves[:1], autoencoder={}))
    assert (tmp_path / "latents" / "train.bin").read_bytes() == bytes.fromhex("003c00c0")
    floats = replace(data, train=halves.float(), test=halves[:1].float(), autoencoder={})
    packed(tmp_path / "floats", floats)
    assert (tmp_path / "floats" / "train.bin").read_bytes() == bytes.fromhex("0000803f000000c0")
