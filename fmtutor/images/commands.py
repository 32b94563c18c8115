"""What the commands of `fmtutor` do, once their arguments are read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from fmtutor.images.arguments import (
    class_number,
    evaluation_settings,
    sampler_settings,
    train_settings,
)
from fmtutor.images.evaluation import EvaluationConfig, steps_for
from fmtutor.images.inputs import data_of, guide_of, network_file, shared_data, stored_settings

if TYPE_CHECKING:
    from torch import Tensor

    from fmtutor.images.data import ImageData
    from fmtutor.images.journal import Listener
    from fmtutor.networks import PictureNetwork

__all__ = ["run_evaluate", "run_pack", "run_sample", "run_train"]


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
        args, stored_settings(out) if goes_on and not hasattr(args, "preset") else preset
    )
    try:
        with join_processes(getattr(args, "device", None)) as ranks:
            data = shared_data(config, getattr(args, "data_dir", None), ranks)
            if data.flip and not getattr(args, "flip", True):
                raise ValueError(f"no-flip came, but {config.data} is always mirrored")
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

    method, steps = sampler_settings(args)
    path, device = network_file(args.checkpoint), choose_device(args.device)
    model, about = load_model(path, device)
    if args.classes and not model.classes:
        raise ValueError(f"{path} was trained without classes")
    classes = [class_number(name, about["classes"]) for name in args.classes or []]
    classes = classes or shown_classes(model.classes).tolist()
    labels = torch.tensor(classes).repeat(args.rows) if classes else None
    guide, _ = guide_of(args.guide, about, device)
    pictures = draw_pictures(
        model,
        labels,
        count=args.rows**2,
        scale=args.guidance,
        within=tuple(args.guidance_interval),
        rescale=args.guidance_rescale,
        guide=guide,
        method=method,
        steps=steps,
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

    config, device = evaluation_settings(args), choose_device(args.device)
    path = network_file(args.checkpoint)
    # A run that goes on replaces its checkpoints: read and hash this one now.
    sha256 = sha256_of(path.read_bytes())
    model, about = load_model(path, device)
    guide, guide_sha256 = guide_of(args.guide, about, device)
    for network in (model, guide):
        if network is not None and device.type == "cpu":
            # A third faster; on CUDA each GroupNorm would copy it back.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = data_of(model, about, args.data_dir)
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
    from fmtutor.images.neighbours import beside_neighbours
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
