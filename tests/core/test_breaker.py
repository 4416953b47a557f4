"""The breaker by itself: what each outcome makes of it, to the last field of the change that it reports."""

from __future__ import annotations

import math

import pytest

from hapolicy.core.breaker import RELAPSE_S, Breaker, Permit, State, StateChange
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HealthRules

K = FailureKind
NOW = 1000.0
RULES = HealthRules(fail_max=3, cooldown_s=1.0, cooldown_max_s=60.0)


def made(rng: float = 0.5, rules: HealthRules = RULES) -> Breaker:
    """A breaker of a service that is up; cooldowns are exact with an rng of 0.5."""
    return Breaker(rules, lambda: rng)


def permit_of(breaker: Breaker) -> Permit:
    """Leave to ask, which there is."""
    assert breaker.permit is not None
    return breaker.permit


def trial_of(breaker: Breaker, now: float) -> Permit:
    """Leave to try, which is due."""
    permit = breaker.admit_trial(now)
    assert permit is not None
    assert permit.trial
    return permit


def down(kind: FailureKind = K.REFUSED, rng: float = 0.5) -> Breaker:
    """One that went down at `NOW` by one failure."""
    breaker = made(rng, HealthRules(fail_max=1, cooldown_s=1.0))
    assert breaker.failed(permit_of(breaker), kind, NOW)
    return breaker


def test_it_goes_down_by_failures_in_a_row_and_says_so() -> None:
    """The change has the kind, the cooldown and how many failures there were; an answer between begins anew."""
    breaker = made()
    permit = permit_of(breaker)
    assert breaker.failed(permit, K.REFUSED, NOW) is None
    assert breaker.failed(permit, K.REFUSED, NOW) is None
    assert breaker.clean is False
    assert breaker.succeeded(permit, NOW) is None  # it was up all the time: no change
    assert breaker.clean is True
    assert permit == breaker.permit
    assert [None, None] == [breaker.failed(permit, K.REFUSED, NOW) for _ in range(2)]
    assert breaker.failed(permit, K.CONNECT_TIMEOUT, NOW) == StateChange(State.DOWN, "connect_timeout", 1.0, failures=3)
    assert (State.DOWN, None, False, NOW + 1) == (breaker.state, breaker.permit, breaker.clean, breaker.retry_at)


def test_it_comes_up_by_a_trial_and_says_how_long_it_was_down() -> None:
    """From then on it admits everybody, with a permit that is no trial's."""
    breaker = down()
    assert breaker.admit_trial(NOW + 0.99) is None
    trial = trial_of(breaker, NOW + 1)
    assert breaker.state is State.PROBING
    assert breaker.admit_trial(NOW + 1) is None
    assert breaker.succeeded(trial, NOW + 4) == StateChange(State.UP, down_s=4.0)
    assert (State.UP, True, math.inf) == (breaker.state, breaker.clean, breaker.retry_at)
    assert not permit_of(breaker).trial
    assert not breaker.is_trial_due(math.inf)


def test_a_failed_trial_is_told_apart() -> None:
    """It counts no failures in a row, and how long it is down goes on counting from the first."""
    breaker = down()
    assert breaker.failed(trial_of(breaker, NOW + 1), K.CLOSED, NOW + 1) == StateChange(
        State.DOWN, "closed", 2.0, failures=0, trial=True
    )
    change = breaker.succeeded(trial_of(breaker, NOW + 3), NOW + 3)
    assert change == StateChange(State.UP, down_s=3.0)


def test_a_permit_from_before_says_nothing() -> None:
    """Neither an answer nor a failure nor a return under a permit of before the last change has any effect."""
    breaker = made()
    old = permit_of(breaker)
    breaker.trip(NOW)
    assert breaker.succeeded(old, NOW) is None
    assert breaker.failed(old, K.REFUSED, NOW) is None
    stale = trial_of(breaker, NOW + 1)
    breaker.trip(NOW + 1)
    trial_of(breaker, NOW + 2)
    breaker.give_back(stale, NOW + 2)
    assert breaker.state is State.PROBING
    breaker.reset(NOW + 3)
    assert breaker.failed(old, K.REFUSED, NOW + 3) is None
    assert breaker.clean


def test_a_trial_without_an_outcome_waits_for_the_next_cooldown() -> None:
    """Which does not grow for it. A plain permit that is given back changes nothing."""
    breaker = down()
    breaker.give_back(trial_of(breaker, NOW + 1), NOW + 1)
    assert (State.DOWN, NOW + 2) == (breaker.state, breaker.retry_at)
    assert not breaker.is_trial_due(NOW + 1.99)
    assert breaker.is_trial_due(NOW + 2)
    up = made()
    up.give_back(permit_of(up), NOW)
    assert (State.UP, Permit(0)) == (up.state, up.permit)


def test_a_last_resort_is_given_to_one_at_a_time() -> None:
    """Each way in which it ends makes room for the next; a failure says why it is down now."""
    breaker = down(K.REFUSED)
    for turn in range(2):
        first = breaker.admit_last_resort()
        assert first is not None
        assert breaker.admit_last_resort() is None
        if turn:
            breaker.give_back(first, NOW)
        else:
            assert breaker.failed(first, K.REFUSED, NOW) is None
    again = breaker.admit_last_resort()
    assert again is not None
    assert breaker.failed(again, K.CONNECT_TIMEOUT, NOW) is None
    assert breaker.admit_last_resort() is None  # it is no quick failure any more
    assert (State.DOWN, NOW + 1) == (breaker.state, breaker.retry_at)


def test_a_last_resort_that_is_answered_brings_it_up() -> None:
    """And one of its next downs has a last resort again."""
    breaker = down(K.REFUSED)
    permit = breaker.admit_last_resort()
    assert permit is not None
    assert not permit.trial
    assert breaker.succeeded(permit, NOW + 0.5) == StateChange(State.UP, down_s=0.5)
    assert breaker.admit_last_resort() is None  # it is up
    assert breaker.failed(permit_of(breaker), K.REFUSED, NOW + 1)
    assert breaker.admit_last_resort() is not None


@pytest.mark.parametrize("rng", [0.0, 0.5, 1.0])
def test_the_cooldown_doubles_with_each_failed_trial_up_to_its_limit(rng: float) -> None:
    """Within a tenth, so that hosts do not march in step."""
    breaker = down(rng=rng)
    now, factor = NOW, 0.9 + 0.2 * rng
    for turn in range(8):
        assert breaker.retry_at == pytest.approx(now + min(60.0, 2**turn * factor))
        now = breaker.retry_at
        change = breaker.failed(trial_of(breaker, now), K.REFUSED, now)
        assert change is not None
        assert change.cooldown_s == pytest.approx(min(60.0, 2 ** (turn + 1) * factor))


def test_a_cooldown_can_double_for_months() -> None:
    """Its exponent is bounded, so no float overflows."""
    breaker = down()
    now = NOW
    for _ in range(1100):
        now = breaker.retry_at
        assert breaker.failed(trial_of(breaker, now), K.REFUSED, now)
    assert breaker.retry_at == now + 60.0


@pytest.mark.parametrize(("after_s", "cooldown_s"), [(RELAPSE_S - 0.01, 2.0), (RELAPSE_S, 1.0)])
def test_a_relapse_goes_on_with_the_cooldown(after_s: float, cooldown_s: float) -> None:
    """Who was up for less than a minute has not been well."""
    breaker = down()
    breaker.succeeded(trial_of(breaker, NOW + 1), NOW + 1)
    change = breaker.failed(permit_of(breaker), K.REFUSED, NOW + 1 + after_s)
    assert change is not None
    assert change.cooldown_s == cooldown_s


def test_a_conviction_takes_it_down_at_once() -> None:
    """For the reason given; the kind decides about last resorts. Who is down already is not convicted."""
    breaker = made()
    assert breaker.convict(K.ANSWER_TIMEOUT, "fail_rate", NOW) == StateChange(State.DOWN, "fail_rate", 1.0)
    assert breaker.admit_last_resort() is None
    assert breaker.convict(K.REFUSED, "refused", NOW) is None
    other = made()
    other.convict(K.REFUSED, "refused", NOW)
    assert other.admit_last_resort() is not None


def test_an_operator_trips_and_resets_it() -> None:
    """Tripped it has no last resort; reset it has no past: no failure counted, no cooldown that has grown."""
    breaker = made()
    breaker.failed(permit_of(breaker), K.REFUSED, NOW)
    assert breaker.reset(NOW) is None  # it was up
    assert breaker.clean
    breaker.failed(permit_of(breaker), K.REFUSED, NOW)
    breaker.failed(permit_of(breaker), K.REFUSED, NOW)
    assert breaker.state is State.UP
    assert breaker.trip(NOW) == StateChange(State.DOWN, "tripped", 1.0)
    assert breaker.trip(NOW) is None
    assert breaker.admit_last_resort() is None
    breaker.failed(trial_of(breaker, NOW + 1), K.REFUSED, NOW + 1)
    assert breaker.reset(NOW + 2) == StateChange(State.UP, down_s=2.0)
    assert breaker.clean
    assert breaker.trip(NOW + 2 + RELAPSE_S) == StateChange(State.DOWN, "tripped", 1.0)


def test_a_reset_forgets_how_far_the_cooldown_had_grown() -> None:
    """Within a minute of it, too: 2 s is what a relapse makes of 1 s."""
    breaker = down()
    for _ in range(4):
        breaker.failed(trial_of(breaker, breaker.retry_at), K.REFUSED, breaker.retry_at)
    now = breaker.retry_at
    breaker.reset(now)
    change = breaker.failed(permit_of(breaker), K.REFUSED, now + 1)
    assert change is not None
    assert change.cooldown_s == 2.0


def test_hurry_ends_a_cooldown_and_nothing_else() -> None:
    """It makes no cooldown longer, and a service that is up has none."""
    breaker = down()
    breaker.hurry(NOW + 0.5)
    assert breaker.is_trial_due(NOW + 0.5)
    breaker.hurry(NOW + 5)
    assert breaker.retry_at == NOW + 0.5
    up = made()
    up.hurry(NOW)
    assert up.retry_at == math.inf


def test_other_rules_hold_from_now_on() -> None:
    """A new --fail-max is that of the next failure; a cooldown that runs is not changed."""
    breaker = made()
    breaker.failed(permit_of(breaker), K.REFUSED, NOW)
    breaker.configure(HealthRules(fail_max=2, cooldown_s=7.0))
    change = breaker.failed(permit_of(breaker), K.REFUSED, NOW)
    assert change is not None
    assert change.cooldown_s == 7.0
    breaker.configure(RULES)
    assert breaker.retry_at == NOW + 7
