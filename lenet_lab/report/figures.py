"""Figures of the comparison as SVG and PNG bytes; the same facts give the same bytes on one machine.

Drawn with matplotlib's objects and its own defaults: neither the caller's figures nor a personal matplotlibrc
comes in. Labels are plain text, never TeX: they may hold anything.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lenet_lab.report import plots, study_plots
from lenet_lab.report.facts import Facts
from lenet_lab.report.plots import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = Mapping[int, NDArray[np.uint8]]
"""Index of a test image -> the image (28, 28), ink bright."""

ALT = {
    "accuracy": "Each arm: every seed, mean and interval",
    "differences": "Differences paired by seed: mean and interval",
    "learning_curves": "Learning curves of each arm: mean and range over seeds by epoch",
    "interactions": "Means of the levels of one factor at each level of another, with intervals",
    "pareto": "Error against cost: the line joins the arms that no other beats in both",
    "confusion": "Confusion matrices: mistakes by true and predicted class, mean over seeds, and their difference",
    "mistakes": "The test images that most runs got wrong: true class, commonest wrong answer, runs that were wrong",
}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lenet_lab",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.formatter.useoffset": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "savefig.dpi": 160,
}


def names(facts: Facts) -> tuple[str, ...]:
    """The figures that the facts have something for; `mistakes` wants images beside them."""
    return tuple(name for name, has in _HAS.items() if has(facts))


def render(facts: Facts, images: Images | None = None) -> dict[str, bytes]:
    """Every figure that the facts have something for, as `<name>.svg` and `<name>.png`."""
    import matplotlib

    files = {}
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; the tables have it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcParams.update(matplotlib.rcParamsDefault)
        matplotlib.rcParams.update(_STYLE)
        drawn = {name: _DRAW[name](facts) for name in names(facts)}
        if images and facts.mistakes:
            drawn["mistakes"] = study_plots.mistakes(facts, images)
        for name, figure in drawn.items():
            files[f"{name}.svg"] = _saved(figure, "svg", {"Date": None, "Creator": None, "Title": ALT[name]})
            files[f"{name}.png"] = _saved(figure, "png", {"Software": None})
    return files


_DRAW = {
    "accuracy": plots.accuracy,
    "differences": plots.differences,
    "learning_curves": plots.learning_curves,
    "interactions": study_plots.interactions,
    "pareto": study_plots.pareto,
    "confusion": study_plots.confusion,
}
_HAS = {
    "accuracy": lambda facts: any(facts.metric in arm.metrics for arm in facts.arms),
    "differences": lambda facts: any(one.mean is not None for one in facts.contrasts),
    "learning_curves": lambda facts: any(arm.curves for arm in facts.arms),
    "interactions": lambda facts: bool(study_plots.crossed(facts)),
    "pareto": lambda facts: bool(study_plots.costs(facts)),
    "confusion": lambda facts: bool(facts.confusions),
}


def _saved(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, facecolor="white", metadata=metadata)
    return content.getvalue()
