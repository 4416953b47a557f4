"""How a service that is down is found to be well again, without a live mail as guinea pig."""

from __future__ import annotations

import threading
import time

import pytest

from hapolicy.core.breaker import State
from hapolicy.core.protocol import AnswerReader, Request
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.relay import Affinity
from tests.proxy.scripted import Peer, Scripted, hang, refusing, well
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import SLACK_S, wait_until

COOLDOWN_S = 0.1
LIVE = Request(b"request=smtpd_access_policy\ninstance=live\n\n")


def health(probe: Probe = Probe.QUERY, cooldown_s: float = COOLDOWN_S) -> HealthRules:
    """Down at the first failure, and soon tried."""
    return HealthRules(fail_max=1, cooldown_s=cooldown_s, cooldown_max_s=4 * cooldown_s, probe=probe)


def ask(pool: Pool) -> bytes:
    """One live request."""
    return pool.relay.answer(LIVE, Affinity())


def wait_up(pool: Pool, index: int = 0) -> None:
    """Until a service is up."""
    wait_until(lambda: pool.upstreams[index].gate.state is State.UP, "the service is up")


@pytest.fixture
def gone() -> tuple[str, int]:
    """An address that nobody listens on."""
    host, _, port = refusing().rpartition(":")
    return host, int(port)


def test_a_query_finds_out(make_pool: MakePool, capture: Capture, gone: tuple[str, int]) -> None:
    """A made-up request, complete and recognisable, is answered, and the service is up again."""
    pool = make_pool(f"A={gone[0]}:{gone[1]}", health=health())
    pool.watch()
    assert b"action=dunno\n\n" == ask(pool)
    capture.wait("service.probe_failed")
    with Scripted(well(), gone) as service:
        wait_up(pool)
        (probe,) = service.requests
        assert b"action=DUNNO\n\n" == ask(pool)
        assert [probe, LIVE.raw] == service.requests
    attributes = Request(probe).attributes
    expected = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "client_address": "127.0.0.1",
        "client_name": "localhost",
        "helo_name": "hapolicy.invalid",
        "sender": "probe@hapolicy.invalid",
        "recipient": "probe@hapolicy.invalid",
        "policy_context": "hapolicy-probe",
    }
    assert expected == {name: attributes[name] for name in expected}
    assert "" != attributes["instance"]
    assert capture.wait("service.up")["down_s"] >= COOLDOWN_S * 0.9
    assert 0 == len(capture.named("service.failed")) - 1  # only the first live request was lost to it


def test_each_probe_has_an_instance_of_its_own(make_pool: MakePool) -> None:
    """A service that keeps state by instance must not take two probes for one mail."""

    def script(peer: Peer) -> None:
        while peer.request():
            if len(service.requests) > 3:
                peer.answer()
            else:
                peer.send(b"no\n")

    with Scripted(script) as service:
        pool = make_pool(f"A={service.address}", health=health())
        pool.watch()
        ask(pool)
        wait_up(pool)
        instances = [Request(raw).instance for raw in service.requests[1:]]
        assert 3 == len(set(instances)) == len(instances)


def test_a_service_that_only_connects_is_not_well(make_pool: MakePool, capture: Capture) -> None:
    """A query wants an answer: nonsense and silence keep a service down, for longer each time."""
    with Scripted(lambda peer: peer.send(b"nonsense\n")) as service:
        pool = make_pool(f"A={service.address}", health=health())
        pool.watch()
        ask(pool)
        cooldowns = [capture.wait("service.probe_failed", nth)["cooldown_s"] for nth in (1, 2, 3)]
    assert [pytest.approx(COOLDOWN_S * factor, rel=0.11) for factor in (2, 4)] == cooldowns[:2]
    assert COOLDOWN_S * 4 >= cooldowns[2] >= COOLDOWN_S * 4 * 0.9
    event = capture.named("service.probe_failed")[0]
    assert ("A", "malformed") == (event["service"], event["kind"])
    assert "nonsense" in event["error"]


def test_tcp_only_connects(make_pool: MakePool) -> None:
    """With --probe tcp no made-up request is sent, and a connection is enough."""
    with Scripted(hang) as service:
        pool = make_pool(f"A={service.address}:::0.1", health=health(Probe.TCP))
        pool.watch()
        ask(pool)
        wait_up(pool)
        wait_until(lambda: service.connections == 2, "the probe's connection")
        assert [LIVE.raw] == service.requests


def test_off_never_probes(make_pool: MakePool, gone: tuple[str, int]) -> None:
    """With --probe off nothing but a live request is sent."""
    pool = make_pool(f"A={gone[0]}:{gone[1]}", health=health(Probe.OFF, 0.02))
    pool.watch()
    ask(pool)
    with Scripted(well(), gone) as service:
        wait_until(lambda: pool.upstreams[0].available, "the cooldown is over")
        time.sleep(0.2)  # ten cooldowns, in which a probe would have come
        assert 0 == service.connections
        assert b"action=DUNNO\n\n" == ask(pool)
        assert [LIVE.raw] == service.requests


def test_a_hung_probe_delays_no_other(make_pool: MakePool) -> None:
    """A service that hangs in its probe is alone with it."""
    fails = threading.Event()

    def script(peer: Peer) -> None:
        while peer.request() and fails.is_set():
            peer.answer()

    with Scripted(hang) as hung, Scripted(script) as other:
        pool = make_pool(f"A={hung.address}:::30", f"B={other.address}:20", health=health(), deadline_s=0.3)
        pool.watch()
        ask(pool)  # A times out, and the deadline is over
        ask(pool)  # B ends the link
        wait_until(lambda: len(hung.requests) == 2, "A's probe hangs")
        start = time.monotonic()
        fails.set()
        wait_up(pool, 1)
        assert time.monotonic() - start < 4 * COOLDOWN_S * 1.1 + SLACK_S
        assert State.PROBING is pool.upstreams[0].gate.state


def test_live_requests_go_on_while_a_probe_hangs(make_pool: MakePool) -> None:
    """Nobody waits for it."""
    with Scripted(hang) as hung, Scripted(well("b")) as other:
        pool = make_pool(f"A={hung.address}:1::0.2", f"B={other.address}:2", health=health())
        pool.watch()
        ask(pool)
        wait_until(lambda: len(hung.requests) == 2, "the probe hangs")
        start = time.monotonic()
        assert [b"action=b\n\n"] * 20 == [ask(pool) for _ in range(20)]
        assert time.monotonic() - start < 0.1 + SLACK_S


def test_the_probe_comes_when_the_cooldown_ends(make_pool: MakePool) -> None:
    """Soon after, and not before."""
    with Scripted(hang) as service:
        pool = make_pool(f"A={service.address}:::0.05", health=health(cooldown_s=0.5))
        pool.watch()
        ask(pool)
        start = time.monotonic()
        wait_until(lambda: service.connections == 2, "a probe")
        assert 0.44 <= time.monotonic() - start < 0.55 + SLACK_S


def test_stopped(make_pool: MakePool, gone: tuple[str, int]) -> None:
    """After the stop there are no further probes."""
    pool = make_pool(f"A={gone[0]}:{gone[1]}", health=health())
    pool.watch()
    ask(pool)
    pool.stop()
    with Scripted(well(), gone) as service:
        time.sleep(3 * COOLDOWN_S)
        assert 0 == service.connections


def test_a_fault_of_ours_in_a_probe(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, gone: tuple[str, int]
) -> None:
    """It leaks no trial: the service is tried again."""
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    pool = make_pool(f"A={gone[0]}:{gone[1]}", health=health())
    monkeypatch.setattr(AnswerReader, "feed", lambda *_: 1 / 0)
    pool.watch()
    ask(pool)
    with Scripted(well(), gone):
        wait_until(lambda: raised, "the fault")
        monkeypatch.undo()
        wait_until(lambda: pool.upstreams[0].gate.state is not State.PROBING, "the trial is given back")
        wait_until(lambda: pool.upstreams[0].available, "the service is up, after one more cooldown", 3.0)
