"""Workers with real sockets: reloads, several of them, queries, the end."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from examples.policy_service import SampleService
from hapolicy.core.protocol import Request
from hapolicy.core.rules import RequestRules
from hapolicy.core.service import parse_service
from hapolicy.daemon.process import tell_status
from hapolicy.proxy.pool import UnknownService
from tests.proxy.asking import ask_at_once, client_of, service_of
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


@pytest.mark.parametrize(("before", "after", "most"), [(4, 1, 5), (1, 4, 8), (4, 1, 2)])
def test_another_number_of_workers_changes_no_limit(make_pool: MakePool, before: int, after: int, most: int) -> None:
    """It takes a restart: max=N is divided by the workers that there are, each of which needs a connection."""
    pool = make_pool("A=127.0.0.1:9", workers=before)
    pool.adopt(replace(pool.settings, workers=after, services=(parse_service(f"A=127.0.0.1:9,max={most}"),)))
    limits = [connections.limit for worker in pool.workers for connections in worker.connections.values()]
    assert [max(1, most // before)] * before == limits


def test_reloads_leave_the_shares_as_they_are(make_pool: MakePool) -> None:
    """Of services that stay, however often a file is read again."""
    pool = make_pool("A=127.0.0.1:9:10:3", "B=127.0.0.1:9:10:2", "C=127.0.0.1:9:10:1")
    taken: Counter[str] = Counter()
    for number in range(60):
        if number % 2 == 0:
            pool.adopt(pool.settings)
        upstream = pool.workers[0].plan.scheduler.turn()
        assert upstream is not None
        taken[upstream.name] += 1
    assert {"A": 30, "B": 20, "C": 10} == taken


def test_a_reload_that_waits_in_vain_leaves_no_worker_behind(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stood still: all go by the new settings once they turn again."""
    monkeypatch.setattr("hapolicy.proxy.pool._CALL_MAX_S", 0.1)
    monkeypatch.setattr("hapolicy.net.loop._AFTER_A_PAUSE_S", 0.1)
    pool = make_pool("A=127.0.0.1:9", workers=2)
    held = threading.Event()
    pool.workers[0].post(held.wait)
    with pytest.raises(TimeoutError):
        pool.adopt(replace(pool.settings, services=(parse_service("B=127.0.0.1:9"),)))
    assert ["B"] == [service.name for service in pool.settings.services]
    assert ["B"] == [upstream.name for upstream in pool.workers[1].plan.upstreams]
    held.set()
    wait_until(lambda: ["B"] == [upstream.name for upstream in pool.workers[0].plan.upstreams], "the late one")


def test_an_order_that_a_worker_cannot_carry_out_reaches_the_others(make_pool: MakePool) -> None:
    """In the middle of a reload one of them knows the service no more, or not yet."""
    pool = make_pool("A=127.0.0.1:9", workers=2)
    pool._services[0].reconfigure(replace(pool.settings, services=(parse_service("B=127.0.0.1:9"),)))
    with pytest.raises(UnknownService):
        pool.drain("A")
    assert pool.workers[1].plan.upstreams[0].draining


def test_a_call_in_a_pause_of_the_process(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for it is over before the worker has had its turn: it gets one."""
    monkeypatch.setattr("hapolicy.proxy.pool._CALL_MAX_S", 0.1)
    pool = make_pool("A=127.0.0.1:9")
    pool.workers[0].post(lambda: time.sleep(0.4))
    pool.adopt(pool.settings)


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
