"""The book's own Sphinx extensions: fresh outputs after an edit, buttons that lead somewhere."""

import gc
import json
import multiprocessing
import os
import shutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = ROOT / "book" / "extensions"
sys.path.append(str(EXTENSIONS))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of Sphinx and its extensions
    import package_digest
    import public_address
    from jupyter_book.cli.main import main

CONFIG = """
title: Tiny
only_build_toc_files: true
execute: {execute_notebooks: cache}
sphinx:
  local_extensions: {package_digest: book/extensions, execute_ahead: book/extensions}
  config:
    extensions:
      [myst_nb, jupyter_book, sphinx_comments, sphinx_external_toc, package_digest, execute_ahead]
"""

PAGE = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# Tiny

```{code-cell} ipython3
import sys

sys.path.insert(0, "..")
from fmtutor import ANSWER
```

```{code-cell} ipython3
assert ANSWER < 100, "too large"
print("the answer is", ANSWER)
```
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "fmtutor"
    folder.mkdir()
    (folder / "__init__.py").write_text("ANSWER = 41\n")
    return folder


CODE = """
def answer(question: str, *, scale: float = 2.0) -> float:
    \"\"\"Answer.\"\"\"
    return scale * len(question)  # why not
"""


@pytest.mark.parametrize(
    ("before", "after", "noticed"),
    [
        ("# why not", "# because", False),
        ("# why not", "", False),
        ("Answer.", "Answer a question.", False),
        ('    """Answer."""\n', "", False),
        ("\ndef", '"""A module."""\n\n\ndef', False),
        (" *, ", "\n    *,\n    ", False),
        ("len", "hash", True),
        ("2.0", "2.5", True),
        ("-> float", "-> int", True),
        ("    return scale", "    print('Answer.')\n    return scale", True),
        ("return", "return (", True),  # not even Python
    ],
)
def test_digest_follows_the_code_and_not_its_comments(package, before, after, noticed):
    file = package / "deep" / "module.py"
    file.parent.mkdir()
    file.write_text(CODE)
    first = package_digest.digest(package)
    assert before in CODE
    file.write_text(CODE.replace(before, after))
    assert (package_digest.digest(package) != first) is noticed


def test_digest_follows_names_data_and_byte_code_alone_does_not_count(package):
    seen = {package_digest.digest(package)}
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"byte code")
    assert package_digest.digest(package) in seen
    (package / "new.mjs").write_text("")
    seen.add(package_digest.digest(package))
    (package / "new.mjs").write_text("// a comment of a file that is served as it is")
    seen.add(package_digest.digest(package))
    (package / "new.mjs").rename(package / "other.mjs")
    seen.add(package_digest.digest(package))
    assert len(seen) == 4


def test_digest_follows_the_installed_versions(package, monkeypatch):
    first, found = package_digest.digest(package), package_digest.versions()
    assert any(entry.startswith("torch==") for entry in found)
    assert any(entry.startswith("jupyter-book==") for entry in found)
    assert not any(entry.startswith("ruff") for entry in found)
    monkeypatch.setattr(package_digest, "versions", lambda: [*found[:-1], "torchdiffeq==9"])
    assert package_digest.digest(package) != first


@pytest.fixture
def tiny(tmp_path, package):
    """A book of two pages, and a process that has loaded Sphinx to build it in."""
    book = tmp_path / "book"
    book.mkdir()
    (tmp_path / "_config.yml").write_text(CONFIG)
    (book / "_toc.yml").write_text(
        "{format: jb-book, root: index.md, chapters: [{file: other.md}, {file: plain.md}]}\n"
    )
    (book / "index.md").write_text(PAGE)
    (book / "other.md").write_text(PAGE.replace("answer is", "other says"))
    (book / "plain.md").write_text("# Without code\n")
    shutil.copytree(EXTENSIONS, book / "extensions", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def build_in_child(root, log):
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    # sphinx-external-toc asks every object that the collector knows for its class, and a weak
    # reference that another test has left, to something that is gone, would end it. Frozen objects
    # are not among them; Sphinx's own come later.
    gc.freeze()
    warnings.simplefilter("ignore")
    del sys.modules["package_digest"]  # this repository's: the tiny book has its own
    sys.path[:] = [folder for folder in sys.path if folder != str(EXTENSIONS)]
    os.chdir(root)
    main(["build", "-W", "book/"], prog_name="jupyter-book")


def build(root):
    """The exit status of a build and what it printed. Forked: Sphinx is loaded once for all."""
    log = root / "log.txt"
    child = multiprocessing.get_context("fork").Process(target=build_in_child, args=(root, log))
    child.start()
    child.join()
    return child.exitcode, log.read_text()


def test_an_edit_of_the_package_reaches_the_page(tiny):
    page = tiny / "_build" / "html" / "index.html"

    status, log = build(tiny)
    assert status == 0, log
    assert "the answer is 41" in page.read_text()
    # Executed by this book's extension, read by myst-nb.
    assert log.count("executed index in") == log.count("executed other in") == 1
    assert "plain in" not in log
    assert "Executing notebook" not in log

    status, log = build(tiny)
    assert status == 0, log
    assert "0 added, 0 changed, 0 removed" in log

    (tiny / "fmtutor" / "__init__.py").write_text("ANSWER = 102\n")
    status, log = build(tiny)
    assert status != 0
    for page_name in ("index", "other"):
        assert f"{page_name}.md, code cell 2, line 15:" in log
    assert log.count("AssertionError: too large") >= 2

    (tiny / "fmtutor" / "__init__.py").write_text("ANSWER = 42\n")
    status, log = build(tiny)
    assert status == 0, log
    assert "the answer is 42" in page.read_text()
    assert len(list((tiny / "_build" / package_digest.CACHES).iterdir())) == 1


def test_a_build_that_warned_is_read_again(tmp_path):
    pickle = tmp_path / "environment.pickle"
    for count, kept in ((0, True), (1, False)):
        pickle.touch()
        app = SimpleNamespace(doctreedir=tmp_path, _warncount=count)
        package_digest.forget_after_warning(app, None)
        assert pickle.exists() == kept


@pytest.fixture
def config(monkeypatch):
    for name in ("FMTUTOR_REPOSITORY_URL", "FMTUTOR_BRANCH", "FMTUTOR_SITE_URL"):
        monkeypatch.delenv(name, raising=False)
    theme = {
        "repository_url": "",
        "repository_branch": "main",
        "launch_buttons": {"colab_url": "c"},
    }
    return SimpleNamespace(html_theme_options=theme, html_baseurl="", myst_substitutions={})


def test_without_an_address_no_button_leads_nowhere(config):
    public_address.fill_address(None, config)
    assert "launch_buttons" not in config.html_theme_options
    assert not config.html_theme_options["use_edit_page_button"]
    assert config.html_baseurl == ""
    assert config.myst_substitutions == {"repository": "the repository"}


def test_the_environment_fills_the_address(config, monkeypatch):
    monkeypatch.setenv("FMTUTOR_REPOSITORY_URL", "https://example.org/someone/book/")
    monkeypatch.setenv("FMTUTOR_BRANCH", "trunk")
    monkeypatch.setenv("FMTUTOR_SITE_URL", "https://example.org/pages")
    public_address.fill_address(None, config)
    theme = config.html_theme_options
    assert theme["repository_url"] == "https://example.org/someone/book"
    assert theme["repository_branch"] == "trunk"
    assert theme["use_edit_page_button"]
    assert "launch_buttons" in theme
    assert config.html_baseurl == "https://example.org/pages/"


def test_a_downloaded_notebook_begins_as_its_pair_does(tmp_path):
    def notebook(path, minor, *sources):
        cells = [{"cell_type": "code", "id": s, "source": s, "execution_count": 1} for s in sources]
        path.write_text(json.dumps({"nbformat_minor": minor, "cells": cells}))

    pair, executed = tmp_path / "pair.ipynb", tmp_path / "executed.ipynb"
    for minor in (4, 5):
        notebook(executed, minor, "text", "more")
        public_address.begin_alike(executed, tmp_path / "none.ipynb")
        notebook(pair, 5, "install", "text", "more")
        for _ in range(2):  # a second build finds the first one's file
            public_address.begin_alike(executed, pair)
        cells = json.loads(executed.read_text())["cells"]
        assert [cell["source"] for cell in cells] == ["install", "text", "more"]
        assert cells[0]["execution_count"] is None
        assert ("id" in cells[0]) is (minor == 5)
