"""What is found at which path."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from importlib import resources

from hapolicy.admin.http.connection import Query, Response, plain
from hapolicy.admin.status import Status
from hapolicy.core.text import counted

Render = Callable[[str], tuple[bytes, str]]

_PORT = re.compile(r":[0-9]*\Z")


class Site:
    """Status page, its data, metrics, health."""

    def __init__(self, snapshot: Callable[[], Status], render_metrics: Render) -> None:
        """`render_metrics` gives all metrics and their media type for an Accept header."""
        self._snapshot = snapshot
        self._render_metrics = render_metrics
        self._page = _page()
        self._status_of: Status | None = None  # what the next one was made from
        self._status_response = plain(HTTPStatus.OK, "")
        self._paths: dict[str, Callable[[Query], Response]] = {
            "/": self._status_page,
            "/status.json": self._status,
            "/metrics": self._metrics,
            "/healthz": lambda _: plain(HTTPStatus.OK, "ok"),
            "/readyz": self._ready,
        }

    def respond(self, query: Query) -> Response:
        """The answer to a query."""
        found = self._paths.get(query.path)
        if found is None:
            return plain(HTTPStatus.NOT_FOUND, f"there are: {' '.join(self._paths)}")
        try:
            return found(query)
        except TimeoutError:  # http.server would take it for the client's, and end the connection without a word
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "no event loop answers")

    def _status_page(self, query: Query) -> Response:
        return self._page if self._is_us(query.host) else _MISDIRECTED

    def _status(self, query: Query) -> Response:
        """For the page: the status, whose host this is, and what our clock shows."""
        if not self._is_us(query.host):
            return _MISDIRECTED
        snapshot = self._snapshot()
        if snapshot is not self._status_of:
            status = snapshot.as_dict() | {"host": socket.gethostname(), "now": time.time()}
            body = json.dumps(status, separators=(",", ":")).encode()
            self._status_of, self._status_response = snapshot, Response(body, "application/json")
        return self._status_response

    def _metrics(self, query: Query) -> Response:
        return Response(*self._render_metrics(query.accept))

    def _ready(self, _: Query) -> Response:
        """Whether a service may be asked; with none left, another host's hapolicy may do better."""
        services = self._snapshot().services
        up = sum(service.available for service in services)
        status = HTTPStatus.OK if up else HTTPStatus.SERVICE_UNAVAILABLE
        return plain(status, f"{up} of {counted(len(services), 'service')} up")

    def _is_us(self, host: str) -> bool:
        """Whether a Host header names us so that no stranger's web page can have sent its reader here.

        Such a page needs a name of its own that leads to our address (DNS rebinding). An address is no such name, nor
        is one without a dot, which nobody can register; HTTP/1.0 need not say any, and browsers do not speak it.
        """
        name = _PORT.sub("", host).lower().rstrip(".")
        if "." not in name or name.endswith(".localhost"):
            return True
        return _is_address(name) or name in self._our_names

    @cached_property
    def _our_names(self) -> frozenset[str]:
        """Looked up when first needed: this may ask a name server."""
        return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})


_MISDIRECTED = plain(
    HTTPStatus.MISDIRECTED_REQUEST,
    "this host does not know itself by that name; use its address, its host name, or localhost",
)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _page() -> Response:
    """The page; a browser runs and shows nothing but what was in it when it left here."""
    page = resources.files("hapolicy.admin.http").joinpath("page.html").read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hash_of(b'script', page)}; style-src {_hash_of(b'style', page)};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Response(page, "text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _hash_of(tag: bytes, page: bytes) -> str:
    inside = page.partition(b"<%b>" % tag)[2].partition(b"</%b>" % tag)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside).digest()).decode()}'"
