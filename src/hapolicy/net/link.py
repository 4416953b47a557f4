"""One connection to a service: connect, exchange one request for one answer, know when it is no use any more.

Sockets block, with the time limit in the kernel (SO_RCVTIMEO, SO_SNDTIMEO; socket(7)): a Python timeout would
cost a poll() before each call. Each wait is computed from one deadline, so an answer that comes a byte a
second is late as a whole.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import NoReturn

from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.protocol import AnswerReader, MalformedAnswer, OversizedAnswer

SocketAddress = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | str]

_RECEIVE_BYTES = 1024  # an answer is rarely over 200 bytes, a Received-SPF line is some 400

_SENT_AT_ONCE_BYTES = 16_384  # the least send buffer of a socket, tcp(7) tcp_wmem

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class StaleLink(Exception):
    """A kept link had ended before the service said anything: no failure, ask again on a fresh one."""


class OutOfTurn(StaleLink):
    """The service said something unasked on a kept link; taken for an answer it would be another request's."""


@dataclass(slots=True)
class Expiry:
    """When an exchange must be over: `budget_s` after its `start` on the monotonic clock. Never changed.

    Each request makes one, in 0.1 µs; a frozen one would take 0.4.
    """

    start: float
    budget_s: float

    @property
    def at(self) -> float:
        """When it must be over, on the monotonic clock."""
        return self.start + self.budget_s

    def left_s(self) -> float:
        """Seconds left; raises TimeoutError when none are."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def missed(self, what: str) -> str:
        """Says that `what` has not come in time, and how much time that was: the deadline may have left little."""
        return f"{what} within {round(max(0.0, self.budget_s), 3):.9g} s"


class Link:
    """A connection that is used by one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._armed_s: float | None = None
        self._pending = select.poll()
        self._pending.register(sock, select.POLLIN)
        self.kept = False
        self.out_of_turn = False
        self.idle_since = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def exchange(self, request: bytes, expiry: Expiry) -> bytes:
        """Send `request`, return the answer. Raises `ServiceFailure`, or `StaleLink` on a kept link.

        The link is to be closed after an exception, and after an answer that came with more (`out_of_turn`).
        """
        reader = AnswerReader()
        try:
            if self.kept and self._pending.poll(0):
                self._explain_pending()
            answer = self._exchange(request, reader, expiry)
        except MalformedAnswer as error:
            kind = FailureKind.OVERSIZED if isinstance(error, OversizedAnswer) else FailureKind.MALFORMED
            raise ServiceFailure(kind, str(error), kept=self.kept) from None
        except OSError as error:
            missed = expiry.missed("no answer" if reader.empty else "no whole answer")
            failure = _failure(error, FailureKind.ANSWER_TIMEOUT, missed, self.kept)
            if self.kept and reader.empty and failure.kind is FailureKind.CLOSED:
                raise StaleLink from None
            raise failure from None
        self.out_of_turn = reader.leftover
        return answer

    def _exchange(self, request: bytes, reader: AnswerReader, expiry: Expiry) -> bytes:
        sock = self._sock
        self._arm(expiry.budget_s if self.kept else expiry.left_s())
        sent = sock.send(request)
        while sent != len(request):
            self._arm(expiry.left_s())
            sent += sock.send(request[sent:])
        if sent > _SENT_AT_ONCE_BYTES:  # it may have waited for room
            self._arm(expiry.left_s())
        while True:
            data = sock.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed before a whole answer")
            answer = reader.feed(data)
            if answer is not None:
                return answer
            self._arm(expiry.left_s())

    def _explain_pending(self) -> NoReturn:
        if self._sock.recv(1, socket.MSG_DONTWAIT):
            raise OutOfTurn
        raise StaleLink

    def _arm(self, seconds: float) -> None:
        if seconds != self._armed_s:
            arm(self._sock, seconds)
            self._armed_s = seconds


def arm(sock: socket.socket, seconds: float) -> None:
    """Let each receive and send on the blocking `sock` wait at most `seconds`; it raises BlockingIOError then."""
    microseconds = max(1, int(seconds * 1_000_000))
    timeval = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def connect(addresses: tuple[SocketAddress, ...], expiry: Expiry) -> Link:
    """A fresh link to the first of `addresses` that takes one. Raises `ServiceFailure` as the last of them failed.

    Each address has its share of the time, so that one black hole does not hide the others.
    """
    failure = ServiceFailure(FailureKind.UNRESOLVABLE, "no address")
    for index, address in enumerate(addresses):
        try:
            return Link(_connected(address, expiry.left_s() / (len(addresses) - index)))
        except OSError as error:
            failure = _failure(error, FailureKind.CONNECT_TIMEOUT, expiry.missed("not connected"), kept=False)
    raise failure


def _connected(address: SocketAddress, timeout_s: float) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(where)
        sock.setblocking(True)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _failure(error: OSError, timeout: FailureKind, missed: str, kept: bool) -> ServiceFailure:
    """The one place where an OSError becomes a named failure; `missed` tells of a time limit of ours."""
    kind = _kind(error, timeout)
    ours = kind is timeout and error.errno != errno.ETIMEDOUT  # that is the kernel's own, and sooner
    return ServiceFailure(kind, missed if ours else error.strerror or str(error), kept=kept)


def _kind(error: OSError, timeout: FailureKind) -> FailureKind:
    if error.errno in _OURS:
        return FailureKind.LOCAL
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return timeout
    # A unix socket that is not there is a service that is not there.
    if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
        return FailureKind.REFUSED
    if isinstance(error, ConnectionError):
        return FailureKind.CLOSED
    return FailureKind.UNREACHABLE
