"""A worker whose turns the test makes, by a clock of the test's: what happens, happens when the test says so."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hapolicy.config.settings import Settings
from hapolicy.core.event import Event, Level
from hapolicy.core.service import parse_service
from hapolicy.core.status import ServiceStatus
from hapolicy.core.upstream import Upstream
from hapolicy.proxy import snapshot
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.worker import Worker
from tests.support.client import PolicyClient, request
from tests.support.procs import PATIENCE_S

T = TypeVar("T")
STEP_S = 0.02  # time goes on in steps of this: less than a tick


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

    def call(self, call: Callable[[], T]) -> Future[T]:
        """Call what blocks until the workers have turned, such as an operator's order, on a thread of its own."""
        future: Future[T] = Future()

        def carry_out() -> None:
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=carry_out, daemon=True).start()
        return future

    def result_of(self, call: Callable[[], T]) -> T:
        """What `call`, which blocks until the workers have turned, returns."""
        future = self.call(call)
        self.until(future.done)
        return future.result()

    # Clients

    def client(self, name: str = "client") -> Client:
        """A client that has just connected."""
        ours, theirs = socket.socketpair()
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


class Client(PolicyClient):
    """A client that turns the worker while it waits."""

    def __init__(self, turns: Turns, sock: socket.socket) -> None:
        super().__init__(sock)
        self._turns = turns

    def action(self) -> str:
        """The action of the next answer."""
        if b"\n\n" not in self._buffer:
            self._turns.until_readable(self.link)
        return super().action()

    def has_ended(self) -> bool:
        """Whether hapolicy has closed the connection, and sent nothing that was not read."""
        self._turns.until_readable(self.link)
        return not self.rest()

    def hears_nothing(self) -> bool:
        """Whether nothing comes, and no end."""
        self._turns.turn(5)
        return not is_readable(self.link) and not self._buffer

    def sends(self, **attributes: str) -> None:
        """Send a request, and let the worker read it."""
        self.send(request(**attributes))
        self._turns.turn()


class Service:
    """A policy service of which the test is every part: it accepts, reads and answers when the test says so."""

    def __init__(self, turns: Turns, stack: contextlib.ExitStack, *, tcp: bool) -> None:
        self._turns = turns
        self._stack = stack
        self.listener = stack.enter_context(socket.socket(socket.AF_INET if tcp else socket.AF_UNIX))
        if tcp:
            self.listener.bind(("127.0.0.1", 0))
            self.where = self.listener.getsockname()
            self.address = f"127.0.0.1:{self.where[1]}"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hapolicy-turns-"))
            self.where = str(Path(folder) / "s")
            self.address = f"unix:{self.where}"
            self.listener.bind(self.where)
        self.listener.listen(64)

    def accept(self) -> Link:
        """The next connection that hapolicy makes."""
        self._turns.until_readable(self.listener)
        return self.accept_at_once()

    def accept_at_once(self) -> Link:
        """A connection that hapolicy has begun, before its next turn."""
        sock, _ = self.listener.accept()
        return Link(self._turns, self._stack.enter_context(sock))

    def fill_up(self) -> None:
        """Fill the backlog with a connection of somebody else's: no other finds room, over TCP for good."""
        self.listener.listen(0)
        other = self._stack.enter_context(socket.socket(self.listener.family))
        other.setblocking(False)
        other.connect_ex(self.where)

    def make_room(self) -> None:
        """Accept what `fill_up` has put there, and no longer let the backlog be full."""
        self.listener.accept()[0].close()
        self.listener.listen(64)

    def is_left_alone(self) -> bool:
        """Whether nobody connects."""
        self._turns.turn(5)
        return not is_readable(self.listener)


class Link:
    """The service's end of a connection."""

    def __init__(self, turns: Turns, sock: socket.socket) -> None:
        self.sock = sock
        self._turns = turns
        self._buffer = b""

    def request(self) -> bytes:
        """The next request that comes."""
        while b"\n\n" not in self._buffer:
            self._turns.until_readable(self.sock)
            data = self.sock.recv(65_536)
            assert data, f"hapolicy ended the connection after {self._buffer!r}"
            self._buffer += data
        request, end, self._buffer = self._buffer.partition(b"\n\n")
        return request + end

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def answer(self, action: str = "DUNNO") -> None:
        """Send an answer, and let the worker read it."""
        self.send(f"action={action}\n\n".encode())
        self._turns.turn(2)

    def serve(self, action: str = "DUNNO") -> bytes:
        """Answer the next request that comes; returns it."""
        request = self.request()
        self.answer(action)
        return request

    def end(self) -> None:
        """Close the connection."""
        self.sock.close()
        self._turns.turn(2)

    def reset(self) -> None:
        """Close a TCP connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def has_ended(self) -> bool:
        """Whether hapolicy has closed the connection."""
        self._turns.turn(3)
        return is_readable(self.sock) and not self.sock.recv(1)

    def hears_nothing(self) -> bool:
        """Whether nothing comes, and no end."""
        self._turns.turn(5)
        return not is_readable(self.sock) and not self._buffer


def is_readable(sock: socket.socket) -> bool:
    """Whether something has come, or the end."""
    return bool(select.select([sock], [], [], 0)[0])


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """A worker to be started."""
    with contextlib.ExitStack() as stack:
        yield Turns(monkeypatch, stack)
