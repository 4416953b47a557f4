"""The fault matrix, printed at the end of the run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.numbered import Ledger

_rows: list[tuple[str, str]] = []


class Matrix:
    """A line a fault."""

    def add(self, fault: str, ledger: Ledger, more: str = "") -> None:
        """This fault has had these requests."""
        _rows.append((fault, f"{ledger.row()}{'; ' if more else ''}{more}"))


@pytest.fixture
def matrix() -> Matrix:
    """Where a test puts its line."""
    return Matrix()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the lines."""
    if _rows:
        terminalreporter.section("fault matrix")
    for fault, row in _rows:
        terminalreporter.line(f"{fault:<28} {row}")
