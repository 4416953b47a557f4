"""What operators, the watchdog and the listener ask of a pool, turn by turn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from hapolicy.core.protocol import Request
from hapolicy.core.rules import HEDGE_OFF, RequestRules
from hapolicy.proxy.pool import Answered
from tests.proxy.carried import NO_PROBE
from tests.proxy.turns import Turns
from tests.support.client import request


def test_a_query_of_all_services_goes_the_way_of_a_clients_request(turns: Turns) -> None:
    """It is asked of the next service where one fails, is counted, and is told which one answered, and when."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20", health=NO_PROBE, log_requests=True)
    query = turns.begin_order(lambda: turns.pool.query(Request(request(instance="q"))))
    a.accept().end()
    link = b.accept()
    turns.wait(0.2504321)
    assert b"instance=q" in link.serve("PREPEND X-Checked: yes")
    turns.until(query.done)
    assert Answered("PREPEND X-Checked: yes", "B", 250.432) == query.result()
    assert ["service.failed", "request.answered"] == turns.told.names
    assert (1, 1) == (turns.status("A").failed, turns.status("B").answers)
    assert not turns.worker.waiting


def test_a_query_that_no_service_answers_gets_the_default_action(turns: Turns) -> None:
    """And no service's name."""
    a = turns.service()
    a.listener.close()
    turns.start(f"A={a.address}", health=NO_PROBE, requests=RequestRules(default_action="450 4.7.1 later"))
    assert Answered("450 4.7.1 later", None, 0.0) == turns.order(lambda: turns.pool.query(Request(request())))


def test_a_query_is_given_up_some_time_after_its_service_should_have_been(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the worker has not noticed that its time is over."""
    monkeypatch.setattr("hapolicy.proxy.pool._QUERY_MARGIN_S", 0.05)
    a = turns.service()
    turns.start(f"A={a.address}:::0.01", health=NO_PROBE, requests=RequestRules(deadline_s=0.01))
    for name in (None, "A"):
        query = turns.begin_order(partial(turns.pool.query, Request(request()), name))
        a.accept()
        turns.until(query.done)
        assert (TimeoutError, "no answer") == (type(query.exception()), str(query.exception()))


def test_a_worker_that_does_not_answer_keeps_nobody_waiting_for_long(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither who asks for a status nor who gives an order."""
    monkeypatch.setattr("hapolicy.proxy.pool._CALL_MAX_S", 0.01)
    turns.start("A=127.0.0.1:1")
    pool = turns.pool
    asking = Request(request())
    orders = [partial(order, "A") for order in (pool.drain, pool.ready, pool.trip, pool.reset)]
    queries = [partial(pool.query, asking), partial(pool.query, asking, "A")]
    for call in (pool.status, pool.overdue_s, *orders, *queries, partial(pool.adopt, pool.settings)):
        with pytest.raises(TimeoutError, match=r"^the event loop does not answer$"):
            call()


def test_how_long_ago_each_worker_turned(turns: Turns) -> None:
    """By this the watchdog notices one that hangs."""
    turns.start("A=127.0.0.1:1", workers=2)
    turns.turn()
    turns.stand_still(0.25)
    turns.worker.post(lambda: None)
    turns.worker.turn()
    turns.stand_still(0.5)
    assert {"worker-0": 0.5, "worker-1": 0.75} == turns.pool.heartbeat_ages_s()


def test_how_far_a_client_is_past_its_deadline(turns: Turns) -> None:
    """Not at all while all is well; else the most overdue one of any worker counts."""
    a = turns.service()
    turns.start(f"A={a.address}", workers=2, health=NO_PROBE, requests=RequestRules(deadline_s=2.0, hedge=HEDGE_OFF))
    assert 0.0 == turns.order(turns.pool.overdue_s)
    for client in [turns.client() for _ in range(2)]:
        client.sends()
        turns.stand_still(0.5)
    turns.turn()
    assert 0.0 == turns.order(turns.pool.overdue_s)
    for worker in turns.pool.workers:
        worker.on_tick = lambda now: 0.025  # it does not look at its deadlines
    turns.stand_still(1.5)
    assert 0.5 == turns.order(turns.pool.overdue_s)


def test_room_for_clients(turns: Turns) -> None:
    """Of all workers together."""
    turns.start("A=127.0.0.1:1", workers=2, max_clients=3)
    assert (0, True) == (turns.pool.clients, turns.pool.has_room())
    clients = [turns.client() for _ in range(2)]
    assert (2, True) == (turns.pool.clients, turns.pool.has_room())
    clients.append(turns.client())
    assert (3, False) == (turns.pool.clients, turns.pool.has_room())
    clients[0].link.close()
    turns.turn(2)
    assert (2, True) == (turns.pool.clients, turns.pool.has_room())
    assert [1, 1] == [len(worker.sessions) for worker in turns.pool.workers]


def test_a_reset_ends_all_that_is_held_against_a_service(turns: Turns) -> None:
    """In every worker."""
    a = turns.service()
    turns.start(f"A={a.address}", workers=2, health=NO_PROBE)
    turns.order(lambda: turns.pool.trip("A"))
    assert ["down", "down"] == [worker.plan.upstreams[0].state for worker in turns.pool.workers]
    turns.order(lambda: turns.pool.reset("A"))
    assert ["up", "up"] == [worker.plan.upstreams[0].state for worker in turns.pool.workers]
    turns.client().sends()
    a.accept().serve()


def test_other_settings_hold_from_then_on(turns: Turns) -> None:
    """For the workers, and in what is told of the pool."""
    turns.start(f"A={turns.service().address}", health=NO_PROBE, requests=RequestRules(default_action="dunno 1"))
    pool, client = turns.pool, turns.client()
    turns.order(partial(pool.drain, "A"))
    client.sends()
    assert "dunno 1" == client.action()
    settings = replace(pool.settings, requests=RequestRules(default_action="450 4.7.1 later"))
    turns.order(partial(pool.adopt, settings))
    assert settings is pool.settings
    for order in (pool.ready, pool.drain):
        turns.order(partial(order, "A"))
    client.sends()
    assert "450 4.7.1 later" == client.action()
    assert ["dunno 1", "450 4.7.1 later"] == [told["action"] for told in turns.told.named("pool.down")]


def test_a_client_has_the_name_by_which_it_was_handed_over(turns: Turns) -> None:
    """In what the log tells of it."""
    turns.start("A=127.0.0.1:1")
    client = turns.client("192.0.2.25:4711")
    client.send(b"nonsense\n\n")
    assert client.has_ended()
    assert ["192.0.2.25:4711"] == [told["client"] for told in turns.told.named("client.rejected")]


def test_clients_of_all_workers_end_when_what_they_asked_is_answered(turns: Turns) -> None:
    """At the end of the daemon: nothing more is read."""
    a = turns.service()
    turns.start(f"A={a.address}", workers=2, requests=RequestRules(hedge=HEDGE_OFF), health=NO_PROBE)
    asking, idle = turns.client(), turns.client()
    asking.sends(instance="last")
    link = a.accept()
    turns.pool.finish()
    assert idle.has_ended()
    assert asking.hears_nothing()
    link.serve("DUNNO at last")
    assert "DUNNO at last" == asking.action()
    assert asking.has_ended()
    assert 2 == turns.emptied


def test_a_pool_that_has_ended_has_nothing_to_tell(turns: Turns) -> None:
    """Who asks late gets no error."""
    turns.start(f"A={turns.service().address}")
    turns.pool.stop()
    assert (0, [], 0.0) == (turns.pool.status().workers, turns.pool.status().services, turns.pool.overdue_s())
