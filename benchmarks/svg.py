"""Figures as SVG that read on light and on dark ground. matplotlib is an extra: without it there is no figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_INK = "#808080"


def pyplot() -> Any:
    """matplotlib's pyplot, set up for SVG; None where it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return None
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "hapolicy"  # the same figures give the same file
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, target: Path) -> None:
    """Give all axes a grid and one middle colour, write the file, and let go of the figure."""
    for axes in figure.axes:
        axes.grid(visible=True, color=_INK, alpha=0.3)
        axes.tick_params(colors=_INK)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(_INK)
        for spine in axes.spines.values():
            spine.set_color(_INK)
    for legend in figure.legends:
        for text in legend.get_texts():
            text.set_color(_INK)
    figure.savefig(target, transparent=True, metadata={"Date": None})
    pyplot().close(figure)
