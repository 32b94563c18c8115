"""Sphinx extension: launch, edit and download buttons that lead somewhere.

The address of the repository and of the site come from the environment of whoever deploys, else
from `_config.yml`. Where there is none, the buttons that need one are left out.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


def fill_address(_app: Sphinx, config: Config) -> None:
    """Put the public address, or its absence, into the theme's options."""
    theme: dict[str, Any] = config.html_theme_options
    url = os.environ.get("FMTUTOR_REPOSITORY_URL") or theme.get("repository_url", "")
    site = os.environ.get("FMTUTOR_SITE_URL") or config.html_baseurl
    theme["repository_url"] = url.rstrip("/")
    theme["repository_branch"] = os.environ.get("FMTUTOR_BRANCH") or theme["repository_branch"]
    theme["use_edit_page_button"] = theme["use_repository_button"] = bool(url)
    if not url:
        del theme["launch_buttons"]
    config.html_baseurl = f"{site.rstrip('/')}/" if site else ""
    # For prose: {{ repository }} is a link where there is an address, plain words elsewhere.
    here = f"[the repository]({url})" if url else "the repository"
    config.myst_substitutions["repository"] = here


def begin_alike(executed: Path, pair: Path) -> None:
    """Put the first cell of the pair, which is not in the text, before the executed notebook."""
    if not pair.exists():
        return
    first = json.loads(pair.read_text("utf-8"))["cells"][0]
    notebook = json.loads(executed.read_text("utf-8"))
    first["execution_count"] = None
    if notebook["nbformat_minor"] < 5:
        del first["id"]
    if "".join(notebook["cells"][0]["source"]) != "".join(first["source"]):
        notebook["cells"].insert(0, first)
        executed.write_text(json.dumps(notebook, indent=1), "utf-8")


def offer_notebook(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Let the download button offer the executed notebook on a page without launch buttons too.

    The theme offers it only beside a launch button; this is the same file, put in the same place.
    Either way it begins, as its tracked pair does, with the cell that installs the package.
    """
    executed = Path(app.outdir.parent, "jupyter_execute", page).with_suffix(".ipynb")
    if "kernelspec" in app.env.metadata[page] and executed.exists():
        begin_alike(executed, Path(app.srcdir, page).with_suffix(".ipynb"))
        target = Path(app.outdir, "_sources", page).with_suffix(".ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(executed, target)
        context["ipynb_source"] = f"{page}.ipynb"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", fill_address)
    # Before the theme makes its buttons, at 501.
    app.connect("html-page-context", offer_notebook, priority=500)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
