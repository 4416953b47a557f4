"""Events out of the daemon: one JSON object each, never at the cost of an answer.

`EventLog.emit` only puts the event on a bounded queue. One writer thread does everything that takes time:
structlog turns the event into a line, the sink writes it. A sink that is stalled or dead fills the queue; what
does not fit is dropped, counted, and reported as ``log.dropped`` when the sink takes lines again.

Everything a stranger wrote (helo, sender, an answer) leaves here as printable ASCII, of bounded length.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Protocol

from hapolicy.core.events import Fields, Level

# About 10 MiB of events: half a second at full load, hours at a postmaster's.
QUEUE_MAX_EVENTS = 8192

# Longer than any valid address (RFC 5321, 4.5.3.1.3: 256 octets), short enough that a line stays a line.
VALUE_MAX_CHARACTERS = 512


class Sink(Protocol):
    """Where lines go. Raises OSError when the line is lost; may block."""

    def write(self, line: str, event: Fields) -> None:
        """Write one line; `event` has the same values by name, all printable."""


class EventLog:
    """The daemon's only way to say something; thread-safe, never waits for the sink."""

    def __init__(self, open_sink: Callable[[], Sink], level: Level = Level.INFO) -> None:
        self.level = level
        self._queue: queue.SimpleQueue[tuple[float, Level, str, Fields | Callable[[], Fields]] | None]
        self._queue = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _dropped and _dropped_ever
        self._dropped = 0  # not reported yet
        self._dropped_ever = 0
        self._open_sink = open_sink
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._writer.start()

    def emit(self, level: Level, name: str, /, **fields: Any) -> None:
        """Log an event."""
        self.emit_later(level, name, fields)

    def emit_later(self, level: Level, name: str, fields: Fields | Callable[[], Fields]) -> None:
        """Log an event whose fields may be a function, called on the writer's thread, not on the caller's."""
        if level < self.level:
            return
        if self._queue.qsize() >= QUEUE_MAX_EVENTS:
            self._count_dropped()
        else:
            self._queue.put((time.time(), level, name, fields))

    def fault(self, error: BaseException | None = None) -> None:
        """Log a fault of ours, `error` or the one being handled: the end of its traceback, which says most."""
        text = "".join(traceback.format_exception(error or sys.exception()))
        self.emit(Level.ERROR, "daemon.error", error=text[-VALUE_MAX_CHARACTERS:])

    def close(self, timeout_s: float) -> None:
        """Write what is queued, for at most `timeout_s` seconds, and end the writer."""
        self._queue.put(None)
        self._writer.join(timeout_s)

    def _count_dropped(self) -> None:
        with self._lock:
            self._dropped += 1
            self._dropped_ever += 1

    @property
    def dropped(self) -> int:
        """How many events were lost since the start."""
        return self._dropped_ever

    def _take_dropped(self) -> int:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def _write_all(self) -> None:
        logger = _structlog_logger(self._open_sink())
        while (queued := self._queue.get()) is not None:
            written_at, level, name, fields = queued
            try:
                logger.log(level, name, time=written_at, fields=fields() if callable(fields) else fields)
            except Exception:  # noqa: BLE001 - whatever is wrong with one event, the next is to be written
                self._count_dropped()
            else:
                self._report_dropped(logger)

    def _report_dropped(self, logger: Any) -> None:
        dropped = self._take_dropped()
        if not dropped:
            return
        try:
            logger.log(Level.WARNING, "log.dropped", time=time.time(), fields={"count": dropped})
        except OSError:
            with self._lock:
                self._dropped += dropped


def _structlog_logger(sink: Sink) -> Any:
    # Imported by the writer's thread: the import takes longer than a first answer does.
    import structlog

    json = structlog.processors.JSONRenderer()

    def render(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str, Fields], dict[str, Any]]:
        return (str(json(None, "", dict(event))), event), {}

    return structlog.wrap_logger(
        _SinkLogger(sink),
        processors=[structlog.processors.add_log_level, _flatten, render],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )


class _SinkLogger:
    """What structlog calls at the end of its chain: the name of the level is the name of the method."""

    def __init__(self, sink: Sink) -> None:
        self.debug = self.info = self.warning = self.error = sink.write


def _flatten(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """One flat object, what every event has first, every value fit for a terminal."""
    when = datetime.fromtimestamp(event["time"], UTC).isoformat(timespec="microseconds")
    head = {"timestamp": when.replace("+00:00", "Z"), "level": event["level"], "event": event["event"]}
    fields = {_printable_text(name): _printable(value) for name, value in event["fields"].items()}
    return head | fields | head


def _printable(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return _printable_text(value)
    if isinstance(value, Mapping):
        return {_printable_text(str(name)): _printable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    return value


def _printable_text(text: str) -> str:
    """Escape control, format and other unprintable characters (DEL and C1 too, which JSON lets pass), and shorten."""
    if len(text) > VALUE_MAX_CHARACTERS:
        text = f"{text[:VALUE_MAX_CHARACTERS]}... ({len(text)} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
