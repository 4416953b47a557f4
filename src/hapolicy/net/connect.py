"""Begins connections to services, and gives what goes wrong with a socket its name."""

from __future__ import annotations

import errno
import os
import socket

from hapolicy.core.failures import FailureKind

SocketAddress = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | str]

# A host that vanished acknowledges nothing any more: the kernel then gives up the connection after this time, long
# before a service's timeout. A service that merely hangs is acknowledged for by its kernel.
VANISHED_AFTER_S = 5
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 2}

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
_REFUSED = {errno.ECONNREFUSED, errno.ENOENT}  # a unix socket that is not there is a service that is not there
_CLOSED = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN}


def begin_connect(address: SocketAddress) -> tuple[socket.socket, bool]:
    """A socket that connects to `address`, and whether it is connected already.

    Raises BlockingIOError where the backlog of a unix socket is full (unix(7)): try again later. Raises OSError.
    """
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family != socket.AF_UNIX:
            set_tcp_options(sock)
        number = sock.connect_ex(where)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        if number == 0 and _leads_to_itself(sock):
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    return sock, number == 0


def set_tcp_options(sock: socket.socket) -> None:
    """Answers are small and awaited; a peer whose host vanished is to be noticed."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_S * 1000)
    for option, seconds in _KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, seconds)


def set_client_options(sock: socket.socket) -> None:
    """Answers are small and awaited; a host that vanished says no goodbye."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def pending_error(sock: socket.socket) -> OSError | None:
    """How the connecting ended (SO_ERROR), None for well.

    A port of the ephemeral range where nobody listens may be given to us, who connect to it: TCP then connects the
    socket with itself (RFC 9293, simultaneous open).
    """
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not number and _leads_to_itself(sock):
        number = errno.ECONNREFUSED
    return OSError(number, os.strerror(number)) if number else None


def _leads_to_itself(sock: socket.socket) -> bool:
    try:
        return sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername()
    except OSError:  # it has ended already: that is an event of its own
        return False


def kind_of(error: OSError) -> FailureKind:
    """The one place where an OSError becomes a named failure."""
    if error.errno in _OURS:
        return FailureKind.LOCAL
    if error.errno in _REFUSED:
        return FailureKind.REFUSED
    if error.errno in _CLOSED:
        return FailureKind.CLOSED
    return FailureKind.UNREACHABLE
