"""One request's decisions: whom to ask, when to stop waiting, what to answer. No I/O, no clock.

It is told what happened and when, and returns the exchange to be carried out next, if any. Once `answer` is set it is
final; exchanges that are still under way go on without it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from hapolicy.core.exchange import Exchange
from hapolicy.core.failures import BREAKS, DEPENDS_ON_MAIL, FailureKind, ServiceFailure
from hapolicy.core.plan import Plan
from hapolicy.core.protocol import Request
from hapolicy.core.upstream import Upstream

# In the place of a failure's kind, for a service that was not asked or whose answer did not come in time.
DOWN, DRAINING, NO_TIME, PENDING = "down", "draining", "no_time", "pending"

# Two services that break on one request, or one that does so twice, make it a poison request.
_POISON_BREAKS = 2


class Outcome(enum.Enum):
    """What became of a request."""

    ANSWERED = "answered"  # by a service
    DEFAULTED = "defaulted"  # no service answered: --default
    SUSPECT = "suspect"  # service after service broke on it: --suspect


class Client(Protocol):
    """Who asked, and waits."""

    def reply(self, failover: Failover) -> None:
        """`failover.answer` is decided. Called once."""


class Failover:
    """Finds the answer to one request."""

    answer: bytes | None = None
    outcome = Outcome.ANSWERED
    winner: Exchange | None = None
    hedged = False
    failures: Mapping[str, str] = MappingProxyType({})
    _pending: Exchange | None = None  # the one asked last; the first of a hedged pair is in `_tried` only
    _tried: tuple[Exchange, ...] = ()
    _breaks = 0
    _blamed: tuple[tuple[Exchange, FailureKind], ...] = ()

    def __init__(self, request: Request, plan: Plan, now: float, client: Client) -> None:
        self.request = request
        self.raw = request.raw
        self.asked_at = now
        self.deadline = now + plan.deadline_s
        self.client = client
        self._plan = plan

    @property
    def wanted(self) -> bool:
        """Whether the client still waits."""
        return self.answer is None

    @property
    def attempts(self) -> int:
        """How many exchanges were begun for it."""
        return len(self._tried)

    # What happened

    def begin(self, favourite: Upstream | None, now: float) -> Exchange | None:
        """The first exchange. `favourite` has answered this mail's requests so far."""
        if favourite is None or favourite.silent or not favourite.available:
            favourite = self._plan.first(self.request)
        if favourite is not None and (permit := favourite.admit(now)) is not None:
            exchange = self._pending = Exchange(self, favourite, permit)
            self._tried = (exchange,)
            return exchange
        return self._next(now) or self._gave_up(now)

    def answered(self, exchange: Exchange, answer: bytes, now: float) -> None:
        """`exchange` brought an answer; the first one counts."""
        if self.answer is not None:
            return
        self.winner = exchange
        self.answer = answer
        if self.hedged:
            self._count_hedge(exchange)
        if self._blamed:
            self._blame(now)
        self.client.reply(self)

    def failed(self, exchange: Exchange, failure: ServiceFailure, now: float) -> Exchange | None:
        """`exchange` came to nothing. Returns the next one, or None: wait, or `answer` is set."""
        kind, name = failure.kind, exchange.upstream.name
        if self.answer is not None:
            if kind in DEPENDS_ON_MAIL and self.outcome is not Outcome.SUSPECT:
                exchange.upstream.blame(exchange, kind, self._sender, now)
            return None
        self.failures = {**self.failures, name: kind.value}
        if kind in DEPENDS_ON_MAIL:
            self._blamed = (*self._blamed, (exchange, kind))
        if kind in BREAKS:
            self._breaks += 1
            if self._breaks == _POISON_BREAKS:
                self._poisoned(now)
                return None
        if self._awaits_another(exchange):
            return None
        return self._next(now) or self._again(exchange, kind, now) or self._gave_up(now)

    def hedge(self, exchange: Exchange, now: float) -> Exchange | None:
        """`exchange` keeps the client waiting: the exchange to be tried beside it, None when there is none."""
        if self.answer is not None or self.hedged or now >= self.deadline:
            return None
        second = self._second(exchange, now)
        if second is None:
            return None
        self.hedged = exchange.hedged = True
        exchange.upstream.hedges_sent += 1
        return self._go_on_with(second)

    def expired(self, now: float) -> None:
        """The deadline has come."""
        if self.answer is None:
            pending = {exchange.upstream.name: PENDING for exchange in self._tried}
            self.failures = pending | dict(self.failures)
            self._give_up(now)

    # Decisions

    def _ask(self, upstream: Upstream, now: float, *, fresh: bool = False) -> Exchange | None:
        permit = upstream.admit(now)
        return None if permit is None else Exchange(self, upstream, permit, fresh=fresh)

    def _go_on_with(self, exchange: Exchange) -> Exchange:
        self._pending = exchange
        self._tried = (*self._tried, exchange)
        return exchange

    def _awaits_another(self, exchange: Exchange) -> bool:
        """Whether the other one of a hedged pair is still under way."""
        if exchange is not self._pending:
            return self._pending is not None
        self._pending = None
        if self.hedged:
            self._pending = next((e for e in self._tried if e is not exchange and e in e.upstream.in_flight), None)
        return self._pending is not None

    def _next(self, now: float) -> Exchange | None:
        """The next service that has not been tried; as a last resort one that is down by a quick failure."""
        if now >= self.deadline:
            return None
        tried = [exchange.upstream for exchange in self._tried]
        while (upstream := self._plan.other(tried, self.request)) is not None:
            exchange = self._ask(upstream, now)
            if exchange is not None:
                return self._go_on_with(exchange)
            tried.append(upstream)
        for upstream in self._plan.upstreams:
            if upstream not in tried and (permit := upstream.admit_last_resort()) is not None:
                return self._go_on_with(Exchange(self, upstream, permit, fresh=True))
        return None

    def _again(self, exchange: Exchange, kind: FailureKind, now: float) -> Exchange | None:
        """Nobody else is left: the same service once more, on a fresh connection, where that may help.

        A service that broke shows by a second try whether the request is poison; a firewall may have forgotten the
        connection on which it did not answer.
        """
        worth_it = kind in BREAKS or (kind is FailureKind.ANSWER_TIMEOUT and exchange.kept)
        if not worth_it or exchange.fresh or len(self._tried) > len(self._plan.upstreams) or now >= self.deadline:
            return None
        again = self._ask(exchange.upstream, now, fresh=True)
        return None if again is None else self._go_on_with(again)

    def _second(self, exchange: Exchange, now: float) -> Exchange | None:
        tried = [each.upstream for each in self._tried]
        while (upstream := self._plan.other(tried, self.request)) is not None:
            tried.append(upstream)
            if upstream.hedge.enabled and not upstream.silent and (second := self._ask(upstream, now)) is not None:
                return second
        if exchange.kept and exchange.upstream.hedge.enabled:
            return self._ask(exchange.upstream, now, fresh=True)
        return None

    def _poisoned(self, now: float) -> None:
        broken = [exchange.upstream for exchange, kind in self._blamed if kind in BREAKS]
        for upstream in set(broken):
            upstream.suspects += 1
        self._blamed = ()  # the mail is to blame
        self._decide(self._plan.suspect_answer(broken[0]), Outcome.SUSPECT, now)

    def _gave_up(self, now: float) -> Exchange | None:
        self._give_up(now)
        return None

    def _give_up(self, now: float) -> None:
        not_asked = {upstream.name: _why_not_asked(upstream) for upstream in self._plan.upstreams}
        self.failures = {**not_asked, **self.failures}
        self._decide(self._plan.default_answer, Outcome.DEFAULTED, now)

    def _decide(self, answer: bytes, outcome: Outcome, now: float) -> None:
        self.answer, self.outcome = answer, outcome
        self._blame(now)
        self.client.reply(self)

    def _blame(self, now: float) -> None:
        for exchange, kind in self._blamed:
            exchange.upstream.blame(exchange, kind, self._sender, now)

    @property
    def _sender(self) -> str:
        """The host that sends the mail."""
        return self.request.text("client_address")

    def _count_hedge(self, winner: Exchange) -> None:
        for exchange in self._tried:
            if exchange.hedged:
                upstream = exchange.upstream
                if exchange is winner:
                    upstream.hedges_lost += 1
                else:
                    upstream.hedges_won += 1


def _why_not_asked(upstream: Upstream) -> str:
    if upstream.draining:
        return DRAINING
    return NO_TIME if upstream.available else DOWN
