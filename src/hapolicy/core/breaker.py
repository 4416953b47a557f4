"""The circuit breaker of one service: who may ask it, and what an outcome changes.

    up  --failures in a row, a probe that failed, a high rate of failures-->  down  --cooldown over-->  probing
    ^                                                                          ^                           |
    |                                                                          +------- probe failed -----+
    +------------------------------------- probe answered ------------------------------------------------+

pybreaker keeps the outcomes; `_Outcomes` hides it. What it does badly is kept away from it (all measured on 1.4.1): its
``call()`` holds a lock while the guarded function runs, so here it only ever guards a function that returns or raises
at once; its ``calling()`` lets every caller into half-open, so here one trial permit is handed out; its timer reads the
wall clock, so the cooldown is ours; and it lets a call that began before a state change speak after it, so each
`Permit` carries the *generation* in which it was given, and an older generation's report is dropped.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pybreaker

from hapolicy.core.failures import QUICK, FailureKind
from hapolicy.core.rules import HealthRules

# A service that goes down again this soon after it came up has not been well: its cooldown goes on growing.
RELAPSE_S = 60.0


class State(enum.Enum):
    """The health of a service, in the words of the status display."""

    UP = "up"
    DOWN = "down"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to ask the service. `trial`: the only one while it is probed."""

    generation: int
    trial: bool = False


class Sent(Protocol):
    """What a service was asked under a permit, as far as it takes part in judging the service."""

    permit: Permit
    began: float  # -inf until it is on its way
    hedged: bool  # another service was asked, too


@dataclass(frozen=True, slots=True)
class StateChange:
    """A service went down or up, or a probe of one that is down failed.

    `kind` is why it is down; `cooldown_s` how long it is left alone; `failures` how many in a row made it so, 0 where
    another reason did; `down_s` how long it was down.
    """

    state: State
    kind: str = ""
    cooldown_s: float = 0.0
    failures: int = 0
    down_s: float = 0.0
    trial: bool = False


class Breaker:
    """Decides for one service whether it may be asked. `now` is the monotonic clock everywhere."""

    def __init__(self, rules: HealthRules, rng: Callable[[], float]) -> None:
        self._rules = rules
        self._rng = rng
        self._outcomes = _Outcomes(rules.fail_max)
        self._generation = 0
        self.permit: Permit | None = Permit(0)  # for everybody; None unless up
        self.clean = True  # up, and no failure counted
        self.retry_at = math.inf  # when the cooldown is over
        self._growth = 0  # the cooldown is doubled so often
        self._up_since = -math.inf
        self._down_since = 0.0
        self._kind: FailureKind | None = None  # why it went down; None when an operator said so
        self._last_resort_taken = False

    @property
    def state(self) -> State:
        """up, down or probing."""
        return self._outcomes.state

    def configure(self, rules: HealthRules) -> None:
        """Go by other rules from now on; a cooldown that runs is not changed."""
        self._rules = rules
        self._outcomes.fail_max = rules.fail_max

    def admit_trial(self, now: float) -> Permit | None:
        """Leave to try a service that is down, once its cooldown is over, to one alone."""
        if not self.is_trial_due(now):
            return None
        self._outcomes.half_open()
        self._generation += 1
        return Permit(self._generation, trial=True)

    def admit_last_resort(self) -> Permit | None:
        """Leave to ask a service that went down by a quick failure, to one request at a time: nobody else is left."""
        if self.permit is not None or self._kind not in QUICK or self._last_resort_taken:
            return None
        self._last_resort_taken = True
        return Permit(self._generation)

    def give_back(self, permit: Permit, now: float) -> None:
        """A permit ended without an outcome; after a trial the next one is due after a cooldown."""
        self._last_resort_taken = False
        if permit.trial and permit.generation == self._generation and self.state is State.PROBING:
            self._outcomes.open()
            self._begin_cooldown(now)

    def succeeded(self, permit: Permit, now: float) -> StateChange | None:
        """A valid answer under `permit`."""
        self._last_resort_taken = False
        if permit.generation != self._generation:
            return None
        if self.state is State.DOWN:  # a last resort
            self._outcomes.close()
        self._outcomes.succeed()
        self.clean = True
        return self._come_up(now) if self.permit is None else None

    def failed(self, permit: Permit, kind: FailureKind, now: float) -> StateChange | None:
        """A failure under `permit` that is held against the service."""
        self._last_resort_taken = False
        if permit.generation != self._generation:
            return None
        if self.state is State.DOWN:  # a last resort
            self._kind = kind
            return None
        self.clean = False
        self._outcomes.fail()
        if self.state is State.UP:
            return None
        failures = self._outcomes.in_a_row if not permit.trial else 0
        return self._go_down(kind, kind.value, now, failures=failures, trial=permit.trial)

    def convict(self, kind: FailureKind, reason: str, now: float) -> StateChange | None:
        """Down at once, whatever was counted: a probe failed, or too many of the last answers did."""
        if self.state is not State.UP:
            return None
        self._outcomes.open()
        return self._go_down(kind, reason, now)

    def trip(self, now: float) -> StateChange | None:
        """Down from now on, for a cooldown: an operator's word."""
        if self.state is State.DOWN:
            return None
        self._outcomes.open()
        return self._go_down(None, "tripped", now)

    def reset(self, now: float) -> StateChange | None:
        """Up from now on, no failure counted: an operator's word."""
        self._outcomes.close()
        self._outcomes.succeed()
        self.clean = True
        self._growth = 0
        return self._come_up(now) if self.permit is None else None

    def hurry(self, now: float) -> None:
        """There is reason to think that it is well again: the cooldown is over."""
        if self.state is State.DOWN:
            self.retry_at = min(self.retry_at, now)

    def is_trial_due(self, now: float) -> bool:
        """Whether it is down, and its cooldown over."""
        return self.state is State.DOWN and now >= self.retry_at

    def _come_up(self, now: float) -> StateChange:
        self._generation += 1
        self.permit = Permit(self._generation)
        self._up_since, self.retry_at = now, math.inf
        return StateChange(State.UP, down_s=now - self._down_since)

    def _go_down(
        self, kind: FailureKind | None, reason: str, now: float, *, failures: int = 0, trial: bool = False
    ) -> StateChange:
        if trial or (self.permit is not None and now - self._up_since < RELAPSE_S):
            self._growth += 1
        elif self.permit is not None:
            self._growth = 0
        if self.permit is not None:
            self._down_since = now
        self._kind = kind
        self.clean = False
        cooldown_s = self._begin_cooldown(now)
        return StateChange(State.DOWN, reason, cooldown_s, failures, trial=trial)

    def _begin_cooldown(self, now: float) -> float:
        """Admit nobody for cooldown × 2ⁿ, ± 10 % so that hosts do not march in step."""
        self._generation += 1
        self.permit = None
        rules = self._rules
        growth: float = 2.0 ** min(self._growth, 32)
        cooldown_s = min(rules.cooldown_max_s, rules.cooldown_s * growth * (0.9 + 0.2 * self._rng()))
        self.retry_at = now + cooldown_s
        return cooldown_s


_STATES = {
    pybreaker.STATE_CLOSED: State.UP,
    pybreaker.STATE_OPEN: State.DOWN,
    pybreaker.STATE_HALF_OPEN: State.PROBING,
}
_NEVER_S = 10 * 365 * 86_400  # pybreaker must not end a cooldown by itself


class _Outcomes:
    """pybreaker as a state machine that is told outcomes."""

    def __init__(self, fail_max: int) -> None:
        self._breaker = pybreaker.CircuitBreaker(fail_max, _NEVER_S, throw_new_error_on_trip=False)
        self.state = State.UP  # pybreaker's own property takes a microsecond

    @property
    def in_a_row(self) -> int:
        return self._breaker.fail_counter

    @property
    def fail_max(self) -> int:
        return self._breaker.fail_max

    @fail_max.setter
    def fail_max(self, fail_max: int) -> None:
        self._breaker.fail_max = fail_max

    def succeed(self) -> None:
        self._told(lambda: self._breaker.call(lambda: None))

    def fail(self) -> None:
        with contextlib.suppress(_OutcomeError, pybreaker.CircuitBreakerError):
            self._told(lambda: self._breaker.call(_raise))

    def open(self) -> None:
        self._told(self._breaker.open)

    def half_open(self) -> None:
        self._told(self._breaker.half_open)

    def close(self) -> None:
        self._told(self._breaker.close)

    def _told(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        finally:
            self.state = _STATES[self._breaker.current_state]


class _OutcomeError(Exception):
    """Tells pybreaker of a failure."""


def _raise() -> None:
    raise _OutcomeError
