"""All workers as one: hands them clients, orders and settings, and adds up what they say. Thread-safe."""

from __future__ import annotations

import itertools
import queue
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hapolicy.config.settings import Settings
from hapolicy.core.failover import Failover
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.protocol import Request, action_of
from hapolicy.core.status import PoolStatus
from hapolicy.log.eventlog import EventLog
from hapolicy.net.resolver import Resolver
from hapolicy.proxy import snapshot
from hapolicy.proxy.changes import Changes
from hapolicy.proxy.housekeeping import Housekeeping
from hapolicy.proxy.services import Services, UnknownService
from hapolicy.proxy.worker import Worker

__all__ = ["Answered", "Pool", "UnknownService"]

_CALL_MAX_S = 5.0
_QUERY_MARGIN_S = 5.0


@dataclass(frozen=True)
class Answered:
    """The outcome of a query: the action, the service that gave it (None: none did), and how long it took."""

    action: str
    service: str | None
    took_ms: float


class Pool:
    """The workers of one daemon."""

    def __init__(self, settings: Settings, log: EventLog, on_empty: Callable[[], None] = lambda: None) -> None:
        """`on_empty` is called on a worker's thread when its last client has gone, or the thread ends unasked."""
        self.settings = settings
        self._resolver = Resolver(log)
        self._changes = Changes(settings.requests.default_action)
        self.workers = [Worker(number, settings, log, on_empty) for number in range(settings.workers)]
        self._services = [Services(worker, self._resolver, self._changes, settings) for worker in self.workers]
        for services in self._services:
            services.worker.on_tick = Housekeeping(services).tick
        self._next_worker = itertools.cycle(self.workers)

    def start(self) -> None:
        """Begin to serve. Returns when each worker's loop turns."""
        for worker in self.workers:
            worker.start()
        self._each(lambda services: None)

    def stop(self) -> None:
        """End the workers, those too that were never started, and close all that is theirs; again does nothing."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.stop()
        for worker in workers:
            if worker.stopped.wait(_CALL_MAX_S):
                worker.close_loop()
        self._resolver.stop()

    # Clients

    @property
    def clients(self) -> int:
        """How many are connected."""
        return sum(len(worker.sessions) for worker in self.workers)

    def has_room(self) -> bool:
        """Whether one more client may be connected."""
        return self.clients < self.settings.max_clients

    def hand_over(self, sock: socket.socket, name: str) -> None:
        """Give a connected client to a worker."""
        sock.setblocking(False)
        next(self._next_worker).adopt(sock, name)

    def finish(self) -> None:
        """Read no new requests; clients end when what they have asked is answered."""
        for worker in self.workers:
            worker.post(worker.finish)

    # Settings and operators

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on: one posted call a worker.

        Raises TimeoutError when one is late; it carries the call out all the same.
        """
        self._changes.default_action = settings.requests.default_action
        self.settings = settings
        self._each(lambda services: services.reconfigure(settings))

    def drain(self, name: str) -> None:
        """Ask the service nothing new; what it was asked finishes. Raises `UnknownService`."""
        self._each(lambda services: services.drain(name))

    def ready(self, name: str) -> None:
        """End `drain`. Raises `UnknownService`."""
        self._each(lambda services: services.ready(name))

    def trip(self, name: str) -> None:
        """Count the service as down; probes find out when it is well. Raises `UnknownService`."""
        self._each(lambda services: services.trip(name))

    def reset(self, name: str) -> None:
        """Count the service as up, no failure counted. Raises `UnknownService`."""
        self._each(lambda services: services.reset(name))

    def query(self, request: Request, name: str | None = None) -> Answered:
        """Ask as a client would or, with `name`, that service alone, whatever its health.

        Raises `UnknownService` and TimeoutError; with `name` also `ServiceFailure`.
        """
        start = time.monotonic()
        answers: queue.SimpleQueue[tuple[bytes, str | None] | ServiceFailure] = queue.SimpleQueue()
        services = self._services[0]
        worker = services.worker
        if name is None:
            worker.call(lambda: worker.ask(request, _Operator(worker, answers)), _CALL_MAX_S)
            timeout_s = self.settings.requests.deadline_s
        else:
            done: Callable[[bytes | ServiceFailure], None] = partial(_deliver, answers, name)
            timeout_s = worker.call(lambda: services.query(name, request.raw, done), _CALL_MAX_S)
        try:
            answer = answers.get(timeout=timeout_s + _QUERY_MARGIN_S)
        except queue.Empty:
            raise TimeoutError("no answer") from None
        if isinstance(answer, ServiceFailure):
            raise answer
        return Answered(action_of(answer[0]), answer[1], round((time.monotonic() - start) * 1000, 3))

    # Status

    def status(self) -> PoolStatus:
        """Where everything stands. Raises TimeoutError when a worker does not answer."""
        snapshots = [worker.call(partial(snapshot.take, worker), _CALL_MAX_S) for worker in self.workers]
        requests: Counter[tuple[str, str]] = Counter()
        for each in snapshots:
            requests.update(each.requests)
        return PoolStatus(
            clients=sum(each.clients for each in snapshots),
            max_clients=self.settings.max_clients,
            workers=len(snapshots),
            longest_wait_s=round(max([each.longest_wait_s for each in snapshots], default=0.0), 3),
            longest_turn_s=max([each.longest_turn_s for each in snapshots], default=0.0),
            requests=[(outcome, state, count) for (outcome, state), count in sorted(requests.items())],
            services=snapshot.merged(snapshots),
            changes=self._changes.kept(),
        )

    def heartbeat_ages_s(self) -> dict[str, float]:
        """For each worker, the seconds since its loop last turned: at most one while all is well."""
        now = time.monotonic()
        return {f"worker-{worker.number}": now - worker.woke_at for worker in self.workers}

    def overdue_s(self) -> float:
        """By how much the most overdue client is past its own deadline; 0 normally. Raises TimeoutError."""
        snapshots = [worker.call(partial(snapshot.take, worker), _CALL_MAX_S) for worker in self.workers]
        return max([each.overdue_s for each in snapshots], default=0.0)

    def _each(self, call: Callable[[Services], None]) -> None:
        """Have each worker call it. Where one is late, or in mid-reload does not know the service, the others do."""
        failures: list[Exception] = []
        for services in self._services:
            try:
                services.worker.call(partial(call, services), _CALL_MAX_S)
            except (TimeoutError, UnknownService) as error:
                failures.append(error)
        if failures:
            raise failures[0]


class _Operator:
    """Asks as a client would."""

    def __init__(self, worker: Worker, answers: queue.SimpleQueue[tuple[bytes, str | None] | ServiceFailure]) -> None:
        self._worker = worker
        self._answers = answers

    def reply(self, failover: Failover) -> None:
        """The answer is there."""
        self._worker.decided(failover)
        winner = failover.winner
        self._answers.put((failover.answer or b"", winner.upstream.name if winner else None))


def _deliver(
    answers: queue.SimpleQueue[tuple[bytes, str | None] | ServiceFailure], name: str, answer: bytes | ServiceFailure
) -> None:
    answers.put(answer if isinstance(answer, ServiceFailure) else (answer, name))
