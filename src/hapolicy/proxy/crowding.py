"""Services with few workers: one connection a worker, and the others wait unanswered in the listen backlog.

mtpolicyd, postfwd2 and dovecot's quota-status are such. A connection that has never been answered on, while others have
since it was opened, waits in a backlog. Its request is taken over by the next connection that falls idle, and for a
minute the service is offered no more connections than it has proven to serve.
"""

from __future__ import annotations

import math

from hapolicy.core.exchange import Exchange
from hapolicy.core.latencies import quantile
from hapolicy.core.upstream import Upstream

TAKE_OVER_AFTER_S = 0.1
TAKE_OVER_UNKNOWN_S = 1.0
TAKE_OVER_TIMES = 3.0
CAPPED_S = 60.0
_FORGETS = 0.95  # a tick in which connections were answered on for the first time


class Crowding:
    """Notices that a service serves fewer connections than it is offered."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.cap: int | None = None
        self._capped_until = 0.0
        # How long the first answer on a connection takes: a service that starts a process for each needs its time.
        self._first_answer_s = TAKE_OVER_UNKNOWN_S / TAKE_OVER_TIMES
        self._has_proved = False
        # Since when it has given answers one after the other, and its latest one when this was last looked at.
        self._talking_since = self._heard_at = -math.inf
        self.noticed = False  # a cap that was not told yet

    def proved(self, took_s: float) -> None:
        """The service has answered on a connection for the first time."""
        self._first_answer_s = max(took_s, self._first_answer_s)
        self._has_proved = True

    def is_passed_over(self, exchange: Exchange, now: float) -> bool:
        """Whether an exchange on a connection of its own has waited too long, while the service answered others."""
        return self._upstream.heard_at > exchange.began and now - exchange.began >= self._patience_s(now)

    def passed_over(self, exchange: Exchange, proven: int, now: float) -> None:
        """Offer no more connections than the service has answered on, if it has gone on answering others meanwhile.

        What waited while the service, or hapolicy itself, stood still proves nothing.
        """
        patience_s = self._patience_s(now)
        stood_still = self._upstream.heard_at - self._heard_at > patience_s
        if stood_still or now - max(exchange.began, self._talking_since) < patience_s:
            return
        self.noticed = self.noticed or self.cap is None
        self.cap = max(1, proven)
        self._capped_until = now + CAPPED_S

    def tick(self, now: float) -> None:
        """The cap ends after its time; a pause of the service ends when it is heard again."""
        heard_at = self._upstream.heard_at
        if heard_at - self._heard_at > self._patience_s(now):
            self._talking_since = heard_at
        self._heard_at = heard_at
        if self._has_proved:
            self._has_proved = False
            self._first_answer_s *= _FORGETS
        if self.cap is not None and now >= self._capped_until:
            self.cap = None

    def _patience_s(self, now: float) -> float:
        median_s = quantile(self._upstream.latencies.minute(now), 0.5) or 0.0
        usual_s = max(TAKE_OVER_AFTER_S, TAKE_OVER_TIMES * median_s, TAKE_OVER_TIMES * self._first_answer_s)
        return min(usual_s, self._upstream.service.timeout_s / 2)  # before its time is over
