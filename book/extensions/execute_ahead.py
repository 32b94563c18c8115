"""Sphinx extension: execute as many chapters at once as there are cores.

Sphinx reads the pages one after the other, and myst-nb executes a chapter where it is read. Here
the chapters that are to be read and are not in the cache are executed first, each in a process of
its own; myst-nb then finds them in the cache.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util import logging

LOG = logging.getLogger(__name__)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Run(NamedTuple):
    """What came of a chapter: its outputs, the time, and what failed (nothing: it is well)."""

    notebook: NotebookNode
    seconds: float
    failure: str


class FailedChapters(SphinxError):
    category = "A chapter fails"


def execute(notebook: NotebookNode, folder: str, timeout: int) -> Run:
    """Run a notebook; called in a process of its own."""
    try:
        done = single_nb_execution(notebook, cwd=folder, timeout=timeout, allow_errors=False)
    except Exception as error:  # a kernel that dies or does not start
        return Run(notebook, 0.0, f"{type(error).__name__}: {error}")
    return Run(notebook, done.time, ANSI.sub("", str(done.err)) if done.err else "")


def place(notebook: NotebookNode) -> str:
    """The cell at which an execution ended, and its line in the text."""
    lines = notebook.metadata.get("source_map", [])
    cells = [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    ended = [
        f"code cell {number}" + (f", line {lines[i] + 1}" if lines else "")
        for number, (i, cell) in enumerate(cells, 1)
        if cell.execution_count is None or any(o.output_type == "error" for o in cell.outputs)
    ]
    return ended[0] if ended else "before its first cell"


# `env` is Sphinx's, with the settings that myst-nb puts there.
def waiting(env: Any, pages: Iterable[str], cache: Any) -> Iterator[tuple[str, Any]]:
    """The pages that myst-nb would execute, with their notebooks."""
    for page in pages:
        path = env.doc2path(page)
        text = Path(path).read_text("utf-8")
        reader = create_nb_reader(path, env.myst_config, env.mystnb_config, text)
        notebook = reader and reader.read(text)
        # A page with settings of its own is left to myst-nb.
        if not notebook or env.mystnb_config.metadata_key in notebook.metadata:
            continue
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            yield page, notebook


def execute_ahead(_app: Sphinx, env: Any, pages: list[str]) -> None:
    """Fill the cache with the chapters that are to be read."""
    config = env.mystnb_config
    if config.execution_mode != "cache":
        return
    cache, failures = get_cache(config.execution_cache_path), []
    with ProcessPoolExecutor() as pool:  # as many as there are cores
        runs = {}
        for page, notebook in waiting(env, pages, cache):
            folder = str(Path(env.doc2path(page)).parent)
            runs[pool.submit(execute, notebook, folder, config.execution_timeout)] = page
        for run in as_completed(runs):
            page, (notebook, seconds, failure) = runs[run], run.result()
            path = env.doc2path(page)
            if failure:
                failures.append(f"{Path(path).name}, {place(notebook)}:\n{failure}")
                continue
            bundle = CacheBundleIn(notebook, path, data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            LOG.info("executed %s in %.1f s", page, seconds)
    if failures:
        raise FailedChapters("\n".join(failures))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-before-read-docs", execute_ahead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
