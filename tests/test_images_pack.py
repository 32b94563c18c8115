"""Packing: what is written, what an interruption leaves, what is refused."""

import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from picture_runs import CONFIG, DATA, log_of, quick
from PIL import Image

from fmtutor.images import chunks, folder, pack
from fmtutor.images.checkpoint import save_model
from fmtutor.images.data import ImageData, check_images, to_float
from fmtutor.images.datasets import load_images
from fmtutor.images.evaluate import evaluate
from fmtutor.images.latents import encode_all, identity
from fmtutor.images.pack import pack_arrays, pack_images
from fmtutor.networks import Autoencoder
from fmtutor.networks.autoencoder import AutoencoderConfig

LABELS = {"train": DATA.train_labels, "test": DATA.test_labels}
SAID = {"name": "dots", "classes": DATA.classes, "progress": False}


def rows_of(data):
    return lambda part, start, stop: getattr(data, part)[start:stop]


def packed(out, data=DATA, **options):
    labels = {"train": data.train_labels, "test": data.test_labels}
    return pack_arrays(
        out, rows_of(data), labels, **SAID | {"autoencoder": data.autoencoder} | options
    )


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(Path(out).iterdir())}


@pytest.fixture
def small_chunks(monkeypatch):
    """Seven pictures in a chunk: 50 of them are 7 chunks and a picture."""
    monkeypatch.setattr(pack, "CHUNK_BYTES", 7 * 16 + 3)


def test_what_is_packed_is_what_was_there(tmp_path, small_chunks):
    manifest = packed(tmp_path / "set", flip=True, about={"scale": 0.5})
    assert contents(tmp_path / "set").keys() == {
        "manifest.json", "test-labels.bin", "test.bin", "train-labels.bin", "train.bin",
    }  # fmt: skip
    assert (tmp_path / "set" / "train.bin").read_bytes() == DATA.train.numpy().tobytes()
    data = load_images("packed", data_dir=tmp_path / "set")
    for name in ("train", "train_labels", "test", "test_labels"):
        assert torch.equal(getattr(data, name), getattr(DATA, name))
        assert getattr(data, name).dtype == getattr(DATA, name).dtype
    assert (data.name, data.classes, data.flip) == ("dots", DATA.classes, True)
    assert data.autoencoder is None
    assert data.sha256 == manifest.sha256
    assert (manifest.chunk, manifest.about) == (7, {"scale": 0.5})
    assert [len(entry["sha256"]) for entry in manifest.files.values()] == [1, 8, 1, 1]


def test_a_set_that_has_a_name(tmp_path):
    manifest = pack_images(tmp_path / "set", "digits", progress=False)
    data, digits = load_images("packed", data_dir=tmp_path / "set"), load_images("digits")
    assert replace(data, train=0, test=0, train_labels=0, test_labels=0, sha256="") == replace(
        digits, train=0, test=0, train_labels=0, test_labels=0
    )
    assert torch.equal(data.train, digits.train)
    assert torch.equal(data.test_labels, digits.test_labels)
    assert manifest.about == {"data": "digits"}


def test_a_set_with_a_name_is_mirrored_if_it_may_be(tmp_path, monkeypatch):
    for flip in (False, True):
        known = replace(DATA, flip=flip)
        monkeypatch.setattr(pack, "load_images", lambda name, known=known, **_: known)
        # What the data set says of itself counts.
        pack_images(tmp_path / str(flip), "cifar10", flip=not flip, progress=False)
        assert load_images("packed", data_dir=tmp_path / str(flip)).flip == flip


# Interruptions.


class Interrupted(Exception):
    pass


def failing_at(call, asked):
    def rows(part, start, stop):
        asked.append((part, start, stop))
        if len(asked) == call:
            raise Interrupted
        return getattr(DATA, part)[start:stop]

    return rows


def test_an_interrupted_packing_goes_on_to_the_same_bytes(tmp_path, small_chunks):
    packed(tmp_path / "whole")
    for call in range(2, 11):
        out, asked = tmp_path / str(call), []
        with pytest.raises(Interrupted):
            pack_arrays(out, failing_at(call, asked), LABELS, **SAID)
        with pytest.raises(FileNotFoundError, match=f"the packed set in {out} is unfinished"):
            load_images("packed", data_dir=out)
        missing = asked[-1]
        asked.clear()
        pack_arrays(out, failing_at(0, asked), LABELS, **SAID)
        assert asked[:2] == [("train", 0, 1), missing]  # what is done is not asked for again
        assert contents(out) == contents(tmp_path / "whole")


def test_what_a_killed_process_left_is_cut_off(tmp_path, small_chunks):
    packed(tmp_path / "whole")
    out = tmp_path / "killed"
    with pytest.raises(Interrupted):
        pack_arrays(out, failing_at(4, []), LABELS, **SAID)
    with (out / "train.bin").open("ab") as file:  # written, but not noted
        file.write(b"half a chunk")
    with (out / "unfinished.jsonl").open("a") as file:
        file.write('{"file": "train.bin", "sha2')
    packed(out)
    assert contents(out) == contents(tmp_path / "whole")


def test_killed_before_the_first_note(tmp_path):
    (tmp_path / ".unfinished.jsonl.part").write_text("half a no")
    packed(tmp_path)
    assert load_images("packed", data_dir=tmp_path).name == "dots"


def test_rows_are_on_the_disk_before_they_are_noted(tmp_path, monkeypatch, small_chunks):
    usual, seen = chunks._note, []

    def noting(out, file, sha256):
        seen.append((file, (out / file).stat().st_size))
        usual(out, file, sha256)

    monkeypatch.setattr(chunks, "_note", noting)
    packed(tmp_path / "set")
    train = [("train.bin", 16 * n) for n in (7, 14, 21, 28, 35, 42, 49, 50)]
    assert seen == [
        ("train-labels.bin", 400), *train, ("test-labels.bin", 56), ("test.bin", 112),
    ]  # fmt: skip


def other(**change):
    return replace(DATA, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"data": other(train_labels=DATA.train_labels.flip(0))},
        {"data": other(train=DATA.train + 1)},
        {"data": other(test=DATA.test[:6], test_labels=DATA.test_labels[:6])},
        {"name": "others"},
        {"flip": True},
        {"about": {"encoder": 2}},
    ],
)
def test_the_beginning_of_another_packing_is_not_gone_on_with(tmp_path, small_chunks, change):
    with pytest.raises(Interrupted):
        pack_arrays(tmp_path / "set", failing_at(4, []), LABELS, **SAID)
    before = contents(tmp_path / "set")
    with pytest.raises(FileExistsError, match="set has the beginning of another packing"):
        packed(tmp_path / "set", **change)
    assert contents(tmp_path / "set") == before
    packed(tmp_path / "set")


def test_a_file_that_lost_what_was_written_is_named(tmp_path, small_chunks):
    with pytest.raises(Interrupted):
        pack_arrays(tmp_path, failing_at(4, []), LABELS, **SAID)
    with (tmp_path / "train.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=r"train\.bin was changed: it has 100 bytes, but 224 were"):
        packed(tmp_path)


def test_nothing_is_overwritten(tmp_path):
    packed(tmp_path / "set")
    before = contents(tmp_path / "set")
    with pytest.raises(FileExistsError, match=r"there is a packed set in .*set: choose another"):
        packed(tmp_path / "set")
    assert contents(tmp_path / "set") == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="letters is not empty"):
        packed(tmp_path / "letters")
    assert contents(tmp_path / "letters") == {"a.txt": b"dear"}


def test_a_disk_that_is_too_small_is_told_at_once(tmp_path, monkeypatch, small_chunks):
    needed, free = 57 * (16 + 8), []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[-1]))
    free.append(needed - 1)
    with pytest.raises(OSError, match=f"{needed} bytes are needed, but {needed - 1} are free"):
        packed(tmp_path / "set")
    assert not (tmp_path / "set" / "train.bin").exists()
    free.append(needed)
    with pytest.raises(Interrupted):
        pack_arrays(tmp_path / "set", failing_at(4, []), LABELS, **SAID)
    free.append(needed - 50 * 8 - 14 * 16)  # what is there need not be written
    packed(tmp_path / "set")


# What is refused.


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": DATA.train.int()}, TypeError, "uint8, float16, float32, but torch.int32 came"),
        ({"train": DATA.train[..., :3]}, ValueError, r"square .*, but \[1, 1, 4, 3\] came"),
        ({"train": DATA.train[:, 0]}, ValueError, r"square pictures .*, but \[1, 4, 4\] came"),
        ({"test": DATA.test[..., :3]}, ValueError, r"rows 0 to 6 of test must be uint8 \[7, 1, 4"),
        ({"test": to_float(DATA.test)}, ValueError, r"rows 0 to 6 of test .* uint8 .*float32"),
        ({"train_labels": DATA.train_labels + 1}, ValueError, r"labels must be 0, .*, 2, but 3"),
        ({"test_labels": DATA.test_labels.int()}, TypeError, "labels must be an int64 tensor"),
        ({"test_labels": DATA.test_labels[:0]}, ValueError, "at least 1 picture in test"),
    ],
)
def test_rows_and_labels_that_are_none_are_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        packed(tmp_path / "set", other(**change))
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_too_few_rows_are_refused(tmp_path, small_chunks):
    short = other(train=DATA.train[:48])
    with pytest.raises(ValueError, match=r"rows 42 to 48 of train must be .*\[6, 1, 4, 4\] came"):
        packed(tmp_path / "set", short)


ENCODER = {"file": "small.safetensors", "sha256": "0123"}


def latents(dtype=torch.float16):
    g = torch.Generator().manual_seed(1)
    train, test = (torch.randn(n, 4, 2, 2, generator=g).to(dtype) for n in (50, 7))
    return replace(DATA, train=train, test=test, autoencoder=ENCODER)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_latents_come_back_to_the_bit(tmp_path, dtype):
    given = latents(dtype)
    manifest = packed(tmp_path / "set", given)
    data = load_images("packed", data_dir=tmp_path / "set")
    assert (data.autoencoder, data.flip, manifest.shape) == (ENCODER, False, (4, 2, 2))
    assert data.train.dtype == dtype
    assert torch.equal(data.train, given.train)
    assert torch.equal(data.test, given.test)
    check_images(data)
    assert torch.equal(to_float(data.test), given.test.float())


def test_latents_that_are_none_are_refused(tmp_path):
    broken = latents()
    broken.train[30, 1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="rows 0 to 49 of train are not all finite"):
        packed(tmp_path / "set", broken)
    with pytest.raises(ValueError, match="mirrored latents are not the latents of mirrored"):
        packed(tmp_path / "other", latents(), flip=True)
    with pytest.raises(ValueError, match="mirrored latents are not the latents of mirrored"):
        check_images(replace(latents(), flip=True))
    with pytest.raises(TypeError, match=r"test must be latents .*, but torch\.uint8 came"):
        check_images(replace(latents(), test=DATA.test))
    with pytest.raises(ValueError, match=r"come with their autoencoder.*float16 and None came"):
        packed(tmp_path / "third", latents(), autoencoder=None)
    with pytest.raises(ValueError, match=r"pictures without, but uint8 and .*small.* came"):
        packed(tmp_path / "third", DATA, autoencoder=ENCODER)


def test_pictures_are_encoded_as_they_are_packed(tmp_path, monkeypatch):
    file = str(tmp_path / "encoder.safetensors")
    model = Autoencoder(AutoencoderConfig(width=4, mults=(1,))).eval()
    save_model(file, model, metadata={})
    monkeypatch.setattr(pack, "load_images", lambda name, **_: replace(DATA, flip=True))
    monkeypatch.setattr(pack, "CHUNK_ROWS", 20)
    pack_images(tmp_path / "set", "digits", autoencoder=file, progress=False)
    data = load_images("packed", data_dir=tmp_path / "set")
    assert (data.autoencoder, data.flip) == (identity(file), False)
    assert data.train.dtype == torch.float16
    expected = encode_all(model, DATA.train)
    torch.testing.assert_close(data.train.float(), expected, atol=2e-3, rtol=2e-3)
    assert torch.equal(data.train_labels, DATA.train_labels)
    with pytest.raises(ValueError, match="mirrored latents are not those of mirrored ones"):
        pack_images(tmp_path / "other", "digits", autoencoder=file, flip=True, progress=False)
    monkeypatch.setattr(pack, "load_images", lambda name, **_: data)
    with pytest.raises(ValueError, match="holds packed latents already"):
        pack_images(tmp_path / "other", "packed", data_dir=tmp_path / "set", progress=False)
    assert not (tmp_path / "other").exists()


def test_a_run_on_latents(tmp_path):
    file = tmp_path / "encoder.safetensors"
    save_model(file, Autoencoder(AutoencoderConfig(width=4, mults=(1,))), metadata={})
    packed(tmp_path / "set", latents(), autoencoder=identity(str(file)))
    data = load_images("packed", data_dir=tmp_path / "set")
    config = replace(CONFIG, architecture={**CONFIG.architecture, "patch": 1}, sample_every=9)
    model = quick(tmp_path / "run", config, data)
    assert (model.config.channels, model.config.size) == (4, 2)
    assert [line["step"] for line in log_of(tmp_path / "run") if "test_loss" in line] == [9]
    with Image.open(tmp_path / "run" / "samples" / "step-0000009.png") as picture:
        assert picture.height == 2 * (8 * 5 - 1)  # eight pictures of 4 × 4
    with pytest.raises(ValueError, match="latents of dots came, but its pictures are what"):
        evaluate(model, data, lambda x: x.flatten(1))
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no autoencoder .*encoder\.safetensors"):
        quick(tmp_path / "other", config, data)
    assert not (tmp_path / "other").exists()  # told before anything was written


def test_what_a_packed_set_cannot_do_is_refused(tmp_path):
    packed(tmp_path / "pictures")
    packed(tmp_path / "mirrored", flip=True)
    packed(tmp_path / "latents", latents())
    assert load_images("packed", data_dir=tmp_path / "mirrored", flip=True).flip
    assert load_images("packed", data_dir=tmp_path / "pictures", size=4, channels=1).flip is False
    for name in ("pictures", "latents"):
        with pytest.raises(ValueError, match=f"flip came, but what is in .*{name} was packed with"):
            load_images("packed", data_dir=tmp_path / name, flip=True)
    with pytest.raises(ValueError, match="size 8 came, but packed has size 4 of its own"):
        load_images("packed", data_dir=tmp_path / "pictures", size=8)
    again = {"data_dir": tmp_path / "pictures", "progress": False}
    with pytest.raises(ValueError, match=r"flip came, but what is in .*pictures was packed"):
        pack_images(tmp_path / "again", "packed", flip=True, **again)
    for given in ({"size": 8}, {"channels": 3}):
        with pytest.raises(ValueError, match="came, but packed has"):
            pack_images(tmp_path / "again", "packed", **given, **again)
    assert not (tmp_path / "again").exists()


# Pictures of a folder: what becomes of them is the same in memory and packed.


def same_packed(photos, out, **options):
    """The data of a folder, after packing has given the same."""
    expected = load_images("folder", data_dir=photos, size=4, **options)
    pack_images(out, "folder", data_dir=photos, size=4, progress=False, **options)
    data = load_images("packed", data_dir=out)
    assert isinstance(expected, ImageData)
    for name in ("train", "train_labels", "test", "test_labels"):
        assert torch.equal(getattr(data, name), getattr(expected, name))
    assert (data.name, data.classes, data.flip) == (expected.name, expected.classes, expected.flip)
    return data


def save(path, *images):
    """A folder of one class with these pictures; every second one is for the test."""
    (path / "class").mkdir(parents=True)
    for k, image in enumerate(images):
        target = path / "class" / f"{k}.png"
        if isinstance(image, bytes):
            target.write_bytes(image)
        else:
            image.save(target)
    return path


def sixteen_bit_colours(*levels, side=4):
    """A PNG of one colour with 16 bits a channel, which Pillow does not write."""

    def part(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    line = b"\0" + struct.pack(">3H", *levels) * side
    head = struct.pack(">2I5B", side, side, 16, 2, 0, 0, 0)
    body = zlib.compress(line * side)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", body) + part(b"IEND", b"")


def grey16(level):
    return Image.fromarray(np.full((4, 4), level, dtype=np.uint16))


def test_sixteen_bits_become_eight(tmp_path):
    photos = save(tmp_path / "grey", grey16(32_896), grey16(65_535))
    data = same_packed(photos, tmp_path / "a")
    assert (data.train.shape, data.test.shape) == ((1, 1, 4, 4), (1, 1, 4, 4))
    assert (data.train.unique().tolist(), data.test.unique().tolist()) == ([128], [255])
    colours = sixteen_bit_colours(0xFFFF, 0x80FF, 0x01FE)
    data = same_packed(save(tmp_path / "colours", colours, colours), tmp_path / "b")
    assert data.train[0, :, 0, 0].tolist() == [255, 128, 1]


def test_grey_among_colours_becomes_colours(tmp_path):
    grey, red = Image.new("L", (4, 4), 77), Image.new("RGB", (4, 4), (255, 0, 0))
    data = same_packed(save(tmp_path / "both", grey16(77 * 257), red, grey), tmp_path / "a")
    assert data.train.shape == (2, 3, 4, 4)
    assert data.train.unique().tolist() == [77]
    data = same_packed(tmp_path / "both", tmp_path / "b", channels=1)
    assert data.test.unique().tolist() == [76]


def test_what_is_transparent_lies_on_white_and_the_middle_is_taken(tmp_path):
    image = Image.new("RGBA", (8, 4), (255, 0, 0, 0))
    image.paste((90, 90, 90, 255), (2, 0, 6, 2))  # the upper half of the middle square
    image.paste((10, 10, 10, 255), (0, 0, 2, 4))  # outside of it
    data = same_packed(save(tmp_path / "photos", image, image), tmp_path / "a", flip=True)
    assert data.flip
    assert data.train[0, :, :2].unique().tolist() == [90]
    assert data.train[0, :, 2:].unique().tolist() == [255]


def test_a_picture_whose_black_and_white_are_not_known_is_named(tmp_path):
    for mode in ("F", "I"):
        photos = tmp_path / mode
        (photos / "class").mkdir(parents=True)
        for k in range(2):
            Image.new(mode, (4, 4), 1).save(photos / "class" / f"{k}.tif")
        with pytest.raises(ValueError, match=rf"0\.tif has the mode {mode}, whose black and white"):
            pack_images(tmp_path / "set", "folder", data_dir=photos, progress=False)


def test_a_folder_is_decoded_a_chunk_at_a_time(tmp_path, monkeypatch):
    for k in range(12):
        path = tmp_path / "photos" / "class" / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(path)
    decoded, usual = [], folder._picture
    monkeypatch.setattr(folder, "_picture", lambda *a: decoded.append(a[0].name) or usual(*a))
    monkeypatch.setattr(pack, "CHUNK_BYTES", 3 * 16)
    written, note = [], chunks._note

    def noting(out, file, sha256):
        written.append((file, len(decoded)))
        note(out, file, sha256)

    monkeypatch.setattr(chunks, "_note", noting)
    pack_images(tmp_path / "set", "folder", data_dir=tmp_path / "photos", size=4, progress=False)
    # The first one is decoded before all others, to know what they are.
    counts = [(file, n) for file, n in written if "labels" not in file]
    assert counts == [("train.bin", n) for n in (4, 7, 10, 11)] + [("test.bin", 13)]
    assert load_images("packed", data_dir=tmp_path / "set").test.unique().tolist() == [1, 11]


def test_a_folder_that_has_changed_is_another_one(tmp_path, monkeypatch):
    photos = save(tmp_path / "photos", *(Image.new("L", (4, 4), k) for k in range(5)))

    def interrupted(*_):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "_note", interrupted)
        with pytest.raises(Interrupted):
            pack_images(tmp_path / "set", "folder", data_dir=photos, size=4, progress=False)
    (photos / "class" / "0.png").rename(photos / "class" / "00.png")
    with pytest.raises(FileExistsError, match="beginning of another packing"):
        pack_images(tmp_path / "set", "folder", data_dir=photos, size=4, progress=False)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"name": "folder"}, ValueError, "pictures of a folder: give its data_dir"),
        ({"name": "folder", "data_dir": "no"}, FileNotFoundError, "there is no directory no"),
        ({"name": "mnist"}, ValueError, "'mnist' is none of the data sets"),
    ],
)
def test_there_must_be_something_to_pack(tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        pack_images(tmp_path / "set", progress=False, **given)
    assert not (tmp_path / "set").exists()
