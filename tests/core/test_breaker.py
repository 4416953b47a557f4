"""The breaker gate: every state, every outcome, how long a cooldown is."""

from __future__ import annotations

import pytest

from hapolicy.core.breaker import State, Trial
from hapolicy.core.events import Event, Level
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HealthRules, Probe
from tests.proxy.patient import NOTHING, PROBING, UP, Patient

CHARGED = [kind for kind in FailureKind if kind is not FailureKind.LOCAL]


def test_begins_up() -> None:
    """A new gate admits live requests and has nothing to try."""
    patient = Patient()
    assert UP == patient.shown()
    assert patient.gate.admit_trial() is None
    assert NOTHING == patient.succeed()
    assert UP == patient.shown()


@pytest.mark.parametrize("fail_max", [1, 2, 3, 10])
def test_goes_down_after_fail_max_failures_in_a_row(fail_max: int) -> None:
    """Not one failure earlier."""
    patient = Patient(fail_max=fail_max)
    for _ in range(fail_max - 1):
        assert NOTHING == patient.fail()
        assert UP == patient.shown()
    expected = Event(Level.WARNING, "service.down", {"kind": "closed", "cooldown_s": 30.0, "failures": fail_max})
    assert (expected,) == patient.fail()
    assert (State.DOWN, False, 30.0) == patient.shown()
    assert patient.gate.admit() is None


def test_a_success_between_failures_starts_the_count_again() -> None:
    """Failures count only in a row."""
    patient = Patient()
    for _ in range(3):
        patient.fail(2)
        assert NOTHING == patient.succeed()
        assert UP == patient.shown()
    assert "service.down" == patient.fail(3)[0].name


@pytest.mark.parametrize("kind", CHARGED)
def test_every_kind_charges_the_service(kind: FailureKind) -> None:
    """What is the service's fault counts, and is named when it was the last straw."""
    assert kind.charges_service
    assert kind.value == Patient(fail_max=1).fail(kind=kind)[0].fields["kind"]


def test_our_own_want_is_neutral() -> None:
    """A failure of this host counts neither as a failure nor as a success."""
    patient = Patient()
    assert not FailureKind.LOCAL.charges_service
    assert NOTHING == patient.fail(50, FailureKind.LOCAL)
    assert UP == patient.shown()
    patient.fail(2)
    patient.fail(50, FailureKind.LOCAL)
    assert "service.down" == patient.fail()[0].name


def test_down_until_the_cooldown_is_over() -> None:
    """Nobody is admitted while down, and no trial a moment too early."""
    patient = Patient()
    patient.fail(3)
    patient.wait(29.9)
    assert (State.DOWN, False, pytest.approx(0.1)) == patient.shown()
    assert patient.gate.admit() is None
    assert patient.gate.admit_trial() is None
    patient.wait(0.2)
    assert (State.DOWN, False, 0.0) == patient.shown()
    assert patient.gate.admit() is None  # a probe is the trial, not a live request
    assert isinstance(patient.gate.admit_trial(), Trial)


def test_probing_admits_nobody_else() -> None:
    """While one trial is out there is no second, and no live request."""
    patient = Patient()
    patient.fail(3)
    patient.wait(31)
    patient.trial()
    patient.wait(10_000)
    assert PROBING == patient.shown()
    assert patient.gate.admit() is None
    assert patient.gate.admit_trial() is None


def test_a_trial_that_succeeds() -> None:
    """The service is up again, says for how long it was down, and has a clean record."""
    patient = Patient()
    patient.fail(3)
    patient.wait(12.5)
    assert (Event(Level.INFO, "service.up", {"down_s": 30.0}),) == patient.trial_succeeds()
    assert UP == patient.shown()
    patient.fail(2)
    assert UP == patient.shown()
    assert "service.down" == patient.fail()[0].name


def test_a_trial_that_fails() -> None:
    """The service stays down, for twice as long; one failed trial is enough."""
    patient = Patient()
    patient.fail(3)
    expected = Event(Level.WARNING, "service.probe_failed", {"kind": "refused", "cooldown_s": 60.0})
    assert (expected,) == patient.trial_fails()
    assert (State.DOWN, False, 60.0) == patient.shown()
    assert "down_s" in patient.trial_succeeds()[0].fields


def test_down_since_the_first_failure() -> None:
    """The time down counts from when the service went down, over all failed trials."""
    patient = Patient()
    patient.fail(3)
    patient.trial_fails()
    patient.trial_fails()
    assert {"down_s": 30.0 + 60.0 + 120.0} == patient.trial_succeeds()[0].fields


def test_the_cooldown_doubles_up_to_its_maximum_and_starts_small_again() -> None:
    """30, 60, 120, 240, 300, 300, ..., and 30 after a recovery."""
    patient = Patient()
    found = [patient.fail(3)[0].fields["cooldown_s"]]
    found += [patient.trial_fails()[0].fields["cooldown_s"] for _ in range(100)]
    assert [30.0, 60.0, 120.0, 240.0] + [300.0] * 97 == found
    patient.trial_succeeds()
    assert 30.0 == patient.fail(3)[0].fields["cooldown_s"]


@pytest.mark.parametrize(("chance", "expected"), [(0.0, [27, 54, 108, 216, 300]), (0.999999, [33, 66, 132, 264, 300])])
def test_jitter(chance: float, expected: list[float]) -> None:
    """A cooldown is up to a tenth shorter or longer, never beyond the maximum."""
    patient = Patient(chance=chance)
    found = [patient.fail(3)[0].fields["cooldown_s"]]
    found += [patient.trial_fails()[0].fields["cooldown_s"] for _ in range(4)]
    assert pytest.approx(expected, rel=1e-3) == found
    assert max(found) <= 300


def test_an_operator_trips_it() -> None:
    """It is down as by failures, once; a trial that is out can no longer speak."""
    patient = Patient()
    late = patient.admit()
    assert ["service.down"] == [event.name for event in patient.gate.trip()]
    assert (State.DOWN, False, 30.0) == patient.shown()
    assert NOTHING == patient.gate.trip()
    assert NOTHING == late.succeeded()
    patient.wait(31)
    with patient.trial() as trial:
        assert ["service.down"] == [event.name for event in patient.gate.trip()]
        assert NOTHING == trial.succeeded()
    assert State.DOWN == patient.gate.state
    assert "service.up" == patient.trial_succeeds()[0].name
    assert UP == patient.shown()


def test_an_operator_resets_it() -> None:
    """It is up at once, with a clean record, whatever it was before; being up already is no event."""
    patient = Patient()
    patient.fail(2)
    assert NOTHING == patient.gate.reset()
    patient.fail(2)
    assert UP == patient.shown()
    late = patient.admit()
    patient.fail()
    patient.wait(5)
    assert (Event(Level.INFO, "service.up", {"down_s": 5.0}),) == patient.gate.reset()
    assert UP == patient.shown()
    assert NOTHING == late.failed(FailureKind.CLOSED)
    assert 30.0 == patient.fail(3)[0].fields["cooldown_s"]
    patient.wait(31)
    with patient.trial() as trial:
        assert "service.up" == patient.gate.reset()[0].name
        assert NOTHING == trial.failed(FailureKind.CLOSED)
    assert UP == patient.shown()


def test_other_settings_while_it_runs() -> None:
    """A reload changes what comes next: how many failures, which cooldown, who is the trial."""
    patient = Patient(fail_max=5)
    patient.fail(2)
    patient.gate.configure(HealthRules(fail_max=3, cooldown_s=10, cooldown_max_s=10, probe=Probe.OFF))
    assert 10.0 == patient.fail()[0].fields["cooldown_s"]
    patient.wait(10)
    assert (State.DOWN, True, 0.0) == patient.shown()
    patient.gate.configure(HealthRules(fail_max=3, cooldown_s=10, cooldown_max_s=10))
    assert (State.DOWN, False, 0.0) == patient.shown()
    assert "service.up" == patient.trial_succeeds()[0].name
