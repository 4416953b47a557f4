"""What is checked before each WATCHDOG=1."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from hapolicy.daemon import systemd, watchdog
from hapolicy.daemon.watchdog import Watchdog
from hapolicy.log.eventlog import EventLog
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.server import PolicyServer
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    """One that serves."""
    return make_pool("A=127.0.0.1:9")


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Takes connections into its backlog."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_all_is_well(pool: Pool, listening: socket.socket, log: EventLog) -> None:
    """A connection is made, handed to a worker, and ended by it."""
    server = PolicyServer(listening, pool, log, ())
    server.start()
    Watchdog([listening], pool, log).check()
    server.shutdown()


def test_nobody_accepts(pool: Pool, listening: socket.socket, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that lies in the backlog is no proof of life; with --max-clients reached it is not asked for."""
    monkeypatch.setattr(watchdog, "_CONNECT_TIMEOUT_S", 0.2)
    checked = Watchdog([listening], pool, log)
    with pytest.raises(TimeoutError):
        checked.check()
    monkeypatch.setattr(pool, "has_room", lambda: False)
    checked.check()


def test_a_loop_that_stands_still(pool: Pool, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have turned within a second."""
    monkeypatch.setattr(pool, "heartbeat_ages_s", lambda: {"worker-0": 6.0})
    with pytest.raises(RuntimeError, match=r"the loop of worker-0 has not turned for 6\.0 s"):
        Watchdog([], pool, log).check()


def test_a_loop_that_stood_still_with_the_process(pool: Pool, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a moment to turn."""
    ages = iter([6.0, 0.0])
    monkeypatch.setattr(pool, "heartbeat_ages_s", lambda: {"worker-0": next(ages)})
    Watchdog([], pool, log).check()


def test_a_client_that_is_overdue(pool: Pool, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far beyond its deadline."""
    monkeypatch.setattr(pool, "overdue_s", lambda: 5.5)
    with pytest.raises(RuntimeError, match=r"5\.5 s beyond its deadline"):
        Watchdog([], pool, log).check()


def test_one_check_that_fails_costs_no_life(pool: Pool, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one does not wait for half of the time that is granted: that would be over by then."""
    granted_s = 4.0
    told: list[float] = []
    monkeypatch.setattr(watchdog, "_AGAIN_S", 0.1)
    monkeypatch.setattr(systemd, "notify", lambda *lines: told.append(time.monotonic()))
    watched = Watchdog([], pool, capture.log)
    checks = iter([None, OSError(24, "Too many open files"), None])
    monkeypatch.setattr(watched, "check", lambda: _raise_if(next(checks, None)))
    watched.start(granted_s)
    wait_until(lambda: len(told) == 2, "WATCHDOG=1 for the second time")
    watched.stop()
    assert told[1] - told[0] < granted_s
    assert ["[Errno 24] Too many open files"] == [event["error"] for event in capture.named("watchdog.failed")]


def test_the_end_is_no_failure(
    pool: Pool, listening: socket.socket, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that runs while the listeners are closed finds nobody, and that is right."""
    monkeypatch.setattr(systemd, "notify", lambda *lines: None)
    before = threading.enumerate()
    watched = Watchdog([listening], pool, capture.log)
    watched.start(4.0)
    taken, _ = listening.accept()
    watched.stop()
    listening.close()
    with taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    wait_until(lambda: not set(threading.enumerate()) - set(before), "the watchdog's end")
    assert [] == capture.named("watchdog.failed")


def _raise_if(error: Exception | None) -> None:
    if error:
        raise error
