"""An event loop: peers, what is to be sent to them, and calls from other threads. No policy."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from hapolicy.net.poll import EVENTS_A_TURN, READ, READ_WRITE, Event, Peer, send_all, turn

T = TypeVar("T")

# A wait or a turn that took so much longer than it should: the loop is no judge of time until it has caught up.
STOOD_STILL_S = 0.1

# When the process stood still while somebody waited for the loop, that has had no turn yet: it gets this time for one.
_AFTER_A_PAUSE_S = 1.0


def _waited_for(outcome: queue.SimpleQueue[T], timeout_s: float) -> T:
    for patience_s in (timeout_s, _AFTER_A_PAUSE_S):
        with contextlib.suppress(queue.Empty):
            return outcome.get(timeout=patience_s)
    raise TimeoutError("the event loop does not answer")


class LongestTurn:
    """The longest turn of a loop in the last half minute to minute."""

    def __init__(self) -> None:
        self.this_half_minute_s = self._last_half_minute_s = 0.0
        self._ends_at = 0.0

    @property
    def seconds(self) -> float:
        """How long one request may have delayed the others."""
        return max(self.this_half_minute_s, self._last_half_minute_s)

    def tick(self, now: float) -> None:
        """Called at least once a second."""
        if now >= self._ends_at:
            self._ends_at = now + 30
            self._last_half_minute_s, self.this_half_minute_s = self.this_half_minute_s, 0.0


class Loop:
    """Belongs to the thread that calls `wait`, but for `post`, `call` and `register`."""

    def __init__(self) -> None:
        self._poller = select.epoll()
        self._wake_up: int | None = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()  # guards _wake_up: once closed, its number may be another file's
        # Edge-triggered: each write is one event, and the counter need not be read.
        self._poller.register(self._wake_up, select.EPOLLIN | select.EPOLLET)
        self._posted: deque[Callable[[], None]] = deque()  # its ends are atomic
        self._doomed: list[Peer] = []
        self.peers: dict[int, Peer] = {}
        self.out: list[tuple[Peer, bytes]] = []  # what is sent at the end of the turn
        self.now = time.monotonic()
        self.woke_at = self.turn_ended_at = self.now
        # What had come by then was received. What is over is judged by this and not by `now`: the loop, or the whole
        # process, may have stood still between what was received and the look at the clock. What came meanwhile may
        # be more than a turn receives; then a mark, an event of our own, tells when it all was.
        self.received_until = self.now
        self._catches_up = False
        mark, self._mark_sender = socket.socketpair()
        mark.setblocking(False)
        self._mark = Peer(mark)
        self._marked_at: float | None = None
        self.register(self._mark)
        self.longest_turn = LongestTurn()

    # From any thread

    def post(self, call: Callable[[], None]) -> None:
        """Have the loop call this, soon."""
        self._posted.append(call)
        with self._lock, contextlib.suppress(BlockingIOError):  # it is full, and wakes anyway
            if self._wake_up is not None:
                os.eventfd_write(self._wake_up, 1)  # never waits

    def call(self, function: Callable[[], T], timeout_s: float) -> T:
        """What `function` returns, called by the loop. Raises what it raises, and TimeoutError."""
        outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def carry_out() -> None:
            try:
                outcome.put((function(), None))
            except Exception as error:  # noqa: BLE001 - the caller's
                outcome.put((None, error))

        self.post(carry_out)
        value, error = _waited_for(outcome, timeout_s)
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def register(self, peer: Peer, flags: int = READ) -> None:
        """Watch over `peer` from now on."""
        self.peers[peer.fd] = peer
        self._poller.register(peer.fd, flags)

    # From the loop's own thread

    def wait(self, timeout_s: float) -> list[Event]:
        """One wait: what has come. It does not wait while there are posted calls: see `make_posted_calls`."""
        timeout_s = 0.0 if self._posted else timeout_s
        events = self._note_received(turn(self._poller, timeout_s, self.peers))
        self.now = self.woke_at = time.monotonic()
        if self.now - self.turn_ended_at > timeout_s + STOOD_STILL_S:
            self._catches_up = True
        return events

    def end_turn(self) -> float:
        """The turn is over; what comes from now on is the next one's. Returns how long it took, in seconds."""
        self.turn_ended_at = time.monotonic()
        took_s = self.turn_ended_at - self.now
        if took_s > self.longest_turn.this_half_minute_s:
            self.longest_turn.this_half_minute_s = took_s
        if took_s > STOOD_STILL_S:
            self._catches_up = True
        return took_s

    def _note_received(self, events: list[Event]) -> list[Event]:
        """Without the mark. The kernel tells first what came first: what had come before the mark was received."""
        if self._marked_at is not None:
            others = [event for event in events if event[0] is not self._mark]
            if len(others) < len(events):
                self.received_until, self._marked_at, self._catches_up = self._marked_at, None, False
            return others
        full = len(events) >= EVENTS_A_TURN - 1  # a wake-up takes a place, too
        if full and self._catches_up:
            self._marked_at = self.turn_ended_at
            self._mark_sender.send(b"!")
        else:
            self.received_until = self.turn_ended_at
            self._catches_up = False
        return events

    def modify(self, peer: Peer, flags: int) -> None:
        """Watch for other events of `peer`."""
        self._poller.modify(peer.fd, flags)

    def flush(self, peer: Peer) -> None:
        """Send what the socket did not take before, or some more of it."""
        data, peer.unsent = peer.unsent, b""
        send_all([(peer, data)])

    def send_out(self) -> list[Peer]:
        """Send all that was queued in this turn; returns the peers that have not taken all: send them no more yet."""
        out, self.out = self.out, []
        short = [peer for peer in send_all(out) if peer.unsent]
        for peer in short:
            self.modify(peer, READ_WRITE)
        return short

    def close(self, peer: Peer) -> None:
        """Close `peer` at the end of the turn: not before the sends, and its number is not given out anew before."""
        self._doomed.append(peer)

    def close_doomed(self) -> None:
        """Close what the turn is done with."""
        doomed, self._doomed = self._doomed, []
        for peer in doomed:
            if self.peers.get(peer.fd) is peer:
                del self.peers[peer.fd]  # before the kernel can give the number to a newcomer
                peer.sock.close()

    def make_posted_calls(self) -> None:
        """Call what other threads have posted so far."""
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def close_loop(self) -> None:
        """Close everything."""
        for peer in list(self.peers.values()):
            peer.sock.close()
        self.peers.clear()
        self._poller.close()
        with self._lock:
            wake_up, self._wake_up = self._wake_up, None
        if wake_up is not None:
            os.close(wake_up)
        self._mark_sender.close()
