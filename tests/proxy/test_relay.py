"""One request in, one answer out: failover, favourites, the deadline, the default action."""

from __future__ import annotations

import time

import pytest

from hapolicy.core.failures import FailureKind
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.relay import Affinity
from hapolicy.proxy.upstream import Upstream
from tests.proxy.scripted import Script, Scripted, hang, once, refusing, well
from tests.support.capture import Capture, Event
from tests.support.fixtures import MakePool
from tests.support.procs import SLACK_S

RAW = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_name=mail.example.com\nclient_address=192.0.2.7\n"
    b"helo_name=mx\nsender=from@example.com\nrecipient=to@example.org\nqueue_id=8045F2AB23\ninstance=%b\n\n"
)


def request(instance: str = "") -> Request:
    """A request of this mail."""
    return Request(RAW % instance.encode())


def ask(pool: Pool, instance: str = "", affinity: Affinity | None = None) -> str:
    """The action for one request."""
    answer = pool.relay.answer(request(instance), affinity or Affinity())
    assert answer.startswith(b"action=")
    assert answer.endswith(b"\n\n")
    return answer[7:-2].decode()


def without_common(event: Event) -> Event:
    """An event's own fields."""
    return {name: value for name, value in event.items() if name not in ("timestamp", "level", "event", "delay_ms")}


def test_tiers_in_order(make_pool: MakePool) -> None:
    """Prio 9 before 10, and nobody else is asked while it answers."""
    with Scripted(well("ten")) as ten, Scripted(well("nine")) as nine:
        pool = make_pool(f"TEN={ten.address}:10", f"NINE={nine.address}:9")
        assert ["nine"] * 5 == [ask(pool) for _ in range(5)]
        assert 0 == ten.connections


def test_weights(make_pool: MakePool) -> None:
    """2:1 within a tier."""
    with Scripted(well("a")) as a, Scripted(well("b")) as b:
        pool = make_pool(f"A={a.address}::2", f"B={b.address}::1")
        assert "abaabaaba" == "".join(ask(pool) for _ in range(9))


FAULTS: dict[str, tuple[Script, str]] = {
    "reset": (lambda peer: peer.reset() if peer.request() else None, "closed"),
    "half": (once(b"action=DUN"), "closed"),
    "garbage": (once(b"HTTP/1.1 200 OK\n\n"), "malformed"),
    "oversized": (once(b"action=" + b"x" * 100_000), "oversized"),
    "hang": (hang, "answer_timeout"),
}


@pytest.mark.parametrize(("script", "kind"), FAULTS.values(), ids=FAULTS.keys())
def test_failover(make_pool: MakePool, capture: Capture, script: Script, kind: str) -> None:
    """Whatever fails, the next one answers: first in the same tier, then in the next one."""
    with Scripted(script) as a, Scripted(script) as b, Scripted(well("c")) as c:
        pool = make_pool(
            f"A={a.address}:1::0.2", f"B={b.address}:1::0.2", f"C={c.address}:2", health=HealthRules(fail_max=1)
        )
        assert "c" == ask(pool, "1.2")
        assert (1, 1) == (len(a.requests), len(b.requests))
        assert "c" == ask(pool)
        assert (1, 1) == (a.connections, b.connections)  # they are down, and nobody waits for them again
    capture.close()
    names = ("service", "kind", "link", "instance")
    failed = [tuple(event[name] for name in names) for event in capture.named("service.failed")]
    assert [("A", kind, "fresh", "1.2"), ("B", kind, "fresh", "1.2")] == failed
    assert [("A", kind), ("B", kind)] == [(event["service"], event["kind"]) for event in capture.named("service.down")]
    assert [] == capture.named("request.defaulted")


def test_the_default_action(make_pool: MakePool, capture: Capture) -> None:
    """When nobody answers the client has the default action, and the log what each service failed of."""
    a, b = refusing(), refusing()
    pool = make_pool(f"A={a}", f"B={b}:20", default_action="DEFER_IF_PERMIT x", health=HealthRules(fail_max=1))
    assert "DEFER_IF_PERMIT x" == ask(pool, "1.2")
    mail = {
        "client": "mail.example.com[192.0.2.7]",
        "helo": "mx",
        "from": "from@example.com",
        "to": "to@example.org",
        "protocol_state": "RCPT",
        "queue_id": "8045F2AB23",
    }
    expected = {
        "action": "DEFER_IF_PERMIT x",
        "failures": {"A": "refused", "B": "refused"},
        "attempts": 2,
        "instance": "1.2",
        **mail,
    }
    assert expected == without_common(capture.wait("request.defaulted"))
    start = time.monotonic()
    assert "DEFER_IF_PERMIT x" == ask(pool, "1.3")
    assert time.monotonic() - start < SLACK_S
    expected |= {"failures": {"A": "down", "B": "down"}, "attempts": 0, "instance": "1.3"}
    assert expected == without_common(capture.wait("request.defaulted", nth=2))
    assert "error" == capture.named("request.defaulted")[0]["level"]


def test_a_mail_stays_with_its_service(make_pool: MakePool) -> None:
    """Requests of one instance on one connection go where the first went; turns count mails."""
    with Scripted(well("a")) as a, Scripted(well("b")) as b:
        pool = make_pool(f"A={a.address}", f"B={b.address}")
        affinity = Affinity()
        mails = [[ask(pool, f"mail{number}", affinity) for _ in range(4)] for number in range(4)]
        assert [["a"] * 4, ["b"] * 4, ["a"] * 4, ["b"] * 4] == mails


def test_requests_without_an_instance_belong_to_no_mail(make_pool: MakePool) -> None:
    """They take turns, as do those of other connections."""
    with Scripted(well("a")) as a, Scripted(well("b")) as b:
        pool = make_pool(f"A={a.address}", f"B={b.address}")
        affinity = Affinity()
        assert ["a", "b", "a", "b"] == [ask(pool, "", affinity) for _ in range(4)]
        assert ["a", "b", "a", "b"] == [ask(pool, "same", Affinity()) for _ in range(4)]


def test_a_favourite_that_fails_is_left(make_pool: MakePool) -> None:
    """The mail goes on with whoever answered instead, and stays there."""
    with Scripted(well("b")) as b:
        with Scripted(well("a")) as a:
            pool = make_pool(f"A={a.address}", f"B={b.address}")
            affinity = Affinity()
            assert "a" == ask(pool, "mail", affinity)
        assert ["b"] * 4 == [ask(pool, "mail", affinity) for _ in range(4)]
        assert 1 == pool.upstreams[0].totals()[2]  # it was asked once, not for each recipient


def test_the_deadline_bounds_all_services_together(make_pool: MakePool, capture: Capture) -> None:
    """However many hang, the default action comes in time."""
    with Scripted(hang) as service:
        pool = make_pool(*(f"{name}={service.address}:::5" for name in "ABC"), deadline_s=0.4)
        start = time.monotonic()
        assert "dunno" == ask(pool)
        assert 0.39 <= time.monotonic() - start < 0.4 + SLACK_S
    event = capture.wait("request.defaulted")
    assert (1, "answer_timeout") == (event["attempts"], event["failures"]["A"])
    assert 390 < event["delay_ms"] < 400 + 1000 * SLACK_S


def test_who_was_not_asked_for_want_of_time_is_not_called_down(make_pool: MakePool, capture: Capture) -> None:
    """The log must not say that a service is down when it is well and there was only no time to ask it."""
    with Scripted(hang) as hung, Scripted(well()) as fine:
        pool = make_pool(f"A={hung.address}:1:1:5", f"B={fine.address}:2", deadline_s=0.2)
        assert "dunno" == ask(pool)
        assert 0 == fine.connections
    assert "down" != capture.wait("request.defaulted")["failures"].get("B")


def test_later_services_have_what_is_left_of_the_time(make_pool: MakePool) -> None:
    """A service's timeout is cut short by the deadline, and a later one may still answer before it."""
    with Scripted(hang) as hung, Scripted(well("b")) as fine:
        pool = make_pool(f"A={hung.address}:1:1:0.2", f"B={fine.address}:2", deadline_s=5)
        start = time.monotonic()
        assert "b" == ask(pool)
        assert 0.19 <= time.monotonic() - start < 0.2 + SLACK_S


def test_answered_requests_are_logged_when_wanted(make_pool: MakePool, capture: Capture) -> None:
    """With the service's definition, its counters, the mail, the action and how many were asked."""
    with Scripted(well("REJECT né\x1b")) as service:
        pool = make_pool(f"A={refusing()}:1", f"B={service.address}:2:2.5", log_requests=True)
        ask(pool, "1.2")
        event = capture.wait("request.answered")
        expected = {
            "service": "B",
            "address": service.address,
            "prio": 2,
            "weight": 2.5,
            "queries": 1,
            "answers": 1,
            "failed": 0,
            "client": "mail.example.com[192.0.2.7]",
            "helo": "mx",
            "from": "from@example.com",
            "to": "to@example.org",
            "action": "REJECT né\\x1b",
            "protocol_state": "RCPT",
            "instance": "1.2",
            "queue_id": "8045F2AB23",
            "attempts": 2,
        }
        assert expected == without_common(event)
        assert 0 < event["delay_ms"] < 5000


def test_without_logging_an_answer_is_no_event(make_pool: MakePool, capture: Capture) -> None:
    """Only what went wrong is."""
    with Scripted(well()) as service:
        ask(make_pool(f"A={service.address}"))
    assert [] == [event["event"] for event in capture.close()]


def test_without_a_probe_a_live_request_is_the_trial(make_pool: MakePool, capture: Capture) -> None:
    """It is answered, by the trial or by the next service, and the trial's outcome is told."""
    health = HealthRules(fail_max=1, cooldown_s=0.05, cooldown_max_s=0.05, probe=Probe.OFF)
    with Scripted(well("b")) as b:
        with Scripted(well("a")) as a:
            where, definitions = a.where, (f"A={a.address}:1", f"B={b.address}:2")
        pool = make_pool(*definitions, health=health)
        assert "b" == ask(pool)
        time.sleep(0.06)  # the cooldown
        assert "b" == ask(pool)
        assert "refused" == capture.wait("service.probe_failed")["kind"]
        with Scripted(well("a"), where):
            time.sleep(0.06)
            assert "a" == ask(pool)
            assert "A" == capture.wait("service.up")["service"]


def test_a_want_of_ours_charges_no_service(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault on this host's side leaves the service up, however often."""
    from hapolicy.core.failures import ServiceFailure

    def ask_nobody(*_: object) -> bytes:
        raise ServiceFailure(FailureKind.LOCAL, "too many open files")

    pool = make_pool(f"A={refusing()}")
    monkeypatch.setattr(Upstream, "ask", ask_nobody)
    assert ["dunno"] * 10 == [ask(pool) for _ in range(10)]
    assert pool.upstreams[0].available
