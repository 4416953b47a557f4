"""The running counterpart of one service: its links, its health, its counters."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from hapolicy.failure import FailureKind, ServiceFailure
from hapolicy.health import Gate
from hapolicy.link import Expiry, Link, StaleLink, connect
from hapolicy.logs import Event, EventLog, Level
from hapolicy.resolver import Resolver
from hapolicy.service import Service
from hapolicy.settings import HealthSettings

# mtpolicyd closes an idle link after 60 s; whoever closes first spares the other a surprise.
LINK_IDLE_MAX_S = 30.0


@dataclass
class Counters:
    """What a service was asked and what came of it. queries = answers + failures + in flight."""

    queries: int = 0
    answers: int = 0
    in_flight: int = 0
    failures: Counter[FailureKind] = field(default_factory=Counter)
    last_error: str = ""

    @property
    def failed(self) -> int:
        """Failures of every kind."""
        return sum(self.failures.values())


class Upstream:
    """One service in use; thread-safe."""

    def __init__(self, service: Service, health: HealthSettings, connect_timeout_s: float, log: EventLog) -> None:
        self.service = service
        self.gate = Gate(health)
        self._log = log
        self._connect_timeout_s = connect_timeout_s
        self._resolver = Resolver(service.address)
        # Kept links, the last used on the right: few of them stay warm. No more than there were requests at
        # once (--max-clients), and not for long. A deque's ends need no lock.
        self._links: deque[Link] = deque()
        self._lock = threading.Lock()  # guards _counters
        self._counters = Counters()

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def prio(self) -> int:
        """For the scheduler."""
        return self.service.prio

    @property
    def weight(self) -> Fraction:
        """For the scheduler."""
        return self.service.weight

    @property
    def available(self) -> bool:
        """Whether the scheduler may choose it now."""
        return self.gate.available

    def tell(self, events: Iterable[Event], **more: object) -> None:
        """Log events about this service, with what tells it from the others."""
        for event in events:
            self._log.emit(
                event.level, event.name, service=self.name, address=str(self.service.address), **event.fields, **more
            )

    def counters(self) -> Counters:
        """A consistent copy."""
        with self._lock:
            now = self._counters
            return Counters(now.queries, now.answers, now.in_flight, Counter(now.failures), now.last_error)

    def ask(self, request: bytes, deadline: float) -> bytes:
        """One live exchange: the answer to `request`, at the latest at `deadline` (monotonic clock).

        Raises `ServiceFailure`.
        """
        counters = self._counters
        with self._lock:
            counters.queries += 1
            counters.in_flight += 1
        try:
            answer = self._exchange(request, self._expiry(deadline))
        except BaseException as error:
            with self._lock:
                counters.in_flight -= 1
                counters.failures[error.kind if isinstance(error, ServiceFailure) else FailureKind.LOCAL] += 1
                counters.last_error = str(error)
            raise
        with self._lock:
            counters.in_flight -= 1
            counters.answers += 1
        return answer

    def probe(self, request: bytes | None) -> None:
        """Ask on a fresh link whether the service is well; None only connects. Not counted as a query.

        Raises `ServiceFailure`.
        """
        expiry = self._expiry(float("inf"))
        link = self._connect(expiry)
        if request is None:
            link.close()
        else:
            self._use(link, request, expiry)

    def drop_idle_links(self, idle_max_s: float = LINK_IDLE_MAX_S) -> None:
        """Close the links that were kept for longer than `idle_max_s`."""
        oldest_allowed = time.monotonic() - idle_max_s
        for _ in range(len(self._links)):
            try:
                link = self._links.popleft()
            except IndexError:
                return
            if link.idle_since > oldest_allowed:
                self._links.appendleft(link)
                return
            link.close()

    def _expiry(self, deadline: float) -> Expiry:
        now = time.monotonic()
        budget_s = min(self.service.timeout_s, deadline - now)
        return Expiry(now + budget_s, budget_s)

    def _exchange(self, request: bytes, expiry: Expiry) -> bytes:
        try:
            return self._use(self._links.pop(), request, expiry)
        except IndexError:
            pass  # no kept link
        except StaleLink:
            self.tell([Event(Level.DEBUG, "service.link_stale")])
        return self._use(self._connect(expiry), request, expiry)

    def _connect(self, expiry: Expiry) -> Link:
        now = time.monotonic()
        budget_s = min(self._connect_timeout_s, expiry.at - now)
        addresses = self._resolver.addresses(budget_s)
        return connect(addresses, Expiry(now + budget_s, budget_s))

    def _use(self, link: Link, request: bytes, expiry: Expiry) -> bytes:
        try:
            answer = link.exchange(request, expiry)
        except BaseException:
            link.close()
            raise
        if link.reusable:
            link.kept = True
            link.idle_since = time.monotonic()
            self._links.append(link)
        else:
            link.close()
        return answer
