"""The command line: `python -m fmtutor.images`, or `fmtutor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from fmtutor.images.datasets import load_images
from fmtutor.images.trainer import TrainConfig, train

__all__ = ["PRESETS", "main"]

PRESETS = {
    "digits-cpu": TrainConfig(),
    "fashion-cpu": TrainConfig(
        data="fashion-mnist",
        patch=2,
        width=48,
        mults=(1, 2),
        attention=(7,),
        steps=4200,
        batch_size=64,
        lr=1.5e-3,
        warmup=200,
        decay=0.5,
        log_every=50,
        sample_every=700,
        save_every=100,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="fmtutor")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("train")
    run.add_argument("--preset", choices=PRESETS, default="digits-cpu")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--resume", action="store_true")
    for field in fields(TrainConfig):
        if field.type == "int":
            run.add_argument(f"--{field.name.replace('_', '-')}", type=int)
    args = parser.parse_args(argv)
    config = PRESETS[args.preset]
    given = {f.name: getattr(args, f.name, None) for f in fields(TrainConfig)}
    config = replace(config, **{k: v for k, v in given.items() if v is not None})
    train(config, load_images(config.data), args.out, resume=args.resume)
    return 0


if __name__ == "__main__":
    sys.exit(main())
