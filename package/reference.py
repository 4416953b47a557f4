"""Makes docs/reference from the code: options, events, metrics."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from hapolicy.config.options import OPTIONS
from hapolicy.core.events import REGISTRY

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def options_page() -> str:
    """Every option of hapolicy."""
    return "\n".join(_options()) + "\n"


def _options() -> Iterator[str]:
    yield "# Options of hapolicy\n"
    yield "`hapolicy [@FILE ...] [OPTIONS] -s NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]][,KEY=VALUE...] [-s ...]`\n"
    yield "`@FILE` stands for the arguments in FILE: several to a line as a shell splits them, `#` begins a comment."
    yield "FILE is a regular file. A comma in a socket path or an action after `-s` is written twice.\n"
    yield "| option | default | meaning | example |"
    yield "|---|---|---|---|"
    for option in OPTIONS:
        words = " ".join([", ".join(option.flags), option.metavar]).strip().replace("|", "\\|")
        example = f"`{option.example}`" if option.example else ""
        restart = "" if option.reloads else " A change takes a restart."
        meaning = (option.help + restart).replace("|", "\\|")
        yield f"| `{words}` | {option.shown} | {meaning} | {example} |"
    yield "| `--help`, `--version` | | Print, and exit; not in a FILE. | |"


def events_page() -> str:
    """Every event of the log."""
    return "\n".join(_events()) + "\n"


def _events() -> Iterator[str]:
    yield "# Log events\n"
    yield "One JSON object each. All have `timestamp` (UTC), `level` and `event`; durations are in seconds (`_s`) or"
    yield "milliseconds (`_ms`). What strangers wrote is escaped to printable characters and cut at 512.\n"
    for name, kind in sorted(REGISTRY.items()):
        yield f"## {name}\n"
        yield f"{kind.level.name.lower()}. {kind.meaning}"
        if kind.repeats_by:
            yield f"Beyond ten a second with the same `{kind.repeats_by}` they are summed up as `log.repeated`."
        yield ""
        for field, meaning in kind.fields.items():
            yield f"- `{field}`: {meaning}"
        yield ""


PAGES = {"options.md": options_page, "events.md": events_page}


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
