"""The event log: what is dropped is counted and told, what repeats is summed up, and nothing ever waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hapolicy.core import events
from hapolicy.core.event import Level
from hapolicy.core.events import REGISTRY
from hapolicy.log import eventlog, queue
from hapolicy.log.eventlog import EventLog
from hapolicy.log.repeats import A_SECOND, Repeats
from hapolicy.log.sinks import DescriptorSink, NoSink
from tests.support.capture import Capture
from tests.support.procs import PATIENCE_S, SLACK_S, wait_until


class Moody:
    """A sink that takes lines or does not."""

    may_block = False

    def __init__(self) -> None:
        self.takes = True
        self.lines: list[str] = []

    def write(self, line: str, fields: Mapping[str, Any], level: Level) -> None:
        """Take it, or not."""
        if not self.takes:
            raise BlockingIOError
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing to open."""


def test_what_a_sink_does_not_take_is_counted_and_told() -> None:
    """Once lines are taken again; the count is exact."""
    sink = Moody()
    log = EventLog(sink)
    sink.takes = False
    for _ in range(5):
        log.emit(events.POOL_UP(down_s=1))
    assert 5 == log.dropped
    sink.takes = True
    log.emit(events.POOL_UP(down_s=2))
    assert ["pool.up", "log.dropped"] == [line.split('"event": "')[1].split('"')[0] for line in sink.lines]
    assert '"count": 5' in sink.lines[1]
    assert 5 == log.dropped


def test_two_threads_do_not_tell_the_same_loss() -> None:
    """Both find that there was one; who comes second has nothing left to tell."""

    class Taken:
        """A lock that the other thread takes first."""

        def __enter__(self) -> None:
            log._lock = threading.Lock()
            log._report_dropped()

        def __exit__(self, *_: object) -> None:
            pass

    sink = Moody()
    log = EventLog(sink)
    log._count_dropped()
    log._lock = Taken()  # type: ignore[assignment]
    log.emit(events.POOL_UP(down_s=1))
    assert ['"count": 1'] == [part for line in sink.lines for part in line.rstrip("}").split(", ") if "count" in part]


def test_what_was_dropped_is_told_at_the_end_once_there_is_room() -> None:
    """journald may be behind when we end. A sink that takes nothing at all is not waited for, nor one for ever."""
    sink = Moody()
    log = EventLog(sink)
    sink.takes = False
    log.emit(events.POOL_UP(down_s=1))
    threading.Timer(0.2, lambda: setattr(sink, "takes", True)).start()
    log.close(PATIENCE_S)
    assert ['"count": 1'] == [part for line in sink.lines for part in line.rstrip("}").split(", ") if "count" in part]

    for full, takes_s in ((NoSink(), 0.0), (Moody(), 0.3)):
        full.takes = False  # type: ignore[union-attr]
        log = EventLog(full)
        log.emit(events.POOL_UP(down_s=1))
        began = time.monotonic()
        log.close(0.3)
        assert takes_s <= time.monotonic() - began < takes_s + SLACK_S


def test_a_log_that_cannot_render_costs_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events and faults count as dropped, whatever goes wrong with them; they are told once it goes again."""
    sink = Moody()
    log = EventLog(sink)
    with monkeypatch.context() as broken:
        for error in (ImportError("structlog has gone"), MemoryError()):
            broken.setattr(eventlog, "load_renderer", _raising(error))
            log.emit(events.POOL_UP(down_s=1))
            log.fault(ValueError("a fault meanwhile"))
        broken.setattr(eventlog.traceback, "format_exception", _raising(MemoryError()))
        log.fault(ValueError("no memory for words"))
    assert (5, []) == (log.dropped, sink.lines)
    log.emit(events.POOL_UP(down_s=2))
    assert '"count": 5' in sink.lines[1]


def _raising(error: Exception) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise error

    return fail


def test_a_line_that_breaks_the_sink_is_one_line() -> None:
    """The thread that writes goes on with the next one."""
    written: list[str] = []

    def write(line: tuple[str, Level]) -> None:
        if line[0] == "bad":
            raise MemoryError
        written.append(line[0])

    lost: list[bool] = []
    lines = queue.LineQueue(write, lambda: lost.append(True))
    for line in ("bad", "good", "bad", "good"):
        lines.put((line, Level.INFO))
    lines.close(PATIENCE_S)
    assert (["good", "good"], [True, True]) == (written, lost)


def test_the_level_is_the_threshold(capture: Capture) -> None:
    """Below it nothing is logged."""
    capture.log.emit(events.SERVICE_ACQUITTED(service="A", address="h:1"))
    capture.log.level = Level.DEBUG
    capture.log.emit(events.SERVICE_ACQUITTED(service="B", address="h:1"))
    assert ["B"] == [event["service"] for event in capture.events]


def test_a_blocked_descriptor_costs_no_wait_and_bounded_memory() -> None:
    """Lines of 60 kB for a pipe that nobody reads: what does not fit is dropped, in bytes; then the reader gets on."""
    reading, writing = os.pipe()
    log = EventLog(DescriptorSink(writing))
    log.warm()
    began = time.monotonic()
    for _ in range(20_000):
        log.emit(events.REQUEST_DEFAULTED(failures={str(n): "x" * 500 for n in range(20)}))
    assert time.monotonic() - began < PATIENCE_S
    assert log._queue is not None
    assert log._queue._bytes <= queue.MAX_BYTES
    assert log.dropped > 10_000
    seen = bytearray()

    def read() -> None:
        while data := os.read(reading, 65_536):
            seen.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: b'"event": "log.dropped"' in seen, "what was dropped to be told")
    log.close(PATIENCE_S)
    os.close(writing)
    reader.join(PATIENCE_S)
    os.close(reading)


def test_repeated_events_of_one_peer_are_summed_up(capture: Capture) -> None:
    """A local user cannot rotate the journal away; another peer is still heard."""
    for port in range(1000):
        capture.log.emit(events.CLIENT_REJECTED(client=f"127.0.0.1:{port}", reason="no"))
    capture.log.emit(events.CLIENT_REJECTED(client="192.0.2.1:5", reason="no"))
    rejected = [event["client"] for event in capture.close() if event["event"] == "client.rejected"]
    assert A_SECOND + 1 == len(rejected)
    assert "192.0.2.1:5" == rejected[-1]
    (summed_up,) = capture.named("log.repeated")
    assert ("client.rejected", "127.0.0.1", 1000 - A_SECOND) == (summed_up["of"], summed_up["peer"], summed_up["count"])


def test_repeats_are_told_a_second_later() -> None:
    """With the next event of the same kind and peer; and the table of peers is bounded."""
    repeats = Repeats()
    event = events.CLIENT_REJECTED(client="unix", reason="no")
    logged = [told for n in range(30) for told in repeats.admit(event, 5.0 + n / 100)]
    assert [event] * A_SECOND == logged
    summed_up, again = repeats.admit(event, 6.5)
    assert (20, event) == (summed_up.fields["count"], again)
    for number in range(5000):
        repeats.admit(events.CLIENT_REJECTED(client=f"10.0.{number // 250}.{number % 250}:1", reason=""), 7.0)
    assert len(repeats._seconds) <= 1000


def test_a_field_that_is_not_registered_is_a_mistake() -> None:
    """The reference is made from the registry, so it must be whole."""
    with pytest.raises(TypeError, match="nonsense"):
        events.SERVICE_UP(service="A", nonsense=1)
    assert REGISTRY["service.up"] is events.SERVICE_UP


def test_two_threads_that_drop_at_once_are_both_counted() -> None:
    """The lock guards the counters."""
    log = EventLog(Moody())
    log._sink.takes = False  # type: ignore[attr-defined]
    log.warm()
    threads = [
        threading.Thread(target=lambda: [log.emit(events.POOL_UP(down_s=1)) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2000 == log.dropped
