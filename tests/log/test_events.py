"""Events out of the daemon: fit for a terminal, and never at the cost of an answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from hapolicy.core.events import Fields, Level
from hapolicy.log.events import QUEUE_MAX_EVENTS, VALUE_MAX_CHARACTERS, EventLog
from tests.support.capture import Capture
from tests.support.procs import PATIENCE_S, SLACK_S, wait_until


class BlockedSink:
    """A sink that takes lines only while it is open, and fails for as often as it is told."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.fail_times = 0
        self.events: list[Fields] = []

    def write(self, line: str, event: Fields) -> None:
        """Wait, fail or take the line."""
        self.entered.set()
        self.open.wait(30)
        if self.fail_times > 0:
            self.fail_times -= 1
            raise BrokenPipeError
        self.events.append(event)

    def counts(self) -> list[int]:
        """What was reported as dropped."""
        return [event["count"] for event in self.events[:] if event["event"] == "log.dropped"]

    def names(self) -> list[str]:
        """The other events."""
        return [event["event"] for event in self.events[:] if event["event"] != "log.dropped"]


@pytest.fixture
def blocked() -> Iterator[tuple[EventLog, BlockedSink]]:
    """A log whose sink is blocked from the start."""
    sink = BlockedSink()
    log = EventLog(lambda: sink)
    yield log, sink
    sink.open.set()
    log.close(PATIENCE_S)


def test_an_event_is_one_json_object(capture: Capture) -> None:
    """When, how bad, what, then its own fields, on one line."""
    before = datetime.now(UTC)
    capture.log.emit(Level.WARNING, "service.down", service="A", failures=3, cooldown_s=30.5, none=None, yes=True)
    event = capture.wait("service.down")
    assert event == json.loads(capture.lines[0])
    assert ["timestamp", "level", "event", "service", "failures", "cooldown_s", "none", "yes"] == list(event)
    assert ("warning", "A", 3, 30.5, None, True) == tuple(event.values())[1:2] + tuple(event.values())[3:]
    when = event["timestamp"]
    assert when.endswith("Z")
    assert len("2026-11-22T12:00:00.123456Z") == len(when)
    assert before <= datetime.fromisoformat(when) <= datetime.now(UTC)


def test_levels(capture: Capture) -> None:
    """Each level has its name; what is below the log's own level is not written."""
    capture.log.level = Level.DEBUG
    for level in Level:
        capture.log.emit(level, f"e.{level.name}")
    capture.log.level = Level.WARNING
    capture.log.emit(Level.INFO, "too.low")
    capture.log.emit(Level.WARNING, "high.enough")
    found = [(event["event"], event["level"]) for event in capture.close()]
    expected = [("e.DEBUG", "debug"), ("e.INFO", "info"), ("e.WARNING", "warning"), ("e.ERROR", "error")]
    assert [*expected, ("high.enough", "warning")] == found


def test_fields_may_come_later(capture: Capture) -> None:
    """A function for fields runs on the writer's thread, and not at all below the log's level."""
    threads: list[str] = []

    def fields() -> Fields:
        threads.append(threading.current_thread().name)
        return {"x": 1}

    capture.log.emit_later(Level.INFO, "late", fields)
    assert 1 == capture.wait("late")["x"]
    capture.log.level = Level.ERROR
    capture.log.emit_later(Level.INFO, "late", fields)
    capture.close()
    assert ["log"] == threads


HOSTILE = {
    "line breaks": ("a\nb\rc\u2028d\x85e\x0bf", "a\\nb\\rc\\u2028d\\x85e\\x0bf"),
    "terminal": ("\x1b[2J\x07\x9b1m\x7f", "\\x1b[2J\\x07\\x9b1m\\x7f"),
    "direction": ("\u202eevil\u2066", "\\u202eevil\\u2066"),
    "invisible": ("a\u200bb\ufeffc\u00add\U000e0041", "a\\u200bb\\ufeffc\\xadd\\U000e0041"),
    "lone surrogate": ("\ud800", "\\ud800"),
    "nul": ("a\0b", "a\\x00b"),
    "json": ('"}{"event":"forged"', '"}{"event":"forged"'),
    "umlaut": ("né", "né"),
    "bytes": (b"a\xff\xc3\xa9\n", "a\\xffé\\n"),
    "nested": ({"a\n": ["\x1b", ("\0",)]}, {"a\\n": ["\\x1b", ["\\x00"]]}),
}


@pytest.mark.parametrize(("value", "expected"), HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_hostile_gets_out(capture: Capture, value: object, expected: object) -> None:
    """Whatever a stranger wrote is one printable line, and the field is still there."""
    capture.log.emit(Level.INFO, "hostile", value=value)
    assert expected == capture.wait("hostile")["value"]
    (line,) = capture.lines
    assert line.isascii()
    assert line.isprintable()
    assert expected == json.loads(line)["value"]


@pytest.mark.parametrize("value", ["x" * 100_000, b"x" * 100_000, ["x" * 100_000], {"x" * 100_000: 1}])
def test_long_values_are_cut(capture: Capture, value: object) -> None:
    """To a length that says how much there was."""
    capture.log.emit(Level.INFO, "long", value=value)
    capture.wait("long")
    assert f"{'x' * VALUE_MAX_CHARACTERS}... (100000 characters)" in capture.lines[0]
    assert len(capture.lines[0]) < VALUE_MAX_CHARACTERS + 200


def test_a_value_of_just_the_longest_length_is_whole(capture: Capture) -> None:
    """Not a character earlier."""
    capture.log.emit(Level.INFO, "long", value="x" * VALUE_MAX_CHARACTERS)
    assert "x" * VALUE_MAX_CHARACTERS == capture.wait("long")["value"]


def test_field_names_of_strangers(capture: Capture) -> None:
    """A field cannot take the place of what every event has, nor bring a control character."""
    fields = {"level": "forged", "event": "forged", "timestamp": "forged", "\x7f\x1b[2J": "x"}
    capture.log.emit_later(Level.INFO, "real", fields)
    capture.log.emit(Level.INFO, "after")
    event, after = capture.close()
    assert "after" == after["event"]
    assert ("info", "real") == (event["level"], event["event"])
    assert "forged" != event["timestamp"]
    assert all(line.isascii() and line.isprintable() for line in capture.lines)


def test_a_blocked_sink_delays_nobody(blocked: tuple[EventLog, BlockedSink]) -> None:
    """However much there is to say, emit returns at once, and memory is bounded."""
    log, sink = blocked
    start = time.monotonic()
    for _ in range(QUEUE_MAX_EVENTS * 2):
        log.emit(Level.INFO, "e")
    assert time.monotonic() - start < 2
    assert sink.entered.wait(PATIENCE_S)
    assert [] == sink.events


def test_what_does_not_fit_is_counted_and_reported(blocked: tuple[EventLog, BlockedSink]) -> None:
    """Every event is either written or counted, and the count is told as soon as the sink takes lines again."""
    log, sink = blocked
    log.emit(Level.INFO, "first")
    assert sink.entered.wait(PATIENCE_S)
    for _ in range(QUEUE_MAX_EVENTS + 1000):
        log.emit(Level.INFO, "e")
    sink.open.set()
    wait_until(lambda: len(sink.names()) == QUEUE_MAX_EVENTS + 1, "the events that fitted")
    assert [1000] == sink.counts()
    assert "log.dropped" == sink.events[1]["event"]  # not only after all that was queued
    assert "warning" == sink.events[1]["level"]
    log.emit(Level.INFO, "last")
    wait_until(lambda: "last" in sink.names(), "a line after that")
    assert [1000] == sink.counts()


def test_a_sink_that_fails_is_counted(blocked: tuple[EventLog, BlockedSink]) -> None:
    """Lines lost to an OSError are reported with the next line that gets through."""
    log, sink = blocked
    sink.fail_times = 5
    sink.open.set()
    for number in range(7):
        log.emit(Level.INFO, str(number))
    wait_until(lambda: "6" in sink.names(), "the last line")
    assert ["5", "6"] == sink.names()
    assert [5] == sink.counts()


def test_a_report_that_is_lost_is_made_again() -> None:
    """The count goes on when the sink fails while it is told."""
    sink = BlockedSink()
    fails = iter([True, False, True, False, False, False])

    class Flaky:
        def write(self, line: str, event: Fields) -> None:
            if next(fails):
                raise BrokenPipeError
            sink.events.append(event)

    flaky = EventLog(Flaky)
    for number in range(3):
        flaky.emit(Level.INFO, str(number))
    flaky.close(PATIENCE_S)
    assert (["1", "2"], [1]) == (sink.names(), sink.counts())


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError])
def test_a_fault_of_ours_does_not_silence_the_log(capture: Capture, error: type[Exception]) -> None:
    """Fields that cannot be had cost their own event, not all later ones."""

    def fields() -> Fields:
        raise error("a fault of ours")

    capture.log.emit_later(Level.INFO, "faulty", fields)
    capture.log.emit(Level.INFO, "after")
    assert "after" in [event["event"] for event in capture.close()]


def test_what_json_does_not_know(capture: Capture) -> None:
    """A value of another type is shown somehow, printable, and the line is JSON all the same."""
    odd = {"set": {"\x1b"}, "level": Level.INFO, "exception": ValueError("\x7f")}
    capture.log.emit(Level.INFO, "odd", value=odd)
    capture.wait("odd")
    assert capture.lines[0].isprintable()
    assert odd.keys() == json.loads(capture.lines[0])["value"].keys()


def test_closing_writes_what_is_queued(capture: Capture) -> None:
    """Nothing said before the end is lost."""
    for number in range(1000):
        capture.log.emit(Level.INFO, "e", number=number)
    assert list(range(1000)) == [event["number"] for event in capture.close()]


def test_closing_is_bounded(blocked: tuple[EventLog, BlockedSink]) -> None:
    """A sink that is blocked does not hold the end up; closing and emitting again does no harm."""
    log, sink = blocked
    log.emit(Level.INFO, "e")
    assert sink.entered.wait(PATIENCE_S)
    for _ in range(2):
        start = time.monotonic()
        log.close(0.2)
        assert time.monotonic() - start < 0.2 + SLACK_S
    log.emit(Level.INFO, "after the end")


def test_opening_the_sink_delays_nobody() -> None:
    """The sink is opened by the writer: however long it takes, events wait for it."""
    opens, sink = threading.Event(), Capture()

    def open_sink() -> Capture:
        opens.wait(PATIENCE_S)
        return sink

    start = time.monotonic()
    log = EventLog(open_sink)
    log.emit(Level.INFO, "early")
    assert time.monotonic() - start < SLACK_S
    opens.set()
    assert "early" == sink.wait("early")["event"]
    log.close(PATIENCE_S)
    sink.close()
