"""SECURITY.md promises nothing that is not shown."""

from __future__ import annotations

import re
from pathlib import Path

import hapolicy

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "SECURITY.md"


def test_each_test_and_room_that_the_page_names_is_there() -> None:
    """Whoever looks for what a line of the table says finds it."""
    text = PAGE.read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    written = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert set() == named - written
    rooms = set(re.findall(r"^\|[^|]*\|(.*?)\|", text, re.M))
    modules = {name.partition(".")[0] for room in rooms for name in re.findall(r"`([a-z]+(?:\.\w+)?)`", room)}
    there = {path.stem for path in Path(hapolicy.__file__).parent.rglob("*")}
    assert set() == modules - there
