"""Those connected: at most so many at once; who comes later waits in the backlog."""

from __future__ import annotations

import socket
import threading
import weakref

from hapolicy.core.events import Level
from hapolicy.log.events import EventLog
from hapolicy.proxy.session import Session

# How often, while all places are taken, one looks for those whose client's thread died without a word.
_RECLAIM_S = 1.0


class Arrival:
    """A client that was accepted; it has a place among `Clients` until its `end`, or until nobody holds it any more.

    The latter is for a thread that dies before its first line, of want of memory (tests/faults/test_limits.py).
    """

    def __init__(self, sock: socket.socket, clients: Clients) -> None:
        self.sock = sock
        self._clients = clients
        self._place = clients.seat(self)

    def end(self) -> None:
        """Part with the client."""
        self.sock.close()
        self._clients.give_back(self._place)


class Clients:
    """Those connected, at most so many at once; thread-safe."""

    def __init__(self, limit: int, log: EventLog) -> None:
        self._limit = limit
        self._log = log
        self._changed = threading.Condition()  # guards all fields below
        self._reserved = 0
        self._places: set[weakref.ref[Arrival]] = set()
        self._sessions: set[Session] = set()
        self._full_told = False
        self._stopping = False

    def __len__(self) -> int:
        with self._changed:
            self._reclaim()
            return self._reserved

    @property
    def limit(self) -> int:
        """How many there may be."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def longest_wait_s(self) -> float:
        """How long the client that waits longest for an answer has waited, in seconds; 0 when nobody waits."""
        with self._changed:
            sessions = list(self._sessions)
        return max([0.0, *(session.answering_s() for session in sessions)])

    def reserve(self) -> bool:
        """Wait for room for one more; False when no more are wanted. Each True is to be given back, see `Arrival`."""
        with self._changed:
            tell = self._reserved >= self._limit and not self._full_told
            self._full_told |= tell
        if tell:
            self._log.emit(Level.WARNING, "server.full", max_clients=self._limit)
        with self._changed:
            while not self._changed.wait_for(lambda: self._stopping or self._reserved < self._limit, _RECLAIM_S):
                self._reclaim()
            if not self._stopping:
                self._reserved += 1
            return not self._stopping

    def seat(self, arrival: Arrival) -> weakref.ref[Arrival]:
        """The place of `arrival`, for `give_back`: from here on it is given back when the arrival is gone, too."""
        place = weakref.ref(arrival)
        with self._changed:
            self._places.add(place)
        return place

    def give_back(self, place: weakref.ref[Arrival] | None = None) -> None:
        """One fewer: the client of `place`, or what was reserved for a client that did not come."""
        with self._changed:
            if place is not None:
                if place not in self._places:
                    return  # given back before
                self._places.discard(place)
            self._reserved -= 1
            if self._reserved <= self._limit * 0.9:
                self._full_told = False
            self._changed.notify()

    def _reclaim(self) -> None:
        """Give back the places of arrivals that are gone without a word."""
        lost = {place for place in self._places if place() is None}
        self._places -= lost
        self._reserved -= len(lost)

    def enter(self, session: Session) -> None:
        """`session` begins."""
        with self._changed:
            self._sessions.add(session)
            stopping = self._stopping
        if stopping:
            session.finish()

    def leave(self, session: Session) -> None:
        """`session` is over."""
        with self._changed:
            self._sessions.discard(session)

    def finish(self) -> None:
        """No more clients; those here end when what they asked is answered."""
        with self._changed:
            self._stopping = True
            sessions = list(self._sessions)
            self._changed.notify_all()
        for session in sessions:
            session.finish()
