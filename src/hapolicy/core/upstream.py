"""The state of one service in use: who may ask it, what it owes, whether it is suspected. No I/O.

Mails do not convict, probes do. What a mail may have brought about (a connection closed in mid-answer, a malformed
answer, a timeout) only makes the service *suspected*: it is probed at once, and a probe that fails takes it down. Any
valid answer, to a mail or a probe, acquits it of every failure whose exchange began before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

from hapolicy.core.breaker import Breaker, Permit, Sent, State, StateChange
from hapolicy.core.deadlines import Deadlines
from hapolicy.core.failrate import FailRate
from hapolicy.core.failures import DEPENDS_ON_MAIL, NOBODYS, FailureKind, ServiceFailure
from hapolicy.core.latencies import Latencies
from hapolicy.core.rules import HealthRules, Hedge, Probe
from hapolicy.core.service import Service
from hapolicy.core.silence import SILENT_UNKNOWN_S
from hapolicy.core.slowstart import grown_share

# In a row, once too many answers failed: three are too easily passed by a service that hangs at every third request.
VERIFYING_PROBES = 6

PROBE_PAUSE_S = 1.0  # after a probe that came to nothing for a reason of our own


class Observer(Protocol):
    """Who is told what happens to a service. All of its methods return at once."""

    def service_changed(self, upstream: Upstream, change: StateChange) -> None:
        """It went down or came up, or a probe failed."""

    def silence_changed(self, upstream: Upstream) -> None:
        """It fell silent or is heard again."""

    def availability_changed(self, upstream: Upstream) -> None:
        """Without probes: it may be tried with a live request, or that one has been found."""


class Upstream:
    """One service in use, as one worker sees it."""

    def __init__(
        self, service: Service, health: HealthRules, hedge: Hedge, observer: Observer, rng: Callable[[], float]
    ) -> None:
        self.service = service  # replaced by a reload, never changed in place
        self._observer = observer
        self._configure(health, hedge)
        self.breaker = Breaker(health, rng)
        self.draining = False
        self.full = False  # max=N connections are all busy
        self.silent = False
        self.silent_after_s = SILENT_UNKNOWN_S  # learnt anew once a second
        self.in_flight: Deadlines[Sent] = Deadlines()
        self.own: Deadlines[Sent] = Deadlines()  # probes and operators' queries under way
        self.heard_at = -math.inf  # its latest valid answer
        self.owes_since = math.inf  # the first request since then
        self._doubted = False  # whether an answer changes anything but counters
        self._trial_due = False  # one live request may try it: there are no probes
        self._suspected = self.probing = False
        self.verifying = 0  # probes that it still has to answer
        self._checked_at = self._no_probe_before = self.up_since = -math.inf
        self._fail_rate = FailRate(health.fail_rate)
        self._grown = Fraction(1)  # the part of its weight that it has after it came up
        # queries = answers + failed + in_flight
        self.queries = self.answers = self.failed = self.suspects = 0
        self.failures: Counter[FailureKind] = Counter()
        self.hedges_sent = self.hedges_won = self.hedges_lost = self.probes_answered = self.probes_failed = 0
        self.latencies = Latencies()
        self.last_error = ""
        self.last_error_at: float | None = None

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def prio(self) -> int:
        """For the scheduler: its tier."""
        return self.service.prio

    @property
    def weight(self) -> Fraction:
        """For the scheduler: its share within the tier, smaller while it starts slowly."""
        return self.service.weight * self._grown

    @property
    def available(self) -> bool:
        """Whether it may be asked now, once it has room."""
        return (self.breaker.permit is not None or self._trial_due) and not self.draining

    @property
    def state(self) -> str:
        """up, down, probing or draining: an operator's word counts for more than its health, while that is good."""
        health = self.breaker.state
        return "draining" if self.draining and health is State.UP else health.value

    def grow(self, now: float) -> bool:
        """Take more of its share while it starts slowly (``slow-start=SECONDS``); returns whether that has changed."""
        grown = grown_share(now - self.up_since, self.service.slow_start_s)
        before, self._grown = self._grown, grown
        return before != grown

    def redefine(self, service: Service, health: HealthRules, hedge: Hedge) -> None:
        """Go by another definition from now on; health, connections and counters stay."""
        if service.timeout_s != self.service.timeout_s:
            self.in_flight.ordered = self.own.ordered = False
        self.service = service
        self._configure(health, hedge)
        self.breaker.configure(health)
        self._fail_rate.limit = health.fail_rate

    def _configure(self, health: HealthRules, hedge: Hedge) -> None:
        self.probe_kind = self.service.probe or health.probe
        self.hedge = self.service.hedge or hedge
        self._probe_every_s = health.probe_every_s

    def admit(self, now: float) -> Permit | None:
        """Leave to ask it; None when it is not to be asked."""
        permit = self.breaker.permit
        if permit is None and self._trial_due and not self.draining:
            permit = self.breaker.admit_trial(now)
            self._trial_due = False
            self._observer.availability_changed(self)
        return None if self.draining else permit

    def admit_last_resort(self) -> Permit | None:
        """As `admit`, though it is down, when that is known to cost no wait."""
        return None if self.draining else self.breaker.admit_last_resort()

    def answered(self, exchange: Sent, now: float) -> None:
        """It gave a valid answer, perhaps late."""
        self.in_flight.pop(exchange, None)
        self.answers += 1
        if exchange.hedged:
            self.latencies.add_to_total(now - exchange.began)
        else:
            self.latencies.add(now - exchange.began, now)
        self.heard_at = now
        self.owes_since = math.inf
        if self._doubted:
            self._clear_doubts(exchange.permit, now)

    def _clear_doubts(self, permit: Permit, now: float) -> None:
        """An answer came while there was some doubt."""
        self._suspected = False
        self._end_silence()
        if self._fail_rate.failures:
            self._fail_rate.succeeded()
        if not self.breaker.clean:
            self._changed(self.breaker.succeeded(permit, now), now)
        self._doubted = not self.breaker.clean or self._fail_rate.failures > 0

    def broke(self, exchange: Sent, failure: ServiceFailure, now: float) -> None:
        """`exchange` failed. Counted, and perhaps a reason to probe; `blame` may follow."""
        self._doubted = True
        self.in_flight.pop(exchange, None)
        kind = failure.kind
        if exchange.began == -math.inf:
            self.breaker.give_back(exchange.permit, now)
            return
        self.failed += 1
        self.failures[kind] += 1
        self.last_error, self.last_error_at = str(failure), now
        if not self.in_flight:
            self.owes_since = math.inf  # nothing is owed any more
        if kind in NOBODYS or exchange.began < self.heard_at:  # it has been heard since
            self.breaker.give_back(exchange.permit, now)
        elif kind not in DEPENDS_ON_MAIL or exchange.permit.trial:
            self._changed(self.breaker.failed(exchange.permit, kind, now), now)
        else:
            self.breaker.give_back(exchange.permit, now)
            self._suspected = True

    def blame(self, exchange: Sent, kind: FailureKind, client: str, now: float) -> None:
        """A failure that depends on the mail is held against the service after all: the mail was no poison.

        `client` is the sending host: one alone cannot drive the rate of failures.
        """
        if exchange.permit.trial:
            return  # counted at once
        self._doubted = True
        counts = self._fail_rate.failed(client)
        if self.probe_kind is not Probe.QUERY and exchange.began >= self.heard_at and counts:
            self._changed(self.breaker.failed(exchange.permit, kind, now), now)
        if self._fail_rate.exceeded:
            if self.probe_kind is Probe.QUERY:
                self.verifying = self.verifying or VERIFYING_PROBES
            else:
                self._changed(self.breaker.convict(kind, "fail_rate", now), now)

    def look(self, now: float) -> None:
        """Notice that it has fallen silent: it owes answers, and has given none to anybody for too long.

        With ``--probe off`` also that its cooldown is over.
        """
        if self.probe_kind is Probe.OFF and not self._trial_due and self.breaker.is_trial_due(now):
            self._trial_due = True
            self._observer.availability_changed(self)
        if self.silent and not self.in_flight and self.probe_kind is not Probe.QUERY:
            self._end_silence()  # no probe will: the next request finds out
        if not self.silent and self.silent_for_s(now) > self.silent_after_s:
            self.silent = self._doubted = True
            self._observer.silence_changed(self)

    def silent_for_s(self, now: float) -> float:
        """How long it has owed answers to what it was asked since its latest one: what is older may just be hard."""
        return now - self.owes_since if self.in_flight and self.owes_since < now else 0.0

    def probe_due(self, now: float) -> Permit | None:
        """Leave for a probe, when there is a reason for one and none is under way."""
        if self.probing or self.probe_kind is Probe.OFF or now < self._no_probe_before:
            return None
        permit = self.breaker.permit
        if permit is None:
            permit = self.breaker.admit_trial(now)
        elif not self._has_reason_to_probe(now):
            permit = None
        self.probing = permit is not None
        return permit

    def _has_reason_to_probe(self, now: float) -> bool:
        doubtful = self._suspected or self.silent or self.verifying > 0
        return (doubtful and self.probe_kind is Probe.QUERY) or self._is_idle_too_long(now)  # to connect proves little

    def _is_idle_too_long(self, now: float) -> bool:
        seen_at = max(self.heard_at, self.up_since, self._checked_at)
        return self._probe_every_s is not None and now - seen_at >= self._probe_every_s

    def probe_answered(self, permit: Permit, now: float) -> None:
        """A probe was answered: the service is well."""
        self.probing = False
        self.probes_answered += 1
        self._checked_at = now
        if permit.trial or self.probe_kind is Probe.QUERY:  # to take a connection is no proof that it answers
            self.heard_at = now
            self._suspected = False
            self._end_silence()
        if self.verifying:
            self.verifying -= 1
        if not self.breaker.clean:
            self._changed(self.breaker.succeeded(permit, now), now)

    def probe_broke(self, permit: Permit, began: float, failure: ServiceFailure, now: float) -> None:
        """A probe failed: the service is down, unless it has answered somebody since and does not fail too often."""
        self.probing = False
        kind = failure.kind
        self.probes_failed += 1
        self.last_error, self.last_error_at = str(failure), now
        if permit.trial:
            self._changed(self.breaker.failed(permit, kind, now), now)
        elif self.verifying or began >= self.heard_at:
            reason = "fail_rate" if self.verifying else kind.value
            self._changed(self.breaker.convict(kind, reason, now), now)

    def probe_withdrawn(self, permit: Permit, now: float) -> None:
        """A probe came to nothing for a reason of our own."""
        self.probing = False
        self._no_probe_before = now + PROBE_PAUSE_S
        self.breaker.give_back(permit, now)

    def trip(self, now: float) -> None:
        """Down from now on, for a cooldown."""
        self._changed(self.breaker.trip(now), now)

    def reset(self, now: float) -> None:
        """Up from now on, no failure counted."""
        self._suspected, self.verifying = False, 0
        self._fail_rate.forget()
        self._changed(self.breaker.reset(now), now)
        self._end_silence()

    def ready(self) -> None:
        """No longer drained."""
        self.draining = False
        self._end_silence()

    def _end_silence(self) -> None:
        self.owes_since = math.inf
        if self.silent:
            self.silent = False
            self._observer.silence_changed(self)

    def _changed(self, change: StateChange | None, now: float) -> None:
        if change is None:
            return
        self._suspected, self.verifying, self._trial_due = False, 0, False
        self._fail_rate.forget()
        self._doubted = change.state is not State.UP
        if change.state is State.UP:
            self.up_since = now
            self.grow(now)
            self._end_silence()
        self._observer.service_changed(self, change)
