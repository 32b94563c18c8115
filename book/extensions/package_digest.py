"""Sphinx extension: a change in the package, or in measured results, re-executes the book.

jupyter-cache recognises a notebook by its own cells, so it would go on showing outputs of code
that has since been edited. Here the cache lives in a folder named after the package's code, the
benchmarks' results and the installed versions. Its path is a configuration value of Sphinx's "env"
kind: when it changes, Sphinx reads every page anew, and each notebook finds an empty cache and
runs. Comments and docstrings do not count: pages that show them follow their files anyway.

    python book/extensions/package_digest.py    prints the name of the folder
"""

import ast
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).resolve().parents[2]
WHAT_CHAPTERS_READ = (ROOT / "fmtutor", ROOT / "benchmarks" / "results")
CACHES = ".jupyter_cache"


def files_of(folder: Path) -> Iterable[Path]:
    """Every source and data file of a folder, in a fixed order, without byte code."""
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(files, key=lambda p: p.relative_to(folder).as_posix())


class DropStrings(ast.NodeTransformer):
    """Drop the statements that are a string: docstrings."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        value = node.value
        return None if isinstance(value, ast.Constant) and isinstance(value.value, str) else node


def essence(path: Path) -> bytes:
    """What of a file can change an output: of Python, its syntax without docstrings."""
    content = path.read_bytes()
    if path.suffix != ".py":
        return content
    try:
        return ast.dump(DropStrings().visit(ast.parse(content))).encode()
    except SyntaxError:
        return content


def versions() -> list[str]:
    """Python, and whatever of the package's requirements is installed, the developer's aside."""
    requirements = [r for r in metadata.requires("fmtutor") or [] if "extra == 'dev'" not in r]
    names = sorted({re.split(r"[^\w.-]", requirement)[0] for requirement in requirements})
    installed = [d for name in names for d in metadata.distributions(name=name)]
    return [platform.python_version(), *(f"{d.name}=={d.version}" for d in installed)]


def digest(*folders: Path) -> str:
    """A short hash of the versions, and of the names and contents of the folders' files."""
    sha = hashlib.sha256(repr(versions()).encode())
    for folder in folders:
        for path in files_of(folder):
            name, content = path.relative_to(folder).as_posix().encode(), essence(path)
            # Lengths keep two files apart from one that reads like both.
            sha.update(b"%d %d " % (len(name), len(content)) + name + content)
    return sha.hexdigest()[:16]


def choose_cache(app: Sphinx, config: Config) -> None:
    """Point myst-nb at the cache of this state of the package and the results."""
    config.nb_execution_cache_path = str(app.outdir.parent / CACHES / digest(*WHAT_CHAPTERS_READ))


def drop_stale_caches(app: Sphinx) -> None:
    """Remove the caches of earlier states."""
    current = Path(app.config.nb_execution_cache_path)
    for stale in current.parent.glob("*"):
        if stale != current:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def forget_after_warning(app: Sphinx, _error: Exception | None) -> None:
    """Make the next build read every page again if this one warned.

    Sphinx skips a page that has not changed, and its warnings with it: the second of two equal
    builds with -W would pass.
    """
    if app._warncount:
        (app.doctreedir / "environment.pickle").unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    # The chapters' networks are small. On a busy machine OpenMP's threads spin while they wait for
    # each other, and a training cell takes ten times as long with two threads as with one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app.connect("config-inited", choose_cache)
    app.connect("builder-inited", drop_stale_caches)
    app.connect("build-finished", forget_after_warning, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    print(digest(*WHAT_CHAPTERS_READ))
