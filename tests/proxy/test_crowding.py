"""Services that serve fewer connections at once than they are offered."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

from hapolicy.core.rules import HealthRules
from hapolicy.proxy.pool import Pool
from tests.proxy.asking import client_of, service_of
from tests.proxy.scripted import Peer, Scripted
from tests.support import frail
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until
from tests.support.sample import Sample

WORKERS = 2
CLIENTS = 12


def test_nobody_waits_in_vain_for_one_of_few_workers(make_pool: MakePool) -> None:
    """Who waits in the listen backlog is answered on a connection that is served."""
    with Sample("A", program=(*frail.PROGRAM, str(WORKERS))) as service:
        pool = make_pool(service.service(":1:1:5"))
        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = [answer for each in clients.map(_ask_often, [pool] * CLIENTS) for answer in each]
        assert ["DUNNO"] * len(answers) == [answer.split()[0] for answer in answers]
        assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def test_a_service_that_pauses_loses_nobody(make_pool: MakePool, capture: Capture) -> None:
    """Stopped while a hundred clients come at once, and again: all are served when it goes on.

    An answer to a request that was taken over in this very turn is not spoken out of turn. That the pause itself is no
    crowding is judged in test_backlog: where the machine is busy, the service may be slow to take connections, too.
    """
    clients_at_once = 150
    with Sample("A") as service, ThreadPoolExecutor(clients_at_once) as clients:
        pool = make_pool(service.service(":1:1:3"), "B=127.0.0.1:9:2")
        for _ in range(3):
            asking = [clients.submit(_ask_often, pool, 40) for _ in range(clients_at_once)]
            wait_until(lambda: service_of(pool).answers, "the first answers")
            service.pause()
            time.sleep(1.6)  # longer than half of its TIMEOUT
            service.resume()
            answers = [answer for each in asking for answer in each.result()]
            assert {"DUNNO"} == {answer.split()[0] for answer in answers}
        told = {event["event"] for event in capture.close() if event.get("service") == "A"}
        assert told <= {"service.silent", "request.hedged", "service.crowded"}


def _ask_often(pool: Pool, times: int = 20) -> list[str]:
    with client_of(pool) as client:
        return [client.ask() for _ in range(times)]


def test_a_probe_finds_a_worker(make_pool: MakePool) -> None:
    """An idle connection of ours gives way to it, where it holds the only one."""
    with Sample("A", program=(*frail.PROGRAM, "1")) as service:
        pool = make_pool(service.service(":1:1:1"), health=HealthRules(probe_every_s=0.5))
        with client_of(pool) as client:
            assert client.ask().startswith("DUNNO")
            wait_until(lambda: service_of(pool).probes_answered >= 3, "probes")
        assert (0, "up") == (service_of(pool).probes_failed, service_of(pool).state)


def test_a_service_of_which_every_third_answer_hangs_is_found_out(make_pool: MakePool, capture: Capture) -> None:
    """A probe of it that hangs is no one who waits for a worker, though mail is answered meanwhile."""
    numbers = itertools.count(1)

    def script(peer: Peer) -> None:
        while peer.request():
            if next(numbers) % 3 == 0:
                peer.ending.wait(20)
                return
            peer.answer()

    with Scripted(script) as service, Sample("B") as other:
        pool = make_pool(f"A={service.address}:::0.2", other.service(":20"))
        with client_of(pool) as client:
            answers = [client.ask(client_address=f"192.0.2.{number}") for number in range(60)]
        assert {"DUNNO"} == {answer.split()[0] for answer in answers}
        # By which is a matter of whose turn the third one is.
        assert capture.wait("service.down")["kind"] in ("fail_rate", "answer_timeout")
