"""Makes docs/reference from the code: options, hapolicyctl, events, metrics."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hapolicy.admin.control.commands import parser as hapolicyctl
from hapolicy.admin.http.metrics import StatusCollector
from hapolicy.admin.status import Status
from hapolicy.config.options import OPTIONS
from hapolicy.core.events import REGISTRY
from hapolicy.core.latencies import BOUNDS_S
from hapolicy.core.status import ServiceStatus

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def options_page() -> str:
    """Every option of hapolicy."""
    return "\n".join(_options()) + "\n"


def _options() -> Iterator[str]:
    yield "# Options of hapolicy\n"
    yield "`hapolicy [@FILE ...] [OPTIONS] -s NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]][,KEY=VALUE...] [-s ...]`\n"
    yield "`@FILE` stands for the arguments in FILE: several to a line as a shell splits them; `#` begins a comment."
    yield "FILE must be a regular file. In `-s`, double each comma in a socket path or an action.\n"
    yield "| option | default | meaning | example |"
    yield "|---|---|---|---|"
    for option in OPTIONS:
        words = " ".join([", ".join(option.flags), option.metavar]).strip().replace("|", "\\|")
        example = f"`{option.example}`" if option.example else ""
        restart = "" if option.reloads else " A change needs a restart."
        meaning = (option.help + restart).replace("|", "\\|")
        yield f"| `{words}` | {option.shown} | {meaning} | {example} |"
    yield "| `--help`, `--version` | | Print it and exit; not in a FILE. | |"


def events_page() -> str:
    """Every event of the log."""
    return "\n".join(_events()) + "\n"


def _events() -> Iterator[str]:
    yield "# Log events\n"
    yield "One JSON object each. All have `timestamp` (UTC), `level` and `event`; durations are in seconds (`_s`) or"
    yield "milliseconds (`_ms`). What senders and services wrote is escaped to printable characters and cut at 512.\n"
    for name, kind in sorted(REGISTRY.items()):
        yield f"## {name}\n"
        yield f"{kind.level.name.lower()}. {kind.meaning}"
        if kind.repeats_by:
            yield f"Beyond ten a second with the same `{kind.repeats_by}` they are summed up as `log.repeated`."
        yield ""
        for field, meaning in kind.fields.items():
            yield f"- `{field}`: {meaning}"
        yield ""


def hapolicyctl_page() -> str:
    """Every command of hapolicyctl."""
    return "\n".join(_hapolicyctl()) + "\n"


def _hapolicyctl() -> Iterator[str]:
    grammar = hapolicyctl()
    yield "# hapolicyctl\n"
    yield f"{grammar.description}\n"
    yield f"{grammar.epilog}\n"
    yield "| option | meaning |"
    yield "|---|---|"
    for action in grammar._actions:
        if action.option_strings:
            yield f"| `{_words(action)}` | {_help(action)} |"
    (commands,) = [a for a in grammar._actions if isinstance(a, argparse._SubParsersAction)]
    for name, command in commands.choices.items():
        arguments = [action for action in command._actions if action.dest != "help"]
        positional = " ".join(_words(action) for action in arguments if not action.option_strings)
        yield f"\n## hapolicyctl {name} {positional}".rstrip() + "\n"
        yield command.description or ""
        if arguments:
            yield ""
        for action in arguments:
            yield f"- `{_words(action)}`: {_help(action)}"
        if command.epilog:
            yield f"\n{command.epilog}"


def _words(action: argparse.Action) -> str:
    names, metavar = ", ".join(action.option_strings), "" if action.nargs == 0 else str(action.metavar or action.dest)
    words = f"{names} {metavar}".strip()
    return f"[{words} ...]" if action.nargs == "*" else words


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("|", "\\|")


def metrics_page() -> str:
    """Every metric of /metrics."""
    return "\n".join(_metrics()) + "\n"


def _metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield "At `/metrics` of `--http`, in the Prometheus and OpenMetrics formats. Counters start at 0 with the daemon.\n"
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for family in sorted(StatusCollector(_status).collect(), key=lambda family: family.name):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        named = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{family.name}{suffix}` | {family.type} | {named} | {family.documentation} |"


def _status() -> Status:
    """Of a daemon with one service, all figures 0."""
    blank: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(ServiceStatus)}
    service = ServiceStatus(**blank | {"name": "A", "failures": {}, "latency_counts": [0] * len(BOUNDS_S)})
    blank = {field.name: 0 for field in dataclasses.fields(Status)}
    return Status(**blank | {"version": "", "requests": [], "services": [service], "changes": []})


PAGES = {
    "options.md": options_page,
    "hapolicyctl.md": hapolicyctl_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
}


def main() -> int:
    """Write the pages, or tell which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != page():
            stale.append(name)
            if not check:
                path.write_text(page())
    if check and stale:
        print(f"stale: {', '.join(stale)}; make reference", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
