"""The command line of the last chapter: `python -m fmtutor.images`, or `fmtutor`."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from fmtutor.images.commands import run_evaluate, run_pack, run_sample, run_train
from fmtutor.images.config import TrainConfig
from fmtutor.images.evaluation import EvaluationConfig
from fmtutor.images.presets import PRESETS
from fmtutor.networks.registry import FROM_DATA, NETWORKS

__all__ = ["attribute_help", "main"]

EXTRA = ("PIL", "pooch", "safetensors", "sklearn")
ALONE = ("matplotlib", "tensorboard")

TRAIN_EPILOG = """
examples:
  fmtutor train --preset digits-cpu
      a minute or two on a laptop, nothing to download
  fmtutor train --preset fashion-gpu --out runs/fashion --seed 1
      any setting of a preset can be changed
  fmtutor train --resume --out runs/fashion
      go on after Ctrl-C, SIGTERM, a crash or a power cut
  fmtutor train --resume --reschedule --steps 60000 --out runs/fashion
      go on with a run that is over; lr, decay and others may change, too
  fmtutor train --weights runs/fashion --lr 1e-4 --out runs/fine
      a new run that begins with the weights of another
  torchrun --nproc_per_node=8 -m fmtutor.images train --preset cifar10-gpu
      one process a GPU; the batch is shared among them (srun does as well)
  torchrun --nnodes=4 --nproc_per_node=8 --max-restarts=3 --rdzv_backend=c10d \
      --rdzv_endpoint=HOST:29500 -m fmtutor.images train --resume auto --parallel fsdp ...
      32 GPUs, on each of 4 machines the same command, --out on a disk that all of them see; each
      GPU holds a part of the network; a run that loses a process goes on from its last checkpoint
  fmtutor train --preset fashion-gpu --objective lagrangian --out runs/jump
      a network that draws in few steps: fmtutor sample runs/jump --jumps 1; with --weights it
      begins with a velocity field that is trained already
  fmtutor train --preset cifar10-gpu --data folder --data-dir photos --size 64 --flip
      pictures of your own, in photos/CLASS/*.jpg
  fmtutor train --preset cifar10-gpu --data packed --data-dir packed/photos
      the same, packed before by fmtutor pack: as many as the disk holds
  fmtutor train --preset digits-cpu --tensorboard
      a log for TensorBoard, too (pip install tensorboard), in runs/digits-cpu/tensorboard
"""

PACK_EPILOG = """
Pictures of a folder become squares of 8 bits a channel: an oblong one is turned upright and cut to
its middle square; 16 bits of grey are scaled to 8, of colours with 16 bits the upper 8 are kept;
what is transparent is laid on white; if all are grey there is one channel, else there are three.
One whose black and white are not known (32-bit or floating-point TIFF) is refused by its name.

A GPU gets all pictures of a set at once if they take at most a quarter of its free memory. Else it
gets those of each step, and the system is asked for those of the next one meanwhile.

examples:
  fmtutor pack --data folder --data-dir photos --size 64 --flip --out packed/photos
      pictures of your own, in photos/CLASS/*.jpg; the same command goes on after an interruption
  fmtutor pack --data fashion-mnist --out packed/fashion
      a data set that has a name
  fmtutor pack --verify packed/photos
      read all of it, and compare it with its hashes
  fmtutor train --data packed --data-dir packed/photos --out runs/photos
      train with it; fmtutor evaluate takes the same --data-dir
  fmtutor pack --data fashion-mnist --autoencoder fashion-mnist --out packed/latents
      its latents; a network of them is evaluated with the --data-dir of its pictures
"""


def main(argv: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; None takes those of the process.
        parser: Knows the commands; None knows those of this module.

    Returns:
        The exit status: 0, or 1 after an error, or 128 + n after signal n. Wrong usage ends the
        process with 2.

    Chapter: images
    """
    parser = parser or _parser()
    args = parser.parse_args(argv)
    args.command = shlex.join(["fmtutor", *(sys.argv[1:] if argv is None else argv)])
    try:
        status: int = args.run(args)
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in EXTRA + ALONE:
            raise
        package = name if name in ALONE else "'fmtutor[images]'"
        return _fail(f"{error.name} is missing: pip install {package}")
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


def _parser(*further: Callable[[Any], None]) -> argparse.ArgumentParser:
    """Return the parser of all commands, those of this module and further ones."""
    parser = argparse.ArgumentParser(
        prog="fmtutor", description="Flow matching of pictures: pack, train, sample, evaluate."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_pack, _add_train, _add_sample, _add_evaluate, *further):
        add(commands)
    return parser


def _add_pack(commands: Any) -> None:
    parser = commands.add_parser(
        "pack",
        help="pack a data set, so that it need not fit the memory",
        usage="fmtutor pack [-h] --out DIR [settings] | fmtutor pack --verify DIR",
        description=textwrap.dedent(
            """
            Pack a data set into a directory of files that are mapped into memory: training reads
            the rows of each step from them, so that the data may be larger than the memory. The
            pictures are read one by one. Interrupted, the same command goes on where it has
            stopped. The directory is a packed set once its manifest.json is there."""
        ),
        epilog=PACK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run_pack, error=parser.error)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the directory to write")
    parser.add_argument(
        "--verify", type=Path, metavar="DIR", help="a packed set to compare with its hashes"
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory with the files of the data set"
    )
    parser.add_argument(
        "--autoencoder",
        metavar="FILE",
        help="pack the latents that it makes of the pictures, in float16; fashion-mnist is the one "
        "that comes with the package",
    )
    parser.add_argument(
        "--device", default="auto", help="where it encodes; auto is a GPU if there is one"
    )
    texts = attribute_help(TrainConfig)
    parser.add_argument(
        "--data",
        default="digits",
        metavar="NAME",
        help="the data set: digits, fashion-mnist, cifar10 or folder (digits)",
    )
    parser.add_argument("--size", type=int, default=32, metavar="N", help=f"{texts['size']} (32)")
    parser.add_argument(
        "--channels", type=int, default=0, choices=(0, 1, 3), help=texts["channels"]
    )
    parser.add_argument("--flip", action="store_true", help=texts["flip"])


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network on pictures",
        usage="fmtutor train [-h] [--preset NAME] [--out DIR] [--resume [auto]] [settings]",
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
    parser.set_defaults(run=run_train, error=parser.error)
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="NAME",
        help=f"where the settings below come from: {', '.join(PRESETS)} (digits-cpu)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory of the run (runs/PRESET)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        choices=("auto",),
        help="go on with the run in --out; with auto, begin it if there is none, so that the same "
        "command can be started again after a loss",
    )
    parser.add_argument(
        "--reschedule",
        action="store_true",
        help="let a resumed run go on with other steps, lr, warmup, decay, ...",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="PATH", help="a network or run whose weights to begin with"
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory with the files of the data set"
    )
    parser.add_argument("--device", help="auto, cpu, cuda, ... (auto: a GPU if there is one)")
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write the log for TensorBoard, too (pip install tensorboard)",
    )
    settings = parser.add_argument_group("settings", "each replaces that of the preset")
    _add_fields(settings, TrainConfig)
    taken = {*FROM_DATA, *(field.name for field in fields(TrainConfig))}
    for name, (description, _) in NETWORKS.items():
        shared = [f"--{f.name}" for f in fields(description) if f.name in taken - {*FROM_DATA}]
        also = f"beside {', '.join(shared)}, which have the same names there" if shared else None
        group = parser.add_argument_group(f"settings of the network {name}", also)
        _add_fields(group, description, leave=taken)
        taken |= {field.name for field in fields(description)}


def _add_fields(parser: Any, config: type[Any], leave: Collection[str] = ()) -> None:
    """Add an option for each field of a dataclass, but for those that there are already."""
    hints, texts = get_type_hints(config), attribute_help(config)
    for field in fields(config):
        name, text = f"--{field.name.replace('_', '-')}", texts[field.name].replace("%", "%%")
        if field.name in leave or get_origin(hints[field.name]) is Mapping:
            continue
        if hints[field.name] is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, help=text)
        else:
            metavar = {int: "N", float: "X", str: "NAME"}.get(hints[field.name])
            kind = hints[field.name] if metavar else _integers
            parser.add_argument(name, type=kind, metavar=metavar or "N,N,...", help=text)


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
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, ...; auto is a GPU if there is one"
    )
    parser.add_argument(
        "--autoencoder",
        metavar="FILE",
        help="of a network of latents: where its autoencoder is, if no longer where it was",
    )
    parser.add_argument(
        "--guide",
        type=Path,
        metavar="PATH",
        help="a weaker network of the same pictures, or its run, to be guided away from; without "
        "it, the network itself, asked for no class",
    )
    return parser


def _add_sample(commands: Any) -> None:
    parser = _reader(
        commands,
        "sample",
        run_sample,
        help="draw pictures with a trained network",
        description="Draw pictures with a trained network, a class in each column, into a PNG.",
    )
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="the PNG file")
    parser.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="names or numbers; without, ten at most"
    )
    parser.add_argument("--rows", type=int, default=8, metavar="N", help="pictures of each class")
    parser.add_argument("--guidance", type=float, default=1.0, metavar="X", help="1 is none")
    texts = attribute_help(EvaluationConfig)
    for name, default in (("interval", (0.0, 1.0)), ("rescale", 0.0)):
        parser.add_argument(
            f"--guidance-{name}",
            type=float,
            nargs=2 if isinstance(default, tuple) else None,
            default=default,
            metavar="X",
            help=texts[f"guidance_{name}"],
        )
    parser.add_argument(
        "--jumps",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="evaluations of a network that has learned to jump (train --objective); without, and "
        "without a solver, it draws by 1; jumps are not guided",
    )
    parser.add_argument(
        "--method",
        default=argparse.SUPPRESS,
        help="euler, midpoint, heun, rk4 or dopri5 (midpoint); of a network that jumps, for its "
        "velocity u(x, t, t), which can be guided",
    )
    parser.add_argument(
        "--steps", type=int, default=argparse.SUPPRESS, metavar="N", help="steps of the solver (25)"
    )
    parser.add_argument("--shift", type=float, default=1.0, metavar="X", help=texts["shift"])
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the noise")
    parser.add_argument("--zoom", type=int, default=2, metavar="N", help="side of a drawn pixel")


def _add_evaluate(commands: Any) -> None:
    parser = _reader(
        commands,
        "evaluate",
        run_evaluate,
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
        "the last, which says nothing about an FID: for that, inception and --samples 50000",
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


def _integers(text: str) -> tuple[int, ...]:
    """Read whole numbers between commas."""
    return tuple(int(part) for part in text.split(",") if part)


def _fail(message: object) -> int:
    print(f"fmtutor: {' '.join(str(message).split())}", file=sys.stderr)
    return 1
