"""Clients that are no Postfix: a byte a second, half closed, gone in the middle, thousands that ask nothing."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.conftest import Matrix
from tests.faults.numbered import NumberedLoad, Resources, check_answers, check_books, check_resources, statuses
from tests.support.client import PolicyClient, request
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S, wait_until
from tests.support.sample import Sample

CONNECTIONS = 8
DEADLINE_S = 1.0
REQUEST_MAX_S = 10.0  # session.REQUEST_MAX_S, as README's Limits has it
FLOOD_S = 2.5
FLOOD_A_SECOND = 5000


def test_slow_half_closed_and_vanishing_clients_disturb_nobody(matrix: Matrix) -> None:
    """Who drips loses its connection after 10 s, who half-closes has its answers, who vanishes is forgotten."""
    with Sample("A") as a, Daemon("-s", a.service(), "--deadline", str(DEADLINE_S)) as daemon:
        start = Resources.of(daemon.pid)
        with NumberedLoad(daemon.address, CONNECTIONS) as load:
            load.wait_answers(100)
            warm = Resources.of(daemon.pid)
            drippers = [PolicyClient(daemon.address) for _ in range(5)]
            began = time.monotonic()
            half_closed = _half_close(daemon.address)
            vanished = [_vanish(daemon.address, reset) for _ in range(50) for reset in (False, True)]
            _drip(drippers, began)
            took_s = time.monotonic() - began
            for client in drippers:
                assert b"" == client.rest()
                client.close()
            statuses(daemon, 1)  # told after all that was logged before
            reasons = [event["reason"] for event in daemon.events_of("client.rejected")]
            # Beyond ten a second those of one peer are summed up.
            left_out = sum(event["count"] for event in daemon.events_of("log.repeated", of="client.rejected"))
        late = [reason for reason in reasons if "not complete" in reason]
        cut_off = [reason for reason in reasons if "cut off" in reason]
        text = f"{len(late)} drippers out after {took_s:.1f} s, {len(cut_off)} of {len(vanished)} cut off"
        matrix.add("drip, half-close, vanish", load.ledger, text)
        assert REQUEST_MAX_S <= took_s < REQUEST_MAX_S + 1 + SLACK_S
        assert len(drippers) == len(late)
        assert 10 <= len(cut_off) + len(late) <= len(vanished) + len(drippers)
        assert left_out <= len(vanished)
        assert 10 * ["DUNNO"] == half_closed
        check_answers(load.ledger, DEADLINE_S)
        assert load.ledger.answers + 10 == daemon_answers(daemon)
        check_resources(daemon, start, CONNECTIONS + 10, Resources.of(daemon.pid).resident_kb - warm.resident_kb)


def daemon_answers(daemon: Daemon) -> int:
    """How many answers hapolicy has counted."""
    return sum(one["answers"] for one in statuses(daemon, 1).values())


def _half_close(address: str) -> list[str]:
    """Ten requests at once, and nothing more to say; their actions' first words."""
    with PolicyClient(address) as client:
        client.send(b"".join(request(instance=f"half-closed {number}") for number in range(10)))
        client.link.shutdown(socket.SHUT_WR)
        words = [client.action().split()[0] for _ in range(10)]
        assert b"" == client.rest()
        return words


def _vanish(address: str, reset: bool) -> None:
    """Begin a request and go, with a goodbye or without."""
    with PolicyClient(address) as client:
        client.send(request(instance="vanished")[:150])
        if reset:
            client.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def _drip(clients: list[PolicyClient], began: float) -> None:
    """A byte a second until all are disconnected."""
    data = request(instance="drip")
    for second in range(int(REQUEST_MAX_S) + 5):
        for client in clients:
            try:
                client.send(data[second : second + 1])
            except OSError:
                return
        wait_until(lambda second=second: time.monotonic() > began + second + 1, "the next second", 5)
        clients[-1].link.settimeout(0.001)
        try:
            if not clients[-1].link.recv(1):
                return
        except TimeoutError:
            pass
        finally:
            clients[-1].link.settimeout(20)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_thousands_of_connections_without_a_request(reset: bool, matrix: Matrix) -> None:
    """While strangers connect and leave as fast as they can, up to 5,000 a second, those who ask are answered."""
    with Sample("A") as a, Daemon("-s", a.service(), "--deadline", str(DEADLINE_S)) as daemon:
        start = Resources.of(daemon.pid)
        with NumberedLoad(daemon.address, CONNECTIONS) as load:
            load.wait_answers(100)
            warm = Resources.of(daemon.pid)
            made, took_s = _flood(daemon.address, reset)
            load.wait_answers(50)
        growth_kb = Resources.of(daemon.pid).resident_kb - warm.resident_kb
        matrix.add(f"connects, {'reset' if reset else 'closed'}", load.ledger, f"{made / took_s:.0f} a second")
        assert made / took_s > 500
        check_answers(load.ledger, DEADLINE_S)
        check_books(daemon, load.ledger, services=1)
        check_resources(daemon, start, CONNECTIONS, growth_kb)


def _flood(address: str, reset: bool) -> tuple[int, float]:
    """Connect and leave for a while, at most so often; returns how often, and in which time."""
    host, _, port = address.rpartition(":")
    began, made = time.monotonic(), 0
    while (elapsed_s := time.monotonic() - began) < FLOOD_S:
        if made > elapsed_s * FLOOD_A_SECOND:
            time.sleep(0.001)
            continue
        with socket.socket() as sock:
            sock.connect((host, int(port)))
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        made += 1
    return made, time.monotonic() - began
