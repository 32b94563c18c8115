"""The runs that have a name."""

from __future__ import annotations

from typing import Any

from fmtutor.images.config import TrainConfig

__all__ = ["PRESETS"]

SHORT: dict[str, Any] = {
    "steps": 7000,
    "batch_size": 64,
    "lr": 1.5e-3,
    "warmup": 200,
    "sample_every": 700,
    "save_every": 100,
}
LONG: dict[str, Any] = {
    "steps": 400_000,
    "warmup": 5000,
    "decay": 0.1,
    "weight_decay": 0.0,
    "ema": 0.9999,
    "compile": True,
    "log_every": 100,
    "sample_every": 10_000,
    "save_every": 2000,
}

PRESETS = {
    "digits-cpu": TrainConfig(),
    "fashion-cpu": TrainConfig(
        data="fashion-mnist",
        architecture={"patch": 2, "width": 48, "mults": (1, 2), "attention": (7,)},
        **SHORT,
    ),
    "fashion-jump-cpu": TrainConfig(
        data="fashion-mnist",
        objective="lagrangian",
        architecture={"patch": 2, "width": 48, "mults": (1, 2), "attention": (7,)},
        **(SHORT | {"steps": 9000, "lr": 1e-3, "sample_every": 900}),
    ),
    "fashion-gpu": TrainConfig(
        data="fashion-mnist",
        architecture={
            "width": 64,
            "mults": (1, 2, 2),
            "blocks": 2,
            "attention": (7, 14),
            "dropout": 0.1,
        },
        steps=50_000,
        batch_size=256,
        lr=1e-3,
        warmup=1000,
        ema=0.9995,
        compile=True,
        sample_every=2500,
        save_every=1000,
    ),
    "fashion-transformer-cpu": TrainConfig(
        data="fashion-mnist",
        network="transformer",
        architecture={"patch": 4, "width": 128, "depth": 6, "heads": 4},
        **SHORT,
    ),
    "fashion-latents-cpu": TrainConfig(
        data="fashion-mnist",
        autoencoder="fashion-mnist",
        network="transformer",
        architecture={"patch": 1, "width": 128, "depth": 6, "heads": 4},
        **SHORT,
    ),
    "cifar10-gpu": TrainConfig(
        data="cifar10",
        architecture={
            "width": 144,
            "mults": (1, 2, 2, 2),
            "blocks": 2,
            "attention": (16,),
            "dropout": 0.1,
        },
        batch_size=128,
        lr=2e-4,
        **LONG,
    ),
    "cifar10-transformer-gpu": TrainConfig(
        data="cifar10",
        network="transformer",
        architecture={"patch": 2, "width": 384, "depth": 12, "heads": 6, "dropout": 0.1},
        batch_size=256,
        lr=2e-4,
        **LONG,
    ),
    "latents-transformer-gpu": TrainConfig(
        data="folder",
        size=256,
        autoencoder="autoencoder.safetensors",
        network="transformer",
        architecture={"patch": 2, "width": 768, "depth": 12, "heads": 12},
        batch_size=256,
        lr=1e-4,
        **LONG,
    ),
}
"""The runs that have a name, by data set and device; the network is a U-Net unless it says.

fashion-jump-cpu learns to draw in one step; it may begin with the weights of fashion-cpu.

Millions of weights: digits-cpu 0.322, fashion-cpu 1.28, fashion-jump-cpu 1.29, fashion-gpu 5.78,
fashion-transformer-cpu 1.89, fashion-latents-cpu 1.88, cifar10-gpu 37.1,
cifar10-transformer-gpu 32.5, latents-transformer-gpu 130 (for latents of 4 × 32 × 32, which an
autoencoder with mults 1, 2, 4 makes of pictures with a side of 256).
"""
