"""The addresses of one host name, looked up aside: getaddrinfo(3) knows no deadline, a request has one."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from hapolicy.core.address import Address, UnixAddress
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.net.link import SocketAddress

# getaddrinfo does not tell a record's TTL; a minute is what a moved service may cost in failover.
FRESH_S = 60.0


class Resolver:
    """Keeps the last known addresses; they serve on while a new look-up runs, and when it fails."""

    def __init__(self, address: Address, now: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._now = now
        self._changed = threading.Condition()  # guards all fields below
        self._known: tuple[SocketAddress, ...] = ()
        self._fresh_until = 0.0
        self._running = False
        self._error = ""
        if isinstance(address, UnixAddress):
            self._known, self._fresh_until = ((socket.AF_UNIX, address.path),), float("inf")
        elif address.is_literal:
            # A zone whose interface is not there yet is looked up like a name.
            with contextlib.suppress(OSError, UnicodeError):
                self._known, self._fresh_until = _look_up(address.host, address.port), float("inf")

    def addresses(self, timeout_s: float) -> tuple[SocketAddress, ...]:
        """The addresses to try in turn, waiting at most `timeout_s` where none is known yet.

        Raises `ServiceFailure` (unresolvable).
        """
        with self._changed:
            if self._now() < self._fresh_until:
                return self._known
            start, self._running = not self._running, True
        if start:
            self._start_refresh()
        with self._changed:
            if not self._known:
                self._changed.wait_for(lambda: not self._running, timeout_s)
            if self._known:
                return self._known
            raise ServiceFailure(FailureKind.UNRESOLVABLE, self._error or "no answer from the name service yet")

    def _start_refresh(self) -> None:
        try:
            threading.Thread(target=self._refresh, name="resolver", daemon=True).start()
        except RuntimeError as error:  # no more threads
            with self._changed:
                self._running = False
            raise ServiceFailure(FailureKind.LOCAL, str(error)) from None

    def _refresh(self) -> None:
        assert not isinstance(self._address, UnixAddress)
        error, known = "", ()  # type: tuple[str, tuple[SocketAddress, ...]]
        try:
            known = _look_up(self._address.host, self._address.port)
        except (OSError, UnicodeError) as failure:
            error = getattr(failure, "strerror", None) or str(failure)
        with self._changed:
            self._error, self._running = error, False
            self._known = known or self._known
            self._fresh_until = self._now() + FRESH_S if self._known else 0.0
            self._changed.notify_all()


def _look_up(host: str, port: int) -> tuple[SocketAddress, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple((family, where) for family, _, _, _, where in found)  # type: ignore[misc]
