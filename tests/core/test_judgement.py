"""Who is to blame: mails do not convict, probes do."""

from __future__ import annotations

import pytest

from hapolicy.core.exchange import sent_late
from hapolicy.core.failures import BREAKS, DEPENDS_ON_MAIL, NOBODYS, FailureKind, ServiceFailure
from hapolicy.core.rules import HealthRules, Probe, RequestRules
from tests.core.world import World

K = FailureKind
AT_ONCE = sorted(set(K) - DEPENDS_ON_MAIL - NOBODYS, key=lambda kind: kind.value)


def fail_in_a_row(world: World, name: str, kind: FailureKind, times: int) -> None:
    """So many requests fail at a service, one after the other; the other services answer."""
    for _ in range(times):
        world.wait(1)
        world.ask()
        for exchange in world.at(name):
            world.fail(exchange, kind)
        world.answer_all()


def ask_with_every_third_hanging(world: World, number: int) -> None:
    """A new sender's request, which A answers unless it is a third one."""
    world.wait(0.1)
    world.ask(f"192.0.{number}.1")
    for exchange in world.at("A"):
        if number % 3 == 2:
            world.fail(exchange, K.ANSWER_TIMEOUT)
        else:
            world.answer(exchange)


@pytest.mark.parametrize("kind", AT_ONCE, ids=lambda kind: kind.value)
def test_what_cannot_depend_on_a_mail_counts_at_once(kind: FailureKind) -> None:
    """--fail-max in a row, and the service is down."""
    world = World("A=h:1", "B=h:2:20")
    fail_in_a_row(world, "A", kind, 2)
    assert world["A"].state == "up"
    fail_in_a_row(world, "A", kind, 1)
    assert world["A"].state == "down"


@pytest.mark.parametrize("kind", sorted(DEPENDS_ON_MAIL, key=lambda kind: kind.value), ids=lambda kind: kind.value)
def test_what_a_mail_may_have_caused_calls_for_a_probe(kind: FailureKind) -> None:
    """However many mails fail, an answered probe acquits; a failed one convicts without a second mail."""
    world = World("A=h:1", "B=h:2:20")
    for _ in range(50):
        fail_in_a_row(world, "A", kind, 1)
        assert world.probe("A", None)
    assert world["A"].state == "up"
    fail_in_a_row(world, "A", kind, 1)
    assert world.probe("A", K.REFUSED)
    assert world["A"].state == "down"


@pytest.mark.parametrize("kind", sorted(NOBODYS, key=lambda kind: kind.value), ids=lambda kind: kind.value)
def test_what_is_nobodys_fault_is_not_counted(kind: FailureKind) -> None:
    """No descriptors left, or no answer from the name service yet: neither counts nor calls for a probe."""
    world = World("A=h:1", "B=h:2:20")
    fail_in_a_row(world, "A", kind, 10)
    assert world["A"].state == "up"
    assert not world.probe("A", None)


def test_what_is_left_of_the_deadline_is_no_services_timeout() -> None:
    """A hangs for 1.9 of 2 s; B is well, needs 300 ms and has 100: the request is defaulted, and B is not charged."""
    world = World("A=h:1:10:1:1.9", "B=h:2:20", rules=RequestRules(deadline_s=2))
    for _ in range(5):
        world["A"].reset(world.now)
        asked = world.ask()
        world.wait(1.9)
        world.fail(world.at("A")[0], K.ANSWER_TIMEOUT)
        world.wait(0.1)
        asked.failover.expired(world.now)
        assert asked.action == "dunno"
        world.wait(0.2)
        world.answer(world.at("B")[0])
    assert (0, "up") == (world["B"].failed, world["B"].state)
    assert not world.probe("B", None)


def test_any_answer_is_proof_of_life() -> None:
    """A failure whose exchange began before the latest answer counts for nothing, be it a mail's or a probe's."""
    world = World("A=h:1", "B=h:2:20")
    for _ in range(8):
        world.ask()
    world.wait(1)
    world.answer(world.at("A")[-1])
    world.wait(5)
    for exchange in world.at("A"):
        world.fail(exchange, K.ANSWER_TIMEOUT)
    assert not world.probe("A", None)
    assert world["A"].state == "up"


def test_a_probe_that_a_mail_overtakes_convicts_nobody() -> None:
    """The probe fails in the backlog while the service answers mails."""
    world = World("A=h:1", "B=h:2:20")
    fail_in_a_row(world, "A", K.CLOSED, 1)
    permit = world["A"].probe_due(world.now)
    assert permit is not None
    began = world.now
    world.wait(1)
    world.ask()
    world.answer(world.at("A")[0])
    world.wait(1)
    from hapolicy.core.failures import ServiceFailure

    world["A"].probe_broke(permit, began, ServiceFailure(K.ANSWER_TIMEOUT, ""), world.now)
    assert world["A"].state == "up"


@pytest.mark.parametrize("kind", sorted(BREAKS, key=lambda kind: kind.value), ids=lambda kind: kind.value)
def test_a_request_on_which_two_services_break_is_poison(kind: FailureKind) -> None:
    """It gets --suspect; no third service is asked, and none is charged."""
    world = World("A=h:1", "B=h:2:20", "C=h:3:30")
    for _ in range(30):
        poison = world.ask("203.0.113.9")
        world.fail(world.at("A")[0], kind)
        world.fail(world.at("B")[0], kind)
        assert poison.action is not None
        assert poison.action.startswith("DEFER_IF_PERMIT 4.3.0 ")
        assert poison.failover.failures == {"A": kind.value, "B": kind.value}
        assert world.probe("A", None)
        assert world.probe("B", None)
    assert world.sent == []
    assert {"up"} == {upstream.state for upstream in world.upstreams}
    assert 0 == world["A"]._fail_rate.failures
    assert 30 == world["A"].suspects


def test_the_only_service_is_asked_twice_before_a_request_is_poison() -> None:
    """The second time on a connection of its own."""
    world = World("A=h:1")
    poison = world.ask()
    world.fail(world.at("A")[0], K.CLOSED)
    (again,) = world.at("A")
    assert again.fresh
    world.fail(again, K.CLOSED)
    assert poison.action is not None
    assert poison.action.startswith("DEFER_IF_PERMIT")


def test_a_drained_service_gets_no_second_try() -> None:
    """Nothing new is asked of it, not even the same request once more."""
    world = World("A=h:1")
    asked = world.ask()
    world["A"].draining = True
    world.plan.scheduler.changed()
    world.fail(world.at("A")[0], K.CLOSED)
    assert asked.action == "dunno"
    assert [] == world.sent


def test_the_only_service_answers_at_the_second_try() -> None:
    """A connection broke: the request does not suffer."""
    world = World("A=h:1")
    asked = world.ask()
    world.fail(world.at("A")[0], K.CLOSED)
    world.answer(world.at("A")[0])
    assert asked.action == "DUNNO"


def test_a_service_of_which_every_third_answer_hangs_is_found_out() -> None:
    """It never fails three times in a row; the rate calls for probes in a row."""
    world = World("A=h:1:10:1:2", "B=h:2:20")
    for number in range(60):
        ask_with_every_third_hanging(world, number)
        for tried in range(3):
            world.probe("A", K.ANSWER_TIMEOUT if tried == 2 else None)
        if world["A"].state == "down":
            break
        world.answer_all()
    assert world["A"].state == "down"
    assert number <= 25


def test_a_rate_is_not_excused_by_the_answers_between() -> None:
    """While its probe hangs it answers mail, as before: that is what the rate is about."""
    world = World("A=h:1:10:1:2", "B=h:2:20")
    upstream = world["A"]
    for number in range(20):
        ask_with_every_third_hanging(world, number)
        world.answer_all()
    permit, began = upstream.probe_due(world.now), world.now
    assert permit is not None
    world.wait(0.1)
    world.ask()
    world.answer_all()
    assert upstream.heard_at > began
    upstream.probe_broke(permit, began, ServiceFailure(K.ANSWER_TIMEOUT, "as the test wants"), world.now)
    assert upstream.state == "down"
    assert "fail_rate" == world.changes[-1][1].kind


def test_one_sender_cannot_drive_the_rate() -> None:
    """Nor can two: three must have seen failures."""
    for probe in (Probe.QUERY, Probe.TCP):
        world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=probe))
        for number in range(100):
            world.wait(0.1)
            world.ask(f"192.0.2.{number % 2}")
            world.fail(world.at("A")[0], K.ANSWER_TIMEOUT)
            world.answer_all()
            world.probe("A", None)
            world.ask("198.51.100.1")
            world.answer_all()
        assert world["A"].state == "up"
        assert world["A"].verifying == 0


def test_with_tcp_probes_mails_of_several_senders_take_it_down() -> None:
    """That it takes connections says nothing of its answers; the cooldown grows when it flaps."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=Probe.TCP))
    cooldowns = []
    for _ in range(5):
        for number in range(10):
            world.wait(0.1)
            world.ask(f"192.0.{number}.1")
            for exchange in world.at("A"):
                world.fail(exchange, K.ANSWER_TIMEOUT)
            world.answer_all()
        assert world["A"].state == "down"
        cooldowns.append(world.changes[-1][1].cooldown_s)
        world.wait(cooldowns[-1])
        assert world.probe("A", None)
        assert world["A"].state == "up"
    assert [1, 2, 4, 8, 16] == cooldowns


def test_silence_calls_for_a_probe_and_sends_mail_elsewhere() -> None:
    """Silent: it owes answers, and has given none to anybody for longer than is usual."""
    world = World("A=h:1", "B=h:2")
    for _ in range(2):
        world.ask()
    world.answer(world.at("B")[0])
    world.wait(0.9)
    world["A"].look(world.now)
    assert not world["A"].silent
    world.wait(0.2)
    world["A"].look(world.now)
    assert world["A"].silent
    for _ in range(4):
        world.ask()
        world.answer(world.at("B")[0])
    assert world.probe("A", None)
    assert not world["A"].silent
    world.wait(10)
    world["A"].look(world.now)
    assert not world["A"].silent, "what it was asked before the probe may be hard; the service is alive"


def test_down_within_its_timeout_and_a_second() -> None:
    """A service that answers neither mails nor probes."""
    world = World("A=h:1:10:1:5", "B=h:2:20")
    began = world.now
    world.ask()
    while not world["A"].silent and world.now - began < 6:
        world.wait(0.025)
        world["A"].look(world.now)
    permit = world["A"].probe_due(world.now)
    assert permit is not None
    probed_at = world.now
    world.wait(5)
    from hapolicy.core.failures import ServiceFailure

    world["A"].probe_broke(permit, probed_at, ServiceFailure(K.ANSWER_TIMEOUT, ""), world.now)
    assert world["A"].state == "down"
    assert world.now - began <= 6.05


def test_what_is_sent_late_has_its_whole_time() -> None:
    """hapolicy stood still between the decision to ask and the sending: only what was begun just then begins anew."""
    world = World("A=h:1:10:1:2", "B=h:2:20:1:2")
    world.ask()
    world.wait(1.5)
    world.ask()
    began = world.now
    world.wait(1.0)
    sent_late(world.upstreams, began, world.now)
    earlier, later = world.sent
    upstream = world["A"]
    assert [earlier] == upstream.in_flight.expired(world.now)
    assert [earlier, later] == upstream.in_flight.expired(world.now + 2)
    assert [earlier] == upstream.in_flight.expired(world.now + 1.9)
    assert began + 1.0 == later.began
    assert upstream.owes_since == earlier.began
