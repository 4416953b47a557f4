"""A worker whose turns the test makes, by a clock of the test's: what happens, happens when the test says so."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from hapolicy.config.settings import Settings
from hapolicy.core.event import Event, Level
from hapolicy.core.service import parse_service
from hapolicy.core.status import ServiceStatus
from hapolicy.core.upstream import Upstream
from hapolicy.net import poll
from hapolicy.proxy import snapshot
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.worker import Worker
from tests.proxy.ends import Client, Service, is_readable
from tests.support.procs import PATIENCE_S

T = TypeVar("T")
STEP_S = 0.02  # time goes on in steps of this: less than a tick
TURNS_MAX = 5000


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time since nobody knows when."""
        return self.now

    def time(self) -> float:
        """The time of day."""
        return 1_800_000_000 + self.now


class Told:
    """A log that keeps events. A fault, which mail would survive, ends the test."""

    def __init__(self) -> None:
        self.level = Level.INFO
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def fault(self) -> None:
        """Raise what was caught."""
        raise

    def named(self, name: str) -> list[dict[str, Any]]:
        """The fields of the events of this name."""
        return [dict(event.fields) for event in self.events if event.name == name]

    @property
    def names(self) -> list[str]:
        """What there was, in its order."""
        return [event.name for event in self.events]


class _TimeIsOver(Exception):
    """The worker would wait longer than the test."""


class Turns:
    """Workers with real sockets, whose threads are never started: `start` makes them, `turn` is one turn of each.

    There is one unless `start` is told of more; `worker` is the first.
    """

    pool: Pool
    worker: Worker

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack) -> None:
        self.clock = Clock()
        for module in ("net.loop", "proxy.pool", "proxy.changes"):
            monkeypatch.setattr(f"hapolicy.{module}.time", self.clock)
        monkeypatch.setattr("hapolicy.proxy.services.random", SimpleNamespace(random=lambda: 0.5))  # cooldowns ± 0 %
        self.told = Told()
        self.emptied = 0  # how often the last client had gone
        self._stack = stack

    def start(self, *definitions: str, **settings: Any) -> None:
        """Make the workers, from -s definitions and `Settings`."""
        services = tuple(map(parse_service, definitions))
        self.pool = Pool(Settings(services=services, **settings), self.told, self._on_empty)  # type: ignore[arg-type]
        self._stack.callback(self.pool.stop)
        self.worker = self.pool.workers[0]

    def _on_empty(self) -> None:
        self.emptied += 1

    # Time

    def turn(self, times: int = 1) -> None:
        """The worker's next turn, which waits for nothing."""
        for _ in range(times):
            for worker in self.pool.workers:
                worker.post(lambda: None)
                worker.turn()

    def wait(self, seconds: float) -> None:
        """Time passes, and the worker does what it brings."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + STEP_S)
            self.turn()
        self.turn(2)

    def stand_still(self, seconds: float) -> None:
        """Time passes, and the whole process stands still meanwhile."""
        self.clock.now += seconds

    def live(self, seconds: float) -> int:
        """Time passes as in life: the worker waits as long as it will, or until something comes. Returns its turns.

        Without `seconds` it does what takes no time.
        """
        until = self.clock.now + seconds

        def wait(poller: select.epoll, timeout_s: float, peers: Mapping[int, poll.Peer]) -> list[poll.Event]:
            events = poll.turn(poller, 0.0, peers)
            if not events and self.clock.now + timeout_s > until:
                self.clock.now = until
                raise _TimeIsOver
            if not events:
                self.clock.now += timeout_s
            return events

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hapolicy.net.loop.turn", wait)
            for turns in range(TURNS_MAX):
                try:
                    self.worker.turn()
                except _TimeIsOver:
                    return turns
        raise AssertionError("it does not rest")

    def until(self, condition: Callable[[], T]) -> T:
        """Turn until `condition` is true, by a clock that stands still; returns what it returned."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < give_up_at, "it does not come about"
            self.turn()
        return found

    def until_readable(self, sock: socket.socket) -> None:
        """Turn until something has come."""
        self.until(lambda: is_readable(sock))

    # Operators

    def begin_order(self, order: Callable[[], T]) -> Future[T]:
        """Have `order` given on a thread of its own, as operators do: to the pool, which asks the workers."""
        given: Future[T] = Future()

        def give() -> None:
            try:
                given.set_result(order())
            except Exception as error:
                given.set_exception(error)

        threading.Thread(target=give, daemon=True).start()
        return given

    def order(self, order: Callable[[], T]) -> T:
        """What `order` returns, once the workers have carried it out."""
        given = self.begin_order(order)
        self.until(given.done)
        return given.result()

    def reload(self, *definitions: str, **settings: Any) -> None:
        """Go by other settings from now on."""
        services = tuple(map(parse_service, definitions))
        self.order(lambda: self.pool.adopt(replace(self.pool.settings, services=services, **settings)))

    # Clients

    def client(self, name: str = "client", send_buffer: int | None = None) -> Client:
        """A client that has just connected; with a small `send_buffer` not much is sent that it does not read."""
        ours, theirs = socket.socketpair()
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        client = Client(self, self._stack.enter_context(theirs))
        self.pool.hand_over(ours, name)
        return client

    # Services

    def service(self, *, tcp: bool = False) -> Service:
        """A service for `start`, on a unix socket: connecting to one succeeds or fails at once."""
        return Service(self, self._stack, tcp=tcp)

    def status(self, name: str = "A") -> ServiceStatus:
        """One service's figures."""
        snapshots = [snapshot.take(worker) for worker in self.pool.workers]
        return next(each for each in snapshot.merged(snapshots) if each.name == name)

    def upstream(self, name: str = "A") -> Upstream:
        """One service as core sees it."""
        return next(upstream for upstream in self.worker.plan.upstreams if upstream.name == name)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """A worker to be started."""
    with contextlib.ExitStack() as stack:
        yield Turns(monkeypatch, stack)
