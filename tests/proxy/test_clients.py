"""Clients that are no Postfix: they pipeline, read late or never, send much, end early."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from examples.policy_service import SampleService
from tests.proxy.asking import client_of
from tests.support.client import request
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until


def test_a_client_that_pipelines_and_reads_nothing_is_bounded(make_pool: MakePool) -> None:
    """It is not read while its answers are not: neither its requests nor its answers pile up here."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    with client_of(pool) as rude, client_of(pool) as polite:
        rude.link.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):
                rude.send(request(instance=f"{sent}") * 10)
                sent += 10
        for _ in range(50):
            assert polite.ask().startswith("DUNNO A")
        (session,) = (s for s in pool.workers[0].sessions.values() if s.reader is not None or s.unsent)
        assert len(session.unsent) < 1000
        assert session.reader is None or len(session.reader._buffer) <= 64 * 1024 + 4096
        rude.link.settimeout(10)
        for number in range(100):
            assert f"DUNNO A {number // 10 * 10}" == rude.action()


def test_requests_of_64_kib_come_in_many_pieces(make_pool: MakePool) -> None:
    """And are forwarded whole."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    with client_of(pool) as client:
        for number in range(3):
            assert f"DUNNO A {number}" == client.ask(instance=str(number), helo_name="x" * 64_000)
        client.send(b"request=smtpd_access_policy\n" + b"x=" + b"y" * 70_000)
        assert b"" == client.rest()


def test_half_closed_clients_have_their_answer(make_pool: MakePool) -> None:
    """Also where the end comes with the request, or before the answer."""
    service = SampleService("A")
    service.set_fault("slow", 0.05)
    pool = make_pool(f"A={service.listen}")
    for _ in range(10):
        with client_of(pool) as client:
            client.send(request(instance="half"))
            client.link.shutdown(socket.SHUT_WR)
            assert b"action=DUNNO A half\n\n" == client.rest()
    wait_until(lambda: pool.clients == 0, "no client")


def test_a_client_that_reads_late_gets_every_answer_in_order(make_pool: MakePool) -> None:
    """It sends thousands of requests before it reads: it is not served while its answers do not fit, and loses none."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    count = 3000
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pool.hand_over(ours, "late reader")
    with theirs, ThreadPoolExecutor(1) as writer:
        sent = writer.submit(lambda: [theirs.sendall(request(instance=f"n{number}")) for number in range(count)])
        time.sleep(0.5)
        answers = theirs.makefile("rb")
        for number in range(count):
            assert f"action=DUNNO A n{number}\n".encode() == answers.readline()
            assert b"\n" == answers.readline()
        sent.result()
