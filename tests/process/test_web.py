"""The HTTP side of a running daemon: what it serves, and what that costs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.client import Load, PolicyClient, connect, request
from tests.support.procs import free_port, wait_until
from tests.support.sample import Sample
from tests.support.web import Reply, WebDaemon, get, read_reply

PATHS = {
    "/": "text/html; charset=utf-8",
    "/status.json": "application/json",
    "/metrics": "text/plain; version=",
    "/healthz": "text/plain; charset=utf-8",
    "/readyz": "text/plain; charset=utf-8",
}


@pytest.mark.parametrize("path", PATHS)
def test_every_path_answers_get_and_head_alike(web: WebDaemon, path: str) -> None:
    """The same status and headers, the body only for GET."""
    got = web.get(path)
    with connect(web.web) as link:
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
def test_headers_forbid_whatever_is_not_needed(web: WebDaemon, path: str) -> None:
    """No sniffing, no framing, no caching, no scripts but the page's own, no word about what serves."""
    headers = web.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert ("nosniff", "no-store") == (headers["x-content-type-options"], headers["cache-control"])
    assert "same-origin" == headers["cross-origin-resource-policy"]
    assert set() == {"server", "x-powered-by", "access-control-allow-origin", "set-cookie"} & set(headers)


def test_the_page_holds_all_it_needs(web: WebDaemon) -> None:
    """It names no other host, and nothing in it is written as HTML at run time."""
    page = web.get("/").body.decode()
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"https?://[^\"'` ]+", page))
    assert [] == re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b| style=| on\w+=", page)


def test_status_json_tells_where_everything_stands(web: WebDaemon, web_service: Sample) -> None:
    """The services, whose host it is, and its clock."""
    status = web.status()
    assert [("GREY1", web_service.address, "up")] == [(s["name"], s["address"], s["state"]) for s in status["services"]]
    assert socket.gethostname() == status["host"]
    assert abs(time.time() - status["now"]) < 5
    assert web.pid == status["pid"]


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


def test_one_connection_takes_many_requests_also_sent_at_once(web: WebDaemon) -> None:
    """Prometheus keeps its connection; what was pipelined is answered in order."""
    with connect(web.web) as link:
        for _ in range(3):
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"ok\n" == read_reply(link).body
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [b"ok\n", b"1 of 1 service up\n"] == [read_reply(link).body for _ in range(2)]


def test_100_scrapes_cost_little_processor_time(web: WebDaemon) -> None:
    """10 scrapes a second must take far less than 3 % of the one processor: 100 of them less than 0.15 s."""

    def spent_s() -> float:
        fields = Path(f"/proc/{web.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost_s() -> float:
        before = spent_s()
        for _ in range(100):
            assert 200 == get(web.web, "/metrics").status
        return spent_s() - before

    with Load(web.address, 1, 0.001) as load:
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
