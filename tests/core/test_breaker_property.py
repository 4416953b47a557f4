"""The breaker gate under any order of events, beside a model of it that a reader can check by eye."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hapolicy.core.breaker import Gate, Permit, State, Trial
from hapolicy.core.events import Event
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HealthRules, Probe

CHARGED = [kind for kind in FailureKind if kind.charges_service]
COOLDOWN_S, COOLDOWN_MAX_S = 10.0, 100.0


class GateMachine(RuleBasedStateMachine):
    """Any interleaving of admissions, outcomes, trials and time."""

    @initialize(fail_max=st.integers(1, 4), probe=st.sampled_from(Probe))
    def begin(self, fail_max: int, probe: Probe) -> None:
        """A gate, and the model: an era is the time between two changes of state."""
        self.now, self.chance = 0.0, 0.5
        self.fail_max, self.probe = fail_max, probe
        health = HealthRules(fail_max, COOLDOWN_S, COOLDOWN_MAX_S, probe)
        self.gate = Gate(health, now=lambda: self.now, rng=lambda: self.chance)
        self.state, self.era, self.failures, self.failed_trials = State.UP, 0, 0, 0
        self.went_down_at = 0.0
        self.permits: list[tuple[Permit, int]] = []  # with the era in which each was given

    def enter(self, state: State) -> None:
        """The model's state changes."""
        self.state = state
        self.era += 1
        self.failures = 0

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.0, 11.0, 50.0, 120.0]), chance=st.floats(0, 1, exclude_max=True))
    def time_passes(self, seconds: float, chance: float) -> None:
        """And chance is another one."""
        self.now += seconds
        self.chance = chance

    @rule()
    def admit(self) -> None:
        """A live request comes."""
        due = self.gate.trial_in_s == 0
        permit = self.gate.admit()
        trial_wanted = self.probe is Probe.OFF and self.state is State.DOWN and due
        assert (self.state is State.UP or trial_wanted) == (permit is not None)
        assert trial_wanted == isinstance(permit, Trial)
        self.keep(permit)

    @rule()
    def admit_trial(self) -> None:
        """A probe would like to begin."""
        due = self.gate.trial_in_s == 0
        trial = self.gate.admit_trial()
        assert (self.state is State.DOWN and due) == (trial is not None)
        self.keep(trial)

    def keep(self, permit: Permit | None) -> None:
        """A permit that was given may report at any later time."""
        if isinstance(permit, Trial):
            self.enter(State.PROBING)
        if permit is not None:
            self.permits.append((permit, self.era))

    @precondition(lambda self: self.permits)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """Some request, however old, was answered."""
        permit, era = data.draw(st.sampled_from(self.permits))
        events = permit.succeeded()
        if era == self.era and self.state is State.PROBING:
            assert ["service.up"] == self.names(events)
            assert abs(events[0].fields["down_s"] - (self.now - self.went_down_at)) < 0.001
            self.enter(State.UP)
            self.failed_trials = 0
        else:
            assert () == events
            if era == self.era:
                self.failures = 0

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), kind=st.sampled_from(FailureKind))
    def fail(self, data: st.DataObject, kind: FailureKind) -> None:
        """Some request, however old, failed."""
        permit, era = data.draw(st.sampled_from(self.permits))
        events = permit.failed(kind)
        if kind is FailureKind.LOCAL or era != self.era:
            assert () == events
        elif self.state is State.PROBING:
            assert ["service.probe_failed"] == self.names(events)
            self.failed_trials += 1
            self.down(events[0])
        else:
            self.failures += 1
            if self.failures < self.fail_max:
                assert () == events
                return
            assert [("service.down", self.fail_max)] == [(e.name, e.fields["failures"]) for e in events]
            self.went_down_at = self.now
            self.down(events[0])

    def down(self, event: Event) -> None:
        """The cooldown is within its bounds, and as told."""
        self.enter(State.DOWN)
        left_s = self.gate.trial_in_s
        assert left_s is not None
        assert abs(left_s - event.fields["cooldown_s"]) < 0.001
        planned_s = COOLDOWN_S * 2**self.failed_trials
        assert min(COOLDOWN_MAX_S, planned_s * 0.9) - 0.001 <= left_s <= min(COOLDOWN_MAX_S, planned_s * 1.1) + 0.001

    @precondition(lambda self: any(isinstance(permit, Trial) for permit, _ in self.permits))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Some trial, reported or not, is left."""
        trial, era = data.draw(st.sampled_from([pair for pair in self.permits if isinstance(pair[0], Trial)]))
        with trial:
            pass
        if era == self.era and self.state is State.PROBING:
            self.enter(State.DOWN)

    @staticmethod
    def names(events: tuple[Event, ...]) -> list[str]:
        """What is to be logged."""
        return [event.name for event in events]

    @invariant()
    def legal(self) -> None:
        """The gate shows the model's state; up admits everyone, down says when a trial is due, probing nobody."""
        gate = self.gate
        assert self.state is gate.state
        trial_in_s = gate.trial_in_s
        assert (self.state is State.DOWN) == (trial_in_s is not None)
        assert trial_in_s is None or 0 <= trial_in_s <= COOLDOWN_MAX_S
        due = self.probe is Probe.OFF and trial_in_s == 0
        assert (self.state is State.UP or due) == gate.available
        if self.state is State.UP:
            assert gate.admit() is not None
            assert gate.admit_trial() is None
        elif self.state is State.PROBING or self.probe is not Probe.OFF:
            assert gate.admit() is None
        if self.state is State.PROBING:
            assert gate.admit_trial() is None


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=100, stateful_step_count=40)
