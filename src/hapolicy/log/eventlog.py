"""Events out of the daemon: one JSON object each, never at the cost of an answer.

A sink that takes datagrams (journald, syslog) is written to at once, without waiting: what it does not take is
dropped and counted, which is cheaper than a thread that competes for the interpreter. Anything that may block, a
descriptor or a file, gets its lines from a queue. What was dropped is told as ``log.dropped`` when lines are taken
again.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hapolicy.core import events
from hapolicy.core.event import Event, Level
from hapolicy.log.queue import LineQueue
from hapolicy.log.render import VALUE_MAX_CHARACTERS, Rendered, load_renderer
from hapolicy.log.repeats import Repeats

_WAIT_FOR_ROOM_S = 0.02  # at the end, where nobody is served any more


class Sink(Protocol):
    """Where lines go. Raises OSError when a line is lost."""

    may_block: bool

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        """Write one line; `fields` are the same values by name, all printable."""

    def reopen(self) -> None:
        """Open its file anew: the old one was rotated away."""


class EventLog:
    """The daemon's only way to say something; thread-safe, never waits for the sink."""

    def __init__(self, sink: Sink, level: Level = Level.INFO) -> None:
        self.level = level
        self._sink = sink
        self._render: Callable[[Event], Rendered] | None = None
        self._repeats = Repeats()
        self._queue = LineQueue(self._write_queued, self._count_dropped) if self._sink.may_block else None
        self._lock = threading.Lock()  # guards _dropped and _dropped_ever
        self._dropped = 0  # not told yet
        self._dropped_ever = 0

    def warm(self) -> None:
        """Load what renders events, before the first one is in a hurry."""
        self._render = self._render or load_renderer()

    def emit(self, event: Event) -> None:
        """Log `event`, unless its level is too low or there were too many like it."""
        if event.level < self.level:
            return
        for told in self._repeats.admit(event, time.monotonic()):
            self._write(told)
        if self._dropped and self._queue is None:
            self._report_dropped()

    def fault(self, error: BaseException | None = None) -> None:
        """Log a fault of ours, `error` or the one being handled: the end of its traceback, which says most.

        Never raises: it is called where nobody would catch that.
        """
        try:
            text = "".join(traceback.format_exception(error or sys.exception()))
            self.emit(events.DAEMON_ERROR(error=text[-VALUE_MAX_CHARACTERS:]))
        except Exception:  # noqa: BLE001 - no memory for words
            self._count_dropped()

    def reopen(self) -> None:
        """Open the log file anew. Raises OSError; the old one stays in use then."""
        self._sink.reopen()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, and tell what was dropped, for at most `timeout_s` seconds."""
        give_up_at = time.monotonic() + timeout_s
        for event in self._repeats.close(time.monotonic()):
            self._write(event)
        if self._queue is not None:
            self._queue.close(timeout_s)
            return
        while self._dropped and self._report_dropped() and time.monotonic() < give_up_at:
            time.sleep(_WAIT_FOR_ROOM_S)

    @property
    def dropped(self) -> int:
        """How many events were lost since the start."""
        return self._dropped_ever

    def _write(self, event: Event) -> None:
        try:
            line, fields = self._rendered(event)
            if self._queue is None:
                self._sink.write(line, fields, event.level)
            elif not self._queue.put((line, event.level)):
                self._count_dropped()
        except Exception:  # noqa: BLE001 - whatever is wrong with one event, it must not cost an answer
            self._count_dropped()

    def _rendered(self, event: Event) -> Rendered:
        self.warm()
        assert self._render is not None
        return self._render(event)

    def _write_queued(self, queued: tuple[str, Level]) -> None:
        line, level = queued
        self._sink.write(line, {}, level)
        if self._dropped:
            self._report_dropped()

    def _count_dropped(self) -> None:
        with self._lock:
            self._dropped += 1
            self._dropped_ever += 1

    def _report_dropped(self) -> bool:
        """Tell how many events were lost: straight to the sink, since only then is it certain to be told.

        Returns whether another try may help: the sink has no room.
        """
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if not dropped:
            return False  # another thread has told in the meantime
        event = events.LOG_DROPPED(count=dropped)
        try:
            line, fields = self._rendered(event)
            self._sink.write(line, fields, event.level)
        except Exception as error:  # noqa: BLE001 - the sink takes nothing, or what renders cannot be loaded: later
            with self._lock:
                self._dropped += dropped
            return isinstance(error, BlockingIOError)
        return False
