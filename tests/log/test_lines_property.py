"""Log lines: whatever a stranger wrote, one event is one printable line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapolicy.core.event import Event, EventType, Level
from hapolicy.log.eventlog import EventLog
from hapolicy.log.render import VALUE_MAX_CHARACTERS
from tests.support.procs import PATIENCE_S

anything = st.text(st.characters(), max_size=80)
hostile = st.text(st.sampled_from('\n\r\x00\x1b\x7f\x85\x9b\u2028\u2029\u202e\ufeff\ud800"\\{}a'), max_size=40)
plain = anything | hostile | st.binary(max_size=80) | st.integers() | st.booleans() | st.none()
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3), max_leaves=6
)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: name not in ("level", "event", "timestamp"))


class Lines:
    """A log and the lines of it."""

    may_block = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.log = EventLog(self)

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        """Keep the line."""
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing to open."""

    def line_of(self, fields: dict[str, Any]) -> str:
        """The one line of an event."""
        self.lines.clear()
        self.log.emit(Event(EventType("e", Level.INFO, "", dict.fromkeys(fields, "")), fields))
        (line,) = self.lines
        return line


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    """One log for all examples."""
    lines = Lines()
    yield lines
    lines.log.close(PATIENCE_S)


@given(fields=st.dictionaries(names, values, max_size=5))
def test_one_printable_line_of_json(lines: Lines, fields: dict[str, Any]) -> None:
    """With all fields that were given, and nothing that a terminal or a reader of lines would take for its own."""
    line = lines.line_of(fields)
    assert line.isascii()
    assert line.isprintable()
    event = json.loads(line)
    assert ["timestamp", "level", "event", *fields] == list(event)
    assert ("info", "e") == (event["level"], event["event"])


@given(text=anything.filter(lambda text: text.isprintable()))
def test_printable_text_is_as_it_was(lines: Lines, text: str) -> None:
    """Only what must be escaped is."""
    assert text == json.loads(lines.line_of({"value": text}))["value"]


@given(count=st.integers(VALUE_MAX_CHARACTERS + 1, 20_000), character=st.sampled_from("a\x1b\U000e0001é"))
def test_long_values_stay_short(lines: Lines, count: int, character: str) -> None:
    """However long a value is, and whatever its characters become, its line is bounded, and its length told."""
    line = lines.line_of({"value": character * count})
    assert len(line) < VALUE_MAX_CHARACTERS * 12 + 200
    assert line.endswith(f'... ({count} characters)"}}')
