"""One service in use: kept links, stale links, counters."""

from __future__ import annotations

import math
import re
import threading
import time
from pathlib import Path

import pytest

from hapolicy.core.failures import FailureKind, ServiceFailure
from tests.admin.asking import ANSWER, assert_counted, failure_of, soon
from tests.proxy.racing import race
from tests.proxy.scripted import REQUEST, Full, Peer, Scripted, hang, once, well
from tests.support.capture import Capture
from tests.support.fixtures import MakeUpstream
from tests.support.procs import wait_until


def test_a_kept_link_is_used_again(make_upstream: MakeUpstream) -> None:
    """Requests one after the other need one connection, and arrive byte for byte."""
    with Scripted(well()) as service:
        upstream = make_upstream(f"A={service.address}")
        requests = [REQUEST % b"%d" % number for number in range(50)]
        assert [ANSWER] * 50 == [upstream.ask(request, soon()) for request in requests]
        assert (1, requests) == (service.connections, service.requests)
        assert_counted(upstream, 50, 50)


def test_a_unix_socket(make_upstream: MakeUpstream, tmp_path: Path) -> None:
    """The same over a unix socket."""
    with Scripted(well(), str(tmp_path / "sock")) as service:
        upstream = make_upstream(f"A={service.address}")
        assert [ANSWER] * 3 == [upstream.ask(REQUEST, soon()) for _ in range(3)]
        assert 1 == service.connections


def test_requests_at_once_have_links_of_their_own(make_upstream: MakeUpstream) -> None:
    """Eight threads never get each other's answer, nor more links than there are threads."""
    with Scripted(well("DUNNO {instance}")) as service:
        upstream = make_upstream(f"A={service.address}")

        def ask(thread: int) -> None:
            for number in range(50):
                instance = b"%d.%d" % (thread, number)
                assert b"action=DUNNO %b\n\n" % instance == upstream.ask(REQUEST % instance, soon())

        race(*[lambda n=number: ask(n) for number in range(8)])
        assert service.connections <= 8
        assert_counted(upstream, 400, 400)


def test_a_stale_link_is_no_failure(make_upstream: MakeUpstream, capture: Capture) -> None:
    """A service that closes each link after its answer is asked again on a fresh one, and charged with nothing."""
    with Scripted(once(ANSWER)) as service:
        upstream = make_upstream(f"A={service.address}")
        assert [ANSWER] * 10 == [upstream.ask(REQUEST, soon()) for _ in range(10)]
        assert 10 == service.connections
        assert_counted(upstream, 10, 10)
    capture.close()
    assert [] == capture.named("service.failed")


def test_a_link_that_ends_when_it_is_asked_again(make_upstream: MakeUpstream) -> None:
    """The same when the kept link ends only after it took the next request."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.answer()
        if peer.number == 1:
            peer.request()
            peer.reset()

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}")
        assert [ANSWER] * 2 == [upstream.ask(REQUEST, soon()) for _ in range(2)]
        assert (2, 3) == (service.connections, len(service.requests))
        assert_counted(upstream, 2, 2)


def test_the_second_try_is_the_last(make_upstream: MakeUpstream) -> None:
    """When the fresh link fails too, that is one failure."""

    def script(peer: Peer) -> None:
        if peer.request() and peer.number == 1:
            peer.answer()

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}")
        upstream.ask(REQUEST, soon())
        failure = failure_of(upstream)
        assert (FailureKind.CLOSED, False, 2) == (failure.kind, failure.kept, service.connections)
        assert_counted(upstream, 2, 1, closed=1)


def test_a_service_that_restarted(make_upstream: MakeUpstream) -> None:
    """Links kept from before a restart cost no request, however many there are."""
    with Scripted(well()) as first:
        upstream = make_upstream(f"A={first.address}")
        race(*[lambda: upstream.ask(REQUEST, soon())] * 8)
        where = first.where
    with Scripted(well(), where) as second:
        for _ in range(10):
            assert ANSWER == upstream.ask(REQUEST, soon())
        assert 10 == len(second.requests)
    assert_counted(upstream, 18, 18)


def test_more_than_an_answer(make_upstream: MakeUpstream) -> None:
    """What came behind an answer never becomes the next one."""

    def script(peer: Peer) -> None:
        while request := peer.request():
            number = request.partition(b"instance=")[2].strip()
            peer.send(b"action=DUNNO %b\n\naction=STRAY\n\n" % number)

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}")
        for number in range(10):
            assert b"action=DUNNO %d\n\n" % number == upstream.ask(REQUEST % b"%d" % number, soon())
        assert 10 == service.connections
        assert_counted(upstream, 10, 10)


def test_a_late_stray_answer(make_upstream: MakeUpstream, capture: Capture) -> None:
    """What a service says later, on a kept link, is never taken for the answer to a later request."""
    strayed = threading.Event()

    def script(peer: Peer) -> None:
        while request := peer.request():
            number = request.partition(b"instance=")[2].strip()
            peer.answer(f"DUNNO {number.decode()}")
            peer.answer("STRAY")
            strayed.set()

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}")
        for number in range(10):
            assert b"action=DUNNO %d\n\n" % number == upstream.ask(REQUEST % b"%d" % number, soon())
            assert strayed.wait(5)
            strayed.clear()
        assert_counted(upstream, 10, 10)
    assert "A" == capture.wait("service.out_of_turn")["service"]


def test_an_answer_after_the_timeout(make_upstream: MakeUpstream) -> None:
    """The link of a request that was given up is not used again, so its late answer goes nowhere."""
    asked = threading.Event()

    def script(peer: Peer) -> None:
        while peer.request():
            if peer.number == 1:
                asked.wait(5)
            peer.answer(str(peer.number))

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}:::0.2")
        assert FailureKind.ANSWER_TIMEOUT is failure_of(upstream).kind
        asked.set()
        assert [b"action=2\n\n"] * 3 == [upstream.ask(REQUEST, soon()) for _ in range(3)]
        assert_counted(upstream, 4, 3, answer_timeout=1)


def test_what_is_left_of_the_deadline_is_what_was_waited(make_upstream: MakeUpstream) -> None:
    """The error of a request that had less time than the service's TIMEOUT does not claim that TIMEOUT."""
    with Scripted(hang) as service:
        upstream = make_upstream(f"A={service.address}:::30")
        error = failure_of(upstream, 0.3).error
    waited = re.fullmatch(r"no answer within (\S+) s", error)
    assert waited is not None, error
    assert 0 < float(waited[1]) <= 0.3
    with Full() as full:
        upstream = make_upstream(f"A={full.address}:::30", connect_timeout_s=0.2)
        assert "not connected within 0.2 s" == failure_of(upstream).error


def test_in_flight(make_upstream: MakeUpstream) -> None:
    """A request that waits for its answer is counted as in flight."""
    with Scripted(hang) as service:
        upstream = make_upstream(f"A={service.address}:::5")
        thread = threading.Thread(target=lambda: failure_of(upstream))
        thread.start()
        wait_until(lambda: service.requests, "a request in flight")
        assert (1, (1, 0, 0)) == (upstream.counters().in_flight, upstream.totals())
    thread.join(5)
    assert_counted(upstream, 1, 0, closed=1)


def test_a_service_is_stalled_while_it_owes_answers_and_gives_none(
    make_upstream: MakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while nothing is asked, nor when one of many waits for long while others are answered."""
    monkeypatch.setattr("hapolicy.proxy.upstream.STALLED_AFTER_S", 0.1)
    with Scripted(lambda peer: (hang if peer.number == 1 else well())(peer)) as service:
        upstream = make_upstream(f"A={service.address}:::5")
        time.sleep(0.2)
        assert not upstream.stalled
        thread = threading.Thread(target=lambda: failure_of(upstream))
        thread.start()
        wait_until(lambda: service.requests, "a request in flight")
        assert not upstream.stalled
        wait_until(lambda: upstream.stalled, "stalled")
        upstream.ask(REQUEST, soon())
        assert not upstream.stalled
        wait_until(lambda: upstream.stalled, "stalled again")
        upstream.probe(REQUEST)
        assert not upstream.stalled
    thread.join(5)
    assert not upstream.stalled


def test_idle_links_are_dropped(make_upstream: MakeUpstream) -> None:
    """Those that are older than the limit, no others."""
    ended = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        well()(peer)
        ended.release()

    with Scripted(script) as service:
        upstream = make_upstream(f"A={service.address}")
        upstream.ask(REQUEST, soon())
        upstream.drop_idle_links()
        upstream.ask(REQUEST, soon())
        assert 1 == service.connections
        upstream.drop_idle_links(idle_max_s=0)
        assert ended.acquire(timeout=5)
        upstream.ask(REQUEST, soon())
        assert 2 == service.connections
        assert_counted(upstream, 3, 3)


def test_a_probe_is_no_query(make_upstream: MakeUpstream) -> None:
    """It asks on a fresh link, or only connects; its outcome is told by whether it raises."""
    with Scripted(well()) as service:
        upstream = make_upstream(f"A={service.address}")
        upstream.ask(REQUEST, soon())
        upstream.probe(REQUEST)
        assert 2 == service.connections
        upstream.probe(None)
        wait_until(lambda: service.connections == 3, "the connection of a probe")
        assert 2 == len(service.requests)
        assert_counted(upstream, 1, 1)
    for request in (REQUEST, None):
        with pytest.raises(ServiceFailure, match="refused"):
            upstream.probe(request)
    assert_counted(upstream, 1, 1)


def test_a_probe_of_a_hung_service_ends(make_upstream: MakeUpstream) -> None:
    """After the service's own timeout."""
    with Scripted(hang) as service:
        upstream = make_upstream(f"A={service.address}:::0.2")
        with pytest.raises(ServiceFailure, match="answer_timeout"):
            upstream.probe(REQUEST)
        assert math.isclose(0, upstream.counters().queries)
