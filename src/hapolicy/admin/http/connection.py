"""One HTTP connection: http.server reads the requests, within bounds of ours, and each gets one answer.

http.server bounds each receive and each line; that leaves a client that drips a byte a second, or a hundred lines of
64 KiB. Here all receives of a request share one deadline and one budget of bytes.
"""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from typing import Any

IDLE_S = 75.0  # longer than Prometheus' usual minute, so that a scrape finds its connection again
HEAD_S = 5.0  # from a request's first byte to its last, far more than any honest client needs
LINGER_S = 1.0
SEND_S = 5.0  # the answer fits into the kernel's buffers
HEAD_BYTES = 16_384  # a browser's cookies for other ports of this host come along: they are not told apart

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Of what is no page: no browser shall take it for one.
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"

REQUESTS_MAX = 100  # of one connection

_METHODS = ("GET", "HEAD")


@dataclass(frozen=True)
class Response:
    """What to answer. The Content-Security-Policy forbids everything unless `headers` has another."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """What is asked for: a path (without what follows a "?"), by which name of ours, in which media type."""

    path: str
    host: str
    accept: str


Respond = Callable[[Query], Response]


def plain(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """One line for a person or a probe."""
    return Response(f"{text}\n".encode(), status=status, headers=headers or {})


class _TooLargeError(Exception):
    """A request's head is beyond HEAD_BYTES."""


class _Receiver(io.RawIOBase):
    """What comes from the client, request by request. Raises TimeoutError and `_TooLargeError`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.next_request()

    def next_request(self) -> None:
        """Begin anew: its first byte may be long in coming."""
        self._deadline = 0.0
        self._left = HEAD_BYTES

    def readable(self) -> bool:
        """For BufferedReader."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What has come, at least a byte; 0 at the end."""
        if not self._left:
            raise _TooLargeError
        left_s = self._deadline - time.monotonic() if self._deadline else IDLE_S
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        count = self._sock.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        if not self._deadline:
            self._deadline = time.monotonic() + HEAD_S
        return count


class Connection(BaseHTTPRequestHandler):
    """Answers requests by `respond` until the client leaves, is too slow, or is not understood."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(
        self,
        request: socket.socket,
        client_address: Any,
        server: BaseServer,
        respond: Respond,
        pace: Callable[[], None],
    ) -> None:
        """`pace` is called before each answer, and waits until it may be given."""
        self._respond = respond
        self._pace = pace
        self._requests_left = REQUESTS_MAX
        super().__init__(request, client_address, server)

    def setup(self) -> None:
        """Put our bounds where http.server reads."""
        self.connection: socket.socket = self.request
        if self.connection.family != socket.AF_UNIX:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._receiver = _Receiver(self.connection)
        self.rfile = io.BufferedReader(self._receiver)
        self.wfile = io.BytesIO()

    def handle_one_request(self) -> None:
        """One request; its answer leaves in one piece, within one time limit."""
        self._receiver.next_request()
        self.wfile = answer = io.BytesIO()
        self.raw_requestline = b""
        try:
            super().handle_one_request()
        except _TooLargeError:
            self.request_version = "HTTP/1.1"
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self.connection.settimeout(SEND_S)
        self.connection.sendall(answer.getvalue())

    def parse_request(self) -> bool:
        """Whether this is a request to be answered; when not, it is refused and the connection ends."""
        if not super().parse_request():
            return False
        refusal = self._refusal()
        if refusal:
            self.request_version = "HTTP/1.1"
            self.send_error(refusal)
        return not refusal

    def _refusal(self) -> HTTPStatus | None:
        if self.command not in _METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        hosts = self.headers.get_all("Host", [])
        bad_host = len(hosts) > 1 or (not hosts and self.request_version == "HTTP/1.1")
        return HTTPStatus.BAD_REQUEST if bad_host or self.request_version == "HTTP/0.9" else None

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        self._send(self._respond(Query(path, self.headers.get("Host", ""), self.headers.get("Accept", ""))))

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def handle_expect_100(self) -> bool:
        """Nobody has anything to send here."""
        self.send_error(HTTPStatus.EXPECTATION_FAILED)
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse and end the connection. http.server's own words would repeat what the client has sent."""
        status = HTTPStatus(code)
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.1"
        self.close_connection = True
        allow = {"Allow": ", ".join(_METHODS)} if status is HTTPStatus.METHOD_NOT_ALLOWED else None
        self._send(plain(status, f"{status.value} {status.phrase}", allow))

    def _send(self, response: Response) -> None:
        self._pace()
        self._requests_left -= 1
        self.close_connection |= not self._requests_left
        self.send_response_only(response.status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in ({"Content-Security-Policy": _NO_PAGE} | _HEADERS | dict(response.headers)).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if getattr(self, "command", None) != "HEAD":
            self.wfile.write(response.body)

    def finish(self) -> None:
        """End. Closing on bytes that were not read would take the answer back (RST), so read on for a moment."""
        deadline = time.monotonic() + LINGER_S
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while (left_s := deadline - time.monotonic()) > 0:
                self.connection.settimeout(left_s)
                if not self.connection.recv(HEAD_BYTES):
                    return

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: whoever may read this may do so unheard."""
