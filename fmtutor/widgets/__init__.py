"""Figures that live: each computes where it is seen, in a notebook or in a page without a kernel.

One Python class and one module of JavaScript a figure, in `js/`, where what they share stands, too.
"""

from fmtutor.widgets.bridge_explorer import BridgeExplorer
from fmtutor.widgets.continuity_explorer import ContinuityExplorer
from fmtutor.widgets.coupling_explorer import CouplingExplorer
from fmtutor.widgets.diffusion_explorer import DiffusionExplorer
from fmtutor.widgets.digit_painter import DigitPainter
from fmtutor.widgets.flow_player import FlowPlayer
from fmtutor.widgets.globe_explorer import GlobeExplorer
from fmtutor.widgets.gradient_explorer import GradientExplorer
from fmtutor.widgets.guidance_explorer import GuidanceExplorer
from fmtutor.widgets.jump_explorer import JumpExplorer
from fmtutor.widgets.molecule_explorer import MoleculeExplorer
from fmtutor.widgets.path_explorer import PathExplorer
from fmtutor.widgets.playground import Playground
from fmtutor.widgets.posterior_explorer import PosteriorExplorer
from fmtutor.widgets.resolution_explorer import ResolutionExplorer
from fmtutor.widgets.room_explorer import RoomExplorer
from fmtutor.widgets.solver_lab import SolverLab
from fmtutor.widgets.spelling_explorer import SpellingExplorer
from fmtutor.widgets.strip_explorer import StripExplorer
from fmtutor.widgets.token_explorer import TokenExplorer

__all__ = [
    "BridgeExplorer",
    "ContinuityExplorer",
    "CouplingExplorer",
    "DiffusionExplorer",
    "DigitPainter",
    "FlowPlayer",
    "GlobeExplorer",
    "GradientExplorer",
    "GuidanceExplorer",
    "JumpExplorer",
    "MoleculeExplorer",
    "PathExplorer",
    "Playground",
    "PosteriorExplorer",
    "ResolutionExplorer",
    "RoomExplorer",
    "SolverLab",
    "SpellingExplorer",
    "StripExplorer",
    "TokenExplorer",
]
