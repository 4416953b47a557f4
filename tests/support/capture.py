"""An event log whose events the test can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hapolicy.core.event import Level
from hapolicy.log.eventlog import EventLog
from tests.support.procs import PATIENCE_S, wait_until

Event = dict[str, Any]


class Capture:
    """A sink, and the log that writes to it."""

    may_block = False

    def __init__(self, level: Level = Level.INFO) -> None:
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.log = EventLog(self, level)

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        """Keep what the log writes."""
        self.lines.append(line)
        self.events.append(dict(fields))

    def reopen(self) -> None:
        """Nothing to open."""

    def named(self, name: str) -> list[Event]:
        """The events of this name so far."""
        return [event for event in self.events[:] if event["event"] == name]

    def wait(self, name: str, nth: int = 1) -> Event:
        """The `nth` event of this name, once it is there."""
        return wait_until(lambda: self.named(name)[nth - 1 : nth], f"event {name} for the {nth}. time")[0]

    def close(self) -> list[Event]:
        """Write what is queued, end the log; returns all events there were."""
        self.log.close(PATIENCE_S)
        return self.events
