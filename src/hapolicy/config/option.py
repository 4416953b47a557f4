"""What an option of the command line is."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hapolicy.config.settings import SettingsError


class UsageError(SettingsError):
    """An argument that cannot be understood."""


class Asked(Exception):
    """--help or --version was given; the text is the reply."""


class Written(str):
    """An argument that remembers where it was written: `where` is "file:line: "."""

    where: str

    def __new__(cls, text: str, where: str) -> Self:
        """`text`, written at `where`."""
        self = super().__new__(cls, text)
        self.where = where
        return self


@dataclass(frozen=True)
class Option:
    """One option.

    `shown` is its default as people read it; `example` a right use; `examples` others by kind of address (`kind_of`).
    """

    flags: tuple[str, ...]
    help: str
    parse: Callable[[str], Any] | None = None  # None: it takes no value
    metavar: str = ""
    default: Any = None
    shown: str = ""
    example: str = ""
    examples: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    reloads: bool = True  # False: a change needs a restart

    @property
    def name(self) -> str:
        """As it is called in texts."""
        return self.flags[-1]

    @property
    def label(self) -> str:
        """As argparse calls it in its errors."""
        return "/".join(self.flags)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let `parser` understand it."""
        help_ = f"{self.help} ({self.shown})" if self.shown else self.help
        if self.parse is None:
            parser.add_argument(*self.flags, action="store_true", help=help_.replace("%", "%%"))
            return
        action = "append" if self.repeatable else "store"
        parser.add_argument(
            *self.flags,
            action=action,
            type=self.parse,
            default=self.default,
            metavar=self.metavar,
            help=help_.replace("%", "%%"),
        )
