"""One question to one policy service, past any daemon: ``query --to`` and ``--check --connect``."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from hapolicy.core.address import Address, TcpAddress
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.protocol import AnswerReader, MalformedAnswer, action_of
from hapolicy.net.connect import kind_of

TIMEOUT_S = 30.0  # a service's own default


def ask_service(address: Address, request: bytes, timeout_s: float = TIMEOUT_S) -> tuple[str, float]:
    """The action with which the service answers `request`, and after how many milliseconds. Raises `ServiceFailure`."""
    start = time.monotonic()
    with _failures(timeout_s), _connected(address, timeout_s) as sock:
        sock.sendall(request)
        action = action_of(_answer(sock, start + timeout_s))
    return action, (time.monotonic() - start) * 1000


def reach_service(address: Address, timeout_s: float) -> float:
    """Connect to it, no more: how many milliseconds that took. Raises `ServiceFailure`."""
    start = time.monotonic()
    with _failures(timeout_s), _connected(address, timeout_s):
        return (time.monotonic() - start) * 1000


@contextlib.contextmanager
def _failures(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise ServiceFailure(FailureKind.ANSWER_TIMEOUT, f"no answer within {timeout_s:g} s") from None
    except socket.gaierror as error:
        raise ServiceFailure(FailureKind.UNRESOLVABLE, error.strerror or str(error)) from None
    except OSError as error:
        raise ServiceFailure(kind_of(error), error.strerror or str(error)) from None


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if isinstance(address, TcpAddress):
        return socket.create_connection((address.host, address.port), timeout_s)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout_s)
    try:
        sock.connect(address.path)
    except BaseException:
        sock.close()
        raise
    return sock


def _answer(sock: socket.socket, deadline: float) -> bytes:
    """The whole answer. Raises OSError and `ServiceFailure`."""
    reader = AnswerReader()
    while True:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        data = sock.recv(4096)
        if not data:
            raise ServiceFailure(FailureKind.CLOSED, "closed before a whole answer")
        try:
            answer = reader.feed(data)
        except MalformedAnswer as error:
            raise ServiceFailure(FailureKind.MALFORMED, str(error)) from None
        if answer is not None:
            return answer
