"""What the HTTP side decides without a network: whose name a Host header is, who may connect, what it needs."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from hapolicy.admin.http.connection import Query
from hapolicy.admin.http.routes import Site
from hapolicy.admin.http.server import WebServer
from hapolicy.config.settings import SettingsError
from hapolicy.log.eventlog import EventLog
from tests.support.capture import Capture
from tests.support.statuses import status_with


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def page_status(host: str) -> int:
    """The status that the page has for a Host header."""
    return int(Site(status_with, lambda _: (b"", "")).respond(Query("/", host, "")).status)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:10061", "192.0.2.1:80", "[::1]", "[2001:db8::1]:10061"),
        *("localhost", "LOCALHOST:1", "localhost.:1", "a.localhost", "mx1", "mx1:10061", ""),
        *(socket.gethostname(), f"{socket.getfqdn()}:10061"),
    ],
)
def test_the_page_is_given_to_who_names_this_host(host: str) -> None:
    """By an address, a name without a dot, or its own."""
    assert 200 == page_status(host)


@pytest.mark.parametrize(
    "host",
    [
        *("attacker.example", "attacker.example:10061", "localhost.attacker.example", "127.0.0.1.attacker.example"),
        *("127.0.0.1.", "1.2.3", "127.0.0.1@attacker.example", "attacker.example.", "a.b:c", "[::1].example"),
    ],
)
def test_the_page_is_not_given_to_a_strangers_name(host: str) -> None:
    """A name that anybody can register and point at our address opens no door."""
    assert (200 if host == "127.0.0.1." else 421) == page_status(host)


@pytest.mark.parametrize("path", ["/readyz", "/status.json", "/metrics"])
def test_a_daemon_that_does_not_answer_is_told(path: str) -> None:
    """To a load balancer, and to who looks what is wrong."""

    def stalled(*_: object) -> NoReturn:
        raise TimeoutError

    response = Site(stalled, stalled).respond(Query(path, "localhost", ""))
    assert (503, b"no event loop answers\n") == (response.status, response.body)


def peer_may_connect(listening: socket.socket, log: EventLog, peer: str, own: str = "192.0.2.1") -> bool:
    """Whether a peer may ask, of a server that allows two networks."""
    allow = (ipaddress.ip_network("192.0.2.8/30"), ipaddress.ip_network("2001:db8::/32"))
    server = WebServer(listening, status_with, log, allow)
    request: Any = SimpleNamespace(getsockname=lambda: (own, 1))
    return server.verify_request(request, (peer, 1))


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.1", "192.0.2.9", "::ffff:192.0.2.9", "2001:db8::7"]
)
def test_this_host_and_the_allowed_may_connect(listening: socket.socket, log: EventLog, peer: str) -> None:
    """Loopback, our own address, and the networks of --http-allow, also as mapped into IPv6."""
    assert peer_may_connect(listening, log, peer)


@pytest.mark.parametrize("peer", ["192.0.2.12", "::ffff:192.0.2.12", "198.51.100.1", "2001:db9::1", "fe80::1%lo"])
def test_others_may_not_and_that_is_logged(listening: socket.socket, capture: Capture, peer: str) -> None:
    """The event names the option that would let them in."""
    assert not peer_may_connect(listening, capture.log, peer)
    assert "not in --http-allow" == capture.wait("client.rejected")["reason"]


def test_without_prometheus_client_the_error_says_what_to_install(
    listening: socket.socket, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--http is refused as a configuration that cannot be carried out."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "hapolicy.admin.http.metrics", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'hapolicy\[http\]'"):
        WebServer(listening, status_with, log, ())
