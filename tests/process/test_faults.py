"""Every way in which a service can fail ends in another service's answer, or in the default action."""

from __future__ import annotations

import time

import pytest

from tests.support.client import PolicyClient, new_instance
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S
from tests.support.recorder import Recorder
from tests.support.sample import Sample

# Must show 4 of the first release, and the kind that the log gives each.
FAULTS = {
    "refuse": "refused",
    "hang": "answer_timeout",
    "reset": "closed",
    "half": "closed",
    "drip": "answer_timeout",
    "garbage": "malformed",
    "oversized": "oversized",
}


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_other_service_answers(fault: str, kept: bool) -> None:
    """A service that fails, on a fresh link or on a kept one, costs its timeout at most, and no answer."""
    timeout_s = 0.3
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(f":1:1:{timeout_s}"), "-s", b.service(":2"), "--cooldown", "60") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        if kept:
            assert "DUNNO A first" == client.ask(instance="first")
        a.fault(fault)
        # Nobody listens: three in a row. All else a mail may have brought about: one, and a probe that fails as well.
        for number in range(3 if fault == "refuse" else 1):
            began = time.monotonic()
            assert f"DUNNO B {number}" == client.ask(instance=str(number))
            assert time.monotonic() - began < timeout_s + SLACK_S
            failed = daemon.wait_event("service.failed", service="A", instance=str(number))
            assert (FAULTS[fault], a.address) == (failed["kind"], failed["address"])
            assert failed["error"]
            assert failed["connection"] in ("fresh", "kept")
        down = daemon.wait_event("service.down", service="A")
        assert FAULTS[fault] == down["kind"]
        assert (3 if fault == "refuse" else None) == down.get("failures")
        assert 54 <= down["cooldown_s"] <= 66
        assert "DUNNO B later" == client.ask(instance="later")
        assert "later" not in a.stats()["instances"]
        assert [] == daemon.events_of("service.failed", instance="later")


@pytest.mark.parametrize("fault", FAULTS)
def test_with_no_service_left_the_default_action_comes_before_the_deadline(fault: str) -> None:
    """Two failing services with long timeouts: the request ends at its deadline at the latest."""
    deadline_s = 1.0
    with (
        Sample("A", "--fault", fault) as a,
        Sample("B", "--fault", fault) as b,
        Daemon("-s", a.service(), "-s", b.service(), "--deadline", str(deadline_s), "-d", "REJECT none") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        began = time.monotonic()
        action = client.ask(instance="last")
        assert time.monotonic() - began < deadline_s + SLACK_S
        if fault in ("reset", "half", "garbage", "oversized"):  # both break on it: a poison request
            assert action.startswith("DEFER_IF_PERMIT 4.3.0 ")
            event = daemon.wait_event("request.suspect", instance="last")
            assert {"A": FAULTS[fault], "B": FAULTS[fault]} == event["failures"]
        else:
            assert "REJECT none" == action
            event = daemon.wait_event("request.defaulted", instance="last")
            assert {"A", "B"} == set(event["failures"])
            assert {FAULTS[fault]} | {"pending"} >= set(event["failures"].values()) - {"no_time"}
        assert action == event["action"]


def test_all_down_gives_the_default_action_at_once() -> None:
    """Once both breakers are open nobody is asked and nobody waits."""
    timeout_s = 0.4
    fields = f"::1:{timeout_s}"
    with (
        Sample("A", "--fault", "hang") as a,
        Sample("B", "--fault", "hang") as b,
        Daemon("-s", a.service(fields), "-s", b.service(fields), "--fail-max", "1", "--cooldown", "60") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert "dunno" == client.ask()
        daemon.wait_event("service.down", service="A")
        daemon.wait_event("service.down", service="B")
        for _ in range(20):
            assert "dunno" == client.ask(instance="down")
        event = daemon.wait_event("request.defaulted", instance="down")
        assert {"A": "down", "B": "down"} == event["failures"]
        assert 2 == a.stats()["requests"]  # the mail's and a probe


def test_unreachable_and_unresolvable_services_are_told_apart() -> None:
    """A name without an address, and a unix socket that is not there, fail over like any other."""
    with (
        Sample("B") as b,
        Daemon("-s", "X=nowhere.invalid:10023:1", "-s", "Y=unix:/nowhere/sock:2", "-s", b.service(":3")) as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert "DUNNO B i1" == client.ask(instance="i1")
        assert "unresolvable" == daemon.wait_event("service.failed", service="X")["kind"]
        assert daemon.wait_event("service.failed", service="Y")["kind"] in ("refused", "unreachable")


def test_a_link_that_went_stale_is_no_failure() -> None:
    """A service that was restarted between two requests is asked again on a fresh link, and not blamed."""
    with Sample("A") as a, Daemon("-s", a.service()) as daemon, PolicyClient(daemon.address) as client:
        for number in range(5):
            assert f"DUNNO A {number}" == client.ask(instance=str(number))
            a.restart()
        assert "DUNNO A end" == client.ask(instance="end")
        assert [] == daemon.events_of("service.failed") + daemon.events_of("request.defaulted")


def test_a_link_that_ends_at_a_request_is_no_failure() -> None:
    """A kept link that takes a request and ends without a word is replaced by a fresh one, once, unblamed."""
    with (
        Recorder(answers_a_link=1) as recorder,
        Daemon("-s", f"R={recorder.address}") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert ["DUNNO recorded"] * 3 == [client.ask(instance=str(number)) for number in range(3)]
        assert [b"0", b"1", b"1", b"2", b"2"] == [data.split(b"instance=")[1].strip() for data in recorder.requests]
        assert [] == daemon.events_of("service.failed")


def test_kept_links_are_used_again() -> None:
    """A hundred requests of one client need one link."""
    with Sample("A") as a, Daemon("-s", a.service()) as daemon, PolicyClient(daemon.address) as client:
        for _ in range(100):
            client.ask()
        assert 1 == a.stats()["connections"]


def test_a_second_answer_never_reaches_another_request() -> None:
    """What a service says unasked on a kept link is not taken for the answer to the next request."""
    with Sample("A", "--fault", "double") as a, Daemon("-s", a.service()) as daemon:
        with PolicyClient(daemon.address) as client:
            for number in range(5):
                assert f"DUNNO A {number}" == client.ask(instance=str(number))
                time.sleep(0.15)  # the stray answer comes after 0.05 s; nothing tells us when it is there
        assert [] == daemon.events_of("service.failed")


def test_a_late_answer_never_reaches_another_request() -> None:
    """An answer that comes after its request was given up on is nobody's."""
    timeout_s, late_s = 0.2, 0.4
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon(
            "-s", a.service(f":1:1:{timeout_s}"), "-s", b.service(":2"), "--probe", "off", "--fail-max", "1000"
        ) as daemon,
        PolicyClient(daemon.address) as client,
    ):
        client.ask()
        a.fault("late", late_s)
        given_up = time.monotonic()
        for _ in range(3):
            mail = new_instance()
            assert f"DUNNO B {mail}" == client.ask(instance=mail)
        a.fault("none")
        while time.monotonic() < given_up + 3 * timeout_s + 2 * late_s:
            mail = new_instance()
            assert f"DUNNO A {mail}" == client.ask(instance=mail)
