"""What all live figures share on Python's side: packing, the joined module, the mime bundle."""

import base64
import gzip
import io
import pkgutil
import re
import struct
import subprocess
import sys
from pathlib import Path

import anywidget
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
import traitlets
from torch import nn

from fmtutor import MLP, BridgePath, CondOT, Cosine, GaussianMixture, VariancePreserving, widgets
from fmtutor.widgets import bundle
from fmtutor.widgets.base import Finite, LiveFigure, joined_module, joined_style
from fmtutor.widgets.packing import (
    pack_bytes,
    pack_floats,
    pack_mixture,
    pack_network,
    pack_path,
    unpack_network,
)
from fmtutor.widgets.rng import Random


class Dot(LiveFigure):
    """A figure with nothing but a dot."""

    place = Finite(0.5, min=-1.0, max=1.0).tag(sync=True)
    words = traitlets.Tuple(("a",)).tag(sync=True)
    _aspect = traitlets.Float(2.0).tag(sync=True)

    def _draw(self, figure):
        figure.subplots().plot([self.place], [0.0], "o")


def test_the_repr_is_stable_and_short():
    assert repr(Dot()) == repr(Dot()) == "Dot(place=0.5, words=('a',))"
    assert repr(Dot(place=-1)) == "Dot(place=-1, words=('a',))"
    assert len(repr(Dot(words=tuple("abcdefghijklmnopqrstuvwxyz")))) < 100


def test_traits_can_be_set_read_and_observed():
    dot, seen = Dot(place=0.25), []
    dot.observe(lambda change: seen.append(change["new"]), "place")
    dot.place = 0.75
    assert (dot.place, seen) == (0.75, [0.75])
    dot.set_state({"place": -0.5})  # what a front end sends
    assert (dot.place, seen) == (-0.5, [0.75, -0.5])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0, "x", None])
def test_numbers_out_of_range_are_refused(value):
    dot = Dot()
    with pytest.raises(traitlets.TraitError, match="place"):
        dot.place = value
    assert dot.place == 0.5
    with pytest.raises(TypeError, match="Dot takes place, words, but size came"):
        Dot(size=3)


def test_the_mime_bundle_has_view_picture_and_text():
    dot = Dot()
    data, _ = dot._repr_mimebundle_()
    assert data["text/plain"] == repr(dot)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == dot.model_id
    png = base64.b64decode(data["image/png"])
    image = plt.imread(io.BytesIO(png))
    assert image.shape[1] / image.shape[0] == pytest.approx(2.0, abs=0.01)
    assert image.shape[2] == 4
    assert (image[..., 3] == 0).mean() > 0.5, "transparent, for either theme"


def test_a_picture_follows_the_state_and_leaves_pyplot_alone():
    before = dict(mpl.rcParams)
    dot = Dot(place=0.5)
    first = dot.picture()
    assert dot.picture() == first
    dot.place = 0.75
    assert dot.picture() != first
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    with pytest.raises(NotImplementedError, match="LiveFigure has no picture"):
        LiveFigure().picture()


@pytest.fixture
def files(monkeypatch):
    content = {}
    read = bundle._read.__wrapped__
    monkeypatch.setattr(bundle, "_read", lambda name: content.get(name) or read(name))
    joined_module.cache_clear()
    yield content
    joined_module.cache_clear()


def test_a_module_follows_what_it_imports_and_each_is_there_once(files):
    files["js/one.js"] = "/** Documented. */\nexport const one = 1;\n"
    files["js/two.js"] = 'import { one } from "./one.js";\n\nexport const two = 2 * one;\n'
    files["js/none.js"] = "export const none = 0;\n"
    files["js/own.js"] = (
        'import {\n  two,\n} from "./two.js";\nimport { one } from "./one.js";\n\n'
        "export default { render: () => one + two };\n"
    )
    assert joined_module("own") == (
        "const one = 1;\nconst two = 2 * one;\nexport default { render: () => one + two };\n"
    )
    assert bundle.needed_modules("own") == ["one", "two", "own"]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('import b from "b";\n', "own.js must import by"),
        ('import { b } from "https://x.org/b.js";\n', "own.js must import by"),
        ('import * as one from "./one.js";\n', "own.js must import by"),
        ('import "./one.js";\n', "own.js must import by"),
        ('import { own } from "./own.js";\n', "in a circle: own -> own"),
        ('import { a } from "./one.js";\nfunction a() {}\n', "one.js and own.js both.* name a"),
    ],
)
def test_other_imports_circles_and_names_in_common_are_refused(files, source, fault):
    files |= {"js/one.js": "export const a = 1;\n", "js/own.js": source}
    with pytest.raises(ValueError, match=fault):
        joined_module("own")


FIGURES = [getattr(widgets, name) for name in widgets.__all__]
JS = Path(bundle.__file__).parent / "js"
# Bytes of a figure's program, compressed; before it carried only what it imports, they were 22,000.
BOUND = {"playground": 20_000}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.file)
def test_a_figure_carries_what_it_imports_and_is_light(figure):
    names = set()
    needed = bundle.needed_modules(figure.file)
    for module in needed:
        source = (JS / f"{module}.js").read_text("utf-8")
        imports = re.findall(r'^import \{([^}]*)\} from "\./(.*)\.js";', source, re.MULTILINE)
        body = re.sub(r"/\*\*.*?\*/|^import [^;]*;", "", source, flags=re.DOTALL | re.MULTILINE)
        used = {name.strip() for group, _ in imports for name in group.split(",")} - {""}
        assert all(re.search(rf"\b{name}\b", body) for name in used), f"{module} imports too much"
        names |= {name for _, name in imports}
    assert names | {figure.file} == set(needed)
    assert len(gzip.compress(figure._esm.encode(), 6)) < BOUND.get(figure.file, 13_500)


def test_every_module_is_carried_by_a_figure():
    carried = {name for figure in FIGURES for name in bundle.needed_modules(figure.file)}
    assert carried == {file.stem for file in JS.glob("*.js")}
    assert "training" not in bundle.needed_modules("path_explorer")


def test_the_programs_name_what_the_package_has():
    """What the documentation of the modules calls their twins in Python."""
    named = {
        name
        for file in JS.glob("*.js")
        for name in re.findall(r"`(fmtutor(?:\.\w+)+)", file.read_text("utf-8"))
    }
    assert "fmtutor.networks.MLP" in named
    for name in named:
        assert pkgutil.resolve_name(name), name


def test_the_figures_carry_their_module_and_style():
    from fmtutor.widgets import FlowPlayer

    state = FlowPlayer(datasets=("moons",)).get_state()
    assert state["_esm"] == joined_module("flow_player")
    assert state["_css"] == joined_style("flow_player")
    assert ".fm-stage" in state["_css"]
    assert issubclass(FlowPlayer, anywidget.AnyWidget)
    assert 'from "' not in state["_esm"]


def test_floats_are_little_endian_with_their_shape():
    packed = pack_floats(torch.tensor([[1.0, -2.5]]))
    assert packed == {"data": struct.pack("<2f", 1, -2.5), "dtype": "float32", "shape": [1, 2]}
    assert pack_floats(torch.tensor([1.0, -2.5]), "float16")["data"] == struct.pack("<2e", 1, -2.5)
    with pytest.raises(ValueError, match=r"70000 is beyond the range of float16"):
        pack_floats(torch.tensor([7e4]), "float16")
    with pytest.raises(ValueError, match="float32, float16, but 'int8' came"):
        pack_floats(torch.ones(2), "int8")
    with pytest.raises(ValueError, match="finite"):
        pack_floats(torch.tensor([float("nan")]))
    with pytest.raises(TypeError):
        pack_floats(torch.tensor([1]))


def test_bytes_are_packed_as_they_are():
    packed = pack_bytes(torch.tensor([[0, 7], [128, 255]], dtype=torch.uint8).T)
    assert packed == {"data": bytes([0, 128, 7, 255]), "dtype": "uint8", "shape": [2, 2]}
    with pytest.raises(TypeError, match=r"values must be uint8, but their dtype is torch\.int64"):
        pack_bytes(torch.tensor([1]))
    with pytest.raises(TypeError, match="but a list came"):
        pack_bytes([1])
    with pytest.raises(ValueError, match="non-empty"):
        pack_bytes(torch.empty(0, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("classes", [0, 3])
def test_a_network_comes_back_as_it_was_packed(dtype, classes, global_rng_untouched):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MLP(width=12, depth=2, time_dim=6, classes=classes)
    back = unpack_network(pack_network(model, dtype))
    x = Random(0).normals(5, 2)
    expected = model.half().float() if dtype == "float16" else model
    assert torch.equal(back(x, 0.3), expected(x, 0.3))
    assert not any(p.requires_grad for p in back.parameters())


def test_what_has_no_twin_in_the_page_is_refused():
    with pytest.raises(
        TypeError, match="only an MLP or an EGNN runs in the page, but a Linear came"
    ):
        pack_network(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="BridgePath"):
        pack_path(BridgePath(0.1))
    packed = pack_network(MLP(width=4, depth=1))
    packed["architecture"]["width"] = 5
    with pytest.raises(ValueError, match="weights"):
        unpack_network(packed)


def test_paths_and_mixtures_are_described():
    assert pack_path(CondOT(0.1)) == {"name": "CondOT", "sigma_min": 0.1}
    assert pack_path(Cosine()) == {"name": "Cosine"}
    assert pack_path(VariancePreserving())["beta_max"] == 20.0
    packed = pack_mixture(GaussianMixture(torch.eye(2), 0.5))
    assert packed["means"]["shape"] == [2, 2]
    assert packed["weights"]["data"] == struct.pack("<2f", 0.5, 0.5)


def test_random_numbers_are_reproducible_and_normal():
    assert torch.equal(Random(3).normals(4, 2), Random(3).normals(8).reshape(4, 2))
    assert not torch.equal(Random(3).normals(8), Random(4).normals(8))
    z = Random(5).normals(20_000)
    assert z.dtype == torch.float32
    assert z.mean().abs() < 0.02
    assert (z.std() - 1).abs() < 0.02
    draws = [Random(6).integer(3) for _ in range(3)]
    assert len(set(draws)) == 1
    assert 0 < Random(7).uniform() < 1


def test_the_package_does_not_load_the_figures():
    code = "import sys, fmtutor; sys.exit('fmtutor.widgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


TESTS = Path(__file__).parent
BROWSING = [
    file for file in TESTS.glob("*.py") if "from browsing import" in file.read_text("utf-8")
]


@pytest.mark.parametrize("file", [TESTS / "browsing.py", *BROWSING], ids=lambda file: file.stem)
def test_a_test_in_a_browser_waits_for_what_it_looks_at_and_never_for_time(file):
    waits = "wait_for_" + "timeout", "time." + "sleep", "from time " + "import", "set" + "Timeout"
    source = file.read_text("utf-8")
    assert [wait for wait in waits if wait in source] == []
    assert len(BROWSING) > 10
