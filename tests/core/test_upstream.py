"""One service in use: what each outcome leaves behind in it."""

from __future__ import annotations

import pytest

from hapolicy.core.breaker import State
from hapolicy.core.exchange import OwnExchange
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.rules import HEDGE_AUTO, HealthRules, Probe
from hapolicy.core.service import parse_service
from hapolicy.core.upstream import PROBE_PAUSE_S, VERIFYING_PROBES
from tests.core.world import World

K = FailureKind
TCP = HealthRules(probe=Probe.TCP, fail_max=3)


def answered(world: World, times: int, client: str = "198.51.100.1") -> None:
    """So many requests are answered by A."""
    for _ in range(times):
        world.ask(client)
        world.answer(world.at("A")[0])


def failed(world: World, kind: FailureKind = K.CLOSED, client: str = "192.0.2.7") -> None:
    """A request fails at A, and is answered by B, so that A is blamed."""
    world.ask(client)
    world.fail(world.at("A")[0], kind)
    world.answer_all()


def states(world: World) -> list[tuple[str, State, str]]:
    """The changes so far."""
    return [(name, change.state, change.kind) for name, change in world.changes]


def test_an_answer_ends_a_suspicion() -> None:
    """A probe is due after a failure that a mail may have caused, and none after an answer to anybody."""
    world = World("A=h:1", "B=h:2:20")
    failed(world)
    world.wait(1)
    answered(world, 1)
    assert world["A"].probe_due(world.now) is None


def test_a_failure_in_the_turn_of_the_latest_answer_counts() -> None:
    """Only what began before that answer is excused by it."""
    world = World("A=h:1", "B=h:2:20")
    answered(world, 1)
    failed(world)
    assert world["A"].probe_due(world.now) is not None
    world = World("A=h:1", "B=h:2:20", health=HealthRules(fail_max=1))
    answered(world, 1)
    failed(world, K.REFUSED)
    assert "down" == world["A"].state


def test_answers_wear_out_the_failures() -> None:
    """Twenty answers later a failure is forgotten, so a failure an hour adds up to nothing."""
    world = World("A=h:1", "B=h:2:20")
    for number in range(30):
        failed(world, client=f"192.0.{number}.1")
        world.wait(1)
        answered(world, 19)
        assert 1 == world["A"]._fail_rate.failures
        answered(world, 1)
        assert (0, 0) == (world["A"]._fail_rate.failures, world["A"].verifying)


def test_a_blame_that_comes_late_wears_out_too() -> None:
    """A answers another mail between its failure and the answer that shows the mail to be no poison."""
    world = World("A=h:1", "B=h:2:20")
    world.ask()
    world.fail(world.at("A")[0])
    world.wait(1)
    answered(world, 1)
    world.answer(world.at("B")[0])
    assert 1 == world["A"]._fail_rate.failures
    answered(world, 20)
    assert 0 == world["A"]._fail_rate.failures


def test_what_never_set_out_is_counted_nowhere() -> None:
    """An exchange that ends while it waits for a connection gives its permit back, also that of a last resort."""
    world = World("A=h:1", health=HealthRules(fail_max=1))
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    asked = world.ask()
    resort = world.at("A")[0]
    resort.began = float("-inf")
    del world["A"].in_flight[resort]
    counted = world["A"].failed
    world.fail(resort, K.LOCAL)
    assert (counted, "dunno") == (world["A"].failed, asked.action)
    world.ask()
    assert 1 == len(world.at("A"))


def test_the_last_error_is_in_words() -> None:
    """With its time, from a mail or a probe."""
    world = World("A=h:1", "B=h:2:20")
    failed(world, K.CLOSED)
    assert ("closed: as the test wants", world.now) == (world["A"].last_error, world["A"].last_error_at)
    world.wait(5)
    assert world.probe("A", K.REFUSED)
    assert ("refused: as the test wants", world.now) == (world["A"].last_error, world["A"].last_error_at)
    assert {K.CLOSED: 1} == dict(world["A"].failures)


def test_a_trial_that_is_nobodys_fault_waits_for_the_next_cooldown() -> None:
    """No descriptor was left for it, say."""
    world = World("A=h:1", health=HealthRules(fail_max=1, probe=Probe.OFF, cooldown_s=1))
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    world.wait(1)
    world["A"].look(world.now)
    world.ask()
    world.fail(world.at("A")[0], K.LOCAL)
    assert ("down", world.now + 1) == (world["A"].state, world["A"].breaker.retry_at)


def test_with_tcp_probes_failures_in_a_row_of_several_senders_take_it_down() -> None:
    """Which is told, with the kind; a probe on a connection could not know. One sender's count once."""
    world = World("A=h:1", "B=h:2:20", health=TCP)
    for _ in range(5):
        failed(world, K.ANSWER_TIMEOUT, "192.0.2.1")
        assert world["A"].probe_due(world.now) is None
    failed(world, K.ANSWER_TIMEOUT, "192.0.2.2")
    failed(world, K.ANSWER_TIMEOUT, "192.0.2.3")
    assert [("A", State.DOWN, "answer_timeout")] == states(world)
    assert 3 == world.changes[0][1].failures


@pytest.mark.parametrize("probe", [Probe.TCP, Probe.OFF])
def test_without_query_probes_too_many_failures_take_it_down(probe: Probe) -> None:
    """A third of its answers, none of them twice in a row."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=probe, fail_rate=0.3))
    for number in range(6):
        answered(world, 2)
        world.wait(1)
        failed(world, K.ANSWER_TIMEOUT, f"192.0.{number}.1")
    assert [("A", State.DOWN, "fail_rate")] == states(world)
    assert world["A"].breaker.admit_last_resort() is None  # it would cost a wait


def test_too_many_failures_call_for_six_probes_of_which_none_may_fail() -> None:
    """No fewer, no more; then all is forgotten."""
    for failing in (None, 0, VERIFYING_PROBES - 1):
        world = World("A=h:1", "B=h:2:20", health=HealthRules(fail_rate=0.3))
        for number in range(6):
            failed(world, K.ANSWER_TIMEOUT, f"192.0.{number}.1")
            world.wait(1)
            answered(world, 1)
        for number in range(VERIFYING_PROBES):
            assert world.probe("A", K.ANSWER_TIMEOUT if number == failing else None)
            if number == failing:
                break
            answered(world, 1)
        assert ([] if failing is None else [("A", State.DOWN, "fail_rate")]) == states(world)
        assert world["A"].probe_due(world.now) is None


def test_a_failed_probe_says_why_and_is_counted() -> None:
    """It takes the service down also when it began in the turn of its latest answer, and leaves a last resort."""
    world = World("A=h:1", "B=h:2:20")
    answered(world, 1)
    failed(world, K.CLOSED)
    assert world.probe("A", K.REFUSED)
    assert [("A", State.DOWN, "refused")] == states(world)
    assert not world["A"].probing
    for failures in (2, 3):
        world.wait(60)
        assert world.probe("A", K.REFUSED)
        assert failures == world["A"].probes_failed
    world.wait(60)
    assert world.probe("A", None)
    assert (1, 3, "up") == (world["A"].probes_answered, world["A"].probes_failed, world["A"].state)
    world["A"].trip(world.now)
    assert world["A"].breaker.admit_last_resort() is None


def test_a_probe_that_came_to_nothing_is_tried_again_after_a_pause() -> None:
    """For a reason of our own; of a service that is down it ends the trial, without an outcome."""
    world = World("A=h:1", "B=h:2:20")
    failed(world)
    permit = world["A"].probe_due(world.now)
    assert permit is not None
    assert world["A"].probe_due(world.now) is None  # one at a time
    world["A"].probe_withdrawn(permit, world.now)
    world.wait(PROBE_PAUSE_S - 0.01)
    assert world["A"].probe_due(world.now) is None
    world.wait(0.01)
    assert world["A"].probe_due(world.now) == permit
    world["A"].probe_withdrawn(permit, world.now)

    world["A"].trip(world.now)
    world.wait(1)
    trial = world["A"].probe_due(world.now)
    assert trial is not None
    world["A"].probe_withdrawn(trial, world.now)
    assert ("down", world.now + 1) == (world["A"].state, world["A"].breaker.retry_at)


def test_an_operators_reset_ends_suspicion_and_verification() -> None:
    """Also of a service that is up, for which it changes nothing else."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(fail_rate=0.3))
    for number in range(6):
        failed(world, K.ANSWER_TIMEOUT, f"192.0.{number}.1")
    assert world["A"].verifying
    world["A"].reset(world.now)
    assert ([], None) == (states(world), world["A"].probe_due(world.now))
    assert 0 == world["A"]._fail_rate.failures


def test_who_comes_up_begins_anew() -> None:
    """No suspicion, no verification from before, and its idle time counts from then."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(fail_max=2, fail_rate=0.3, probe_every_s=30))
    for number in range(6):
        failed(world, K.ANSWER_TIMEOUT, f"192.0.{number}.1")
    world["A"].trip(world.now)
    world.wait(100)
    assert world.probe("A", None)
    assert world["A"].probe_due(world.now) is None
    world.wait(29)
    assert world["A"].probe_due(world.now) is None
    world.wait(1)
    assert world["A"].probe_due(world.now) is not None


def test_a_tcp_probe_of_an_idle_service_counts_as_a_look_at_it() -> None:
    """Though it is no answer: the next one is due as long after it, and not at once after an operator's reset."""
    world = World("A=h:1", "B=h:2:20", health=HealthRules(probe=Probe.TCP, probe_every_s=30))
    world["A"].trip(world.now)
    world["A"].reset(world.now)
    assert not world.probe("A", None)
    world.wait(30)
    assert world.probe("A", None)
    world.wait(29)
    assert not world.probe("A", None)
    world.wait(1)
    assert world.probe("A", None)


def test_growth_is_told_when_there_is_some() -> None:
    """So that the scheduler is rebuilt then, and only then."""
    world = World("A=h:1,slow-start=10", "B=h:2")
    world["A"].trip(world.now)
    world["A"].reset(world.now)
    assert not world["A"].grow(world.now)
    assert world["A"].grow(world.now + 5)
    assert not world["A"].grow(world.now + 5)
    assert world["A"].grow(world.now + 10)
    assert not world["A"].grow(world.now + 11)


def test_a_shorter_timeout_is_not_hidden_behind_longer_ones() -> None:
    """After a reload, for mails, probes and operators' queries; without a change none is looked at in vain."""
    world = World("A=h:1:1:1:30")
    upstream = world["A"]
    upstream.redefine(parse_service("A=h:1:1:2:30"), HealthRules(), HEDGE_AUTO)
    assert (True, True) == (upstream.in_flight.ordered, upstream.own.ordered)
    asked = world.ask()
    OwnExchange(asked.failover, upstream, upstream.breaker.permit or upstream.admit(0)).begin(world.now)  # type: ignore[arg-type]
    upstream.redefine(parse_service("A=h:1:1:2:1"), HealthRules(), HEDGE_AUTO)
    world.ask()
    OwnExchange(asked.failover, upstream, upstream.breaker.permit or upstream.admit(0)).begin(world.now)  # type: ignore[arg-type]
    assert (1, 1) == (len(upstream.in_flight.expired(world.now + 1)), len(upstream.own.expired(world.now + 1)))


def test_a_withdrawn_exchange_makes_room_for_another_last_resort() -> None:
    """It was never sent: its client has gone."""
    world = World("A=h:1", health=HealthRules(fail_max=1))
    world.ask()
    world.fail(world.at("A")[0], K.REFUSED)
    world.ask()
    (resort,) = world.at("A")
    resort.withdraw(world.now)
    assert resort.over
    world.ask()
    assert 2 == len(world.at("A"))


def test_an_exchange_of_our_own_is_in_no_counter() -> None:
    """A probe or an operator's query has its time, and is neither query nor answer."""
    world = World("A=h:1:1:1:5")
    upstream = world["A"]
    permit = upstream.breaker.permit
    assert permit is not None

    class Query:
        raw = b""
        wanted = True
        outcomes: list[object] = []  # noqa: RUF012

        def answered(self, exchange: object, answer: bytes, now: float) -> None:
            self.outcomes.append((exchange, answer, now))

        def failed(self, exchange: object, failure: ServiceFailure, now: float) -> None:
            self.outcomes.append((exchange, failure.kind, now))

    first, second = (OwnExchange(Query(), upstream, permit) for _ in range(2))
    for own in (first, second):
        own.begin(world.now)
    assert [world.now + 5] * 2 == list(upstream.own.values())
    assert first.began == second.began == world.now
    first.answered(b"action=x\n\n", world.now + 1)
    second.failed(ServiceFailure(K.CLOSED, ""), world.now + 2)
    assert [(first, b"action=x\n\n", world.now + 1), (second, K.CLOSED, world.now + 2)] == Query.outcomes
    assert ({}, True, True) == (dict(upstream.own), first.over, second.over)
    assert (0, 0, 0) == (upstream.queries, upstream.answers, upstream.failed)
