"""Execute the chapters into their paired notebooks: book/NAME.md -> book/NAME.ipynb.

    python tools/notebooks.py                 every chapter with code
    python tools/notebooks.py flows quickstart    these

The pair keeps what a reader of a diff and `pytest --nbval` can compare: the text a cell printed,
the text form of what it showed, and the execution counts. Pictures, widget state, progress bars
and everything that differs between two equal runs are left out.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TOC = ROOT / "_toc.yml"
CELL_TIMEOUT = 120  # seconds; the site build's limit too (_config.yml)

# What can be compared as text. conftest.py makes nbval overlook every other kind.
KEPT_MIMES = ("text/plain", "text/latex", "text/markdown")

# A memory address in a repr: different in every run.
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")

# The first cell of every notebook, and not in its text: Colab opens a notebook without the package.
INSTALL = """\
# The package of this book, where it is missing (on Colab).
from importlib.util import find_spec

if find_spec("fmtutor") is None:
    %pip install --quiet "fmtutor[images,notebooks]\""""
# Folded in Jupyter and in Colab; left out where a page is made of the notebook.
INSTALL_METADATA = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "tags": ["remove-cell"],
}

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def toc_files(entry: Any = None) -> Iterator[str]:
    """Every file named in `_toc.yml`, in reading order."""
    entry = yaml.safe_load(TOC.read_text("utf-8")) if entry is None else entry
    if isinstance(entry, list):
        for item in entry:
            yield from toc_files(item)
    elif isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        for key in ("parts", "chapters", "sections"):
            yield from toc_files(entry.get(key, []))


def read_source(path: Path) -> Any:
    """The notebook that a chapter's text describes, not executed, with the cell that installs."""
    notebook = jupytext.read(path)
    if has_code(notebook):
        install = nbformat.v4.new_code_cell(INSTALL, metadata=nbformat.from_dict(INSTALL_METADATA))
        notebook.cells.insert(0, install)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        key = f"{cell.cell_type}\n{cell.source}"
        # From the content, not the position: inserting a cell leaves the other ids as they are.
        cell.id = hashlib.sha256(f"{seen[key]}\n{key}".encode()).hexdigest()[:8]
        seen[key] += 1
    return notebook


def has_code(notebook: Any) -> bool:
    return any(cell.cell_type == "code" for cell in notebook.cells)


def chapters() -> list[Path]:
    """The text sources of the chapters that have code, in reading order."""
    paths = (BOOK / name for name in toc_files())
    return [path for path in paths if path.exists() and has_code(read_source(path))]


def strip_output(output: Any) -> Any | None:
    """The comparable part of one output, or nothing."""
    if output.output_type == "stream":
        output.text = ADDRESS.sub("0x0", output.text)
        return output if output.name == "stdout" else None
    if output.output_type == "error":
        return output
    kept = [mime for mime in KEPT_MIMES if mime in output.data]
    data = {mime: ADDRESS.sub("0x0", output.data[mime]) for mime in kept}
    output.data, output.metadata = data, {}
    return output if data else None


def strip(notebook: Any) -> Any:
    """The executed notebook with text outputs and fixed metadata only."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        if cell.cell_type == "code":
            stripped = (strip_output(output) for output in cell.outputs)
            cell.outputs = [output for output in stripped if output is not None]
    return notebook


def serialise(notebook: Any) -> str:
    nbformat.validate(notebook)
    # Multi-line strings as lists of lines, as Jupyter writes them: a diff goes line by line.
    split = nbformat.v4.rwbase.split_lines(notebook)
    return json.dumps(split, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def execute(source: Path) -> str:
    """Run a chapter and return its pair as text."""
    notebook = read_source(source)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    return serialise(strip(notebook))


def update(source: Path) -> bool:
    """Execute a chapter and write its pair where that changed."""
    target, text = source.with_suffix(".ipynb"), execute(source)
    if target.exists() and target.read_text("utf-8") == text:
        return False
    target.write_text(text, "utf-8")
    return True


def select(names: list[str]) -> list[Path]:
    known = {path.stem: path for path in chapters()}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no chapter with code is called {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[name] for name in names] or list(known.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("chapter", nargs="*", help="chapters to execute (default: all)")
    sources = select([Path(name).stem for name in parser.parse_args().chapter])
    # As many kernels at once as there are cores, and as in the site's build: one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor() as pool:
        for source, changed in zip(sources, pool.map(update, sources), strict=True):
            print(f"{source.stem}: {'written' if changed else 'unchanged'}", flush=True)


if __name__ == "__main__":
    main()
