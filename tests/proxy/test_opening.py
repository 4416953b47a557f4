"""How a connection comes about or not: nobody there, no room, no time; and what each failure is called."""

from __future__ import annotations

import pytest

from hapolicy.core.rules import HealthRules, Probe
from hapolicy.proxy.housekeeping import IDLE_TICK_S
from tests.proxy.carried import CONNECT_TIMEOUT_S, LATE_S, ask, check_two_at_once, failed, figures, start, start_alone
from tests.proxy.turns import Turns

# Nobody there


@pytest.mark.parametrize("tcp", [False, True])
def test_a_refused_connection_is_a_failure(turns: Turns, *, tcp: bool) -> None:
    """The next service is asked at once, and the failure is told once."""
    a = turns.service(tcp=tcp)
    a.listener.close()
    b = start(turns, a.address)
    client = ask(turns)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "refused", "Connection refused")] == turns.told.named("service.failed")
    assert (1, 0, {"refused": 1}, (0, 0)) == figures(turns)


def test_a_socket_that_is_not_there_is_a_refused_connection(turns: Turns) -> None:
    """Where no unix socket is, no service is."""
    a = turns.service()
    b = start(turns, f"{a.address}-elsewhere")
    client = ask(turns)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(f"{a.address}-elsewhere", "refused", "No such file or directory")] == turns.told.named(
        "service.failed"
    )


def test_a_connection_that_is_reset_at_once_is_a_refused_connection(turns: Turns) -> None:
    """It was made and reset before hapolicy could look at it: nothing was asked yet."""
    a = turns.service(tcp=True)
    b = start(turns, a.address)
    client = ask(turns)
    a.accept_at_once().reset()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "refused", "Connection reset by peer")] == turns.told.named("service.failed")


def test_a_connection_that_is_ended_at_once_is_closed(turns: Turns) -> None:
    """It ended before hapolicy could look at it; that end is not missed."""
    a = turns.service(tcp=True)
    b = start(turns, a.address)
    client = ask(turns)
    a.accept_at_once().end()
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "closed", "closed before a whole answer")] == turns.told.named("service.failed")


def test_a_service_that_never_takes_a_connection_has_the_connect_timeout(turns: Turns) -> None:
    """No less and no more, and then the next service is asked."""
    a = turns.service(tcp=True)
    a.fill_up()
    b = start(turns, a.address)
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S - 0.1)
    assert b.is_left_alone()
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "connect_timeout", "not connected within 6 s")] == turns.told.named("service.failed")
    assert (1, 0, {"connect_timeout": 1}, (0, 0)) == figures(turns)


def test_a_service_that_answers_at_last_had_to_connect_in_time(turns: Turns) -> None:
    """Once it is connected only its own timeout counts, and that from the beginning."""
    a = turns.service(tcp=True)
    b = start(turns, f"{a.address}:1:1:8")
    client = ask(turns)
    link = a.accept()
    link.request()
    turns.wait(CONNECT_TIMEOUT_S + 1.9)
    assert b.is_left_alone()
    link.answer("DUNNO at last")
    assert "DUNNO at last" == client.action()
    assert (1, 1, {}, (0, 1)) == figures(turns)


def test_a_timeout_below_the_connect_timeout_counts(turns: Turns) -> None:
    """A service that is to answer within two seconds is not waited for any longer, whatever is missing."""
    a = turns.service(tcp=True)
    a.fill_up()
    b = start(turns, f"{a.address}:1:1:2")
    client = ask(turns)
    turns.wait(1.9)
    assert b.is_left_alone()
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    turns.wait(CONNECT_TIMEOUT_S)
    assert [failed(a.address, "connect_timeout", "no connection within 2 s")] == turns.told.named("service.failed")
    assert (1, 0, {"connect_timeout": 1}, (0, 0)) == figures(turns)


# Unix sockets whose backlog is full


def test_who_finds_a_full_backlog_tries_again(turns: Turns) -> None:
    """As soon as there is room he is served; each of those that wait, in turn, and nobody is charged."""
    a = turns.service()
    a.fill_up()
    b = start(turns, a.address)
    clients = [ask(turns) for _ in range(2)]
    turns.wait(CONNECT_TIMEOUT_S / 2)
    a.make_room()
    turns.wait(LATE_S)
    for number, client in enumerate(clients):
        a.accept().serve(f"DUNNO {number}")
        assert f"DUNNO {number}" == client.action()
        turns.wait(LATE_S)
    assert b.is_left_alone()
    assert (2, 2, {}, (0, 2)) == figures(turns)
    assert [] == turns.told.named("service.failed")


def test_a_backlog_that_stays_full_is_a_connect_timeout(turns: Turns) -> None:
    """Counted from the first try, however often it was tried again."""
    a = turns.service()
    a.fill_up()
    b = start(turns, a.address)
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S - 0.1)
    assert b.is_left_alone()
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    a.make_room()
    turns.wait(1)
    assert a.is_left_alone()
    assert [failed(a.address, "connect_timeout", "its backlog was full for 6 s")] == turns.told.named("service.failed")
    assert (1, 0, {"connect_timeout": 1}, (0, 0)) == figures(turns)


def test_a_service_that_ends_with_a_full_backlog_refuses(turns: Turns) -> None:
    """The next try finds nobody."""
    a = turns.service()
    a.fill_up()
    b = start(turns, a.address)
    client = ask(turns)
    turns.wait(1)
    a.listener.close()
    turns.wait(LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "refused", "Connection refused")] == turns.told.named("service.failed")


def test_nobody_tries_again_when_he_has_been_answered_elsewhere(turns: Turns) -> None:
    """The service's timeout was over while its backlog was full; who still waits is served."""
    a = turns.service()
    a.fill_up()
    b = start(turns, f"{a.address}:1:1:2")
    early = ask(turns)
    turns.wait(1.9)
    late = ask(turns, "m2")
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == early.action()
    turns.wait(LATE_S)
    a.make_room()
    turns.wait(LATE_S)
    a.accept().serve("DUNNO A")
    assert "DUNNO A" == late.action()
    turns.wait(CONNECT_TIMEOUT_S)
    assert a.is_left_alone()
    assert [b"m1"] == [event["instance"] for event in turns.told.named("service.failed")]
    assert (2, 1) == figures(turns)[:2]


def test_a_full_backlog_is_told_as_such_when_the_service_has_less_than_the_connect_timeout(turns: Turns) -> None:
    """It is the service's fault, not the name service's: a unix socket has no name."""
    a = turns.service()
    a.fill_up()
    b = start(turns, f"{a.address}:1:1:2")
    client = ask(turns)
    turns.wait(2 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed(a.address, "connect_timeout", "no connection within 2 s")] == turns.told.named("service.failed")


def test_who_waits_for_room_counts_against_max(turns: Turns) -> None:
    """Or there would be more connections than allowed once there is room; and later nobody is left counted."""
    a = turns.service()
    a.fill_up()
    start_alone(turns, f"{a.address},max=2")
    clients = [ask(turns) for _ in range(3)]
    turns.wait(1)
    assert (2, 1) == (turns.status().in_flight, turns.status().queued)
    a.make_room()
    turns.wait(LATE_S)
    check_two_at_once(turns, a, clients)


def test_who_has_waited_in_vain_for_room_counts_no_longer(turns: Turns) -> None:
    """Who is queued behind has his turn."""
    a = turns.service()
    a.fill_up()
    start_alone(turns, f"{a.address},max=2")
    clients = [ask(turns) for _ in range(5)]
    turns.wait(CONNECT_TIMEOUT_S + 2 * LATE_S)
    assert ["dunno", "dunno"] == [client.action() for client in clients[:2]]
    assert (2, 1) == (turns.status().in_flight, turns.status().queued)
    a.make_room()
    turns.wait(LATE_S)
    check_two_at_once(turns, a, clients[2:])


# Probes for which a connection is enough


@pytest.mark.parametrize("tcp", [False, True])
def test_a_service_that_takes_connections_is_up_by_probe_tcp(turns: Turns, *, tcp: bool) -> None:
    """It is asked nothing."""
    a = turns.service(tcp=tcp)
    start(turns, a.address, health=HealthRules(probe=Probe.TCP))
    turns.wait(0.5)
    turns.upstream().trip(turns.clock.now)
    assert a.is_left_alone()
    turns.upstream().breaker.hurry(turns.clock.now)
    turns.wait(LATE_S)
    assert a.accept().has_ended()
    assert (("up", 1, 0), (0, 0, {}, (0, 0))) == (health(turns), figures(turns))
    assert ["service.down", "service.up"] == turns.told.names


def test_a_service_that_takes_no_connection_stays_down_by_probe_tcp(turns: Turns) -> None:
    """That is told of the probe, and of no request."""
    a = turns.service()
    start(turns, a.address, health=HealthRules(probe=Probe.TCP))
    turns.wait(0.5)
    turns.upstream().trip(turns.clock.now)
    a.listener.close()
    turns.upstream().breaker.hurry(turns.clock.now)
    turns.wait(LATE_S)
    assert (("down", 0, 1), (0, 0, {}, (0, 0))) == (health(turns), figures(turns))
    assert ["service.down", "service.probe_failed"] == turns.told.names
    assert "refused: Connection refused" == turns.status().last_error


def test_a_service_may_come_up_in_any_turn(turns: Turns) -> None:
    """Also in one that looks at slow-start=, by a time before that turn: it has all of its weight at once."""
    a = turns.service()
    start(turns, a.address, health=HealthRules(probe=Probe.TCP))
    turns.turn()
    for _ in range(3):
        turns.upstream().trip(turns.clock.now)
        turns.upstream().breaker.hurry(turns.clock.now)
        turns.wait(IDLE_TICK_S + LATE_S)
        assert "up" == turns.status().state


def health(turns: Turns) -> tuple[str, int, int]:
    """The state of A, and the probes that it has answered and failed."""
    status = turns.status()
    return status.state, status.probes_answered, status.probes_failed


# Who waits in vain for his connection


def test_a_request_that_is_taken_over_while_it_connects_is_answered_once(turns: Turns) -> None:
    """A service that serves one connection only: the other is given up, and what becomes of it is told to nobody."""
    a = turns.service(tcp=True)
    b = start(turns, a.address)
    busy, waiting = ask(turns), turns.client()
    link = a.accept()
    a.fill_up()
    link.serve()
    assert "DUNNO" == busy.action()
    busy.sends(instance="m1")
    waiting.sends(instance="m2")
    turns.wait(CONNECT_TIMEOUT_S / 2)
    link.serve()
    assert "DUNNO" == busy.action()
    link.serve("DUNNO taken over")
    assert "DUNNO taken over" == waiting.action()
    turns.wait(CONNECT_TIMEOUT_S)
    assert b.is_left_alone()
    assert [] == turns.told.named("service.failed")
    assert (3, 3, {}) == figures(turns)[:3]
