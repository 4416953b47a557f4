"""The other ends of a worker's connections, clients and policy services: they do what the test says when it says so."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.client import ANSWER_END, PolicyClient, request

if TYPE_CHECKING:
    from tests.proxy.turns import Turns


class Client(PolicyClient):
    """A client that turns the worker while it waits."""

    def __init__(self, turns: Turns, sock: socket.socket) -> None:
        super().__init__(sock)
        self._turns = turns

    def action(self) -> str:
        """The action of the next answer."""
        while ANSWER_END not in self._buffer:
            self._turns.until_readable(self.link)
            data = self.link.recv(65_536)
            if not data:
                break
            self._buffer += data
        return super().action()

    def has_ended(self) -> bool:
        """Whether hapolicy has closed the connection, and sent nothing that was not read."""
        self._turns.until_readable(self.link)
        return not self.rest()

    def hears_nothing(self) -> bool:
        """Whether nothing comes, and no end."""
        self._turns.turn(5)
        return not is_readable(self.link) and not self._buffer

    def sends(self, **attributes: str) -> None:
        """Send a request, and let the worker read it."""
        self.send(request(**attributes))
        self._turns.turn()


class Service:
    """A policy service of which the test is every part: it accepts, reads and answers when the test says so."""

    def __init__(self, turns: Turns, stack: contextlib.ExitStack, *, tcp: bool) -> None:
        self._turns = turns
        self._stack = stack
        self._links: list[Link] = []
        self.listener = stack.enter_context(socket.socket(socket.AF_INET if tcp else socket.AF_UNIX))
        if tcp:
            self.listener.bind(("127.0.0.1", 0))
            self.where = self.listener.getsockname()
            self.address = f"127.0.0.1:{self.where[1]}"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hapolicy-turns-"))
            self.where = str(Path(folder) / "s")
            self.address = f"unix:{self.where}"
            self.listener.bind(self.where)
        self.listener.listen(64)

    def accept(self) -> Link:
        """The next connection that hapolicy makes."""
        self._turns.until_readable(self.listener)
        return self.accept_at_once()

    def accept_at_once(self) -> Link:
        """A connection that hapolicy has begun, before its next turn."""
        sock, _ = self.listener.accept()
        self._links.append(Link(self._turns, self._stack.enter_context(sock)))
        return self._links[-1]

    def fill_up(self) -> None:
        """Fill the backlog with a connection of somebody else's: no other finds room, over TCP for good."""
        self.listener.listen(0)
        other = self._stack.enter_context(socket.socket(self.listener.family))
        other.setblocking(False)
        other.connect_ex(self.where)

    def make_room(self) -> None:
        """Accept what `fill_up` has put there, and no longer let the backlog be full."""
        self.listener.accept()[0].close()
        self.listener.listen(64)

    def asked(self) -> Link:
        """The connection on which the next request comes, an accepted one or a new one."""
        return self._turns.until(self._asked)

    def _asked(self) -> Link | None:
        if is_readable(self.listener):
            self.accept()
        return next((link for link in self._links if link.has_more()), None)

    def is_left_alone(self) -> bool:
        """Whether nobody connects."""
        self._turns.turn(5)
        return not is_readable(self.listener)

    def hears_nothing(self) -> bool:
        """Whether nobody connects, and nothing comes on the accepted connections."""
        return self.is_left_alone() and not any(link.has_more() for link in self._links)


class Link:
    """The service's end of a connection."""

    def __init__(self, turns: Turns, sock: socket.socket) -> None:
        self.sock = sock
        self._turns = turns
        self._buffer = b""

    def request(self) -> bytes:
        """The next request that comes."""
        while b"\n\n" not in self._buffer:
            self._turns.until_readable(self.sock)
            data = self.sock.recv(65_536)
            assert data, f"hapolicy ended the connection after {self._buffer!r}"
            self._buffer += data
        request, end, self._buffer = self._buffer.partition(b"\n\n")
        return request + end

    def has_more(self) -> bool:
        """Whether something has come."""
        return self.sock.fileno() >= 0 and is_readable(self.sock) and bool(self.sock.recv(1, socket.MSG_PEEK))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def answer(self, action: str = "DUNNO") -> None:
        """Send an answer, and let the worker read it."""
        self.send(f"action={action}\n\n".encode())
        self._turns.turn(2)

    def serve(self, action: str = "DUNNO") -> bytes:
        """Answer the next request that comes; returns it."""
        request = self.request()
        self.answer(action)
        return request

    def end(self) -> None:
        """Close the connection."""
        self.sock.close()
        self._turns.turn(2)

    def reset(self) -> None:
        """Close a TCP connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def has_ended(self) -> bool:
        """Whether hapolicy has closed the connection."""
        self._turns.turn(3)
        return is_readable(self.sock) and not self.sock.recv(1)

    def hears_nothing(self) -> bool:
        """Whether nothing comes, and no end."""
        self._turns.turn(5)
        return not is_readable(self.sock) and not self._buffer


def is_readable(sock: socket.socket) -> bool:
    """Whether something has come, or the end."""
    return bool(select.select([sock], [], [], 0)[0])
