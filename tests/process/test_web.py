"""The HTTP side of a running daemon: what it serves, and what strangers cannot do to it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.client import Load, PolicyClient, connect, request
from tests.support.procs import free_port, wait_until
from tests.support.sample import Sample
from tests.support.web import Reply, WebDaemon, get, read_reply

MAX_CONNECTIONS = 32
HEAD_S = 5.0
PATHS = {
    "/": "text/html; charset=utf-8",
    "/status.json": "application/json",
    "/metrics": "text/plain; version=",
    "/healthz": "text/plain; charset=utf-8",
    "/readyz": "text/plain; charset=utf-8",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Sample]:
    """A service that all tests here share, none of which breaks it."""
    with Sample("GREY1") as service:
        yield service


@pytest.fixture(scope="module")
def daemon(service: Sample) -> Iterator[WebDaemon]:
    """A daemon that all tests here share; at the end it must have gone in peace, whatever they did to it."""
    with WebDaemon("-s", service.service()) as daemon:
        yield daemon
        assert 200 == daemon.get("/healthz").status


def exchange(address: str, data: bytes) -> Reply:
    """Send bytes, read one answer."""
    with connect(address) as link:
        link.sendall(data)
        return read_reply(link)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_answers_get_and_head_alike(daemon: WebDaemon, path: str) -> None:
    """The same status and headers, the body only for GET."""
    got = daemon.get(path)
    with connect(daemon.web) as link:
        link.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = read_reply(link, head=True)
        assert b"" == link.recv(1)
    assert (200, 200) == (got.status, head.status)
    assert got.headers["content-type"].startswith(PATHS[path])
    assert len(got.body) > 0
    assert _lasting(got) == _lasting(head)


def _lasting(reply: Reply) -> dict[str, str]:
    """The headers that are the same a moment later."""
    return {name: value for name, value in reply.headers.items() if name not in ("date", "content-length")}


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_headers_forbid_whatever_is_not_needed(daemon: WebDaemon, path: str) -> None:
    """No sniffing, no framing, no caching, no scripts but the page's own, no word about what serves."""
    headers = daemon.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert ("nosniff", "no-store") == (headers["x-content-type-options"], headers["cache-control"])
    assert "same-origin" == headers["cross-origin-resource-policy"]
    assert set() == {"server", "x-powered-by", "access-control-allow-origin", "set-cookie"} & set(headers)


def test_the_page_holds_all_it_needs(daemon: WebDaemon) -> None:
    """It names no other host, and nothing in it is written as HTML at run time."""
    page = daemon.get("/").body.decode()
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"https?://[^\"'` ]+", page))
    assert [] == re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b| style=| on\w+=", page)


def test_status_json_tells_where_everything_stands(daemon: WebDaemon, service: Sample) -> None:
    """The services, whose host it is, and its clock."""
    status = daemon.status()
    assert [("GREY1", service.address, "up")] == [(s["name"], s["address"], s["state"]) for s in status["services"]]
    assert socket.gethostname() == status["host"]
    assert abs(time.time() - status["now"]) < 5
    assert daemon.pid == status["pid"]


def test_the_longest_wait_is_that_of_who_waits_now() -> None:
    """Of several clients that of the first to ask; an idle one waits for nothing, nor does one with its answer."""
    with Sample("A", "--fault", "hang") as a, WebDaemon("-s", a.service(), "--deadline", "7.5") as daemon:

        def longest_s() -> float:
            found = re.search(rb"^hapolicy_longest_wait_seconds (\S+)$", daemon.get("/metrics").body, re.MULTILINE)
            assert found is not None
            return float(found[1])

        with PolicyClient(daemon.address) as first, PolicyClient(daemon.address) as second:
            wait_until(lambda: daemon.status()["clients"] == 2, "two idle clients")
            assert 0 == longest_s()
            assert b"hapolicy_deadline_seconds 7.5\n" in daemon.get("/metrics").body
            asked = time.monotonic()
            first.send(request())
            wait_until(lambda: longest_s() > 0.5, "a wait that has grown")
            second.send(request())
            wait_until(lambda: a.stats()["requests"] >= 2, "a second client that waits")
            assert 0.5 < longest_s() <= time.monotonic() - asked
            a.kill()
            for client in (first, second):
                assert client.action() in ("dunno", "DEFER_IF_PERMIT 4.3.0 Policy service error, try again later")
            wait_until(lambda: daemon.status()["longest_wait_s"] == 0, "nobody who waits")
            wait_until(lambda: longest_s() == 0, "metrics of nobody who waits, which may be a second old")


def test_readyz_says_503_once_no_service_is_left_and_200_when_one_is_back() -> None:
    """healthz says 200 all the while: the daemon itself answers."""
    with Sample("A") as a, Sample("B") as b:
        options = ("--fail-max", "1", "--cooldown", "0.3", "--cooldown-max", "0.3")
        with WebDaemon(*options, "-s", a.service(":10"), "-s", b.service(":20")) as daemon:

            def ready() -> tuple[int, bytes]:
                reply = daemon.get("/readyz")
                return reply.status, reply.body

            with PolicyClient(daemon.address) as client:
                assert (200, b"2 of 2 services up\n") == ready()
                a.fault("refuse")
                client.ask()
                wait_until(lambda: ready() == (200, b"1 of 2 services up\n"), "one service up")
                b.fault("refuse")
                client.ask()
                wait_until(lambda: ready() == (503, b"0 of 2 services up\n"), "no service up")
                assert 200 == daemon.get("/healthz").status
                changes = daemon.status()["changes"]
                assert [("service.down", "A"), ("service.down", "B")] == [
                    (change["event"], change["fields"]["service"])
                    for change in changes
                    if change["event"].startswith("service.")
                ]
                b.fault("none")
                wait_until(lambda: ready()[0] == 200, "ready again")


def test_one_connection_takes_many_requests_also_sent_at_once(daemon: WebDaemon) -> None:
    """Prometheus keeps its connection; what was pipelined is answered in order."""
    with connect(daemon.web) as link:
        for _ in range(3):
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"ok\n" == read_reply(link).body
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [b"ok\n", b"1 of 1 service up\n"] == [read_reply(link).body for _ in range(2)]


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
def test_hostile_requests_are_refused_and_not_repeated(daemon: WebDaemon, name: str) -> None:
    """Each gets its status, none of its own words back, and leaves the others served."""
    data, status = HOSTILE[name]
    reply = exchange(daemon.web, data + b"\r\n")
    assert status == reply.status
    assert not re.search(rb"etc|script|attacker|CLASS|aaaa|policy", reply.body)
    assert b"ok\n" == daemon.get("/healthz").body


def test_metrics_and_health_are_for_whoever_names_us_as_he_likes(daemon: WebDaemon) -> None:
    """A Prometheus or a load balancer may know this host by an alias; they hold nothing for a stranger's page."""
    for path in ("/metrics", "/healthz", "/readyz"):
        assert 200 == daemon.get(path, Host="mail.alias.example:10061").status
    assert 200 == daemon.get("/", Host="localhost:10061").status


def test_slow_clients_are_left_and_hold_up_nobody(daemon: WebDaemon) -> None:
    """Who drips its request is cut off some seconds after its first byte, however many bytes it drips."""
    with ExitStack() as stack:
        drips = [stack.enter_context(connect(daemon.web)) for _ in range(8)]
        began = time.monotonic()
        ended: dict[int, float] = {}
        while len(ended) < len(drips) and time.monotonic() - began < 2 * HEAD_S:
            for number, link in enumerate(drips):
                if number not in ended and not _drip(link):
                    ended[number] = time.monotonic() - began
            assert b"ok\n" == daemon.get("/healthz").body
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


def test_connections_are_bounded_and_the_idlest_gives_way(service: Sample) -> None:
    """Silent ones shut nobody out, threads stay few, and policy clients do not notice."""
    with WebDaemon("-s", service.service()) as daemon, ExitStack() as stack, PolicyClient(daemon.address) as client:
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


def test_pipelined_requests_cost_the_mail_nothing(service: Sample) -> None:
    """Of all connections together so many are answered a second, and of one a hundred in all."""
    request = b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with WebDaemon("-s", service.service()) as daemon, ExitStack() as stack, PolicyClient(daemon.address) as client:
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


def test_who_does_not_read_is_left(daemon: WebDaemon) -> None:
    """Answers that nobody takes end their connection after some seconds."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    before = descriptors()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = daemon.web.split(":")
        link.connect((host, int(port)))
        link.settimeout(1)
        with pytest.raises(OSError):  # noqa: PT012 - one of many sends
            for _ in range(100_000):
                link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert before < descriptors()
        wait_until(lambda: descriptors() <= before, "the connection is given up")


def test_100_scrapes_cost_little_processor_time(daemon: WebDaemon) -> None:
    """10 scrapes a second must take far less than 3 % of the one processor: 100 of them less than 0.15 s."""

    def spent_s() -> float:
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost_s() -> float:
        before = spent_s()
        for _ in range(100):
            assert 200 == get(daemon.web, "/metrics").status
        return spent_s() - before

    with Load(daemon.address, 1, 0.001) as load:
        load.wait_answered(100)  # so that there is something in the buckets
    assert min(cost_s() for _ in range(3)) < 0.15


def test_nothing_of_http_is_loaded_without_the_option() -> None:
    """A daemon that serves no page pays neither memory nor time for it."""
    script = "import sys, hapolicy.cli; print({'http.server', 'prometheus_client', 'json'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "http.server" not in done.stdout
    assert "prometheus_client" not in done.stdout


def test_an_address_in_use_is_said_in_one_line() -> None:
    """--http on a taken port ends with 78, like --listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = ["--listen", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{taken.getsockname()[1]}"]
        command = [sys.executable, "-m", "hapolicy", *arguments, "--log", "stderr", "-s", "A=127.0.0.1:1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (78, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
    assert "--http" in done.stderr
