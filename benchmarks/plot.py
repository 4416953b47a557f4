"""Requests a second and latency over the number of connections."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks import svg
from benchmarks.speed import CONNECTIONS, Rounds, median

# Told apart by shape, too, and of middle lightness.
_STYLES = {
    "direct": ("#888888", "D", ":"),
    "hapolicy 2": ("#0a7d4f", "o", "-"),
    "hapolicy 1.00": ("#b5651d", "s", "-"),
    "HAProxy": ("#2f6fb5", "^", "-"),
}


def draw(speed: Rounds, target: Path) -> bool:
    """Draw into `target`; False where matplotlib is not installed."""
    pyplot = svg.pyplot()
    if pyplot is None:
        return False
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
    handles, names = rates.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    svg.save(figure, target)
    return True
