"""Train the classifier of Fashion-MNIST and ship its weights with the package.

    OMP_NUM_THREADS=1 python tools/train_classifier.py [--data-dir DIR]

One core takes about ten minutes. The training is seeded; another processor rounds otherwise and
gives a classifier that is as good, not the same. Its accuracy on the test images, which training
never sees, is stored in the file beside the weights, with the command and the versions.
"""

import argparse
import platform
import shlex
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from fmtutor.images.classifier import WEIGHTS, Classifier, accuracy, save_classifier
from fmtutor.images.datasets import ImageData, load_images, to_float


def train(data: ImageData, *, epochs: int, batch_size: int, lr: float, seed: int) -> Classifier:
    """Train on the training images: SGD with momentum, one cycle of the learning rate."""
    torch.manual_seed(seed)
    model = Classifier(channels=data.train.shape[1], classes=len(data.classes))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = epochs * (len(data.train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    bar = tqdm(total=steps, desc="train", mininterval=1)
    for _ in range(epochs):
        rows = torch.split(torch.randperm(len(data.train)), batch_size)
        for batch in rows[: len(data.train) // batch_size]:
            x, y = to_float(data.train[batch]), data.train_labels[batch]
            # A mirrored shoe is a shoe, though no picture of the data set: all shoes point left.
            x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)
            loss = cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar.update()
    bar.close()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, help="where the data set is, or shall be")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1, help="largest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()

    data = load_images("fashion-mnist", data_dir=options.data_dir)
    start = time.perf_counter()
    settings = {name: getattr(options, name) for name in ("epochs", "batch_size", "lr", "seed")}
    model = train(data, **settings)
    about = {
        "data": data.name,
        "test_accuracy": accuracy(model, data.test, data.test_labels),
        "train_accuracy": accuracy(model, data.train, data.train_labels),
        "test_images": len(data.test),
        **settings,
        "seconds": round(time.perf_counter() - start),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["python", "tools/train_classifier.py", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_classifier(model, options.out, about)
    print(f"test accuracy {about['test_accuracy']:.4f}, written to {options.out}")


if __name__ == "__main__":
    main()
