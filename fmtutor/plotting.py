"""The house style of every figure: one palette, equal axes, readable in a light and a dark theme.

A picture is drawn on a transparent ground with text in a grey that stands out from white and from
near black. Each quantity keeps its colour through the whole book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from fmtutor.notation import VelocityField

__all__ = [
    "COLORS",
    "arrows",
    "blend",
    "density",
    "grid_points",
    "loss_curve",
    "panels",
    "scatter",
    "shades",
    "strip",
    "trajectories",
    "use_style",
]

COLORS = {
    "noise": "#56B4E9",
    "data": "#D55E00",
    "velocity": "#009E73",
    "learned": "#CC79A7",
    "exact": "#808080",
    "trajectory": "#999999",
    "text": "#7A7A7A",
}
"""Okabe and Ito's palette, safe for colour-blind readers, by what a colour stands for."""


def use_style() -> None:
    """Set matplotlib's defaults to the house style; each chapter calls it once.

    Example:
        >>> use_style()
    """
    text = COLORS["text"]
    mpl.rcParams.update(
        {
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "figure.dpi": 160,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.titlecolor": text,
            "axes.edgecolor": text,
            "axes.labelcolor": text,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "xtick.color": text,
            "ytick.color": text,
            "text.color": text,
            "grid.color": text,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def blend(share: float, start: str = "noise", end: str = "data") -> str:
    """Return the colour a given share of the way from one kind to another, as a hex string.

    Example:
        >>> blend(0.0), blend(1.0), COLORS["data"].lower()
        ('#56b4e9', '#d55e00', '#d55e00')
    """
    a, b = (mpl.colors.to_rgb(COLORS[kind]) for kind in (start, end))
    red, green, blue = ((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
    return mpl.colors.to_hex((red, green, blue))


def shades(kind: str) -> LinearSegmentedColormap:
    """Return a colour map from transparent to the colour of a kind, for either theme.

    Example:
        >>> float(shades("data")(0.0)[3]), float(shades("data")(1.0)[3])  # transparent to full
        (0.0, 0.95)
    """
    red, green, blue = mpl.colors.to_rgb(COLORS[kind])
    ends = [(red, green, blue, 0.0), (red, green, blue, 0.95)]
    return LinearSegmentedColormap.from_list(kind, ends)


def panels(
    columns: int,
    rows: int = 1,
    *,
    limit: float | None = None,
    height: float = 2.6,
    width: float = 7.6,
) -> tuple[Figure, Any]:
    """Make a row or a grid of panels.

    Args:
        columns: Number of panels side by side.
        rows: Number of rows.
        limit: For panels that show the plane: half the side of the square shown, in data units,
            without ticks and with equal axes. None leaves ordinary axes.
        height: Height of a row in inches.
        width: Width of the figure in inches.

    Returns:
        The figure, and one axes or an array of axes as `plt.subplots` gives them.

    Example:
        >>> fig, axes = panels(3, limit=4.0)
        >>> axes.shape
        (3,)
    """
    if limit is None:
        return plt.subplots(rows, columns, figsize=(width, height * rows))
    fig, axes = plt.subplots(rows, columns, figsize=(width, rows * (width / columns + 0.25)))
    for ax in np.ravel(axes):
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        ax.spines[:].set_visible(False)
    return fig, axes


def scatter(ax: Axes, x: Tensor, kind: str = "data", *, size: float = 3.0, **style: Any) -> None:
    """Draw points `[n 2]` in the colour of their kind.

    Args:
        ax: The axes.
        x: Points `[n 2]`.
        kind: A key of `COLORS`.
        size: Area of a dot in square points.
        style: Passed on to matplotlib's `scatter`.

    Example:
        >>> fig, ax = panels(1, limit=4.0)
        >>> scatter(ax, torch.randn(100, 2), "noise")
    """
    points = x.detach().cpu()
    defaults: dict[str, Any] = {
        "color": COLORS[kind],
        "alpha": 0.6,
        "linewidths": 0,
        "rasterized": True,
    }
    ax.scatter(points[:, 0], points[:, 1], s=size, **(defaults | style))


def trajectories(
    ax: Axes, path: Tensor, *, ends: bool = True, color: str = COLORS["trajectory"], lw: float = 0.8
) -> None:
    """Draw trajectories `[k b 2]` as lines, from a dot in the noise's colour to one in the data's.

    Args:
        ax: The axes.
        path: Points `[k b 2]` as `sample(..., return_path=True)` gives them.
        ends: Whether to draw the end points.
        color: Colour of the lines.
        lw: Width of the lines in points.

    Example:
        >>> fig, ax = panels(1, limit=4.0)
        >>> trajectories(ax, sample(lambda x, t: -x, torch.randn(5, 2), return_path=True))
    """
    points = path.detach().cpu()
    ax.plot(points[..., 0], points[..., 1], color=color, lw=lw, alpha=0.7, zorder=1)
    if ends:
        scatter(ax, points[0], "noise", size=10, alpha=1.0, zorder=2)
        scatter(ax, points[-1], "data", size=10, alpha=1.0, zorder=3)


def grid_points(limit: float, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the n by n points of a square grid over [−limit, limit]², row by row, `[n² 2]`.

    Example:
        >>> grid_points(1.0, 2)
        tensor([[-1., -1.],
                [ 1., -1.],
                [-1.,  1.],
                [ 1.,  1.]])
    """
    axis = torch.linspace(-limit, limit, n, dtype=dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)


def strip(
    ax: Axes,
    log_density: Callable[[Tensor, Tensor], Tensor],
    *,
    kind: str = "data",
    limit: float = 2.5,
    end: float = 0.97,
    n: int = 240,
) -> None:
    """Draw a density on a line as it changes with time: a strip in the (t, x) plane.

    Each time has shades of its own, from transparent to full at its largest density, so that a
    strip that narrows to a point stays visible all the way.

    Args:
        ax: Where to draw; time runs to the right.
        log_density: Called as `log_density(x, t)` with points `[k 1]` and times `[k]`.
        kind: The colour's kind.
        limit: The line is shown from -limit to limit.
        end: Last time, below 1 where the density has no limit there.
        n: Number of times, and of points.

    Example:
        >>> fig, ax = panels(1)
        >>> one = torch.ones(1, 1)
        >>> strip(ax, lambda x, t: CondOT().log_prob(x, one.expand_as(x), t))
    """
    t, x = torch.linspace(0, end, n), torch.linspace(-limit, limit, n)
    times, points = torch.meshgrid(t, x, indexing="xy")  # rows are points, columns times
    log_p = log_density(points.reshape(-1, 1), times.reshape(-1)).reshape(n, n)
    image = (log_p - log_p.amax(0)).exp().numpy()
    ax.imshow(
        image, origin="lower", extent=(0, end, -limit, limit), aspect="auto",
        cmap=shades(kind), vmin=0, vmax=1, zorder=0,
    )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(-limit, limit), xlabel="$t$", ylabel="$x$")


def arrows(
    ax: Axes,
    v: VelocityField,
    t: float,
    *,
    limit: float,
    n: int = 14,
    color: str = COLORS["velocity"],
    scale: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Draw a velocity field in the plane at one time as arrows on a grid.

    Args:
        ax: The axes.
        v: The field.
        t: The time.
        limit: Half the side of the square covered.
        n: Number of arrows along a side.
        color: Colour of the arrows.
        scale: Speed that an arrow of unit length stands for; None lets matplotlib choose.
        dtype: Floating-point type in which the field is evaluated.

    Example:
        >>> fig, ax = panels(1, limit=4.0)
        >>> arrows(ax, lambda x, t: -x, 0.5, limit=4.0)
    """
    x = grid_points(limit, n, dtype)
    with torch.no_grad():
        u = v(x, torch.full((len(x),), t, dtype=dtype))
    ax.quiver(
        x[:, 0],
        x[:, 1],
        u[:, 0],
        u[:, 1],
        color=color,
        angles="xy",
        scale_units="xy" if scale else None,
        scale=scale,
        width=0.006,
        alpha=0.9,
    )


def density(
    ax: Axes,
    log_prob: Callable[[Tensor], Tensor],
    *,
    limit: float,
    n: int = 160,
    kind: str = "data",
    vmax: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Draw a density in the plane, from transparent to the colour of its kind.

    Args:
        ax: The axes.
        log_prob: Log-density in nats, `[b 2]` to `[b]`.
        limit: Half the side of the square covered.
        n: Number of pixels along a side.
        kind: A key of `COLORS`.
        vmax: Density at which the colour is full; None takes the largest one.
        dtype: Floating-point type in which the density is evaluated.

    Example:
        >>> fig, ax = panels(1, limit=4.0)
        >>> density(ax, lambda x: -x.square().sum(1) / 2, limit=4.0)
    """
    with torch.no_grad():
        p = log_prob(grid_points(limit, n, dtype)).exp().reshape(n, n).cpu().numpy()
    box = (-limit, limit, -limit, limit)
    ax.imshow(p, origin="lower", extent=box, cmap=shades(kind), vmin=0, vmax=vmax, zorder=0)


def loss_curve(
    ax: Axes,
    losses: Tensor | Sequence[float],
    *,
    floor: float | None = None,
    window: int = 50,
    label: str = "loss",
    color: str = COLORS["learned"],
) -> None:
    """Draw a loss over steps as a running mean, with the floor it cannot pass.

    Args:
        ax: The axes.
        losses: The loss of every step, `[steps]`.
        floor: The least possible value, or None.
        window: Number of steps in the mean.
        label: Name in the legend.
        color: Colour of the curve.

    Example:
        >>> fig, ax = panels(1)
        >>> loss_curve(ax, [3.0, 2.0, 1.5, 1.2], floor=1.0, window=2)
    """
    values = np.asarray(losses, dtype=float)
    window = min(window, len(values))
    mean = np.convolve(values, np.ones(window) / window, mode="valid")
    ax.plot(np.arange(window - 1, len(values)), mean, color=color, label=label)
    if floor is not None:
        ax.axhline(floor, color=COLORS["exact"], ls="--", lw=1.2, label="floor")
    ax.set(xlabel="step", ylabel="loss")
    ax.legend()
