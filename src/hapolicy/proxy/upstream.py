"""The running counterpart of one service: its links, its health, its counters."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from hapolicy.core.breaker import Gate, Permit, State
from hapolicy.core.counters import Changes, Latencies
from hapolicy.core.events import Event, Level
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.rules import HealthRules
from hapolicy.core.service import Service
from hapolicy.log.events import EventLog
from hapolicy.net.link import Expiry, Link, OutOfTurn, StaleLink, connect
from hapolicy.net.resolver import Resolver

# mtpolicyd closes an idle link after 60 s; whoever closes first spares the other a surprise.
LINK_IDLE_MAX_S = 30.0

# A service that owes answers and has given none for this long is asked after its equals: its timeout, 30 s unless told,
# would keep every mail that comes until then as long. A service that is well answers somebody every few milliseconds.
STALLED_AFTER_S = 1.0


@dataclass
class Counters:
    """What a service was asked and what came of it. queries = answers + failed + in_flight."""

    queries: int = 0
    answers: int = 0
    failed: int = 0
    in_flight: int = 0
    quiet_since: float = 0.0  # while in_flight: when it last said something, was asked first, or was given credit
    failures: Counter[FailureKind] = field(default_factory=Counter)
    last_error: str = ""
    last_error_at: float | None = None  # monotonic clock
    probes_answered: int = 0
    probes_failed: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def note_error(self, error: BaseException) -> None:
        """Remember what went wrong, and when."""
        self.last_error, self.last_error_at = str(error), time.monotonic()


class Upstream:
    """One service in use; thread-safe."""

    def __init__(
        self,
        service: Service,
        health: HealthRules,
        connect_timeout_s: float,
        log: EventLog,
        changes: Changes,
    ) -> None:
        self.service = service  # replaced, never changed in place
        self.gate = Gate(health)
        self.draining = False
        self._connect_timeout_s = connect_timeout_s
        self._log = log
        self._changes = changes
        self._resolver = Resolver(service.address)
        # Kept links, the last used on the right: few of them stay warm. No more than there were requests at
        # once (--max-clients), and not for long. A deque's ends need no lock.
        self._links: deque[Link] = deque()
        self._keeps_links = True
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
        return not self.draining and self.gate.available

    @property
    def stalled(self) -> bool:
        """Whether it owes answers and has given none for `STALLED_AFTER_S`: it may be hung, or very slow."""
        counters = self._counters  # read without the lock: a moment's error costs an order, not an answer
        return counters.in_flight > 0 and time.monotonic() - counters.quiet_since > STALLED_AFTER_S

    @property
    def state(self) -> str:
        """up, down, probing or draining: an operator's word counts for more than its health, while that is good."""
        health = self.gate.state
        return "draining" if self.draining and health is State.UP else health.value

    def give_credit(self) -> None:
        """It is well, as a probe or an operator says: what it still owes no longer makes it `stalled`, for a while."""
        with self._lock:
            self._counters.quiet_since = time.monotonic()

    def redefine(self, service: Service, health: HealthRules, connect_timeout_s: float) -> None:
        """Go by another definition of the same name and address from now on; health, links and counters stay."""
        self.service = service
        self._connect_timeout_s = connect_timeout_s
        self.gate.configure(health)

    def retire(self) -> None:
        """No longer wanted: what is in flight ends well, no link is kept."""
        self._keeps_links = False
        self.drop_idle_links(idle_max_s=0)

    def tell(self, events: Iterable[Event], **more: object) -> None:
        """Log events about this service, with what tells it from the others."""
        for event in events:
            fields = {"service": self.name, "address": str(self.service.address), **event.fields, **more}
            self._log.emit_later(event.level, event.name, fields)
            self._changes.note(event.name, fields)

    def counters(self) -> Counters:
        """A consistent copy."""
        with self._lock:
            now = self._counters
            return replace(now, failures=now.failures.copy(), latencies=now.latencies.copy())

    def totals(self) -> tuple[int, int, int]:
        """Queries, answers and failed at one moment."""
        with self._lock:
            now = self._counters
            return now.queries, now.answers, now.failed

    def admit(self) -> Permit | None:
        """Leave to ask it once, or None."""
        return None if self.draining else self.gate.admit()

    def ask(self, request: bytes, deadline: float) -> bytes:
        """One live exchange: the answer to `request`, at the latest at `deadline` (monotonic clock).

        Raises `ServiceFailure`.
        """
        counters, expiry = self._counters, self._expiry(deadline)
        with self._lock:
            counters.queries += 1
            if not counters.in_flight:
                counters.quiet_since = expiry.start
            counters.in_flight += 1
        try:
            answer = self._exchange(request, expiry)
        except BaseException as error:
            with self._lock:
                counters.in_flight -= 1
                counters.failed += 1
                counters.failures[error.kind if isinstance(error, ServiceFailure) else FailureKind.LOCAL] += 1
                counters.note_error(error)
            raise
        now = time.monotonic()
        with self._lock:
            counters.in_flight -= 1
            counters.answers += 1
            counters.quiet_since = now
            counters.latencies.add(now - expiry.start)
        return answer

    def probe(self, request: bytes | None) -> None:
        """Ask on a fresh link whether the service is well; None only connects. Not counted as a query.

        Raises `ServiceFailure`.
        """
        try:
            self.try_out(request)
        except ServiceFailure as failure:
            with self._lock:
                self._counters.probes_failed += 1
                self._counters.note_error(failure)
            raise
        self.give_credit()
        with self._lock:
            self._counters.probes_answered += 1

    def try_out(self, request: bytes | None) -> bytes:
        """One exchange on a fresh link that counts for nothing; None only connects. Raises `ServiceFailure`."""
        expiry = self._expiry(float("inf"))
        link = self._connect(expiry)
        if request is not None:
            return self._use(link, request, expiry)
        link.close()
        return b""

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
        return Expiry(now, budget_s)

    def _exchange(self, request: bytes, expiry: Expiry) -> bytes:
        try:
            return self._use(self._links.pop(), request, expiry)
        except IndexError:
            pass  # no kept link
        except OutOfTurn:
            self._keep_no_links()
        except StaleLink:
            self.tell([Event(Level.DEBUG, "service.link_stale")])
        return self._use(self._connect(expiry), request, expiry)

    def _connect(self, expiry: Expiry) -> Link:
        now = time.monotonic()
        budget_s = min(self._connect_timeout_s, expiry.at - now)
        addresses = self._resolver.addresses(budget_s)
        return connect(addresses, Expiry(now, budget_s))

    def _use(self, link: Link, request: bytes, expiry: Expiry) -> bytes:
        try:
            answer = link.exchange(request, expiry)
        except BaseException:
            link.close()
            raise
        if link.out_of_turn:
            link.close()
            self._keep_no_links()
        else:
            link.kept = True
            link.idle_since = time.monotonic()
            self._links.append(link)
            if not self._keeps_links:
                self.drop_idle_links(idle_max_s=0)
        return answer

    def _keep_no_links(self) -> None:
        """The service speaks out of turn: only on a link that ends with its answer is that certain to be its answer."""
        if self._keeps_links:
            self._keeps_links = False
            self.tell([Event(Level.WARNING, "service.out_of_turn")])
        self.drop_idle_links(idle_max_s=0)
