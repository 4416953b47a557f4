"""What operators and monitoring are shown of the services and the pool, every figure at a known moment."""

from __future__ import annotations

from dataclasses import replace

from hapolicy.core.rules import HealthRules
from hapolicy.core.status import Change, PoolStatus
from tests.proxy.carried import NO_HEDGE, NO_PROBE
from tests.proxy.figures import UNASKED, lately, within
from tests.proxy.turns import Turns

# One service


def test_a_service_of_which_nothing_was_asked(turns: Turns) -> None:
    """It is up, as it is defined, and all that is counted is nothing."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20:1.5:7,max=3")
    assert replace(UNASKED, address=a.address) == turns.status("A")
    defined = replace(UNASKED, name="B", prio=20, weight=1.5, timeout_s=7.0, max_connections=3)
    assert replace(defined, address=b.address) == turns.status("B")


def test_a_busy_service(turns: Turns) -> None:
    """One request on a connection that is known to be served, one that may wait in a backlog, and two that queue."""
    a = turns.service()
    turns.start(f"A={a.address},max=2", requests=NO_HEDGE, health=NO_PROBE)
    clients = [turns.client() for _ in range(4)]
    clients[0].sends(instance="first")
    link = a.accept()
    turns.wait(1.5)
    link.serve()
    clients[0].action()
    clients[0].sends(instance="second")
    clients[1].sends(instance="third")
    a.accept()
    clients[2].sends(instance="fourth")
    turns.wait(0.25)
    clients[3].sends(instance="fifth")
    turns.wait(0.5)
    busy = replace(
        UNASKED,
        address=a.address,
        queries=3,
        answers=1,
        in_flight=2,
        connections_busy=1,
        connections_waiting=1,
        max_connections=2,
        queued=2,
        queued_for_s=0.75,
        share=1.0,
        p50_s=1.5,
        p99_s=1.99,
        sparkline_s=lately(1.5, None),
        latency_counts=within({2.0: 1}),
        latency_sum_s=1.5,
    )
    assert busy == turns.status()
    turns.wait(0.5)
    silent = turns.status()
    assert (True, True, "up") == (silent.silent, silent.available, silent.state)


def test_who_has_waited_in_vain_for_a_connection_waits_no_longer(turns: Turns) -> None:
    """Though its place in the queue is cleared only when a connection falls idle."""
    a = turns.service()
    turns.start(f"A={a.address},max=1", requests=replace(NO_HEDGE, deadline_s=2.0), health=NO_PROBE)
    clients = [turns.client() for _ in range(2)]
    for number, client in enumerate(clients):
        client.sends(instance=f"m{number}")
    assert 1 == turns.status().queued
    turns.wait(2.1)
    assert ["dunno", "dunno"] == [client.action() for client in clients]
    assert (0, 0.0) == (turns.status().queued, turns.status().queued_for_s)


def test_idle_connections_are_those_of_nobody_and_those_of_a_mail(turns: Turns) -> None:
    """A client that goes on with its mail finds its connection; what others left is free for all."""
    a = turns.service()
    turns.start(f"A={a.address}", requests=NO_HEDGE)
    clients = [turns.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.sends(instance=f"m{number}")
    for link in [a.accept() for _ in clients]:
        link.serve()
    for client in clients:
        client.action()
    clients[0].link.close()
    turns.turn(2)
    status = turns.status()
    assert (3, 0, 0) == (status.connections_idle, status.connections_busy, status.connections_waiting)


def test_a_service_that_refuses(turns: Turns) -> None:
    """The latest error and its age to the millisecond; when it is down, for how long yet."""
    a = turns.service()
    turns.start(f"A={a.address}", health=HealthRules(cooldown_s=100.0, cooldown_max_s=60.0, fail_max=2))
    a.listener.close()
    client = turns.client()
    client.sends(instance="m1")
    assert "dunno" == client.action()
    turns.wait(2.40625)
    refused = replace(
        UNASKED,
        address=a.address,
        queries=1,
        failed=1,
        failures={"refused": 1},
        last_error="refused: Connection refused",
        last_error_age_s=2.406,
    )
    assert refused == turns.status()
    client.sends(instance="m2")
    assert "dunno" == client.action()
    turns.wait(10)
    down = replace(refused, state="down", available=False, queries=2, failed=2, failures={"refused": 2})
    assert replace(down, last_error_age_s=10.0, trial_in_s=50.0) == turns.status()


def test_a_service_that_waits_for_a_mail_to_try_it_does_so_at_once(turns: Turns) -> None:
    """Without probes the time until it is tried does not run below zero; the trial itself is no waiting."""
    a = turns.service()
    turns.start(f"A={a.address}", health=replace(NO_PROBE, cooldown_s=4.0, cooldown_max_s=2.0))
    turns.order(lambda: turns.pool.trip("A"))
    assert ("down", False, 2.0) == (turns.status().state, turns.status().available, turns.status().trial_in_s)
    turns.wait(3)
    assert ("down", True, 0.0) == (turns.status().state, turns.status().available, turns.status().trial_in_s)
    turns.client().sends(instance="m1")
    assert ("probing", False, None) == (turns.status().state, turns.status().available, turns.status().trial_in_s)


def test_a_drained_service(turns: Turns) -> None:
    """Its health is told by its state once it is down, the operator's word stays."""
    a = turns.service()
    turns.start(f"A={a.address}", health=replace(NO_PROBE, cooldown_s=4.0, cooldown_max_s=2.0))
    turns.order(lambda: turns.pool.drain("A"))
    drained = replace(UNASKED, address=a.address, state="draining", draining=True, available=False)
    assert drained == turns.status()
    turns.order(lambda: turns.pool.trip("A"))
    assert replace(drained, state="down", trial_in_s=2.0) == turns.status()


def test_every_counter_is_shown_under_its_own_name(turns: Turns) -> None:
    """Figures that are alike: none is taken for another."""
    turns.start(f"A={turns.service().address}")
    names = [
        "queries",
        "answers",
        "failed",
        "suspects",
        "probes_answered",
        "probes_failed",
        "hedges_sent",
        "hedges_won",
        "hedges_lost",
    ]
    counters = {name: number for number, name in enumerate(names, 1)}
    for name, number in counters.items():
        setattr(turns.upstream(), name, number)
    assert counters == {name: getattr(turns.status(), name) for name in counters}


def test_what_was_shown_stays_as_it_was(turns: Turns) -> None:
    """A status is read on other threads while its service goes on."""
    a = turns.service()
    turns.start(f"A={a.address}")
    before = turns.status()
    client = turns.client()
    client.sends(instance="m1")
    a.accept().serve()
    client.action()
    assert replace(UNASKED, address=a.address) == before


# The pool


def test_a_pool_that_nobody_asks(turns: Turns) -> None:
    """Nobody waits, and nothing has happened."""
    a = turns.service()
    turns.start(f"A={a.address}", max_clients=7)
    expected = PoolStatus(
        clients=0,
        max_clients=7,
        workers=1,
        longest_wait_s=0.0,
        longest_turn_s=0.0,
        requests=[],
        services=[replace(UNASKED, address=a.address)],
        changes=[],
    )
    assert expected == turns.order(turns.pool.status)


def test_a_pool_of_two_workers(turns: Turns) -> None:
    """Clients come to one worker after the other; what both know is added up, and the longest of both counts."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20", workers=2, requests=NO_HEDGE, health=NO_PROBE)
    clients = [turns.client() for _ in range(3)]
    clients[1].sends(protocol_state="HELO")
    turns.wait(0.1234)
    clients[0].sends(protocol_state="RCPT")
    turns.wait(0.1)
    assert 0.223 == turns.order(turns.pool.status).longest_wait_s
    for link in [a.accept() for _ in range(2)]:
        link.serve()
    for client in clients[:2]:
        client.action()
    clients[0].link.close()
    turns.order(lambda: turns.pool.drain("A"))
    for worker, longest_s in zip(turns.pool.workers, (0.25, 0.125), strict=True):
        worker.longest_turn.this_half_minute_s = longest_s
    status = turns.order(turns.pool.status)
    drained = Change(turns.clock.time(), "service.draining", {"service": "A", "address": a.address})
    expected = PoolStatus(
        clients=2,
        max_clients=1000,
        workers=2,
        longest_wait_s=0.0,
        longest_turn_s=0.25,
        requests=[("answered", "HELO", 1), ("answered", "RCPT", 1)],
        services=status.services,
        changes=[drained, drained],
    )
    assert expected == status
    assert [("A", 2, 2), ("B", 0, 0)] == [(each.name, each.answers, each.connections_idle) for each in status.services]


def test_requests_are_counted_by_what_became_of_them(turns: Turns) -> None:
    """And by protocol state, of all workers together; what strangers call theirs is "other"."""
    a = turns.service()
    turns.start(f"A={a.address}:::2", workers=2, requests=NO_HEDGE, health=NO_PROBE)
    for client in [turns.client() for _ in range(2)]:
        client.sends(protocol_state="DATA")
        a.accept().end()
        a.accept().end()
        assert client.action().startswith("DEFER_IF_PERMIT")
        client.sends(protocol_state="MAIL")
        a.accept()
        turns.wait(2.1)
        assert "dunno" == client.action()
        client.sends(protocol_state="RCPT")
        link = a.accept()
        link.serve()
        client.action()
        for state in ("rcpt", "UNHEARD-OF", ""):
            client.sends(protocol_state=state)
            link.serve()
            client.action()
    expected = [("answered", "RCPT", 2), ("answered", "other", 6), ("defaulted", "MAIL", 2), ("suspect", "DATA", 2)]
    assert expected == turns.order(turns.pool.status).requests
