"""The command line's grammar, and a right example for what was wrong; made from the rows of `options`."""

from __future__ import annotations

import argparse
from typing import NoReturn

import hapolicy
from hapolicy.config.option import Asked, UsageError
from hapolicy.config.options import OPTIONS
from hapolicy.core.address import kind_of

_FILE_EXAMPLE = "@/etc/hapolicy/hapolicy.args"
_BY_LABEL = {option.label: option for option in OPTIONS}


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing and exiting: a daemon reads its arguments again for a reload."""

    def _print_message(self, message: str, file: object = None) -> NoReturn:  # all that --help and --version do first
        raise Asked(message)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; hapolicy --help lists the options")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar; the man page is made from it."""
    p = _Parser(
        prog="hapolicy",
        usage="%(prog)s [@FILE ...] [OPTIONS] -s NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]] [-s ...]",
        description="Asks Postfix policy services by priority and weight, the next one where one fails,"
        " and always has an answer in time.",
        epilog="@FILE stands for the arguments in FILE: several to a line as a shell splits them; # begins a comment.",
        exit_on_error=False,
    )
    for option in OPTIONS:
        option.add_to(p)
    p.add_argument("--version", action="version", version=f"hapolicy {hapolicy.__version__}")
    return p


def right_example(label: str, given: str = "") -> str:
    """The end of a complaint about what was `given`; nothing for an option without an example."""
    if label == "@FILE":
        return f"; example: {_FILE_EXAMPLE}"
    option = _BY_LABEL.get(label)
    if option is None or not option.example:
        return ""
    where = given.partition("=")[2] or given if option.name == "--service" else given
    return f"; example: {option.examples.get(kind_of(where)) or option.example}"
