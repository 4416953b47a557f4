"""Makes the manual pages: the options come from the parsers, what no parser knows from `man/`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundle import HERE, BuildError, run, version

# Page: the module whose parser() it describes, and its line in apropos(1).
_PAGES = {
    "hapolicy": ("hapolicy.config.parser", "balancing and failover for Postfix policy services"),
    "hapolicyctl": ("hapolicy.admin.control.commands", "see and change a running hapolicy"),
}


def make_man(folder: Path) -> None:
    """Write the pages into `folder`. Raises `BuildError`. hapolicy is imported: it has to be installed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (module, line) in _PAGES.items():
        page = folder / f"{name}.8"
        options = {
            "--module": module,
            "--function": "parser",
            "--prog": name,
            "--project-name": "hapolicy",
            "--version": version(),
            "--manual-title": "System administration",
            "--manual-section": "8",
            "--description": line,
            "--include": str(HERE / "man" / f"{name}.8.in"),
            "--output": str(page),
        }
        words = [word for option in options.items() for word in option]
        # Columns: usage and help are wrapped at the terminal's width otherwise.
        run(sys.executable, "-c", "from argparse_manpage.cli import main; main()", *words, COLUMNS="100", TZ="UTC")


def main() -> str | None:
    """Make the pages; returns what went wrong."""
    parser = argparse.ArgumentParser(description="Make hapolicy's manual pages.")
    parser.add_argument("folder", type=Path, help="such as build/man")
    try:
        make_man(parser.parse_args().folder)
    except BuildError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
