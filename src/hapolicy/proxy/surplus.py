"""Which idle connections to a service are no longer needed."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice, takewhile
from typing import Protocol, TypeVar

IDLE_MAX_S = 30.0  # mtpolicyd closes an idle connection after 60 s; closing first spares a surprise
SCARCE_IDLE_MAX_S = 1.0  # of a service that serves few connections at once
CLAIM_MAX_S = 10.0  # a client that sends no more recipients for so long holds no worker of the service any longer
AGE_MAX_S = 3600.0
CLOSED_AT_ONCE = 64  # ten thousand in one turn would keep the clients waiting
BUSY_WINDOW_S = 5.0  # as many idle connections are kept as were busy at once within this time


class Idle(Protocol):
    """An idle connection."""

    idle_since: float
    opened_at: float


C = TypeVar("C", bound=Idle)


class Surplus:
    """Remembers how many connections were busy at once."""

    def __init__(self) -> None:
        self._busy_most = [0, 0]  # in this window and the one before
        self._window_ends = 0.0

    def look(self, free: Collection[C], claimed: Collection[C], busy: int, now: float, *, scarce: bool) -> list[C]:
        """Those that are to be closed now, of the idle ones, the longest idle first. Called several times a second.

        `scarce`: others may want the service's few workers, too.
        """
        if now >= self._window_ends:
            self._busy_most = [busy, self._busy_most[0]]
            self._window_ends = now + BUSY_WINDOW_S
        self._busy_most[0] = max(self._busy_most[0], busy)
        claim_max_s, idle_max_s = (SCARCE_IDLE_MAX_S,) * 2 if scarce else (CLAIM_MAX_S, IDLE_MAX_S)
        found = list(takewhile(lambda c: now - c.idle_since > claim_max_s, claimed))
        found += takewhile(lambda c: now - c.idle_since > idle_max_s or now - c.opened_at > AGE_MAX_S, free)
        too_many = len(free) - max(self._busy_most)
        if too_many > 0:
            idle_for_a_second = takewhile(lambda c: now - c.idle_since > 1.0, islice(free, too_many))
            found += (c for c in idle_for_a_second if c not in found)
        return found[:CLOSED_AT_ONCE]
