"""What the commands of `fmtutor` do, once their arguments are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmtutor.images.config import PRESETS, TrainConfig, read_config
from fmtutor.images.evaluation import EvaluationConfig, steps_for
from fmtutor.networks.registry import FROM_DATA, NETWORKS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fmtutor.images.data import ImageData
    from fmtutor.images.journal import Listener
    from fmtutor.images.processes import Ranks
    from fmtutor.networks import PictureNetwork

__all__ = ["run_evaluate", "run_pack", "run_sample", "run_train", "train_settings"]


def run_train(args: argparse.Namespace) -> int:
    """Train, or go on with a run."""
    from fmtutor.images.processes import join_processes
    from fmtutor.images.run import newest_checkpoint
    from fmtutor.images.trainer import Stopped, train

    preset = getattr(args, "preset", "digits-cpu")
    out = getattr(args, "out", Path("runs") / preset)
    resume = getattr(args, "resume", False)
    goes_on = resume is True or (resume == "auto" and newest_checkpoint(out) is not None)
    config = train_settings(
        args, _stored(out) if goes_on and not hasattr(args, "preset") else preset
    )
    try:
        with join_processes(getattr(args, "device", None)) as ranks:
            data = _shared_data(config, getattr(args, "data_dir", None), ranks)
            with _board(out, hasattr(args, "tensorboard")) as listen:
                train(
                    config, data, out, resume=resume, reschedule=hasattr(args, "reschedule"),
                    weights=getattr(args, "weights", None), device=ranks.device,
                    progress=sys.stderr.isatty(), listen=listen,
                )  # fmt: skip
    except Stopped as stopped:
        print(f"{stopped}: go on with --resume --out {out}", file=sys.stderr)
        return 128 + stopped.signal
    return 0


def run_pack(args: argparse.Namespace) -> int:
    """Pack a data set, or verify a packed one."""
    from fmtutor.images.pack import pack_images
    from fmtutor.images.packed import verify_packed
    from fmtutor.images.processes import choose_device

    if (args.verify is None) == (args.out is None):
        args.error("say where to pack to, --out DIR, or what to verify, --verify DIR")
    if args.verify is not None:
        manifest, out = verify_packed(args.verify), args.verify
    else:
        try:
            manifest, out = pack_images(
                args.out, args.data, data_dir=args.data_dir, size=args.size, flip=args.flip,
                channels=args.channels, autoencoder=args.autoencoder,
                device=choose_device(args.device),
            ), args.out  # fmt: skip
        except KeyboardInterrupt:
            print(f"stopped: the same command goes on in {args.out}", file=sys.stderr)
            raise
    counts = " and ".join(f"{manifest.files[f'{x}.bin']['rows']} {x}" for x in ("train", "test"))
    shape = " × ".join(str(n) for n in manifest.shape)
    print(f"{out}: {manifest.name}, {counts}, {manifest.dtype} {shape}, sha256 {manifest.sha256}")
    return 0


def run_sample(args: argparse.Namespace) -> int:
    """Draw pictures into a PNG file."""
    import torch

    from fmtutor.images.checkpoint import load_model
    from fmtutor.images.latents import decoder_of
    from fmtutor.images.pictures import draw_pictures, picture_grid, save_png, shown_classes
    from fmtutor.images.processes import choose_device

    path, device = _network_file(args.checkpoint), choose_device(args.device)
    model, about = load_model(path, device)
    if args.classes and not model.classes:
        raise ValueError(f"{path} was trained without classes")
    classes = [_class_number(name, about["classes"]) for name in args.classes or []]
    classes = classes or shown_classes(model.classes).tolist()
    labels = torch.tensor(classes).repeat(args.rows) if classes else None
    guide, _ = _guide(args.guide, about, device)
    pictures = draw_pictures(
        model,
        labels,
        count=args.rows**2,
        scale=args.guidance,
        within=tuple(args.guidance_interval),
        rescale=args.guidance_rescale,
        guide=guide,
        method=args.method,
        steps=args.steps,
        shift=args.shift,
        seed=args.seed,
        decode=decoder_of(about, args.autoencoder, device),
    )
    save_png(args.out, picture_grid(pictures, len(classes) or args.rows), zoom=args.zoom)
    print(args.out)
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Measure a network and write the numbers to a JSON file."""
    import torch

    from fmtutor.images.checkpoint import as_json, load_model, sha256_of
    from fmtutor.images.evaluate import choose_features, evaluate
    from fmtutor.images.latents import decoder_of
    from fmtutor.images.processes import choose_device

    config, device = _evaluation_settings(args), choose_device(args.device)
    path = _network_file(args.checkpoint)
    # A run that goes on replaces its checkpoints: read and hash this one now.
    sha256 = sha256_of(path.read_bytes())
    model, about = load_model(path, device)
    guide, guide_sha256 = _guide(args.guide, about, device)
    for network in (model, guide):
        if network is not None and device.type == "cpu":
            # A third faster; on CUDA each GroupNorm would copy it back.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = _data_of(model, about, args.data_dir)
    decode = decoder_of(about, args.autoencoder, device)
    features = choose_features(data, args.features, weights=args.inception_weights, device=device)
    _warn(args.features, features.about["kind"])
    result = evaluate(
        model, data, features.embedding, features.classifier, config,
        guide=guide, decode=decode, progress=sys.stderr.isatty(),
    )  # fmt: skip
    result["about"] |= {
        "features": features.about,
        "checkpoint": {"sha256": sha256, **about},
    }
    if guide is not None:
        result["about"]["guide"] = {"sha256": guide_sha256}
    result = {"command": args.command, **result}
    args.out.write_text(as_json(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if args.pictures is not None:
        _save_neighbours(args.pictures, model, data, config, guide, decode)
    for name in ("samples", "floor"):
        numbers = (f"{k} {v:.4g}" for k, v in result[name].items() if k in result["floor"])
        print(f"{name}: {', '.join(numbers)}")
    return 0


def train_settings(args: argparse.Namespace, base: TrainConfig | str) -> TrainConfig:
    """Return a preset, or the settings of a run, with what was said on the command line."""
    config = PRESETS[base] if isinstance(base, str) else base
    given: dict[str, Any] = {
        f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)
    }
    described = {f.name for description, _ in NETWORKS.values() for f in fields(description)}
    said = {k: v for k, v in vars(args).items() if k in described.difference(FROM_DATA)}
    same = given.get("network", config.network) == config.network
    given["architecture"] = {**(config.architecture if same else {}), **said}
    try:
        return replace(config, **given)
    except ValueError as error:
        args.error(str(error))
        raise  # not reached: the parser ends the process


def _evaluation_settings(args: argparse.Namespace) -> EvaluationConfig:
    """Return what is to be measured, if it can be measured and there is where to write it."""
    from fmtutor.images.checkpoint import with_tuples

    for path in (args.out, args.pictures):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"there is no directory {path.parent} to write {path.name} to")
    given: dict[str, Any] = {f.name: getattr(args, f.name) for f in fields(EvaluationConfig)}
    try:
        return EvaluationConfig(**with_tuples(given))
    except ValueError as error:
        args.error(str(error))
        raise  # not reached: the parser ends the process


def _network_file(path: Path | None) -> Path:
    from fmtutor.images.checkpoint import shipped_checkpoint
    from fmtutor.images.run import find_model

    found = shipped_checkpoint() if path is None else find_model(path)
    if not found.is_file():
        raise FileNotFoundError(f"there is no checkpoint {found}")
    return found


def _data_of(model: PictureNetwork, about: dict[str, Any], data_dir: Path | None) -> ImageData:
    """Return the data on which a network was trained; its settings say which, not its name."""
    from fmtutor.images.datasets import load_images

    config = read_config(about["train"])
    size, channels = model.config.size, model.config.channels if config.data == "folder" else 0
    if about.get("autoencoder"):  # those of the network are of latents
        size, channels = config.size, config.channels
    data = load_images(
        config.data, data_dir=data_dir, size=size, flip=config.flip, channels=channels
    )
    if list(data.classes) != about["classes"]:
        raise ValueError(
            f"the network was trained on the classes {', '.join(about['classes'])}, "
            f"but {', '.join(data.classes)} came"
        )
    if data.autoencoder is not None:
        raise ValueError(
            f"{data_dir} holds latents: what is measured are pictures, so give the --data-dir of a "
            "packed set of those that they were made of"
        )
    if not about.get("autoencoder") and about.get("sha256") not in (None, "", data.sha256):
        raise ValueError(
            f"the network was trained on the packed set with SHA-256 {about['sha256']}, "
            f"but {data.sha256} came"
        )
    return data


def _guide(
    path: Path | None, about: dict[str, Any], device: torch.device
) -> tuple[PictureNetwork | None, str | None]:
    """Return the network that guides, of the same pictures or latents, and its SHA-256."""
    from fmtutor.images.checkpoint import load_model, sha256_of

    if path is None:
        return None, None
    file = _network_file(path)
    sha256 = sha256_of(file.read_bytes())
    guide, its = load_model(file, device)
    one, other = ((told.get("autoencoder") or {}).get("sha256") for told in (about, its))
    if one != other:
        raise ValueError(f"{file} knows the latents of another autoencoder than the network")
    return guide, sha256


def _shared_data(config: TrainConfig, data_dir: Path | None, ranks: Ranks) -> ImageData:
    """Return the data of a run: each process maps a packed set, the first reads any other for all.

    So a packed set lies where all processes see it, or a copy of it on each machine.
    """
    from fmtutor.images.datasets import find_directory, load_images
    from fmtutor.images.latents import encoded
    from fmtutor.images.packed import read_manifest
    from fmtutor.images.processes import from_first

    def load() -> ImageData:
        pictures = load_images(
            config.data, data_dir=data_dir, size=config.size, flip=config.flip,
            channels=config.channels,
        )  # fmt: skip
        name = config.autoencoder
        return encoded(pictures, name, ranks.device) if name else pictures

    if config.data != "packed":
        return from_first(load, ranks)
    first = from_first(lambda: read_manifest(find_directory("packed", data_dir)), ranks)
    if config.autoencoder and first.autoencoder is None:
        return from_first(load, ranks)  # encoded once, and not once in each process
    data = load()
    if data.sha256 != first.sha256:
        raise ValueError(
            f"process {ranks.rank} finds another packed set in {data_dir} than process 0: "
            f"sha256 {data.sha256}, expected was {first.sha256}"
        )
    return data


def _board(out: Path, wanted: bool) -> AbstractContextManager[Listener | None]:
    from fmtutor.images.board import tensorboard

    return tensorboard(out / "tensorboard") if wanted else nullcontext()


def _warn(asked: str, kind: str) -> None:
    from fmtutor.images.features import NOT_COMPARABLE

    if (asked, kind) == ("auto", "pixels"):
        print(f"fmtutor: {' '.join(NOT_COMPARABLE.split())}", file=sys.stderr)


def _save_neighbours(
    path: Path,
    model: PictureNetwork,
    data: ImageData,
    config: EvaluationConfig,
    guide: PictureNetwork | None,
    decode: Callable[[Tensor], Tensor],
) -> None:
    """Draw a picture of each class above the training pictures that are nearest to it."""
    from fmtutor.images.evaluate import beside_neighbours
    from fmtutor.images.pictures import draw_pictures, picture_grid, save_png, shown_classes

    shown = shown_classes(model.classes)
    columns = len(shown) or 10
    pictures = draw_pictures(
        model,
        shown if len(shown) else None,
        count=columns,
        scale=config.guidance,
        within=config.guidance_interval,
        rescale=config.guidance_rescale,
        guide=guide,
        shift=config.shift,
        decode=decode,
        method=config.method,
        steps=steps_for(config.method, config.nfe),
        seed=config.seed,
    )
    rows = beside_neighbours(pictures, data).transpose(0, 1)
    save_png(path, picture_grid(rows.flatten(0, 1), columns), zoom=2)


def _stored(out: Path) -> TrainConfig:
    """Return the settings of the run in a directory."""
    from fmtutor.images.checkpoint import load_model
    from fmtutor.images.run import find_model

    _, about = load_model(find_model(out))
    return read_config(about["train"])


def _class_number(name: str, classes: Sequence[str]) -> int:
    lower = [c.lower() for c in classes]
    number = lower.index(name.lower()) if name.lower() in lower else -1
    if number < 0 and name.isdecimal():
        number = int(name)
    if not 0 <= number < len(classes):
        raise ValueError(f"there is no class {name!r}, but {', '.join(classes)}")
    return number
