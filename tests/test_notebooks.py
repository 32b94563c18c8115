"""Guards of the pairing: book/NAME.md is edited, book/NAME.ipynb is its executed twin."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

import notebooks  # noqa: E402

CHAPTERS = notebooks.chapters()
PAIRED = [path for path in CHAPTERS if path.with_suffix(".ipynb").exists()]
WITH_CODE = [
    p for p in sorted(notebooks.BOOK.glob("*.md")) if "{code-cell}" in p.read_text("utf-8")
]
AGAIN = "run `make notebooks`"

each_pair = pytest.mark.parametrize("source", PAIRED, ids=lambda path: path.stem)


def cells(notebook):
    return [
        (cell.cell_type, cell.source.strip(), sorted(cell.metadata.get("tags", [])))
        for cell in notebook.cells
    ]


def pair_of(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(source):
    return [cell for cell in pair_of(source).cells if cell.cell_type == "code"]


def test_every_entry_of_the_toc_exists():
    missing = [name for name in notebooks.toc_files() if not (notebooks.BOOK / name).is_file()]
    assert not missing, f"_toc.yml names files that book/ lacks: {missing}"


def test_every_chapter_with_code_has_a_pair():
    lonely = [path.name for path in CHAPTERS if path not in PAIRED]
    assert not lonely, f"without a notebook: {lonely}; {AGAIN}"


def test_no_notebook_outside_the_toc():
    stray = {p.name for p in notebooks.BOOK.glob("*.ipynb")} - {
        path.with_suffix(".ipynb").name for path in CHAPTERS
    }
    assert not stray, f"no chapter with code in _toc.yml belongs to {sorted(stray)}"


@pytest.mark.parametrize("source", WITH_CODE, ids=lambda path: path.stem)
def test_text_notebooks_carry_the_jupytext_header(source):
    text = source.read_text("utf-8")
    header = text.split("---")[1] if text.startswith("---") else ""
    # Without it the site shows the cells and does not run them.
    assert "format_name: myst" in header, f"{source.name} lacks the jupytext header"
    assert "name: python3" in header, f"{source.name} names no kernel"


@each_pair
def test_pair_has_the_cells_of_its_source(source):
    text, pair = cells(notebooks.read_source(source)), cells(pair_of(source))
    differing = [i for i, (a, b) in enumerate(zip(text, pair, strict=False)) if a != b]
    assert not differing, f"cell {differing[0]} of {source.stem} differs from its text; {AGAIN}"
    assert len(text) == len(pair), f"{source.stem} has other cells than its text; {AGAIN}"


@each_pair
def test_every_code_cell_was_executed(source):
    # nbval compares nothing in a cell that was never run.
    skipped = [i for i, cell in enumerate(code_cells(source)) if cell.execution_count is None]
    assert not skipped, f"code cells {skipped} of {source.stem} were not run; {AGAIN}"


@each_pair
def test_outputs_are_text_and_without_errors(source):
    pair = pair_of(source)
    assert "widgets" not in pair.metadata, f"{source.stem} stores widget state; {AGAIN}"
    for i, cell in enumerate(code_cells(source)):
        for output in cell.outputs:
            assert output.output_type != "error", f"code cell {i} of {source.stem} failed"
            extra = set(output.get("data", {})) - set(notebooks.KEPT_MIMES)
            assert not extra, f"code cell {i} of {source.stem} stores {extra}; {AGAIN}"


@each_pair
def test_pair_is_written_the_way_the_tool_writes_it(source):
    text = source.with_suffix(".ipynb").read_text("utf-8")
    assert text == notebooks.serialise(notebooks.strip(pair_of(source))), AGAIN


def test_the_first_cell_installs_the_package_only_where_it_is_missing(monkeypatch):
    (requirement,) = [
        Requirement(word.strip('"'))
        for word in notebooks.INSTALL.split()
        if word.startswith('"fmtutor[')
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert requirement.extras <= project["optional-dependencies"].keys()

    def run():
        asked = []

        class Shell:
            def run_line_magic(self, name, line):
                asked.append(f"{name} {line}")

        code = TransformerManager().transform_cell(notebooks.INSTALL)
        exec(code, {"get_ipython": Shell})
        return asked

    assert run() == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run() == [f'pip install --quiet "{requirement}"']


def imports(source):
    """The packages that a notebook's own cells import, its first cell left out."""
    found = set()
    for cell in code_cells(source)[1:]:
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found


@each_pair
def test_the_first_cell_installs_all_that_a_notebook_imports(source):
    pair = pair_of(source)
    assert pair.cells[0].source == notebooks.INSTALL, AGAIN
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["images"], *extras["notebooks"]]
    installed = {canonicalize_name(Requirement(entry).name) for entry in listed}
    # There already, wherever a notebook runs.
    installed |= {"fmtutor", "ipython", "jupyter-client", "ipykernel"}
    providers = packages_distributions()
    for name in imports(source) - set(sys.stdlib_module_names):
        assert find_spec(name), f"{source.stem} imports {name}, which is not here"
        owners = {canonicalize_name(owner) for owner in providers.get(name, [name])}
        assert owners & installed, f"{source.stem} imports {name}: add it to the extra `notebooks`"
