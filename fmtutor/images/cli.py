"""The command line of the last chapter: `python -m fmtutor.images`, or `fmtutor`."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from fmtutor.images.config import PRESETS, EvaluationConfig, TrainConfig, steps_for

if TYPE_CHECKING:
    from fmtutor.images.datasets import ImageData
    from fmtutor.networks import UNet

__all__ = ["attribute_help", "main"]

EXTRA = ("PIL", "pooch", "safetensors", "sklearn")

TRAIN_EPILOG = """
examples:
  fmtutor train --preset digits-cpu
      a minute or two on a laptop, nothing to download
  fmtutor train --preset fashion-gpu --out runs/fashion --seed 1
      any setting of a preset can be changed
  fmtutor train --resume --out runs/fashion
      go on after Ctrl-C, SIGTERM, a crash or a power cut
  torchrun --nproc_per_node=8 -m fmtutor.images train --preset cifar10-gpu
      one process a GPU; the batch is shared among them
  fmtutor train --preset cifar10-gpu --data folder --data-dir photos --size 64 --flip
      pictures of your own, in photos/CLASS/*.jpg
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        The exit status: 0, or 1 after an error, or 128 + n after signal n. Wrong usage ends the
        process with 2.

    Chapter: images
    """
    parser = _parser()
    args = parser.parse_args(argv)
    args.command = shlex.join(["fmtutor", *(sys.argv[1:] if argv is None else argv)])
    try:
        status: int = args.run(args)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRA:
            raise
        return _fail(f"{error.name} is missing: pip install 'fmtutor[images]'")
    except OSError as error:
        return _fail(": ".join(str(x) for x in (error.strerror or error, error.filename) if x))
    except (ValueError, FloatingPointError) as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def attribute_help(config: type) -> dict[str, str]:
    """Return what the docstring of a dataclass says about each attribute, to be its help.

    Chapter: images
    """
    section = (inspect.getdoc(config) or "").partition("Attributes:")[2].partition("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fmtutor", description="Flow matching of pictures: train, sample, evaluate."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_sample(commands)
    _add_evaluate(commands)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network on pictures",
        usage="fmtutor train [-h] [--preset NAME] [--out DIR] [--resume] [settings]",
        description=textwrap.dedent(
            """
            Train a network on pictures, on a CPU, a GPU or, under torchrun, on several. The run
            writes a log, grids of samples and checkpoints to a directory, and model.safetensors in
            the end. Ctrl-C and SIGTERM save before they end it."""
        ),
        epilog=TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(run=_train, error=parser.error)
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help=f"where the settings below come from: {', '.join(PRESETS)} (digits-cpu)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory of the run (runs/PRESET)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory with the files of the data set"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (a GPU if there is one)")
    settings = parser.add_argument_group("settings", "each replaces that of the preset")
    hints, texts = get_type_hints(TrainConfig), attribute_help(TrainConfig)
    for field in fields(TrainConfig):
        name = f"--{field.name.replace('_', '-')}"
        text = texts[field.name].replace("%", "%%")
        if hints[field.name] is bool:
            settings.add_argument(name, action=argparse.BooleanOptionalAction, help=text)
        else:
            metavar = {int: "N", float: "X", str: "NAME"}.get(hints[field.name])
            kind = hints[field.name] if metavar else _integers
            settings.add_argument(name, type=kind, metavar=metavar or "N,N,...", help=text)


def _reader(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], **texts: str
) -> argparse.ArgumentParser:
    """Return the parser of a command that reads a trained network."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **texts
    )
    parser.set_defaults(run=run, error=parser.error)
    parser.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        help="a .safetensors file or the directory of a run; without it, the network that comes "
        "with the package",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    return parser


def _add_sample(commands: Any) -> None:
    parser = _reader(
        commands,
        "sample",
        _sample,
        help="draw pictures with a trained network",
        description="Draw pictures with a trained network, a class in each column, into a PNG.",
    )
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="the PNG file")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names or numbers")
    parser.add_argument("--rows", type=int, default=8, metavar="N", help="pictures of each class")
    parser.add_argument("--guidance", type=float, default=1.0, metavar="X", help="1 is none")
    parser.add_argument("--method", default="midpoint", help="euler, midpoint, heun, rk4 or dopri5")
    parser.add_argument("--steps", type=int, default=25, metavar="N", help="steps of the solver")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the noise")
    parser.add_argument("--zoom", type=int, default=2, metavar="N", help="side of a drawn pixel")


def _add_evaluate(commands: Any) -> None:
    parser = _reader(
        commands,
        "evaluate",
        _evaluate,
        help="measure how good the pictures of a trained network are",
        description="Measure the pictures of a trained network and write all numbers to a JSON "
        "file: Fréchet distance with its floor, precision and recall, accuracy of the classes, "
        "nearest training pictures, bits per dimension, quality against evaluations and guidance.",
    )
    parser.add_argument("--out", type=Path, default=Path("evaluation.json"), help="the JSON file")
    parser.add_argument(
        "--pictures", type=Path, metavar="PNG", help="where to draw pictures above their neighbours"
    )
    parser.add_argument("--data-dir", type=Path, help="directory with the files of the data set")
    parser.add_argument(
        "--features",
        choices=("auto", "classifier", "inception", "pixels"),
        default="auto",
        help="where distances are taken: in the features of the classifier of Fashion-MNIST, in "
        "those of the Inception network (FID), in the pixels; auto is the first if it fits, else "
        "the last",
    )
    parser.add_argument(
        "--inception-weights", type=Path, metavar="FILE", help="instead of a download"
    )
    settings = parser.add_argument_group("settings")
    hints, texts = get_type_hints(EvaluationConfig), attribute_help(EvaluationConfig)
    for field in fields(EvaluationConfig):
        kind, *_ = get_args(hints[field.name]) or (hints[field.name],)
        settings.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            nargs="*" if isinstance(field.default, tuple) else None,
            metavar={int: "N", float: "X", str: "NAME"}[kind],
            default=field.default,
            help=texts[field.name].replace("%", "%%"),
        )


def _train(args: argparse.Namespace) -> int:
    from fmtutor.images.datasets import load_images
    from fmtutor.images.trainer import Stopped, train

    preset = getattr(args, "preset", "digits-cpu")
    out = getattr(args, "out", Path("runs") / preset)
    resume = hasattr(args, "resume")
    config = _settings(args, _stored(out) if resume and not hasattr(args, "preset") else preset)
    data = load_images(
        config.data, data_dir=getattr(args, "data_dir", None), size=config.size, flip=config.flip
    )
    try:
        train(
            config, data, out, resume=resume, device=getattr(args, "device", None),
            progress=sys.stderr.isatty(),
        )  # fmt: skip
    except Stopped as stopped:
        print(f"{stopped}: go on with --resume --out {out}", file=sys.stderr)
        return 128 + stopped.signal
    return 0


def _sample(args: argparse.Namespace) -> int:
    import torch

    from fmtutor.images.checkpoint import load_model, shipped_checkpoint
    from fmtutor.images.pictures import draw_pictures, picture_grid, save_png
    from fmtutor.images.run import find_model

    path = shipped_checkpoint() if args.checkpoint is None else find_model(args.checkpoint)
    model, about = load_model(path, args.device)
    if args.classes and not model.classes:
        raise ValueError(f"{path} was trained without classes")
    classes = [_class_number(name, about["classes"]) for name in args.classes or []]
    classes = classes or list(range(model.classes))
    labels = torch.tensor(classes).repeat(args.rows) if classes else None
    pictures = draw_pictures(
        model,
        labels,
        count=args.rows**2,
        scale=args.guidance,
        method=args.method,
        steps=args.steps,
        seed=args.seed,
    )
    save_png(args.out, picture_grid(pictures, len(classes) or args.rows), zoom=args.zoom)
    print(args.out)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    import torch

    from fmtutor.images.checkpoint import load_model, shipped_checkpoint
    from fmtutor.images.datasets import load_images
    from fmtutor.images.evaluate import choose_features, evaluate
    from fmtutor.images.run import find_model

    given = {f.name: getattr(args, f.name) for f in fields(EvaluationConfig)}
    try:
        config = EvaluationConfig(**given)
    except ValueError as error:
        args.error(str(error))
    path = shipped_checkpoint() if args.checkpoint is None else find_model(args.checkpoint)
    # A run that goes on replaces its checkpoints: read and hash this one now.
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    model, about = load_model(path, args.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
    data = load_images(
        about["data"],
        data_dir=args.data_dir,
        size=model.config.size,
        flip=about["train"].get("flip", False),
    )
    features = choose_features(
        data, args.features, weights=args.inception_weights, device=args.device
    )
    result = evaluate(
        model, data, features.embedding, features.classifier, config, progress=sys.stderr.isatty()
    )
    result["about"] |= {
        "features": features.about,
        "checkpoint": {"sha256": sha256, **about},
    }
    result = {"command": args.command, **result}
    args.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if args.pictures is not None:
        _save_neighbours(args.pictures, model, data, config)
    for name in ("samples", "floor"):
        numbers = (f"{k} {v:.4g}" for k, v in result[name].items() if k in result["floor"])
        print(f"{name}: {', '.join(numbers)}")
    return 0


def _save_neighbours(path: Path, model: UNet, data: ImageData, config: EvaluationConfig) -> None:
    """Draw a picture of each class above the training pictures that are nearest to it."""
    import torch

    from fmtutor.images.evaluate import beside_neighbours
    from fmtutor.images.pictures import draw_pictures, picture_grid, save_png

    columns = model.classes or 10
    pictures = draw_pictures(
        model,
        torch.arange(columns) if model.classes else None,
        count=columns,
        scale=config.guidance,
        method=config.method,
        steps=steps_for(config.method, config.nfe),
        seed=config.seed,
    )
    rows = beside_neighbours(pictures, data).transpose(0, 1)
    save_png(path, picture_grid(rows.flatten(0, 1), columns), zoom=2)


def _stored(out: Path) -> TrainConfig:
    """Return the settings of the run in a directory."""
    from fmtutor.images.checkpoint import load_model, with_tuples
    from fmtutor.images.run import find_model

    _, about = load_model(find_model(out))
    known = {field.name for field in fields(TrainConfig)}
    return TrainConfig(**{k: v for k, v in with_tuples(about["train"]).items() if k in known})


def _settings(args: argparse.Namespace, base: TrainConfig | str) -> TrainConfig:
    """Return a preset, or the settings of a run, with what was said on the command line."""
    config = PRESETS[base] if isinstance(base, str) else base
    given = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)}
    try:
        return replace(config, **given)
    except ValueError as error:
        args.error(str(error))
        raise  # not reached: the parser ends the process


def _class_number(name: str, classes: Sequence[str]) -> int:
    lower = [c.lower() for c in classes]
    number = lower.index(name.lower()) if name.lower() in lower else -1
    if number < 0 and name.isdecimal():
        number = int(name)
    if not 0 <= number < len(classes):
        raise ValueError(f"there is no class {name!r}, but {', '.join(classes)}")
    return number


def _integers(text: str) -> tuple[int, ...]:
    """Read whole numbers between commas."""
    return tuple(int(part) for part in text.split(",") if part)


def _fail(message: object) -> int:
    print(f"fmtutor: {' '.join(str(message).split())}", file=sys.stderr)
    return 1
