"""What HTTP clients may cost: so many requests a second, and no place for those who are silent while others wait."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Pace:
    """Lets so many a second through, each in its turn; thread-safe."""

    def __init__(self, per_second: float) -> None:
        self._between_s = 1 / per_second
        self._lock = threading.Lock()  # guards _next_at
        self._next_at = 0.0

    def wait(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        with self._lock:
            at = self._next_at = max(now, self._next_at + self._between_s)
        if at > now:
            time.sleep(at - now)


class Heard:
    """When each connection was heard last; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _at
        self._at: dict[socket.socket, float] = {}

    def from_(self, sock: socket.socket) -> None:
        """It has said something."""
        with self._lock:
            self._at[sock] = time.monotonic()

    def forget(self, sock: socket.socket) -> None:
        """It has ended."""
        with self._lock:
            self._at.pop(sock, None)

    def end_the_idlest(self) -> None:
        """End the connection that was silent for longest; its thread notices."""
        with self._lock:
            idlest = min(self._at, key=self._at.__getitem__, default=None)
            if idlest is not None:
                self._at[idlest] = time.monotonic()  # the next one to give way is another
        if idlest is not None:
            with contextlib.suppress(OSError):
                idlest.shutdown(socket.SHUT_RDWR)
