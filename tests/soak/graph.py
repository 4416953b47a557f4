"""What the soak has measured over time, and the faults below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import svg

_LINE = "#0a7d4f"
_FAULT = "#b5651d"


def draw(measured: Any, target: Path) -> bool:
    """Draw into `target`; False where matplotlib is not installed."""
    pyplot = svg.pyplot()
    if pyplot is None:
        return False
    rows = [
        ("requests a second", measured.rates),
        ("resident, MB", [kb / 1024 for kb in measured.resident_kb]),
        ("descriptors", measured.descriptors),
        ("threads", measured.threads),
    ]
    figure, all_axes = pyplot.subplots(5, 1, figsize=(10, 8), sharex=True, layout="constrained")
    for axes, (title, values) in zip(all_axes, rows, strict=False):
        axes.plot(measured.times, values, color=_LINE, linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(title)
    names = sorted({service for _, _, service, _ in measured.faults})
    for since_s, until_s, service, _ in measured.faults:
        all_axes[-1].broken_barh([(since_s, until_s - since_s)], (names.index(service) - 0.4, 0.8), color=_FAULT)
    all_axes[-1].set(yticks=range(len(names)), yticklabels=names, ylabel="faults", xlabel="seconds")
    svg.save(figure, target)
    return True
