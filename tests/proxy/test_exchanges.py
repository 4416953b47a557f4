"""What becomes of an exchange that is not answered: broken off, answered with nonsense, or over for want of time."""

from __future__ import annotations

import errno
import os

import pytest

from hapolicy.core.event import Level
from hapolicy.core.protocol import ANSWER_MAX_BYTES
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.proxy.carrier import STALE_WITHIN_S
from tests.proxy.carried import LATE_S, TIMEOUT_S, connections, failed, figures, only_connection, start_pair
from tests.proxy.turns import Turns

CLOSED = "closed before a whole answer"

# Connections that break


@pytest.mark.parametrize("said", [b"", b"action=DUNNO\n"])
def test_a_connection_that_ends_before_the_answer_is_a_failure(turns: Turns, said: bytes) -> None:
    """The next service is asked at once, and the failure is told once."""
    a, b = start_pair(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    link.send(said)
    link.end()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "closed", CLOSED)] == turns.told.named("service.failed")
    assert (1, 0, {"closed": 1}, (0, 0)) == figures(turns)
    assert "closed: closed before a whole answer" == turns.status().last_error


def test_a_reset_is_told_as_a_close(turns: Turns) -> None:
    """It depends on what was unread which of the two the kernel makes of a close."""
    a, b = start_pair(turns, tcp=True)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    link.reset()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "closed", CLOSED)] == turns.told.named("service.failed")


def test_a_host_that_vanishes_is_told_as_such(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel notices that nothing is acknowledged any more; no host here can vanish, so its word is made up."""

    def receive(size: int) -> bytes:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    a, b = start_pair(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    monkeypatch.setattr(only_connection(turns), "recv", receive)
    link.end()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "unreachable", "No route to host")] == turns.told.named("service.failed")


@pytest.mark.parametrize(
    ("said", "kind", "error"),
    [
        (b"250 OK\n\n", "malformed", "answer does not begin with action=: '250 OK\\n\\n'"),
        (b"action=\n\n", "malformed", "empty action: 'action=\\n\\n'"),
        (b"action=".ljust(ANSWER_MAX_BYTES, b"x"), "oversized", f"answer longer than {ANSWER_MAX_BYTES} bytes"),
    ],
)
def test_what_is_no_answer_ends_the_connection(turns: Turns, said: bytes, kind: str, error: str) -> None:
    """It never reaches the client, and the failure says what came."""
    a, b = start_pair(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.request()
    link.send(said)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert link.has_ended()
    assert [failed(a.address, kind, error)] == turns.told.named("service.failed")
    assert (1, 0, {kind: 1}, (0, 0)) == figures(turns)


# Connections that the service had closed while they were idle


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(turns: Turns) -> None:
    """The request and the close have crossed: it is sent again to the same service, and nobody is charged."""
    a, b = start_pair(turns, log_level=Level.DEBUG)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    client.sends(instance="m1")
    turns.wait(STALE_WITHIN_S / 2)
    assert a.is_left_alone()
    link.end()
    a.accept().serve("DUNNO fresh")
    assert ["DUNNO", "DUNNO fresh"] == [client.action(), client.action()]
    assert [{"service": "A", "address": a.address}] == turns.told.named("service.connection_stale")
    assert ["service.connection_stale"] == turns.told.names
    assert (2, 2, {}, (0, 1)) == figures(turns)
    assert b.is_left_alone()


def test_a_replaced_connection_that_breaks_is_a_fresh_one(turns: Turns) -> None:
    """The same service is not asked a third time."""
    a = turns.service()
    turns.start(f"A={a.address}", health=HealthRules(probe=Probe.OFF))
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    client.sends(instance="m1")
    link.end()
    a.accept().end()
    assert ["DUNNO", "dunno"] == [client.action(), client.action()]
    assert [failed(a.address, "closed", CLOSED)] == turns.told.named("service.failed")
    assert (2, 1, {"closed": 1}, (0, 0)) == figures(turns)
    assert a.is_left_alone()


def test_a_replaced_connection_that_finds_no_room_is_told_as_such(turns: Turns) -> None:
    """It was the backlog that was full until the service's time was over; no answer was waited for."""
    a, b = start_pair(turns)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    assert "DUNNO" == client.action()
    client.sends(instance="m1")
    a.fill_up()
    link.end()
    turns.wait(TIMEOUT_S + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "connect_timeout", "no connection within 3 s")] == turns.told.named("service.failed")


@pytest.mark.parametrize(("said", "after_s"), [(b"action=", 0.0), (b"", STALE_WITHIN_S)])
def test_a_kept_connection_that_breaks_later_is_a_failure(turns: Turns, said: bytes, after_s: float) -> None:
    """In the midst of its answer, or after a second without one."""
    a, b = start_pair(turns)
    client = turns.client()
    client.sends(instance="m0")
    link = a.accept()
    link.serve()
    client.sends(instance="m1")
    link.send(said)
    turns.turn()
    turns.wait(after_s)
    link.end()
    b.accept().serve("DUNNO B")
    assert ["DUNNO", "DUNNO B"] == [client.action(), client.action()]
    assert [failed(a.address, "closed", CLOSED, connection="kept")] == turns.told.named("service.failed")


# The service's timeout


@pytest.mark.parametrize(("said", "what"), [(b"", "answer"), (b"action=DUNNO", "whole answer")])
def test_a_service_that_does_not_answer_in_time_has_failed(turns: Turns, said: bytes, what: str) -> None:
    """When its timeout is over, no sooner; the next one is asked, and what it says later is not heard."""
    a, b = start_pair(turns)
    client = turns.client()
    client.sends(instance="m1")
    link = a.accept()
    link.send(said)
    turns.wait(TIMEOUT_S - 0.1)
    assert b.is_left_alone()
    assert (1, 0) == connections(turns)
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    link.request()
    assert link.has_ended()
    assert [failed(a.address, "answer_timeout", f"no {what} within 3 s")] == turns.told.named("service.failed")
    assert (1, 0, {"answer_timeout": 1}, (0, 0)) == figures(turns)
