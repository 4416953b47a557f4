"""Workers with real sockets: reloads, several of them, queries, the end."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from examples.policy_service import SampleService
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.core.service import parse_service
from hapolicy.daemon.process import tell_status
from hapolicy.proxy.pool import Answered, UnknownService
from tests.proxy.asking import ask_at_once, client_of, service_of
from tests.proxy.turns import Turns
from tests.support.capture import Capture
from tests.support.client import request
from tests.support.fixtures import MakePool
from tests.support.procs import PATIENCE_S, wait_until


def test_a_drain_survives_a_changed_address(make_pool: MakePool) -> None:
    """A reload keeps what an operator has decided; and health where the address stays."""
    a, moved, b = SampleService("A"), SampleService("moved"), SampleService("B")
    pool = make_pool(f"A={a.listen}", f"B={b.listen}")
    pool.drain("A")
    pool.trip("B")
    services = (parse_service(f"A={moved.listen}"), parse_service(f"B={b.listen}:5"))
    pool.adopt(replace(pool.settings, services=services))
    assert ("draining", 5) == (service_of(pool).state, service_of(pool, "B").prio)
    assert service_of(pool, "B").state in ("down", "probing", "up")
    pool.ready("A")
    wait_until(lambda: service_of(pool, "B").state == "up", "a probe")
    assert {"B"} == {answer.split()[1] for answer in ask_at_once(pool, 4)}


def test_a_service_that_is_configured_no_more_ends(make_pool: MakePool) -> None:
    """What it was asked is answered; then no connection to it is left, and nothing of it is kept."""
    a, b = SampleService("A"), SampleService("B")
    a.set_fault("slow", 0.3)
    pool = make_pool(f"A={a.listen}", f"B={b.listen}:20")
    with client_of(pool) as client:
        client.send(request(instance="last"))
        wait_until(lambda: a.stats()["requests"] == 1, "A to be asked")
        pool.adopt(replace(pool.settings, services=(parse_service(f"B={b.listen}:20"),)))
        assert "DUNNO A last" == client.action()
        assert client.ask().startswith("DUNNO B")
    wait_until(lambda: a.stats()["open"] == 0, "its connections' end")
    wait_until(lambda: len(pool.workers[0].connections) == 1, "it to be forgotten")


def test_a_worker_that_ends_unasked_says_so(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, capture: Capture
) -> None:
    """As when its last client goes: under --stdio the process would stay. A status then is no reason to end."""
    monkeypatch.setattr("hapolicy.proxy.pool._CALL_MAX_S", 0.2)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    emptied = threading.Event()
    pool = make_pool("A=127.0.0.1:1", on_empty=emptied.set)
    pool.workers[0].post(sys.exit)
    assert emptied.wait(PATIENCE_S)
    tell_status(pool, capture.log)
    assert "the event loop does not answer" in capture.wait("daemon.error")["error"]


@pytest.mark.parametrize("workers", [1, 3])
def test_several_workers(make_pool: MakePool, workers: int) -> None:
    """Each has its own clients; what they say is added up, and orders reach all of them."""
    services = [SampleService(name) for name in "AB"]
    pool = make_pool(*(f"{service.name}={service.listen}" for service in services), workers=workers)
    ask_at_once(pool, 30)
    status = pool.status()
    assert (workers, 30) == (status.workers, sum(service.answers for service in status.services))
    assert [("answered", "RCPT", 30)] == status.requests
    pool.drain("A")
    assert {"B"} == {answer.split()[1] for answer in ask_at_once(pool, 12)}
    assert set(pool.heartbeat_ages_s()) == {f"worker-{number}" for number in range(workers)}


def test_a_query_goes_past_the_health_of_a_service(make_pool: MakePool) -> None:
    """And counts for nothing."""
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    pool.trip("A")
    answered = pool.query(Request(request(instance="q")), "A")
    assert ("DUNNO A q", "A") == (answered.action, answered.service)
    assert 0 == service_of(pool).queries
    wait_until(lambda: pool.query(Request(request(instance="r"))).service == "A", "a probe to bring it back")


def test_nothing_is_left_open_after_the_end(make_pool: MakePool) -> None:
    """No socket, no thread."""
    import os

    before = len(os.listdir("/proc/self/fd"))
    service = SampleService("A")
    pool = make_pool(f"A={service.listen}")
    ask_at_once(pool, 10)
    pool.stop()
    service.set_fault("refuse")
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "as many descriptors as before")
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker")]


def test_a_shorter_deadline_judges_nobody_who_asked_before(make_pool: MakePool) -> None:
    """A client that waits under the former deadline is not overdue: the watchdog must not end the daemon for it."""
    service = SampleService("A")
    service.set_fault("slow", 1.2)
    pool = make_pool(f"A={service.listen}", requests=RequestRules(deadline_s=10))
    with client_of(pool) as client, client_of(pool) as later:
        client.send(request(instance="before"))
        wait_until(lambda: service_of(pool).in_flight == 1, "the request at its service")
        pool.adopt(replace(pool.settings, requests=RequestRules(deadline_s=0.3)))
        later.send(request(instance="after"))
        assert "dunno" == later.action()
        assert 0 == pool.overdue_s()
        assert "DUNNO A before" == client.action()


def test_a_fault_by_the_clock_stops_neither_mail_nor_clock(make_pool: MakePool) -> None:
    """What is done some forty times a second fails each time, and is tried no more often for that."""
    pool = make_pool(f"A={SampleService('A').listen}")
    (worker,) = pool.workers
    ticks = []

    def fail(now: float) -> float:
        ticks.append(now)
        raise ZeroDivisionError

    worker.on_tick = fail
    with client_of(pool) as client:
        assert client.ask().startswith("DUNNO")
        time.sleep(0.5)
        assert client.ask().startswith("DUNNO")
    assert 3 <= len(ticks) <= 25


def test_a_worker_that_does_not_end_is_left_to_itself(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds it up: what is its own is not closed under its hands. The others are ended as ever."""
    monkeypatch.setattr("hapolicy.proxy.pool._CALL_MAX_S", 0.05)
    pool = make_pool("A=127.0.0.1:1", workers=2)
    held_up, well = pool.workers
    goes_on = threading.Event()

    def hold_up() -> None:
        goes_on.wait(PATIENCE_S)

    held_up.post(hold_up)
    pool.stop()
    assert (False, True) == (held_up.stopped.is_set(), well.stopped.is_set())
    assert ([], {}) == (pool.workers, well.peers)
    assert held_up.peers
    goes_on.set()
    assert held_up.stopped.wait(PATIENCE_S)
    held_up.close_loop()


# Turn by turn

UNPROBED = HealthRules(probe=Probe.OFF)


def test_a_query_of_all_services_goes_the_way_of_a_clients_request(turns: Turns) -> None:
    """It is asked of the next service where one fails, is counted, and is told which one answered, and when."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}", f"B={b.address}:20", health=UNPROBED, log_requests=True)
    query = turns.begin(lambda: turns.pool.query(Request(request(instance="q"))))
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
    turns.start(f"A={a.address}", health=UNPROBED, requests=RequestRules(default_action="450 4.7.1 later"))
    assert Answered("450 4.7.1 later", None, 0.0) == turns.finish(lambda: turns.pool.query(Request(request())))


def test_a_query_of_one_service_tells_how_it_failed(turns: Turns) -> None:
    """Whatever the others might say."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:::2", f"B={b.address}", health=UNPROBED)
    query = turns.begin(lambda: turns.pool.query(Request(request()), "A"))
    a.accept()
    turns.wait(2.1)
    turns.until(query.done)
    assert "answer_timeout: no answer within 2 s" == str(query.exception())
    assert b.is_left_alone()
    query = turns.begin(lambda: turns.pool.query(Request(request(instance="q")), "A"))
    assert b"instance=q" in a.accept().serve("OK")
    turns.until(query.done)
    assert Answered("OK", "A", 0.0) == query.result()


def test_a_query_is_given_up_some_time_after_its_service_should_have_been(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the worker has not noticed that its time is over."""
    monkeypatch.setattr("hapolicy.proxy.pool._QUERY_MARGIN_S", 0.05)
    a = turns.service()
    turns.start(f"A={a.address}:::0.01", health=UNPROBED, requests=RequestRules(deadline_s=0.01))
    for name in (None, "A"):
        query = turns.begin(partial(turns.pool.query, Request(request()), name))
        a.accept()
        turns.until(query.done)
        assert (TimeoutError, "no answer") == (type(query.exception()), str(query.exception()))


def test_orders_of_a_service_that_there_is_not(turns: Turns) -> None:
    """Are refused, with the names that there are."""
    turns.start("A=127.0.0.1:1", "B=127.0.0.1:2")
    pool = turns.pool
    for order in (pool.drain, pool.ready, pool.trip, pool.reset, partial(pool.query, Request(request()))):
        with pytest.raises(UnknownService, match=r"^no service 'C'; there are: A, B$"):
            turns.finish(partial(order, "C"))


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
    turns.start(f"A={a.address}", workers=2, health=UNPROBED, requests=RequestRules(deadline_s=2.0, hedge=HEDGE_OFF))
    assert 0.0 == turns.finish(turns.pool.overdue_s)
    for client in [turns.client() for _ in range(2)]:
        client.sends()
        turns.stand_still(0.5)
    turns.turn()
    assert 0.0 == turns.finish(turns.pool.overdue_s)
    for worker in turns.pool.workers:
        worker.on_tick = lambda now: 0.025  # it does not look at its deadlines
    turns.stand_still(1.5)
    assert 0.5 == turns.finish(turns.pool.overdue_s)


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
    turns.start(f"A={a.address}", workers=2, health=UNPROBED)
    turns.finish(lambda: turns.pool.trip("A"))
    assert ["down", "down"] == [worker.plan.upstreams[0].state for worker in turns.pool.workers]
    turns.finish(lambda: turns.pool.reset("A"))
    assert ["up", "up"] == [worker.plan.upstreams[0].state for worker in turns.pool.workers]
    turns.client().sends()
    a.accept().serve()
