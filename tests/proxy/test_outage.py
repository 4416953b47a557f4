"""An outage, no service being up, is told when it begins and when it ends, whatever brought it about."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial

import pytest

from hapolicy.admin.operations import Operations
from hapolicy.config.settings import Settings
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.core.service import parse_service
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.relay import Affinity
from tests.proxy.racing import fast_switching, race
from tests.proxy.scripted import REQUEST, Scripted, refusing, well
from tests.support.capture import Capture, Event
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until

# Less than what the recovery thread sleeps when nothing wakes it.
SOON_S = 5.0
SLOW = HealthRules(fail_max=1, cooldown_s=60)


def ask(pool: Pool) -> bytes:
    """One live request."""
    return pool.relay.answer(Request(REQUEST % b""), Affinity())


def operator(pool: Pool) -> Operations:
    """Who acts on `pool`."""
    return Operations(lambda: pool, lambda: (0, 1, 0.0), pool._log, Future)


def told(capture: Capture) -> list[Event]:
    """What was said about the pool so far."""
    return [event for event in capture.events[:] if event["event"].startswith("pool.")]


def wait_told(capture: Capture, *names: str) -> Event:
    """Wait until exactly this was said about the pool, soon; returns the last event."""
    wait_until(lambda: len(told(capture)) >= len(names), f"{names}", SOON_S)
    assert list(names) == [event["event"] for event in told(capture)]
    return told(capture)[-1]


@pytest.mark.parametrize(("away", "back", "state"), [("trip", "reset", "down"), ("drain", "ready", "draining")])
def test_an_operator_takes_out_the_last_service(
    make_pool: MakePool, capture: Capture, away: str, back: str, state: str
) -> None:
    """Not before the last; the error names what each service is, and what requests get."""
    pool = make_pool("A=127.0.0.1:9", "B=127.0.0.1:9", default_action="DEFER x", health=SLOW)
    pool.watch()
    operations = operator(pool)
    operations.drain("A")
    operations.ready("A")
    operations.drain("A")
    getattr(operations, away)("B")
    down = wait_told(capture, "pool.down")
    assert ("error", "DEFER x", {"A": "draining", "B": state}) == (down["level"], down["action"], down["services"])
    getattr(operations, back)("B")
    up = wait_told(capture, "pool.down", "pool.up")
    assert "info" == up["level"]
    assert 0 <= up["down_s"] < SOON_S


def test_the_last_service_fails_and_recovers(make_pool: MakePool, capture: Capture) -> None:
    """A live request finds out the one, a probe the other."""
    address = refusing()
    host, _, port = address.rpartition(":")
    health = HealthRules(fail_max=1, cooldown_s=0.2, cooldown_max_s=0.2)
    pool = make_pool(f"A={address}", health=health)
    pool.watch()
    ask(pool)
    wait_told(capture, "pool.down")
    capture.wait("service.probe_failed", 2)
    with Scripted(well(), (host, int(port))):
        assert wait_told(capture, "pool.down", "pool.up")["down_s"] >= 2 * 0.2 * 0.9


def test_a_reload_brings_and_takes_the_only_service_that_is_up(make_pool: MakePool, capture: Capture) -> None:
    """The outage goes on over a reload that leaves only what is down, and ends with one that brings something new."""
    pool = make_pool("A=127.0.0.1:9", "B=127.0.0.1:9", health=SLOW)
    pool.watch()
    operator(pool).trip("A")
    for definitions, said in [
        (["A=127.0.0.1:9"], ["pool.down"]),
        (["A=127.0.0.1:9:20"], ["pool.down"]),
        (["A=127.0.0.1:9", "C=127.0.0.1:9"], ["pool.down", "pool.up"]),
    ]:
        pool = Pool(Settings(services=tuple(map(parse_service, definitions)), health=SLOW), pool._log, pool)
        pool.watch()
        wait_told(capture, *said)


def test_without_probes_the_outage_ends_with_an_answer(make_pool: MakePool, capture: Capture) -> None:
    """A cooldown that is over ends nothing: the next request is only a trial, and may fail."""
    address = refusing()
    host, _, port = address.rpartition(":")
    health = HealthRules(fail_max=1, cooldown_s=0.05, cooldown_max_s=0.05, probe=Probe.OFF)
    pool = make_pool(f"A={address}", health=health)
    pool.watch()
    ask(pool)
    for nth in (1, 2, 3):
        wait_until(lambda: pool.upstreams[0].available, "the cooldown is over")
        assert b"action=dunno\n\n" == ask(pool)
        capture.wait("service.probe_failed", nth)
    wait_told(capture, "pool.down")
    wait_until(lambda: pool.upstreams[0].available, "the cooldown is over")
    with Scripted(well(), (host, int(port))):
        assert b"action=DUNNO\n\n" == ask(pool)
        wait_told(capture, "pool.down", "pool.up")


def test_many_find_out_at_once(make_pool: MakePool, capture: Capture) -> None:
    """However many threads see the last services go, and an operator with them: each outage is told once."""
    rounds = 10
    with fast_switching():
        for nth in range(1, rounds + 1):
            pool = make_pool(f"A={refusing()}", f"B={refusing()}", health=SLOW)
            pool.watch()
            operations = operator(pool)
            race(*[partial(ask, pool)] * 8, partial(operations.trip, "A"))
            capture.wait("pool.down", nth)
            race(*[partial(operations.reset, name) for name in "ABAB"])
            capture.wait("pool.up", nth)
            pool.stop()
    capture.close()
    assert ["pool.down", "pool.up"] * rounds == [event["event"] for event in told(capture)]
