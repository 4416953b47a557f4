"""A policy service on a real socket that does with each connection what the test says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=%b\n\n"


class Peer:
    """The service's end of one connection; `number` counts the service's connections from 1."""

    def __init__(self, sock: socket.socket, number: int, service: Scripted) -> None:
        self.sock = sock
        self.number = number
        self.ending = service.ending
        self._service = service
        self._buffer = b""

    def request(self) -> bytes:
        """The next request; nothing when the other side has ended."""
        while b"\n\n" not in self._buffer:
            data = self.sock.recv(65_536)
            if not data:
                return b""
            self._buffer += data
        request, end, self._buffer = self._buffer.partition(b"\n\n")
        self._service.requests.append(request + end)
        return request + end

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def answer(self, action: str = "DUNNO") -> None:
        """Send an answer."""
        self.send(f"action={action}\n\n".encode())

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_end(self) -> None:
        """Read until the other side has ended."""
        while self.sock.recv(65_536):
            pass


Script = Callable[[Peer], None]


class Scripted:
    """Runs `script` for each connection, on a thread of its own; it is closed when the script returns."""

    def __init__(
        self, script: Script, where: str | tuple[str, int] = ("127.0.0.1", 0), receive_buffer: int | None = None
    ) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.ending = threading.Event()
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)  # inherited
        self._listener.bind(where)
        self._listener.listen(128)
        name = self._listener.getsockname()
        self.where: tuple[str, int] = name if isinstance(name, tuple) else (name, 0)
        self.address = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
        self._socks: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self.ending.is_set():
                sock, _ = self._listener.accept()
                self.connections += 1
                self._socks.append(sock)
                thread = threading.Thread(target=self._serve, args=(Peer(sock, self.connections, self),), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, peer: Peer) -> None:
        with contextlib.suppress(OSError), peer.sock:
            self._script(peer)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


def well(action: str = "DUNNO") -> Script:
    """Answers every request with `action`; {instance} in it becomes the request's."""

    def script(peer: Peer) -> None:
        while request := peer.request():
            instance = request.partition(b"\ninstance=")[2].partition(b"\n")[0].decode()
            peer.answer(action.replace("{instance}", instance))

    return script


def hang(peer: Peer) -> None:
    """Reads and never answers."""
    while peer.request():
        pass


def once(data: bytes) -> Script:
    """Answers each request with these bytes, and ends the connection."""

    def script(peer: Peer) -> None:
        if peer.request():
            peer.send(data)

    return script


def refusing() -> str:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


class Full:
    """A listener whose backlog is full: the kernel leaves a further connection without an answer."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.where: tuple[str, int] = self._listener.getsockname()
        self.address = f"127.0.0.1:{self.where[1]}"
        self._waiting: list[socket.socket] = []

    def __enter__(self) -> Full:
        for _ in range(16):
            sock = socket.socket()
            self._waiting.append(sock)
            sock.settimeout(0.1)
            try:
                sock.connect(self.where)
            except TimeoutError:
                return self
        raise AssertionError("the backlog does not fill up")

    def __exit__(self, *_: object) -> None:
        for sock in (*self._waiting, self._listener):
            sock.close()
