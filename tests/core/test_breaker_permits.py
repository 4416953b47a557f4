"""The breaker gate's permits: what is reported late, twice, never, or at the same moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hapolicy.core.breaker import Permit, State, Trial
from hapolicy.core.events import Event
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import Probe
from tests.proxy.patient import NOTHING, PROBING, UP, Patient
from tests.proxy.racing import fast_switching, race


def test_late_reports_from_before_it_went_down() -> None:
    """An exchange that began before the service went down can neither revive it nor charge it."""
    patient = Patient()
    late = patient.admit()
    patient.fail(3)
    for report in (late.succeeded, lambda: late.failed(FailureKind.CLOSED)):
        assert NOTHING == report()
        assert (State.DOWN, False, 30.0) == patient.shown()


def test_late_reports_while_probing() -> None:
    """Nor can it speak for the trial."""
    patient = Patient()
    late = patient.admit()
    patient.fail(3)
    patient.wait(31)
    trial = patient.trial()
    for report in (late.succeeded, lambda: late.failed(FailureKind.CLOSED)):
        assert NOTHING == report()
        assert PROBING == patient.shown()
    assert "service.up" == trial.succeeded()[0].name


def test_late_reports_after_the_recovery() -> None:
    """Nor take the service down again once it is back."""
    patient = Patient()
    late = patient.admit()
    patient.fail(3)
    patient.trial_succeeds()
    for _ in range(10):
        assert NOTHING == late.failed(FailureKind.CLOSED)
    assert UP == patient.shown()
    patient.fail(2)
    assert NOTHING == late.succeeded()
    assert "service.down" == patient.fail()[0].name  # the late success did not clear the count


def test_a_trial_reports_once() -> None:
    """What a trial says after its outcome is dropped, either way."""
    patient = Patient()
    patient.fail(3)
    patient.wait(31)
    trial = patient.trial()
    trial.succeeded()
    for _ in range(5):
        assert NOTHING == trial.failed(FailureKind.CLOSED)
    assert UP == patient.shown()
    patient.fail(3)
    patient.wait(31)
    trial = patient.trial()
    trial.failed(FailureKind.CLOSED)
    assert NOTHING == trial.succeeded()
    assert State.DOWN == patient.gate.state


@pytest.mark.parametrize("leave", ["error", "silence", "local"])
def test_a_trial_cannot_leak(leave: str) -> None:
    """A trial left by an exception, without a report, or for a want of ours, is given back at no one's charge."""
    patient = Patient()
    patient.fail(3)
    patient.trial_fails()
    for _ in range(5):
        patient.wait(patient.gate.trial_in_s or 0)
        try:
            with patient.trial() as trial:
                if leave == "error":
                    raise KeyError
                if leave == "local":
                    assert NOTHING == trial.failed(FailureKind.LOCAL)
        except KeyError:
            pass
        assert State.DOWN == patient.gate.state
        assert (patient.gate.trial_in_s or 0) <= 60.0  # not doubled
    assert NOTHING == trial.succeeded()
    assert "service.up" == patient.trial_succeeds()[0].name


def test_without_a_probe_one_live_request_is_the_trial() -> None:
    """With --probe off the first live request after the cooldown tries, alone."""
    patient = Patient(Probe.OFF)
    patient.fail(3)
    patient.wait(29)
    assert (State.DOWN, False, 1.0) == patient.shown()
    assert patient.gate.admit() is None
    patient.wait(1)
    assert (State.DOWN, True, 0.0) == patient.shown()
    with patient.admit() as permit:
        assert isinstance(permit, Trial)
        assert PROBING == patient.shown()
        assert patient.gate.admit() is None
        assert "service.up" == permit.succeeded()[0].name
    assert UP == patient.shown()
    assert not isinstance(patient.admit(), Trial)


@pytest.mark.parametrize("probe", [Probe.QUERY, Probe.TCP])
def test_with_a_probe_no_live_request_is_the_trial(probe: Probe) -> None:
    """No mail is the guinea pig, however long the service is down."""
    patient = Patient(probe)
    patient.fail(3)
    patient.wait(1_000_000)
    assert (State.DOWN, False, 0.0) == patient.shown()
    assert patient.gate.admit() is None


def admitted_among(threads: int, ask: Callable[[], Permit | None]) -> list[Permit]:
    """Who gets leave when so many ask at the same moment."""
    found: list[Permit | None] = []
    with fast_switching():
        race(*[lambda: found.append(ask())] * threads)
    assert threads == len(found)
    return [permit for permit in found if permit is not None]


@pytest.mark.parametrize("probe", [Probe.QUERY, Probe.OFF])
def test_one_trial_among_64_racing_threads(probe: Probe) -> None:
    """However many ask at the same moment, one gets leave."""
    patient = Patient(probe)
    patient.fail(3)
    for _ in range(10):
        patient.wait(1000)
        found = admitted_among(64, patient.gate.admit if probe is Probe.OFF else patient.gate.admit_trial)
        assert 1 == len(found)
        with found[0]:
            assert PROBING == patient.shown()


def test_racing_failures_are_all_counted() -> None:
    """64 threads that fail take the service down at exactly fail_max failures, once."""
    patient = Patient(fail_max=64)
    permits = [patient.admit() for _ in range(64)]
    events: list[Event] = []
    with fast_switching():
        race(*[lambda p=permit: events.extend(p.failed(FailureKind.CLOSED)) for permit in permits])
    assert [("service.down", 64)] == [(event.name, event.fields["failures"]) for event in events]
