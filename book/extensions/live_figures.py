"""Sphinx extension: live figures on pages without a kernel.

A cell that shows a figure of `fmtutor.widgets` leaves its state in the page (myst-nb writes it), a
mark where it stands, and a picture. Here mark and picture are put together: a reader without
scripts has the picture, and `widgets.mjs` puts the live figure in its place. The space that the
live figure will take is reserved by the same style sheet that it brings along.
"""

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform

STYLE = "base.css"
WIDGETS = Path(__file__).resolve().parents[2] / "fmtutor" / "widgets"
VIEW = "application/vnd.jupyter.widget-view+json"
PICTURE = "image/png"
NO_SCRIPT = (
    '<noscript><p class="fm-sentence">With JavaScript this figure can be moved; the picture shows '
    "its first state.</p></noscript>"
)


def frame(state: dict[str, Any]) -> tuple[str, str]:
    """What stands before and behind the picture: the space that the live figure will take."""
    aspect, narrow = state.get("_aspect", 1.8), state.get("_narrow", 1.2)
    style = html.escape(f"--fm-aspect: {aspect}; --fm-narrow: {narrow}")
    cells = '<span class="fm-control"></span>' * int(state.get("_controls", 0))
    before = f'<div class="fm-live" style="{style}"><div class="fm-picture">'
    behind = (
        f'</div><div class="fm-controls fm-reserved">{cells}</div>'
        f'<div class="fm-readout fm-reserved"></div>{NO_SCRIPT}'
    )
    return before, behind


class JoinPictureAndView(SphinxPostTransform):
    """Replace an output that has a picture and a view by both, before one of them is chosen."""

    default_priority = 3  # myst-nb chooses at 4
    formats = ("html",)

    def run(self, **_options: Any) -> None:
        states = self.states()
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            found = {child["mime_type"]: child.children for child in bundle.children}
            if VIEW not in found or PICTURE not in found:
                continue
            before, behind = frame(states.get(model_id(found[VIEW][0]), {}))
            parts = [
                nodes.raw("", before, format="html"),
                *found[PICTURE],
                nodes.raw("", behind, format="html"),
                *found[VIEW],
                nodes.raw("", "</div>", format="html"),
            ]
            bundle.replace_self(parts)

    def states(self) -> dict[str, dict[str, Any]]:
        """The traits of every model on this page, as its cells left them."""
        files = NbMetadataCollector.get_js_files(self.env, self.env.docname)
        _, settings = files.get("ipywidgets_state", (None, {}))
        models = json.loads(settings.get("body", "{}")).get("state", {})
        return {key: model.get("state", {}) for key, model in models.items()}


def model_id(view: nodes.Node) -> str:
    """The model that a view shows."""
    script = view.astext()
    return str(json.loads(script[script.index("{") : script.rindex("}") + 1]).get("model_id"))


def serve_style(_app: Sphinx, config: Config) -> None:
    """Serve the figures' style sheet from the package, where a notebook has it from, too."""
    config.html_static_path.append(str(WIDGETS / STYLE))


def add_host(
    app: Sphinx, page: str, _template: str, _context: dict[str, Any], _doctree: object
) -> None:
    """Load style and host on pages that have a live figure, and only there."""
    if "ipywidgets_state" in NbMetadataCollector.get_js_files(app.env, page):
        app.add_css_file(STYLE)
        app.add_js_file("widgets.mjs", type="module")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(JoinPictureAndView)
    app.connect("config-inited", serve_style)
    app.connect("html-page-context", add_host)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
