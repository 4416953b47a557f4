"""One service in use: what each outcome leaves behind in it."""

from __future__ import annotations

from hapolicy.core.breaker import State
from hapolicy.core.exchange import OwnExchange
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HEDGE_AUTO, HealthRules
from hapolicy.core.service import parse_service
from hapolicy.core.upstream import PROBE_PAUSE_S, VERIFYING_PROBES
from tests.core.world import World

K = FailureKind


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


def test_a_new_service_has_its_whole_share_and_nothing_against_it() -> None:
    """From the start on, before anybody has looked at it."""
    a = World("A=h:1")["A"]
    assert ("up", True, False, False, False, False) == (a.state, a.available, a.draining, a.full, a.silent, a.probing)
    assert ("", None, 1) == (a.last_error, a.last_error_at, a.weight)


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


def test_an_answer_between_them_parts_failures_in_a_row() -> None:
    """Two, an answer, and two more are no three; the next one is the third."""
    world = World("A=h:1", "B=h:2:20")
    for refused in (2, 3):
        assert [] == states(world)
        for _ in range(refused):
            world.wait(1)
            failed(world, K.REFUSED)
        if refused == 2:
            answered(world, 1)
    assert [("A", State.DOWN, "refused")] == states(world)


def test_a_late_answer_does_not_spoil_the_last_resort() -> None:
    """To what was asked before it went down: it does not bring the service up, and the next answer does."""
    world = World("A=h:1", health=HealthRules(fail_max=1))
    world.ask()
    world.ask()
    late, refused = world.at("A")
    world.fail(refused, K.REFUSED)
    world.answer(late)
    assert [("A", State.DOWN, "refused")] == states(world)
    answered(world, 1)
    assert "up" == world["A"].state


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
    assert world["A"].admit_last_resort() is not None
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


def test_where_probes_are_the_trials_no_mail_is_one() -> None:
    """Though the cooldown is over."""
    world = World("A=h:1", "B=h:2:20")
    world["A"].trip(world.now)
    world.wait(60)
    assert (None, "down") == (world["A"].admit(world.now), world["A"].state)


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
