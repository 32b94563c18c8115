"""Data sets: read as they are published, downloaded with resumption, refused when they are not."""

import contextlib
import gzip
import hashlib
import http.server
import io
import struct
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from fmtutor.images import download
from fmtutor.images import published as releases
from fmtutor.images.datasets import load_images, read_idx, to_float, to_uint8
from fmtutor.images.download import RemoteFile

IDX = [(60, (28, 28)), (60, ()), (10, (28, 28)), (10, ())]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def random_bytes(n, seed, below=256):
    return np.random.default_rng(seed).integers(0, below, n, dtype=np.uint8).tobytes()


def idx(n, shape, seed):
    head = b"\0\0\x08" + bytes([1 + len(shape)]) + struct.pack(f">{1 + len(shape)}I", n, *shape)
    return head + random_bytes(n * int(np.prod(shape)), seed, 256 if shape else 10)


@pytest.fixture
def fashion(monkeypatch, tmp_path):
    """A tiny Fashion-MNIST, registered with its hashes: the contents by the name of the file."""
    contents = {
        file.name: idx(n, shape, seed)
        for seed, (file, (n, shape)) in enumerate(zip(releases.FASHION_MNIST, IDX, strict=True))
    }
    packed = {name: gzip.compress(content, mtime=0) for name, content in contents.items()}
    registry = {
        RemoteFile(name, sha256(packed[name]), ()): sha256(content)
        for name, content in contents.items()
    }
    monkeypatch.setattr(releases, "FASHION_MNIST", registry)
    monkeypatch.setattr(releases, "DEBIAN", tmp_path / "nowhere")
    return contents


def write(folder, contents, *, level=9):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content, level))
    return folder


@pytest.fixture
def cifar(monkeypatch):
    """A tiny CIFAR-10 archive: its bytes, and the records of each file."""
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    records = {name: random_bytes(4 * 3073, seed, 10) for seed, name in enumerate(names)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in records.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    packed = buffer.getvalue()
    file = RemoteFile("cifar-10-binary.tar.gz", sha256(packed), ())
    monkeypatch.setattr(releases, "CIFAR10", file)
    return packed, records


# What the package hands on.


def test_digits_come_with_scikit_learn():
    data = load_images("digits")
    assert data.train.shape == (1497, 1, 8, 8)
    assert data.test.shape == (300, 1, 8, 8)
    assert data.train.dtype == data.test.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert data.classes == tuple("0123456789")
    assert not data.flip
    assert (data.train.min(), data.train.max()) == (0, 255)
    # A zero has a hole, a one has not.
    middle = data.train[:, 0, 3:5, 3:5].float().mean((1, 2))
    assert middle[data.train_labels == 0].mean() < 60 < 180 < middle[data.train_labels == 1].mean()


def test_pixels_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = to_float(pixels)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    assert torch.equal(to_uint8(x), pixels)
    # Nearest, and clamped.
    extremes = torch.tensor([-7.0, -1 + 0.6 / 127.5, 0.999, 1.2])
    assert to_uint8(extremes).tolist() == [0, 1, 255, 255]


# IDX.


def test_idx_is_read():
    assert torch.equal(read_idx(b"\0\0\x08\x01\0\0\0\x03abc", "f"), torch.tensor([97, 98, 99]))
    content = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03abcdef"
    assert read_idx(content, "f").tolist() == [[97, 98, 99], [100, 101, 102]]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0\0\x08", b"\x1f\x8b\x08\x01\0\0\0\x03abc", b"\0\0\x0d\x01\0\0\0\x03abc",
        b"\0\0\x08\0abc", b"\0\0\x08\x09\0\0\0\x03abc", b"\0\0\x08\x02\0\0\0\x03",
    ],
)  # fmt: skip
def test_what_is_no_idx_file_is_refused(content):
    with pytest.raises(ValueError, match="f is no IDX file of bytes"):
        read_idx(content, "f")


@pytest.mark.parametrize("end", [b"ab", b"abcd"])
def test_an_idx_file_of_another_length_is_refused(end):
    with pytest.raises(ValueError, match=r"f says that its shape is \[3\], but it is 1[02] bytes"):
        read_idx(b"\0\0\x08\x01\0\0\0\x03" + end, "f")


# Fashion-MNIST.


def check_fashion(data, contents):
    train, train_labels, test, test_labels = contents.values()
    assert data.train.shape == (60, 1, 28, 28)
    assert data.test.shape == (10, 1, 28, 28)
    assert data.train.numpy().tobytes() == train[16:]
    assert data.test.numpy().tobytes() == test[16:]
    assert data.train_labels.tolist() == list(train_labels[8:])
    assert data.test_labels.tolist() == list(test_labels[8:])
    assert data.train_labels.dtype == torch.int64
    assert data.classes[9] == "Ankle boot"
    assert not data.flip


@pytest.mark.parametrize("level", [1, 9])
def test_fashion_mnist_of_a_directory(fashion, tmp_path, level):
    data = load_images("fashion-mnist", data_dir=write(tmp_path / "own", fashion, level=level))
    check_fashion(data, fashion)


def test_fashion_mnist_unpacked(fashion, tmp_path):
    for name, content in fashion.items():
        (tmp_path / name.removesuffix(".gz")).write_bytes(content)
    check_fashion(load_images("fashion-mnist", data_dir=str(tmp_path)), fashion)


def test_fashion_mnist_of_the_distribution(fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "DEBIAN", write(tmp_path / "debian", fashion))
    check_fashion(load_images("fashion-mnist"), fashion)


@pytest.mark.parametrize("name", [file.name for file in releases.FASHION_MNIST])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "swapped"])
def test_a_damaged_file_is_named_with_the_hash_it_should_have(fashion, tmp_path, name, damage):
    folder = write(tmp_path / "own", fashion)
    content = (folder / name).read_bytes()
    other = bytearray(content)
    other[len(other) // 2] ^= 1
    swapped = gzip.compress(next(c for n, c in fashion.items() if n != name))
    damaged = {"cut": content[:-20], "flipped": other, "emptied": b"", "swapped": swapped}
    (folder / name).write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=f"{name} is damaged.*{sha256(fashion[name])}"):
        load_images("fashion-mnist", data_dir=folder)


def test_a_missing_file_is_named(fashion, tmp_path):
    folder = write(tmp_path / "own", fashion)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no t10k-labels-idx1-ubyte\.gz or t10k.* in .*own"
    ):
        load_images("fashion-mnist", data_dir=folder)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_images("fashion-mnist", data_dir=tmp_path / "other")


@pytest.mark.skipif(not releases.DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist():
    data = load_images("fashion-mnist")
    assert data.train.shape == (60_000, 1, 28, 28)
    assert data.train_labels.bincount().tolist() == [6000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10


# CIFAR-10.


def test_cifar10_of_its_archive(cifar, tmp_path):
    packed, records = cifar
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(packed)
    data = load_images("cifar10", data_dir=tmp_path)
    assert data.train.shape == (20, 3, 32, 32)
    assert data.test.shape == (4, 3, 32, 32)
    assert data.flip
    second = records["data_batch_1"][3073 : 2 * 3073]
    assert data.train_labels[1] == second[0]
    assert data.train[1].numpy().tobytes() == second[1:]
    last = records["test_batch"][3 * 3073 :]
    assert data.test_labels[3] == last[0]
    assert data.test[3].numpy().tobytes() == last[1:]
    assert data.train.is_contiguous()


def test_a_damaged_archive_is_refused(cifar, tmp_path):
    packed, _ = cifar
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(packed[:-1])
    with pytest.raises(ValueError, match=f"binary.tar.gz is damaged.*{sha256(packed)}"):
        load_images("cifar10", data_dir=tmp_path)


# Folders.


def paint(path, colour, size=(10, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def test_pictures_of_a_folder(tmp_path):
    for k in range(12):
        paint(tmp_path / "red" / f"{k:02}.png", (255, k, 0))
    paint(tmp_path / "blue" / "a.JPG", (0, 0, 255), format="JPEG", quality=100)
    paint(tmp_path / "blue" / "deep" / "b.png", (0, 0, 200))
    (tmp_path / "blue" / "notes.txt").write_text("no picture")
    paint(tmp_path / ".hidden" / "c.png", (0, 0, 0))
    data = load_images("folder", data_dir=tmp_path, size=4)
    assert data.classes == ("blue", "red")
    assert data.name == tmp_path.name
    assert data.train.shape == (11, 3, 4, 4)
    assert data.train_labels.tolist() == [0] + [1] * 10
    assert data.test_labels.tolist() == [0, 1, 1]
    assert data.test[1:, 1, 0, 0].tolist() == [1, 11]  # every tenth, from the second one on
    assert data.train.dtype == torch.uint8
    assert not data.flip
    assert load_images("folder", data_dir=tmp_path, size=4, flip=True).flip
    assert load_images("digits", flip=True).flip
    assert not load_images("digits").flip


def test_a_data_set_is_not_asked_in_vain():
    assert torch.equal(load_images("digits", size=8, channels=1).train, load_images("digits").train)
    with pytest.raises(ValueError, match="size 16 came, but digits has size 8 of its own"):
        load_images("digits", size=16)
    with pytest.raises(ValueError, match="channels 3 came, but digits has channels 1 of its own"):
        load_images("digits", channels=3)


def test_a_picture_is_turned_upright_and_its_middle_taken(tmp_path):
    picture = np.zeros((4, 8, 3), dtype=np.uint8)
    picture[:, 2:6] = 100  # the middle square
    picture[0, 2:6] = 200  # its upper edge
    for name in ("a", "b"):
        path = tmp_path / "class" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    turned = Image.fromarray(np.rot90(picture).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter, clockwise
    turned.save(tmp_path / "class" / "a.png", exif=exif)
    data = load_images("folder", data_dir=tmp_path, size=4)
    assert torch.equal(data.train, data.test)
    assert data.train[0, 0].tolist() == [[200] * 4] + [[100] * 4] * 3


def folder_of(path, *images, **options):
    """A folder of one class with these pictures, each as a file of its own."""
    for k, (image, suffix) in enumerate(images):
        target = path / "class" / f"{k}.{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target, **options)
    return path


def grey16(level):
    return Image.fromarray(np.full((4, 4), level, dtype=np.uint16))


def test_grey_pictures_have_one_channel(tmp_path):
    grey, bits = Image.new("L", (4, 4), 77), Image.new("1", (4, 4), 1)
    data = load_images(
        "folder", data_dir=folder_of(tmp_path / "a", (grey, "png"), (bits, "png")), size=2
    )
    assert (data.train.shape, data.test.shape) == ((1, 1, 2, 2), (1, 1, 2, 2))
    assert (data.train.unique().item(), data.test.unique().item()) == (77, 255)
    # One picture in colours makes all of them pictures in colours, in training and in test.
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    data = load_images(
        "folder", data_dir=folder_of(tmp_path / "b", (grey, "png"), (red, "png")), size=2
    )
    assert (data.train.shape, data.test.shape) == ((1, 3, 2, 2), (1, 3, 2, 2))
    assert data.train.unique().item() == 77
    assert data.test[0, :, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("channels", "expected"), [(1, [76]), (3, [255, 0, 0])])
def test_the_number_of_channels_can_be_said(tmp_path, channels, expected):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    folder = folder_of(tmp_path, (red, "png"), (red, "png"))
    data = load_images("folder", data_dir=folder, size=2, channels=channels)
    assert data.train[0, :, 0, 0].tolist() == expected


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("level", "expected"), [(0, 0), (257, 1), (32_896, 128), (65_535, 255)])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, suffix, level, expected):
    folder = folder_of(tmp_path, (grey16(level), suffix), (grey16(65_535), suffix))
    data = load_images("folder", data_dir=folder, size=2)
    assert data.train.unique().tolist() == [expected]
    assert data.test.unique().tolist() == [255]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pictures_whose_range_is_not_known_are_refused(tmp_path, mode):
    image = Image.new(mode, (4, 4), 1)
    folder = folder_of(tmp_path, (image, "tif"), (image, "tif"))
    with pytest.raises(ValueError, match=rf"0\.tif has the mode {mode}, whose black and white"):
        load_images("folder", data_dir=folder, size=2)


def transparent(mode):
    """Half of the picture transparent, over a colour that nobody is to see; the rest is grey."""
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.paste((90, 90, 90, 255), (0, 0, 4, 2))
    if mode == "palette":
        colours = Image.new("P", (4, 4), 1)
        colours.putpalette([90, 90, 90, 255, 0, 0])
        colours.paste(0, (0, 0, 4, 2))
        colours.info["transparency"] = 1
        return colours
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette"])
def test_what_is_transparent_lies_on_white(tmp_path, mode):
    image = transparent(mode)
    folder = folder_of(tmp_path, (image, "png"), (image, "png"))
    data = load_images("folder", data_dir=folder, size=4)
    assert data.train.shape[1] == (1 if mode == "LA" else 3)
    assert (data.train[0, :, :2] == 90).all()
    assert (data.train[0, :, 2:] == 255).all()


def test_a_directory_that_would_not_be_looked_at_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"come with scikit-learn: .* would not be looked at"):
        load_images("digits", data_dir=tmp_path)


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give its data_dir"):
        load_images("folder")
    with pytest.raises(ValueError, match=r"has no folders: pictures go into .*/CLASS/"):
        load_images("folder", data_dir=tmp_path)
    paint(tmp_path / "red" / "a.png", (255, 0, 0))
    with pytest.raises(ValueError, match="red has 1 pictures, but a class needs two"):
        load_images("folder", data_dir=tmp_path)
    (tmp_path / "red" / "b.png").write_bytes((tmp_path / "red" / "a.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"b\.png cannot be read as a picture"):
        load_images("folder", data_dir=tmp_path)
    (tmp_path / "red" / "b.png").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"b\.png cannot be read as a picture"):
        load_images("folder", data_dir=tmp_path)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'mnist' is none of the data sets digits, fashion-mnist"):
        load_images("mnist")


# Downloads.


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with ranges; may answer an error, or break off."""

    def do_GET(self):
        server, name = self.server, self.path.rsplit("/", 1)[-1]
        server.asked.append((self.path, self.headers["Range"]))
        if "broken" in self.path or name not in server.files:
            self.send_error(404)
            return
        content, start = server.files[name], 0
        if self.headers["Range"] and server.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = server.breaks_at.pop(name, len(content))
        self.wfile.write(content[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked, server.ranges, server.breaks_at = {}, [], True, {}
        server.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def published(server, name="data.bin", n=300_000, mirrors=("good/",)):
    server.files[name] = random_bytes(n, 0)
    addresses = tuple(server.address + mirror for mirror in mirrors)
    return RemoteFile(name, sha256(server.files[name]), addresses)


def test_fashion_mnist_is_downloaded_once(fashion, server, monkeypatch, tmp_path):
    registry = {
        RemoteFile(file.name, file.sha256, (server.address,)): content
        for file, content in releases.FASHION_MNIST.items()
    }
    monkeypatch.setattr(releases, "FASHION_MNIST", registry)
    server.files = {name: gzip.compress(content, mtime=0) for name, content in fashion.items()}
    check_fashion(load_images("fashion-mnist"), fashion)
    check_fashion(load_images("fashion-mnist"), fashion)
    assert len(server.asked) == 4
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(fashion)


def test_the_next_mirror_is_tried(server):
    file = published(server, mirrors=("broken/", "good/"))
    path = download.find_file(file, None)
    assert path.read_bytes() == server.files["data.bin"]
    assert [path for path, _ in server.asked] == ["/broken/data.bin", "/good/data.bin"]


def test_all_failures_are_told(server, tmp_path):
    file = published(server, mirrors=("broken/1/", "broken/2/"))
    with pytest.raises(OSError, match=r"data.bin could not .*broken/1/: .*404.*broken/2/: .*404"):
        download.find_file(file, None)


def test_a_download_goes_on_where_it_broke_off(server):
    file = published(server)
    server.breaks_at["data.bin"] = 100_000
    with pytest.raises(OSError, match="broke off after 100000 of 300000 bytes"):
        download.find_file(file, None)
    path = download.find_file(file, None)
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-"]
    assert path.read_bytes() == server.files["data.bin"]
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_a_mirror_may_finish_what_another_began(server):
    file = published(server, mirrors=("1/", "2/"))
    server.breaks_at["data.bin"] = 70_000
    assert download.find_file(file, None).read_bytes() == server.files["data.bin"]
    assert server.asked == [("/1/data.bin", None), ("/2/data.bin", "bytes=70000-")]


def test_a_server_without_ranges_starts_anew(server):
    file = published(server)
    server.breaks_at["data.bin"] = 100_000
    with contextlib.suppress(OSError):
        download.find_file(file, None)
    server.ranges = False
    assert download.find_file(file, None).read_bytes() == server.files["data.bin"]


def test_a_part_that_is_complete_is_taken(server, tmp_path):
    file = published(server)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data.bin.part").write_bytes(server.files["data.bin"])
    assert download.find_file(file, None).read_bytes() == server.files["data.bin"]


def test_another_file_is_not_kept(server, tmp_path):
    file = published(server)
    server.files["data.bin"] = random_bytes(300_000, 1)
    with pytest.raises(OSError, match=f"data.bin could not be .*hash.*{file.sha256}"):
        download.find_file(file, None)
    assert not any((tmp_path / "cache").iterdir())


def test_a_damaged_file_of_the_cache_is_fetched_again(server):
    file = published(server)
    path = download.find_file(file, None)
    path.write_bytes(b"damaged")
    assert download.find_file(file, None).read_bytes() == server.files["data.bin"]
