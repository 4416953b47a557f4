"""What ``hapolicyctl`` asks the daemon over its control socket."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from hapolicy.admin.control.protocol import Code, Order, OrderError, line_of, result_of
from hapolicy.core.synthetic import request_attributes

# The daemon itself gives a reload 10 s.
_REPLY_MAX_S = 15.0

# Longer than any sensible --deadline; whoever tires of waiting has Ctrl-C.
_QUERY_MAX_S = 1000.0

_REPLY_MAX_BYTES = 16 * 1024 * 1024  # a status is 1 kB a service

_numbers = itertools.count(1)


class NoDaemon(Exception):
    """Nobody replies at the control socket."""


class NotAllowed(Exception):
    """The control socket is not for this user."""


def order(path: str, command: str, **arguments: Any) -> dict[str, Any]:
    """Have the daemon at the control socket `path` carry out a command; returns the result.

    Raises `NoDaemon`, `NotAllowed`, or `OrderError` when the daemon refuses.
    """
    timeout_s = _QUERY_MAX_S if command == "query" else _REPLY_MAX_S
    try:
        return result_of(_converse(path, line_of(Order(command, arguments)), timeout_s))
    except PermissionError:
        raise NotAllowed(f"unix:{path}: not allowed; try as root, or as a member of the socket's group") from None
    except OrderError as error:
        if error.code is Code.DENIED:
            raise NotAllowed(f"unix:{path}: {error}") from None
        raise
    except TimeoutError:
        raise NoDaemon(f"unix:{path}: no reply within {timeout_s:g} s") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        question = f"does hapolicy run, with --control unix:{path}? (hapolicy@NAME: hapolicyctl -i NAME)"
        raise NoDaemon(f"unix:{path}: {reason}; {question}") from None


def attributes_of(words: Sequence[str]) -> dict[str, str]:
    """A request's attributes: the usual ones, replaced and added to by "attr=value" words. Raises ValueError."""
    # Never the instance of a mail, nor of an earlier query: services keep state for each.
    usual = request_attributes("query", f"hapolicyctl.{os.getpid():x}.{time.time_ns():x}.{next(_numbers)}")
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"{word}: not attr=value; example: sender=from@example.com")
        usual[name] = value
    return usual


def _converse(path: str, line: bytes, timeout_s: float) -> bytes:
    """Send a line, return the first line that comes. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        sock.connect(path)
        with contextlib.suppress(ConnectionError):  # sent away, perhaps with a word why
            sock.sendall(line)
        return _first_line(sock)


def _first_line(sock: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        data = sock.recv(65_536)
        if not data or len(received) > _REPLY_MAX_BYTES:
            raise ConnectionResetError("the daemon ended the conversation without a reply")
        received += data
    return bytes(received)
