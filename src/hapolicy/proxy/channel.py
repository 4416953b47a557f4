"""How bytes come from a client and go back: a connected socket or, for ``--stdio``, a pair of descriptors."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import Protocol

from hapolicy.net.link import arm

# A request is about 1 kB. A client that waits holds a buffer of this size, and smtpd mostly waits; a larger request
# takes one more receive.
RECEIVE_BYTES = 2048


class Channel(Protocol):
    """What a session needs of its client's connection."""

    def receive(self, timeout_s: float) -> bytes:
        """What has come, at least a byte; nothing at the end. Raises OSError, after `timeout_s` too."""

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises OSError, also when the client does not take it."""

    def finish(self) -> None:
        """Let `receive` end once what has come is read. Called from another thread."""


class SocketChannel:
    """A client on a blocking socket, with the time limit in the kernel."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._armed_s: float | None = None
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A host that vanished says no goodbye.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def receive(self, timeout_s: float) -> bytes:
        if timeout_s != self._armed_s:
            arm(self._sock, timeout_s)
            self._armed_s = timeout_s
        return self._sock.recv(RECEIVE_BYTES)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def finish(self) -> None:
        with contextlib.suppress(OSError):  # it ended by itself
            self._sock.shutdown(socket.SHUT_RD)


class PipeChannel:
    """A client on two descriptors that are no socket: a shell's pipe, a file, a terminal."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self._read_from = read_from
        self._write_to = write_to
        self._finished = False

    def receive(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._read_from], [], [], timeout_s)
        if self._finished:
            return b""
        if not ready:
            raise TimeoutError
        return os.read(self._read_from, RECEIVE_BYTES)

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._write_to, data) :]

    def finish(self) -> None:
        self._finished = True
