"""What strangers cannot do to the HTTP side of a running daemon, nor through it to the mail."""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import ExitStack

import pytest

from tests.support.client import PolicyClient, connect
from tests.support.procs import wait_until
from tests.support.sample import Sample
from tests.support.web import Reply, WebDaemon, read_reply

MAX_CONNECTIONS = 32
HEAD_S = 5.0


def exchange(address: str, data: bytes) -> Reply:
    """Send bytes, read one answer."""
    with connect(address) as link:
        link.sendall(data)
        return read_reply(link)


HOST = b"Host: localhost\r\n"
HOSTILE = {
    "path with dots": (b"GET /../../../etc/passwd HTTP/1.1\r\n" + HOST, 404),
    "path with escaped dots": (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST, 404),
    "path below a path": (b"GET /metrics/../status.json HTTP/1.1\r\n" + HOST, 404),
    "path with a NUL": (b"GET /\0 HTTP/1.1\r\n" + HOST, 404),
    "path in Latin-1": (b"GET /\xff\xfe HTTP/1.1\r\n" + HOST, 404),
    "path with markup": (b"GET /<script>alert(1)</script> HTTP/1.1\r\n" + HOST, 404),
    "another host's address": (b"GET http://attacker.example/ HTTP/1.1\r\n" + HOST, 404),
    "name of another": (b"GET / HTTP/1.1\r\nHost: attacker.example\r\n", 421),
    "name of another, for the data": (b"GET /status.json?x HTTP/1.1\r\nHost: attacker.example:80\r\n", 421),
    "no name": (b"GET / HTTP/1.1\r\n", 400),
    "two names": (b"GET / HTTP/1.1\r\n" + HOST + HOST, 400),
    "POST": (b"POST / HTTP/1.1\r\n" + HOST, 405),
    "DELETE": (b"DELETE /status.json HTTP/1.1\r\n" + HOST, 405),
    "no such method": (b"__CLASS__ / HTTP/1.1\r\n" + HOST, 405),
    "GET with a body": (b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n" + HOST, 413),
    "GET with a chunked body": (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST, 413),
    "a body announced": (b"GET /healthz HTTP/1.1\r\nExpect: 100-continue\r\n" + HOST, 417),
    "no request": (b"request=smtpd_access_policy\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n", 400),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\n" + HOST, 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
    "a long line": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST, 431),
    "a long header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n" + HOST, 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + HOST, 431),
    "very many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + HOST, 431),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_are_refused_and_not_repeated(web: WebDaemon, name: str) -> None:
    """Each gets its status, none of its own words back, and leaves the others served."""
    data, status = HOSTILE[name]
    reply = exchange(web.web, data + b"\r\n")
    assert status == reply.status
    assert not re.search(rb"etc|script|attacker|CLASS|aaaa|policy", reply.body)
    assert b"ok\n" == web.get("/healthz").body


def test_metrics_and_health_are_for_whoever_names_us_as_he_likes(web: WebDaemon) -> None:
    """A Prometheus or a load balancer may know this host by an alias; they hold nothing for a stranger's page."""
    for path in ("/metrics", "/healthz", "/readyz"):
        assert 200 == web.get(path, Host="mail.alias.example:10061").status
    assert 200 == web.get("/", Host="localhost:10061").status


def test_slow_clients_are_left_and_hold_up_nobody(web: WebDaemon) -> None:
    """Who drips its request is cut off some seconds after its first byte, however many bytes it drips."""
    with ExitStack() as stack:
        drips = [stack.enter_context(connect(web.web)) for _ in range(8)]
        began = time.monotonic()
        ended: dict[int, float] = {}
        while len(ended) < len(drips) and time.monotonic() - began < 2 * HEAD_S:
            for number, link in enumerate(drips):
                if number not in ended and not _drip(link):
                    ended[number] = time.monotonic() - began
            assert b"ok\n" == web.get("/healthz").body
            time.sleep(0.2)
    assert len(drips) == len(ended)
    assert HEAD_S - 0.5 < min(ended.values())


def _drip(link: socket.socket) -> bool:
    """One more byte; whether the other end is still there."""
    try:
        link.send(b"G")
        link.settimeout(0.01)
        return link.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_connections_are_bounded_and_the_idlest_gives_way(web_service: Sample) -> None:
    """Silent ones shut nobody out, threads stay few, and policy clients do not notice."""
    with WebDaemon("-s", web_service.service()) as daemon, ExitStack() as stack, PolicyClient(daemon.address) as client:
        idle = [stack.enter_context(connect(daemon.web)) for _ in range(MAX_CONNECTIONS)]
        for sock in idle:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert 200 == read_reply(sock).status
        threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
        for _ in range(10):
            assert 200 == daemon.get("/readyz").status
        assert threads + 1 >= len(os.listdir(f"/proc/{daemon.pid}/task"))
        assert b"" == idle[0].recv(1)
        idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == read_reply(idle[-1]).status
        assert client.ask().startswith("DUNNO GREY1")


def test_pipelined_requests_cost_the_mail_nothing(web_service: Sample) -> None:
    """Of all connections together so many are answered a second, and of one a hundred in all."""
    request = b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with WebDaemon("-s", web_service.service()) as daemon, ExitStack() as stack, PolicyClient(daemon.address) as client:
        for _ in range(20):
            stack.enter_context(connect(daemon.web)).sendall(request * 100)
        waits = []
        for _ in range(200):
            began = time.monotonic()
            assert client.ask().startswith("DUNNO GREY1")
            waits.append(time.monotonic() - began)
            time.sleep(0.002)
        assert sorted(waits)[100] < 0.05
        with connect(daemon.web) as one:
            one.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 120)
            answers = [read_reply(one) for _ in range(100)]
            assert "close" == answers[-1].headers["connection"]
            assert b"" == one.recv(1)


def test_who_does_not_read_is_left(web: WebDaemon) -> None:
    """Answers that nobody takes end their connection after some seconds."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{web.pid}/fd"))

    before = descriptors()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = web.web.split(":")
        link.connect((host, int(port)))
        link.settimeout(1)
        with pytest.raises(OSError):  # noqa: PT012 - one of many sends
            for _ in range(100_000):
                link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert before < descriptors()
        wait_until(lambda: descriptors() <= before, "the connection is given up")
