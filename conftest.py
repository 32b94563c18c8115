"""What nbval leaves out of the comparison, for every notebook of the book.

The tracked notebooks hold text outputs only (tools/notebooks.py), so the other kinds have nothing
to be compared with. A cell whose text differs between two equal runs carries the tag
`nbval-ignore-output`: it is run, and its output is not compared.
"""

import os

import pytest

# Before torch is imported, here and in the notebooks' kernels. One thread each: the site is built
# in the same way (book/extensions/package_digest.py), and xdist's workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

NOT_COMPARED = (
    "stderr",  # progress bars
    "text/html",
    "image/svg+xml",
    "application/javascript",
    "application/json",
    "application/pdf",
    "application/vnd.jupyter.widget-state+json",
    # myst-nb's glue stores a value under these names; prose shows it rounded.
    "application/papermill.record/text/plain",
    "application/papermill.record/text/html",
    "application/papermill.record/text/latex",
    "application/papermill.record/image/png",
    "application/papermill.record/image/svg+xml",
)


def pytest_collectstart(collector: pytest.Collector) -> None:
    if hasattr(collector, "skip_compare"):  # one of nbval's notebooks
        collector.skip_compare += NOT_COMPARED
