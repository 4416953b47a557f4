"""The daemon's status as a person reads it: words, a table, nothing that could harm a terminal. Pure.

Both looks of it, plain text and `watch`, are made from the same cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hapolicy.core.text import counted, escaped

Status = Mapping[str, Any]  # as `operations.Status.as_dict` makes it

_CELL_MAX_CHARACTERS = 200

# ANSI, and by the same names rich's: green is well, red is down, yellow is on the way.
COLOURS = {"up": "green", "down": "red", "probing": "yellow", "draining": "yellow"}
_ANSI = {"green": "\x1b[32m", "red": "\x1b[31m", "yellow": "\x1b[33m", "bold": "\x1b[1m"}
_ANSI_END = "\x1b[0m"

COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("SERVICE", "left"),
    ("ADDRESS", "left"),
    ("PRIO", "right"),
    ("WEIGHT", "right"),
    ("STATE", "left"),
    ("IN FLIGHT", "right"),
    ("QUERIES", "right"),
    ("ANSWERS", "right"),
    ("FAILED", "right"),
    ("P50", "right"),
    ("P99", "right"),
    ("SHARE", "right"),
)
_TITLES = tuple(title for title, _ in COLUMNS)
_STATE = _TITLES.index("STATE")
_GAP = 2

# What a narrow screen does without, first to last.
_DISPENSABLE = ("WEIGHT", "PRIO", "QUERIES", "P50", "ADDRESS", "SHARE", "P99", "ANSWERS", "IN FLIGHT")


@dataclass(frozen=True)
class Row:
    """One service: its cells, and the colour of its state."""

    cells: tuple[str, ...]
    colour: str


def safe(value: object, most: int = _CELL_MAX_CHARACTERS) -> str:
    """`value` as it may be shown on a terminal, cut after `most` characters."""
    text = str(value)
    return escaped(text if len(text) <= most else f"{text[:most]}...")


def headline(status: Status) -> list[str]:
    """The daemon itself, in two lines."""
    counts: dict[str, int] = {}
    for request in status["requests"]:
        counts[request["outcome"]] = counts.get(request["outcome"], 0) + request["count"]
    requests = [f"{counts.get(outcome, 0)} {outcome}" for outcome in ("answered", "defaulted", "suspect")]
    dropped = [f"{counted(status['log_dropped'], 'log event')} dropped"] if status["log_dropped"] else []
    affinity = f"; affinity {', '.join(map(safe, status['affinity']))}" if status["affinity"] else ""
    logs = f"log level {safe(status['log_level'])}" + (", requests logged" if status["log_requests"] else "")
    return [
        f"hapolicy {safe(status['version'])}, pid {status['pid']}, running for {_long(status['uptime_s'])},"
        f" {status['clients']} of {counted(status['max_clients'], 'client')}",
        f"requests: {', '.join([*requests, *dropped])};"
        f" default action {safe(status['default_action'])}{affinity}; {logs}",
    ]


def rows(status: Status) -> list[Row]:
    """The services, in the order in which they are asked."""
    return [Row(_cells(service), COLOURS.get(service["state"], "red")) for service in status["services"]]


def sections(status: Status) -> list[tuple[str, list[tuple[str, str]]]]:
    """What stands below the table: titles, each with a line for each service that has something to say."""
    return [
        (title, lines) for title, lines in (("CONNECTIONS", traffic(status)), ("FAILURES", troubles(status))) if lines
    ]


def traffic(status: Status) -> list[tuple[str, str]]:
    """For each service that is used: its connections; what waits for one; hedges; requests that broke it."""
    return [(safe(service["name"]), text) for service in status["services"] if (text := _traffic(service))]


def _traffic(service: Status) -> str:
    kinds = [(service[f"connections_{kind}"], kind) for kind in ("busy", "idle", "waiting")]
    parts = [", ".join(f"{count} {kind}" for count, kind in kinds if count)]
    if parts[0] and service["max_connections"]:
        parts[0] += f" of {service['max_connections']}"
    if service["queued"]:
        parts.append(f"{counted(service['queued'], 'request')} queued for {_short(service['queued_for_s'])}")
    if service["hedges_sent"]:
        parts.append(f"{service['hedges_sent']} hedged, {service['hedges_won']} won, {service['hedges_lost']} lost")
    if service["suspects"]:
        parts.append(f"{service['suspects']} suspect")
    return "; ".join(filter(None, parts))


def troubles(status: Status) -> list[tuple[str, str]]:
    """For each service that ever failed: its name; how often and of which kind; the last error, and its age."""
    found = []
    for service in status["services"]:
        failures = sorted(service["failures"].items(), key=lambda item: (-item[1], item[0]))
        kinds = [f"{safe(kind)} {count}" for kind, count in failures]
        if service["probes_failed"]:
            kinds.append(f"probes {service['probes_failed']}")
        if kinds or service["last_error"]:
            found.append((safe(service["name"]), f"{', '.join(kinds)}; last: {_last_error(service)}"))
    return found


def columns_within(services: Sequence[Row], width: int | None) -> list[int]:
    """Which of `COLUMNS` fit into `width` characters; None has room for all."""
    widths = _widths(services)
    kept = dict(enumerate(_TITLES))
    for title in _DISPENSABLE:
        if width is None or sum(widths[index] + _GAP for index in kept) - _GAP <= width:
            break
        kept = {index: name for index, name in kept.items() if name != title}
    return list(kept)


def render(status: Status, *, colours: bool, width: int | None = None) -> str:
    """The whole as plain text, the table in `width` characters where that is possible."""
    paint = _painted if colours else _unpainted
    services = rows(status)
    kept, widths = columns_within(services, width), _widths(services)
    header = _aligned(_TITLES, widths)
    lines = [*headline(status), "", paint(_joined(header, kept), "bold")]
    for row in services:
        cells = _aligned(row.cells, widths)
        cells[_STATE] = paint(cells[_STATE], row.colour)
        lines.append(_joined(cells, kept))
    for title, said in sections(status):
        width = max(len(name) for name, _ in said)
        lines += ["", paint(title, "bold"), *(f"{name:{width}}  {text}" for name, text in said)]
    return "\n".join(lines)


def state_in_words(service: Status) -> str:
    """up; up, silent; down for another 17 s; probing; draining; and when it is drained besides, that too."""
    state, trial_in_s = service["state"], service["trial_in_s"]
    more = ", drained" if service.get("draining") and state != "draining" else ""
    if state == "up" and service.get("silent"):
        more = ", silent"
    if state != "down" or trial_in_s is None:
        return safe(state) + more
    return (f"down for another {math.ceil(trial_in_s)} s" if trial_in_s > 0 else "down, to be tried now") + more


def _last_error(service: Status) -> str:
    age_s = service["last_error_age_s"]
    return safe(service["last_error"]) + ("" if age_s is None else f" ({_long(age_s)} ago)")


def _cells(service: Status) -> tuple[str, ...]:
    share = service["share"]
    return (
        safe(service["name"]),
        safe(service["address"]),
        str(service["prio"]),
        f"{service['weight']:g}",
        state_in_words(service),
        str(service["in_flight"]),
        str(service["queries"]),
        str(service["answers"]),
        str(service["failed"]),
        _short(service["p50_s"]),
        _short(service["p99_s"]),
        "-" if share is None else f"{share * 100:.1f} %",
    )


def _widths(services: Sequence[Row]) -> list[int]:
    return [max(map(len, column)) for column in zip(_TITLES, *(row.cells for row in services), strict=True)]


def _joined(cells: Sequence[str], kept: Sequence[int]) -> str:
    return (" " * _GAP).join(cells[index] for index in kept).rstrip()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    adjust: dict[str, Callable[[str, int], str]] = {"left": str.ljust, "right": str.rjust}
    return [adjust[side](cell, width) for cell, width, (_, side) in zip(cells, widths, COLUMNS, strict=True)]


def _painted(text: str, colour: str) -> str:
    return f"{_ANSI[colour]}{text}{_ANSI_END}"


def _unpainted(text: str, _: str) -> str:
    return text


def _short(seconds: float | None) -> str:
    """A latency, with no more digits than anyone compares."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 else f"{milliseconds:#.2g} ms"


def _long(seconds: float) -> str:
    """A time in its two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
