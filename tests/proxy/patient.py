"""A breaker gate with verbs for what may happen to it; no sleeping."""

from __future__ import annotations

from hapolicy.core.breaker import Gate, Permit, State, Trial
from hapolicy.core.events import Event
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HealthRules, Probe

NOTHING: tuple[Event, ...] = ()
UP = (State.UP, True, None)
PROBING = (State.PROBING, False, None)


class Patient:
    """A gate with a clock and a chance of its own, and verbs for what may happen to it."""

    def __init__(self, probe: Probe = Probe.QUERY, fail_max: int = 3, chance: float = 0.5) -> None:
        self.time = 1000.0
        self.chance = chance
        settings = HealthRules(fail_max, cooldown_s=30, cooldown_max_s=300, probe=probe)
        self.gate = Gate(settings, now=lambda: self.time, rng=lambda: self.chance)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.time += seconds

    def admit(self) -> Permit:
        """Leave for a live request, which there must be."""
        permit = self.gate.admit()
        assert permit is not None
        return permit

    def succeed(self) -> tuple[Event, ...]:
        """A live request is answered."""
        with self.admit() as permit:
            return permit.succeeded()

    def fail(self, times: int = 1, kind: FailureKind = FailureKind.CLOSED) -> tuple[Event, ...]:
        """Live requests fail."""
        events = NOTHING
        for _ in range(times):
            with self.admit() as permit:
                events = permit.failed(kind)
        return events

    def trial(self) -> Trial:
        """Leave for a trial, which there must be."""
        trial = self.gate.admit_trial()
        assert trial is not None
        return trial

    def trial_fails(self) -> tuple[Event, ...]:
        """The cooldown passes, and a trial fails."""
        self.wait(self.gate.trial_in_s or 0)
        with self.trial() as trial:
            return trial.failed(FailureKind.REFUSED)

    def trial_succeeds(self) -> tuple[Event, ...]:
        """The cooldown passes, and a trial succeeds."""
        self.wait(self.gate.trial_in_s or 0)
        with self.trial() as trial:
            return trial.succeeded()

    def shown(self) -> tuple[State, bool, float | None]:
        """What everybody may see."""
        return self.gate.state, self.gate.available, self.gate.trial_in_s
