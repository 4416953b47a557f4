"""One request to one service."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from hapolicy.core.breaker import Permit, Sent
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.upstream import Upstream


class Asker(Protocol):
    """What an exchange is for: a client's request, an operator's query."""

    @property
    def raw(self) -> bytes:
        """The request as it goes to the service."""

    @property
    def wanted(self) -> bool:
        """Whether an answer is still of use."""

    def answered(self, exchange: Exchange, answer: bytes, now: float) -> None:
        """`exchange` brought an answer."""

    def failed(self, exchange: Exchange, failure: ServiceFailure, now: float) -> Exchange | None:
        """`exchange` came to nothing; returns what is to be carried out next."""


class Exchange:
    """One request to one service, from the decision to ask until its answer or failure.

    It outlives its request: when that was answered by another service, the outcome still tells of this one.
    """

    __slots__ = ("asker", "began", "carrier", "fresh", "hedged", "kept", "over", "permit", "raw", "upstream")

    def __init__(self, asker: Asker, upstream: Upstream, permit: Permit, *, fresh: bool = False) -> None:
        self.asker = asker
        self.raw = asker.raw
        self.upstream = upstream
        self.permit = permit
        self.fresh = fresh  # to be made on a connection of its own, as `OwnExchange` always is
        self.carrier: object = None  # the connection, once there is one; none of core's business
        self.kept = False  # made on a connection that had been used before
        self.hedged = False  # another service was asked, too
        self.over = False
        self.began = -math.inf  # when it was sent, or its connection begun; -inf while it waits for one

    def begin(self, now: float) -> None:
        """It is on its way: its time runs."""
        self.began = now
        upstream = self.upstream
        upstream.queries += 1
        if now < upstream.owes_since:
            upstream.owes_since = now
        upstream.in_flight[self] = now + upstream.service.timeout_s

    def answered(self, answer: bytes, now: float) -> None:
        """The service gave a valid answer."""
        asker = self.end()
        self.upstream.answered(self, now)
        asker.answered(self, answer, now)

    def failed(self, failure: ServiceFailure, now: float) -> Exchange | None:
        """It came to nothing; returns what is to be carried out next."""
        asker = self.end()
        self.upstream.broke(self, failure, now)
        return asker.failed(self, failure, now)

    def end(self) -> Asker:
        """It is over; returns what it was for.

        That holds the exchange: a circle would be left to the garbage collector, which stops everybody for it.
        """
        self.over = True
        asker, self.asker = self.asker, _NOBODY
        return asker

    def withdraw(self, now: float) -> None:
        """It was never sent, and is not wanted any more."""
        self.over = True
        self.upstream.breaker.give_back(self.permit, now)


class OwnExchange(Exchange):
    """An exchange of hapolicy's own: a probe or an operator's query. It counts as neither query nor answer."""

    __slots__ = ()

    def begin(self, now: float) -> None:
        """It is on its way: its time runs."""
        self.began = now
        self.upstream.own[self] = now + self.upstream.service.timeout_s

    def answered(self, answer: bytes, now: float) -> None:
        """The service gave a valid answer."""
        asker = self.end()
        self.upstream.own.pop(self, None)
        asker.answered(self, answer, now)

    def failed(self, failure: ServiceFailure, now: float) -> Exchange | None:
        """It came to nothing."""
        asker = self.end()
        self.upstream.own.pop(self, None)
        return asker.failed(self, failure, now)


def exchanges(sent: Iterable[Sent]) -> list[Exchange]:
    """What a service was asked, with all that an exchange knows."""
    return [each for each in sent if isinstance(each, Exchange)]


def sent_late(upstreams: Iterable[Upstream], began: float, now: float) -> None:
    """What was begun at `began` was not sent before `now`, by no fault of the services: its time runs from then."""
    for upstream in upstreams:
        if upstream.owes_since == began:
            upstream.owes_since = now
        for deadlines in (upstream.in_flight, upstream.own):
            for exchange in deadlines:
                if exchange.began == began:
                    exchange.began = now
                    deadlines[exchange] = now + upstream.service.timeout_s


class _Nobody:
    """What an exchange that is over is for."""

    raw = b""
    wanted = False

    def answered(self, exchange: Exchange, answer: bytes, now: float) -> None:
        """Too late."""

    def failed(self, exchange: Exchange, failure: ServiceFailure, now: float) -> None:
        """Too late."""


_NOBODY = _Nobody()
