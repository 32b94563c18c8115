"""What every live figure shares: one module of JavaScript, a picture, traits that are checked."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import anywidget
import matplotlib as mpl
import traitlets
from matplotlib.figure import Figure

from fmtutor.plotting import use_style
from fmtutor.widgets.bundle import joined_module, joined_style

__all__ = ["Finite", "LiveFigure", "joined_module", "joined_style", "one_of"]

_WIDTH = 7.6  # inches, that of every figure of the book


class Finite(traitlets.Float[float, Any]):
    """A floating-point trait that refuses NaN and infinity, which traitlets lets pass."""

    def validate(self, obj: Any, value: Any) -> float:
        """Return the number, within the trait's bounds."""
        number = float(super().validate(obj, value))
        if not math.isfinite(number):
            raise traitlets.TraitError(f"{self.name} must be finite, but {number} came")
        return number


class LiveFigure(anywidget.AnyWidget):
    """A figure that computes where it is seen: in a notebook, or in a page without a kernel.

    A subclass names its JavaScript file in `file`, declares its traits with `tag(sync=True)`, says
    in `_controls` how many cells of controls there are, and draws its first state in `_draw`. A
    trait without an underscore is public: it is in the `repr`, it can be set when the figure is
    made, and read, set and observed afterwards.

    Attributes:
        file: Stem of the figure's JavaScript file.
    """

    file: ClassVar[str] = ""

    # The size of the frame. The page reserves it before any script has run.
    _aspect = traitlets.Float(1.8).tag(sync=True)  # width over height of the canvas
    _narrow = traitlets.Float(1.2).tag(sync=True)  # the same on a phone
    _controls = traitlets.Int(0).tag(sync=True)

    def __init_subclass__(cls, **settings: Any) -> None:
        """Give each figure its module and its style."""
        # Not for the nameless subclass that ipywidgets makes when it adds a trait.
        if "file" in cls.__dict__:
            cls._esm, cls._css = joined_module(cls.file), joined_style(cls.file)
        super().__init_subclass__(**settings)

    def __init__(self, **traits: Any) -> None:
        unknown = sorted(traits.keys() - set(self.public_traits()))
        if unknown:
            known = ", ".join(self.public_traits())
            raise TypeError(f"{type(self).__name__} takes {known}, but {', '.join(unknown)} came")
        super().__init__(**traits)

    @classmethod
    def public_traits(cls) -> list[str]:
        """Return the names of the traits that are the figure's own, in alphabetical order."""
        inherited = anywidget.AnyWidget.class_trait_names()
        names = set(cls.class_trait_names()) - set(inherited)
        return sorted(name for name in names if not name.startswith("_"))

    def picture(self) -> bytes:
        """Draw the figure as it is now with matplotlib, and return a PNG.

        It is what a reader sees where no script runs.
        """
        with mpl.rc_context():
            use_style()
            figure = Figure(figsize=(_WIDTH, _WIDTH / self._aspect))
            self._draw(figure)
            file = io.BytesIO()
            figure.savefig(file, format="png")
        return file.getvalue()

    def _draw(self, figure: Figure) -> None:
        """Draw the present state into an empty figure of the house style."""
        raise NotImplementedError(f"{type(self).__name__} has no picture")

    def __repr__(self) -> str:
        """Return the public traits: stable, so that notebooks can be compared."""
        values = (f"{name}={_brief(getattr(self, name))}" for name in self.public_traits())
        return f"{type(self).__name__}({', '.join(values)})"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a notebook shows: the live figure, or its picture, or its `repr`."""
        data, metadata = super()._repr_mimebundle_(**options) or ({"text/plain": repr(self)}, {})
        data["image/png"] = base64.b64encode(self.picture()).decode("ascii")
        return data, metadata


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """Return a trait's `value` if it is one of the `known` ones; else refuse it by its `name`."""
    if value not in (known := list(known)):
        raise traitlets.TraitError(f"{name} must be one of {', '.join(known)}, but {value!r} came")
    return value


def _brief(value: object) -> str:
    """Return a `repr` that does not fill a page."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return repr(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."
