"""What became of a worker's requests: counted at once, logged at the end of the turn, when the answers are sent."""

from __future__ import annotations

from collections import Counter

from hapolicy.config.settings import Settings
from hapolicy.core.event import Event
from hapolicy.core.exchange import Exchange
from hapolicy.core.failover import Failover, Outcome
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.log.eventlog import EventLog
from hapolicy.proxy import reports

# What strangers write as protocol_state must not add names to the metrics.
STATES = frozenset([b"CONNECT", b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA", b"END-OF-MESSAGE", b"VRFY", b"ETRN"])


class Ledger:
    """Belongs to one worker."""

    def __init__(self, log: EventLog, settings: Settings) -> None:
        self._log = log
        self.log_requests = settings.log_requests
        self.answered_by_state: Counter[bytes] = Counter()  # requests by protocol state
        self.unanswered: Counter[tuple[Outcome, bytes]] = Counter()
        self._decided: list[Failover] = []
        self._told: list[Event] = []

    def decided(self, failover: Failover) -> None:
        """A request has its answer."""
        state = failover.request.state
        if state not in STATES:
            state = b"other"
        if failover.outcome is not Outcome.ANSWERED:
            self.unanswered[failover.outcome, state] += 1
            self._decided.append(failover)
            return
        self.answered_by_state[state] += 1
        if self.log_requests:
            self._decided.append(failover)

    def tell(self, event: Event) -> None:
        """Log `event` at the end of the turn."""
        self._told.append(event)

    def failed(self, exchange: Exchange, failure: ServiceFailure) -> None:
        """Log that `exchange`, a client's, came to nothing."""
        asker = exchange.asker
        if isinstance(asker, Failover) and failure.kind is not FailureKind.WITHDRAWN:
            self._told.append(reports.failure_event(exchange, asker.request, failure))

    def write(self, now: float) -> None:
        """Log what this turn brought."""
        if self._told:
            told, self._told = self._told, []
            for event in told:
                self._log.emit(event)
        if self._decided:
            decided, self._decided = self._decided, []
            for failover in decided:
                self._log.emit(reports.request_event(failover, now))
