"""A chapter in JupyterLab, and every other figure: live, with Python behind it, both ways."""

import ast
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browsing import DESKTOP, PATIENCE, changes, control, drag, reaches, says, settled, watch

from fmtutor import widgets
from fmtutor.widgets.playground import DRAWING

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTER = "paths"
SHOWN, NAMED = "PathExplorer()", "figure = PathExplorer()\nfigure"
# What Python sets, trait after trait, behind the traits that a figure starts with.
FIGURES = {
    "FlowPlayer": (
        {"datasets": ("spiral", "moons"), "particles": 100, "time": 0.0},
        {"time": 0.4, "particles": 150, "dataset": "moons", "trails": False, "arrows": True},
        {"datasets": ("moons", "rings"), "dataset": "rings"},
    ),
    "PathExplorer": (
        {},
        {"time": 0.7, "x0": (0.5, -1.0), "x1": (2.0, 2.0), "sigma_min": 0.3},
        {"parts": False, "particles": False, "schedule": "Cosine"},
    ),
    "ContinuityExplorer": ({}, {"time": 0.3, "interval": (-1.5, 0.5), "flipped": True}),
    "PosteriorExplorer": (
        {},
        {"time": 0.7, "point": (0.5, 0.25), "clouds": True, "field": True},
        {"data": ((0.0, 1.0), (1.0, 0.0), (-1.0, 0.5))},
    ),
    "StripExplorer": (
        {},
        {"time": 0.7, "place": -0.4, "points": (0.5, -1.5), "sigma_min": 0.2},
        {"arrows": False, "shown": "second"},
    ),
    "MoleculeExplorer": (
        {"steps": 4},
        {"time": 0.4, "pairs": "independent", "molecule": 7, "seed": 3, "steps": 2},
        {"longitude": -40, "latitude": 10, "ways": False},
    ),
    "GradientExplorer": ({}, {"time": 0.3, "samples": 64, "seed": 5, "theta": (-1.0, 0.5)}),
    "RoomExplorer": (
        {},
        {"step": 20.0, "start": (0.5, -1.0), "commitment": 8, "evaluations": 2, "seed": 3},
        {"policy": "average"},
    ),
    "SolverLab": ({}, {"method": "heun", "steps": 8, "dataset": "one Gaussian", "x0": (0.5, 0.5)}),
    "CouplingExplorer": (
        {"batch_size": 12},
        {"time": 0.8, "seed": 4, "batch_size": 9, "marks": False, "view": "flow"},
    ),
    "BridgeExplorer": (
        {},
        {"time": 0.8, "coupling": "optimal", "sigma": 0.5, "seed": 4},
        {"sources": ((-2.0, 0.0), (-1.0, 2.0), (0.0, -2.0))},
        {"targets": ((2.0, 0.0), (1.0, 2.0), (2.0, -2.0))},
        {"drawn_source": ((-2.0, 1.0), (-1.0, 0.5)), "pen": "target"},
        {"drawn_target": ((2.0, 1.0), (1.0, 0.5), (2.5, -1.0))},
    ),
    "DiffusionExplorer": (
        {},
        {"schedule": 1.4, "sampler": "2m", "grid": "time", "steps": 12},
        {"sampler": "ancestral"},
    ),
    "JumpExplorer": ({}, {"s": 0.25, "t": 0.75, "jumps": 4}),
    "ResolutionExplorer": (
        {},
        {"time": 0.5, "clock": "shifted", "ratio": 2, "detail": False, "garment": 3, "seed": 4},
    ),
    "TokenExplorer": (
        {},
        {"law": "moons", "source": "uniform", "schedule": "late", "steps": 4, "time": 0.5},
        {"renewal": 5.0, "seed": 3},
    ),
    "SpellingExplorer": (
        {},
        {"pattern": "st......", "steps": 4, "time": 0.5, "seed": 2},
    ),
    "GuidanceExplorer": (
        {"particles": 100},
        {"time": 0.5, "scale": 6.0, "label": "2", "particles": 50, "arrows": True},
    ),
    "Playground": (
        {"width": 16},
        {"path": "Cosine", "coupling": "optimal", "width": 32, "method": "euler", "steps": 3},
        {"time": 0.9, "dataset": DRAWING, "drawn": ((1.0, 1.0), (-1.0, 0.5))},
    ),
    "DigitPainter": (
        {"steps": 4},
        {"time": 0.4, "digit": 7, "scale": 3.0, "steps": 6, "method": "heun"},
        {"seed": 3, "chosen": 5},
    ),
}

# All cells in the page, also those out of view: the browser can scroll to the figure.
SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"}}

# The kernel of the open notebook evaluates an expression, over JupyterLab's own connection to it.
ASK = """
async ([code, expression]) => {
  const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
  const future = kernel.requestExecute({ code, user_expressions: { value: expression } });
  const { content } = await future.done;
  const { value } = content.user_expressions ?? {};
  for (const { status, evalue } of [content, value]) if (status !== 'ok') throw Error(evalue);
  return value.data['text/plain'];
}
"""

RUN_ALL = "async () => { await jupyterapp.commands.execute('notebook:run-all-cells'); }"
READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
# What the cells of the open notebook have put out as errors.
ERRORS = """
() => [...jupyterapp.shell.currentWidget.content.widgets].flatMap((cell) =>
  (cell.model.sharedModel.toJSON().outputs ?? [])
    .filter((output) => output.output_type === 'error').map((output) => output.evalue))
"""


def prepare(folder):
    """Put a chapter, up to its figure, and a cell for each figure into a notebook in a folder.

    The chapter's figure is given a name, as a reader would who wants to hear of it.
    """
    notebook = json.loads((BOOK / f"{CHAPTER}.ipynb").read_text("utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    (place,) = (i for i, source in enumerate(sources) if source.endswith(SHOWN))
    notebook["cells"] = notebook["cells"][: place + 1]
    notebook["cells"][place]["source"] = sources[place].replace(SHOWN, NAMED)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    for name, (start, *_) in FIGURES.items():
        arguments = ", ".join(f"{trait}={value!r}" for trait, value in start.items())
        source = f"import fmtutor.widgets as live\n{name} = live.{name}({arguments})\n{name}"
        cell = {"id": name, "source": source, "outputs": [], "execution_count": None}
        notebook["cells"].append(cell | {"cell_type": "code", "metadata": {}})
    (folder / f"{CHAPTER}.ipynb").write_text(json.dumps(notebook))


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """The address of a JupyterLab of this environment; it knows nothing of the reader's own."""
    root = tmp_path_factory.mktemp("lab")
    home = root / "home"
    work = root / "work"
    work.mkdir()
    prepare(work)
    settings = home / "settings" / "@jupyterlab"
    for name, values in SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {name: str(home / place) for name, place in places.items()}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--IdentityProvider.token="),
        *(f"--ServerApp.root_dir={work}", "--LabApp.expose_app_in_browser=True"),
        *("--LabApp.news_url=None",),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        reader = threading.Thread(target=server.stdout.read)  # or the pipe would fill
        try:
            yield started(server)
            reader.start()
        finally:
            server.terminate()  # it ends its kernels first
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()


def started(server):
    """The address at which the server says that it listens."""
    seen = []
    for line in server.stdout:
        seen.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            break
    else:
        pytest.fail(f"JupyterLab did not start:\n{''.join(seen)}")
    while True:  # it says so a moment before it does
        try:
            socket.create_connection(("127.0.0.1", int(found[1]))).close()
        except ConnectionRefusedError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=0.05)
                break
        else:
            return found[0]
    pytest.fail(f"JupyterLab ended before it listened:\n{''.join(seen)}")


@pytest.fixture(scope="module")
def page(browser, lab):
    """The chapter in JupyterLab, every cell run."""
    context = browser.new_context(
        viewport={"width": DESKTOP[0], "height": DESKTOP[1]},
        reduced_motion="reduce",  # what grows over several frames is there at once
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    watch(page, lab)
    page.goto(f"{lab}lab/tree/{CHAPTER}.ipynb")
    page.wait_for_function(f"() => ({READY})() === 'idle'")
    page.evaluate(RUN_ALL)
    yield page
    context.close()


def ask(page, expression, code=""):
    """What the kernel says an expression is, after some code."""
    return ast.literal_eval(page.evaluate(ASK, [code, expression]))


def test_every_cell_of_the_chapter_ran(page):
    assert page.evaluate(ERRORS) == []
    assert ask(page, "type(figure).__name__") == "PathExplorer"
    assert not [t for t in page.trouble if t.startswith("foreign")], page.trouble


def test_python_hears_of_what_the_reader_does(page):
    first = page.locator(".fm-figure").first
    first.scroll_into_view_if_needed()
    assert ask(page, "figure.time") == 0.4
    control(first, "time t").fill("0.25")
    assert ask(page, "figure.time") == 0.25
    knob = first.get_by_role("slider", name="x1, data")
    before = ask(page, "figure.x1")
    drag(knob, -60, 40)
    x, y = ask(page, "figure.x1")
    assert x < before[0] - 0.3
    assert y < before[1] - 0.2
    # What the package computes from the values it received is what the page says.
    xt = ask(page, "figure.sample().xt[0].tolist()")
    says(page, rf"xₜ\s=\s\({xt[0]:.2f},\s{xt[1]:.2f}\)".replace("-", "−"))


def test_the_page_hears_of_what_python_does(page):
    ask(page, "None", "figure.time = 0.75")
    reaches(page, "time t", "v === 0.75")
    says(page, r"^t = 0\.75: ")
    ask(page, "None", "figure.schedule = 'Cosine'")
    says(page, r"t = 0\.75: α = 0\.92, σ = 0\.38")
    assert control(page.locator(".fm-figure").first, "path").input_value() == "Cosine"


def test_every_public_trait_is_set():
    for name, (start, *later) in FIGURES.items():
        traits = {trait for values in later for trait in values}
        # It tells in what is learned afterwards.
        assert traits | {"learning_rate"} >= set(getattr(widgets, name).public_traits()), name
        assert all(start.get(trait) != value for values in later for trait, value in values.items())


@pytest.mark.parametrize("name", FIGURES)
def test_each_trait_that_python_sets_moves_the_page(page, name):
    figure = page.locator(".fm-figure").nth(1 + list(FIGURES).index(name))
    figure.scroll_into_view_if_needed()
    before = settled(figure)
    for values in FIGURES[name][1:]:
        for trait, value in values.items():
            ask(page, "None", f"{name}.{trait} = {value!r}")
            if trait == "datasets":  # the menu, not the picture
                figure.locator(f"option[value='{value[-1]}']").wait_for(state="attached")
                continue
            changes(figure, before)
            before = settled(figure)
    assert [t for t in page.trouble if t.startswith(("warning: A live", "foreign"))] == []
