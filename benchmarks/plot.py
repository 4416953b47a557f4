"""Requests a second over the number of connections, as an SVG that reads on light and on dark ground."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks.speed import CONNECTIONS, Rounds, median

# Told apart by shape, too, and of middle lightness.
_STYLES = {
    "direct": ("#888888", "D", ":"),
    "hapolicy 2": ("#0a7d4f", "o", "-"),
    "hapolicy 1.00": ("#b5651d", "s", "-"),
    "HAProxy": ("#2f6fb5", "^", "-"),
}
_INK = "#808080"


def draw(speed: Rounds, target: Path) -> bool:
    """Draw into `target`; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "hapolicy"  # the same figures give the same file
    figure, (rates, slowest) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, field, title in ((rates, "per_second", "requests a second"), (slowest, "p999_us", "p999 latency, ms")):
        for name in speed:
            colour, marker, line = _STYLES[name]
            scale = 1000 if field == "p999_us" else 1
            values = [(median(speed, name, n, field) or math.nan) / scale for n in CONNECTIONS]
            axes.plot(CONNECTIONS, values, color=colour, marker=marker, linestyle=line, label=name)
        axes.set(xscale="log", yscale="log", title=title, xlabel="connections", xticks=CONNECTIONS)
        axes.set_xticklabels([f"{n:,}" for n in CONNECTIONS])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.grid(visible=True, color=_INK, alpha=0.3)
        axes.tick_params(colors=_INK)
        for text in (axes.title, axes.xaxis.label):
            text.set_color(_INK)
        for spine in axes.spines.values():
            spine.set_color(_INK)
    handles, names = rates.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), labelcolor=_INK, frameon=False)
    figure.savefig(target, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    return True
