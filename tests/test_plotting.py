"""The house style: the palette of the book, transparent, and every drawing function draws."""

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_hex, to_rgb, to_rgba

from fmtutor import CondOT, GaussianMixture, sample
from fmtutor.data import cluster_means, four_clusters, standard_normal
from fmtutor.plotting import (
    COLORS,
    arrows,
    density,
    grid_points,
    loss_curve,
    panels,
    scatter,
    strip,
    trajectories,
    use_style,
)

MIXTURE = GaussianMixture(cluster_means(4, 8**0.5), 0.3)
FIELD = MIXTURE.velocity(CondOT())


@pytest.fixture(autouse=True)
def own_style():
    with mpl.rc_context():
        use_style()
        yield
        plt.close("all")


def test_the_palette_is_that_of_the_style_guide():
    style = {"noise": "#56B4E9", "data": "#D55E00", "velocity": "#009E73", "learned": "#CC79A7"}
    assert style.items() <= COLORS.items()
    for grey in ("exact", "trajectory", "text"):  # neutral: seen on white and on black
        red, green, blue = to_rgb(COLORS[grey])
        assert red == green == blue
        assert 0.4 < red < 0.65


def contrast(a, b):
    def luminance(color):
        linear = [c / 12.92 if c < 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#121212"])
def test_text_is_legible_on_a_light_and_a_dark_ground(ground):
    assert contrast(COLORS["text"], ground) > 4


def test_figures_are_transparent(tmp_path):
    fig, axes = panels(2)
    axes[0].plot([0, 1])
    assert to_rgba(mpl.rcParams["savefig.facecolor"])[3] == 0
    assert fig.get_facecolor()[3] == 0
    assert axes[0].get_facecolor()[3] == 0
    fig.savefig(tmp_path / "figure.png")
    image = plt.imread(tmp_path / "figure.png")
    assert image.shape[2] == 4
    assert (image[..., 3] == 0).mean() > 0.5
    assert image[0, 0, 3] == 0


def test_text_takes_the_neutral_grey():
    fig, ax = panels(1)
    ax.set(title="title", xlabel="x", ylabel="y")
    fig.canvas.draw()
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels()]
    assert {to_hex(text.get_color()) for text in texts} == {COLORS["text"].lower()}


def test_panels_of_the_plane_have_equal_axes_and_no_junk():
    fig, axes = panels(3, rows=2, limit=4.0)
    assert axes.shape == (2, 3)
    for ax in axes.flat:
        assert ax.get_xlim() == ax.get_ylim() == (-4, 4)
        assert ax.get_aspect() == 1
        assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
        assert not any(spine.get_visible() for spine in ax.spines.values())
    assert fig.get_size_inches()[0] == pytest.approx(7.6)
    _, ordinary = panels(1, height=2.0, width=5.0)
    assert ordinary.get_figure().get_size_inches().tolist() == [5.0, 2.0]
    assert len(ordinary.get_xticks()) > 0
    assert not ordinary.spines["top"].get_visible()


@pytest.mark.parametrize("kind", ["noise", "data", "learned"])
def test_points_have_the_colour_of_their_kind(kind):
    _, ax = panels(1, limit=4.0)
    x = four_clusters(50, seed=0).requires_grad_()
    scatter(ax, x, kind, size=7.0)
    (dots,) = ax.collections
    assert to_hex(dots.get_facecolor()[0]) == COLORS[kind].lower()
    assert torch.equal(torch.tensor(dots.get_offsets().data, dtype=torch.float32), x.detach())
    assert dots.get_sizes().tolist() == [7.0]
    scatter(ax, x, kind, alpha=1.0)  # a style may be overridden
    assert ax.collections[1].get_alpha() == 1.0
    with pytest.raises(KeyError):
        scatter(ax, x, "nonsense")


def test_trajectories_run_from_noise_to_data():
    _, ax = panels(1, limit=4.0)
    path = sample(FIELD, standard_normal(6, seed=0), steps=10, return_path=True)
    trajectories(ax, path)
    assert len(ax.lines) == 6
    assert all(to_hex(line.get_color()) == COLORS["trajectory"].lower() for line in ax.lines)
    torch.testing.assert_close(torch.tensor(ax.lines[2].get_xdata()), path[:, 2, 0])
    first, last = ax.collections
    assert to_hex(first.get_facecolor()[0]) == COLORS["noise"].lower()
    assert to_hex(last.get_facecolor()[0]) == COLORS["data"].lower()
    torch.testing.assert_close(torch.tensor(last.get_offsets().data, dtype=torch.float32), path[-1])
    _, bare = panels(1)
    trajectories(bare, path, ends=False)
    assert not bare.collections


def test_grid_points_run_row_by_row():
    x = grid_points(2.0, 3)
    assert x.tolist()[:4] == [[-2, -2], [0, -2], [2, -2], [-2, 0]]
    assert x.shape == (9, 2)
    assert grid_points(1.0, 4, torch.float64).dtype == torch.float64


def test_arrows_are_the_field():
    _, ax = panels(1, limit=3.0)
    arrows(ax, FIELD, 0.5, limit=3.0, n=5)
    (quiver,) = ax.collections
    u = FIELD(grid_points(3.0, 5), 0.5)
    torch.testing.assert_close(torch.tensor(quiver.U), u[:, 0], check_dtype=False)
    torch.testing.assert_close(torch.tensor(quiver.V), u[:, 1], check_dtype=False)
    assert to_hex(quiver.get_facecolor()[0]) == COLORS["velocity"].lower()
    arrows(ax, FIELD, 0.5, limit=3.0, scale=2.0)
    assert ax.collections[1].scale == 2.0


def test_density_is_transparent_where_there_is_none():
    _, ax = panels(1, limit=4.0)
    density(ax, MIXTURE.log_prob, limit=4.0, n=40, kind="noise")
    (image,) = ax.images
    rgba = image.to_rgba(image.get_array())
    assert image.get_extent() == [-4, 4, -4, 4]
    assert rgba[0, 0, 3] < 0.05
    assert rgba[..., 3].max() > 0.9
    assert to_hex(rgba[..., :3].max((0, 1))) == COLORS["noise"].lower()
    p = MIXTURE.log_prob(grid_points(4.0, 40)).exp().reshape(40, 40)
    torch.testing.assert_close(torch.tensor(image.get_array().data), p, check_dtype=False)
    assert image.origin == "lower"  # rows of the grid run upward
    density(ax, MIXTURE.log_prob, limit=4.0, n=10, vmax=3.0)
    assert ax.images[1].get_clim() == (0, 3)


@pytest.mark.parametrize("form", [list, torch.tensor])
def test_loss_curve_is_a_running_mean_with_its_floor(form):
    _, ax = panels(1)
    loss_curve(ax, form([4.0, 2.0, 3.0, 1.0]), floor=0.5, window=2)
    curve, floor = ax.lines
    assert curve.get_xdata().tolist() == [1, 2, 3]
    assert curve.get_ydata().tolist() == [3.0, 2.5, 2.0]
    assert set(floor.get_ydata()) == {0.5}
    assert to_hex(curve.get_color()) == COLORS["learned"].lower()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss", "floor"]
    _, short = panels(1)
    loss_curve(short, form([4.0, 2.0]), window=50)
    assert short.lines[0].get_ydata().tolist() == [3.0]
    assert len(short.lines) == 1


def test_everything_draws_to_a_file(tmp_path):
    fig, axes = panels(2, limit=4.0)
    density(axes[0], MIXTURE.log_prob, limit=4.0, n=20)
    arrows(axes[0], FIELD, 0.3, limit=4.0)
    trajectories(axes[1], sample(FIELD, standard_normal(9, seed=0), steps=5, return_path=True))
    fig.savefig(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_a_strip_narrows_to_its_point():
    _, ax = panels(1)
    one = torch.ones(1, 1)
    strip(ax, lambda x, t: CondOT().log_prob(x, one.expand_as(x), t), limit=3, n=121)
    (image,) = ax.images
    shown = torch.as_tensor(image.get_array().data)
    rows = torch.linspace(-3, 3, 121)
    assert shown.shape == (121, 121)
    # Each time is full somewhere: at 0 at the start, near 1 at the end.
    torch.testing.assert_close(shown.amax(0), torch.ones(121))
    assert rows[shown[:, 0].argmax()].item() == pytest.approx(0, abs=0.03)
    assert rows[shown[:, -1].argmax()].item() == pytest.approx(0.97, abs=0.03)
    width = (shown > 0.5).float().sum(0)
    assert width[0] > 5 * width[-1] > 0
    assert ax.get_xlim() == (0, 1)
    assert to_rgb(image.cmap(1.0)) == pytest.approx(to_rgb(COLORS["data"]))
