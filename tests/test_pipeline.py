"""The book's own Sphinx extensions: fresh outputs after an edit, buttons that lead somewhere."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = ROOT / "book" / "extensions"
sys.path.append(str(EXTENSIONS))

import package_digest  # noqa: E402
import public_address  # noqa: E402

CONFIG = """
title: Tiny
only_build_toc_files: true
execute: {execute_notebooks: cache}
sphinx:
  local_extensions: {package_digest: book/extensions}
  config:
    extensions: [myst_nb, jupyter_book, sphinx_comments, sphinx_external_toc, package_digest]
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

print("the answer is", ANSWER)
```
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "fmtutor"
    folder.mkdir()
    (folder / "__init__.py").write_text("ANSWER = 41\n")
    return folder


def test_digest_follows_the_contents(package):
    before = package_digest.digest(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"byte code")
    assert package_digest.digest(package) == before
    (package / "__init__.py").write_text("ANSWER = 42\n")
    edited = package_digest.digest(package)
    (package / "new.mjs").write_text("")
    assert len({before, edited, package_digest.digest(package)}) == 3


def build(root):
    command = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "build", "-W", "book/"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_edit_of_the_package_reaches_the_page(tmp_path, package):
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text("{format: jb-book, root: index.md}\n")
    (tmp_path / "book" / "index.md").write_text(PAGE)
    shutil.copytree(EXTENSIONS, tmp_path / "book" / "extensions")
    page = tmp_path / "_build" / "html" / "index.html"

    build(tmp_path)
    assert "the answer is 41" in page.read_text()

    assert "0 added, 0 changed, 0 removed" in build(tmp_path)

    (package / "__init__.py").write_text("ANSWER = 42\n")
    build(tmp_path)
    assert "the answer is 42" in page.read_text()
    assert len(list((tmp_path / "_build" / package_digest.CACHES).iterdir())) == 1


def test_a_build_that_warned_is_read_again(tmp_path):
    pickle = tmp_path / "environment.pickle"
    for warnings, kept in ((0, True), (1, False)):
        pickle.touch()
        app = SimpleNamespace(doctreedir=tmp_path, _warncount=warnings)
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
