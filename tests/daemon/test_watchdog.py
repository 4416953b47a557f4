"""What is checked before each WATCHDOG=1."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hapolicy.daemon import watchdog
from hapolicy.daemon.watchdog import Watchdog
from hapolicy.log.eventlog import EventLog
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.server import PolicyServer
from tests.support.fixtures import MakePool


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


def test_a_client_that_is_overdue(pool: Pool, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far beyond its deadline."""
    monkeypatch.setattr(pool, "overdue_s", lambda: 5.5)
    with pytest.raises(RuntimeError, match=r"5\.5 s beyond its deadline"):
        Watchdog([], pool, log).check()
