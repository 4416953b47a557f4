"""Services with few workers: one connection a worker, and the others wait unanswered in the listen backlog.

mtpolicyd, postfwd2 and dovecot's quota-status are such. A connection that has never been answered on, while others have
since it was opened, waits in a backlog. Its request is taken over by the next connection that falls idle, and for a
minute the service is offered no more connections than it has proven to serve.
"""

from __future__ import annotations

from hapolicy.core.exchange import Exchange
from hapolicy.core.latencies import quantile
from hapolicy.core.upstream import Upstream

TAKE_OVER_AFTER_S = 0.1
TAKE_OVER_UNKNOWN_S = 1.0
TAKE_OVER_TIMES = 3.0
CAPPED_S = 60.0


class Crowding:
    """Notices that a service serves fewer connections than it is offered."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.cap: int | None = None
        self._capped_until = 0.0
        # How long the first answer on a connection takes: a service that starts a process for each needs its time.
        self._first_answer_s = TAKE_OVER_UNKNOWN_S / TAKE_OVER_TIMES
        self.noticed = False  # a cap that was not told yet

    def proved(self, took_s: float) -> None:
        """The service has answered on a connection for the first time."""
        self._first_answer_s = max(took_s, 0.9 * self._first_answer_s)

    def is_passed_over(self, exchange: Exchange, now: float) -> bool:
        """Whether an exchange on a connection of its own has waited too long, while the service answered others."""
        return self._upstream.heard_at > exchange.began and now - exchange.began >= self._take_over_after_s(now)

    def limit(self, proven: int, now: float) -> None:
        """Offer no more connections than the service has answered on."""
        self.noticed = self.cap is None
        self.cap = max(1, proven)
        self._capped_until = now + CAPPED_S

    def tick(self, now: float) -> None:
        """The cap ends after its time."""
        if self.cap is not None and now >= self._capped_until:
            self.cap = None

    def _take_over_after_s(self, now: float) -> float:
        median_s = quantile(self._upstream.latencies.minute(now), 0.5) or 0.0
        usual_s = max(TAKE_OVER_AFTER_S, TAKE_OVER_TIMES * median_s, TAKE_OVER_TIMES * self._first_answer_s)
        return min(usual_s, self._upstream.service.timeout_s / 2)  # before its time is over
