"""The breaker gate of one service: who may ask it, and what the outcome changes.

    up  --fail_max failures in a row-->  down  --cooldown over, one trial-->  probing
    ^                                     ^                                     |
    |                                     +---------- trial failed ------------+
    +-------------------------------- trial succeeded -------------------------+

pybreaker keeps this state machine; the gate keeps pybreaker from what it does badly (all measured on 1.4.1):
its ``call()`` holds a lock while the guarded function runs, so here it only ever guards a function that
returns or raises at once; its ``calling()`` lets every waiting caller into half-open, so here one `Trial` is
handed out; its timer reads the wall clock, so the cooldown is ours, on the monotonic clock; and it lets
a call that began before a state change speak after it, so each permit carries the *generation* in which it was
given, and what a permit of an older generation reports is dropped.

No I/O, no logging: an outcome returns the events to log. Time and chance are injected.
"""

from __future__ import annotations

import contextlib
import enum
import random
import threading
import time
from collections.abc import Callable
from typing import Self

import pybreaker

from hapolicy.core.events import Event, Level
from hapolicy.core.failures import FailureKind
from hapolicy.core.rules import HealthRules, Probe

# pybreaker must never end a cooldown by itself: any value beyond the life of the process will do.
_NEVER_S = 10 * 365 * 86_400

_NOTHING: tuple[Event, ...] = ()


class State(enum.Enum):
    """The health of a service, in the words of the status display."""

    UP = "up"
    DOWN = "down"
    PROBING = "probing"


_STATES = {
    pybreaker.STATE_CLOSED: State.UP,
    pybreaker.STATE_OPEN: State.DOWN,
    pybreaker.STATE_HALF_OPEN: State.PROBING,
}


class Permit:
    """Leave to ask the service once or, while it is up, often. Report the outcome of each exchange."""

    def __init__(self, gate: Gate, generation: int) -> None:
        self._gate = gate
        self._generation = generation

    def succeeded(self) -> tuple[Event, ...]:
        """The service gave a valid answer. Returns the events to log."""
        # Unlocked on purpose: with no failure counted a success changes nothing, whichever came first.
        if self._gate.clean:
            return _NOTHING
        return self._gate._record_success(self._generation)

    def failed(self, kind: FailureKind) -> tuple[Event, ...]:
        """The exchange failed. Returns the events to log."""
        if not kind.charges_service:
            return _NOTHING
        return self._gate._record_failure(self._generation, kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """A permit of a service that is up has nothing to give back."""


class Trial(Permit):
    """The one permit while probing. Left without an outcome it is given back: the next is due after a cooldown."""

    def __exit__(self, *_: object) -> None:
        self._gate._withdraw(self._generation)


class Gate:
    """Decides for one service whether it may be asked; thread-safe, never waits."""

    def __init__(
        self,
        settings: HealthRules,
        now: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._now = now
        self._rng = rng
        self._lock = threading.Lock()  # guards all fields below; `clean` and `_permit` are also read without
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=settings.fail_max, reset_timeout=_NEVER_S, throw_new_error_on_trip=False
        )
        self._generation = 0
        self._permit: Permit | None = Permit(self, 0)  # None unless up
        self.clean = True  # up, and no failure counted
        self._failed_trials = 0  # in a row
        self._down_since = 0.0
        self._retry_at = 0.0

    @property
    def state(self) -> State:
        """The state at this moment."""
        return _STATES[self._breaker.current_state]

    @property
    def available(self) -> bool:
        """Whether `admit` would admit a live request now."""
        return self._permit is not None or (self._settings.probe is Probe.OFF and self.trial_in_s == 0)

    @property
    def trial_in_s(self) -> float | None:
        """Seconds until a trial is due, 0 when it is; None when there is nothing to try."""
        with self._lock:
            if self.state is not State.DOWN:
                return None
            return max(0.0, self._retry_at - self._now())

    def admit(self) -> Permit | None:
        """Leave for a live request, or None when the service is not to be asked.

        With ``--probe off`` one live request after the cooldown is the trial.
        """
        permit = self._permit
        if permit is None and self._settings.probe is Probe.OFF:
            return self.admit_trial()
        return permit

    def admit_trial(self) -> Trial | None:
        """Leave to try a service that is down: once its cooldown is over, to one caller alone."""
        with self._lock:
            if self.state is not State.DOWN or self._now() < self._retry_at:
                return None
            self._breaker.half_open()
            self._generation += 1
            return Trial(self, self._generation)

    def trip(self) -> tuple[Event, ...]:
        """Count the service as down from now on, for a cooldown. Returns the events to log."""
        with self._lock:
            if self.state is State.DOWN:
                return _NOTHING
            if self.state is State.UP:
                self._down_since = self._now()
            self._breaker.open()
            self.clean = False
            fields = {"kind": "tripped", "cooldown_s": round(self._close_for_cooldown(), 3)}
            return (Event(Level.WARNING, "service.down", fields),)

    def reset(self) -> tuple[Event, ...]:
        """Count the service as up from now on, no failure counted. Returns the events to log."""
        with self._lock:
            was_up = self.state is State.UP
            self._breaker.close()
            self._breaker.call(_succeed)
            self.clean = True
            return _NOTHING if was_up else (self._open_up(),)

    def configure(self, settings: HealthRules) -> None:
        """Go by other settings from now on; a cooldown that runs is not changed."""
        with self._lock:
            self._settings = settings
            self._breaker.fail_max = settings.fail_max

    def _record_success(self, generation: int) -> tuple[Event, ...]:
        with self._lock:
            if generation != self._generation:
                return _NOTHING
            was_up = self.state is State.UP
            self._breaker.call(_succeed)
            self.clean = True
            return _NOTHING if was_up else (self._open_up(),)

    def _record_failure(self, generation: int, kind: FailureKind) -> tuple[Event, ...]:
        with self._lock:
            if generation != self._generation:
                return _NOTHING
            was_up = self.state is State.UP
            self.clean = False
            self._count_failure()
            if self.state is State.UP:
                return _NOTHING
            if was_up:
                self._down_since = self._now()
            else:
                self._failed_trials += 1
            cooldown_s = self._close_for_cooldown()
            fields = {"kind": kind.value, "cooldown_s": round(cooldown_s, 3)}
            if was_up:
                fields["failures"] = self._breaker.fail_counter
            return (Event(Level.WARNING, "service.down" if was_up else "service.probe_failed", fields),)

    def _withdraw(self, generation: int) -> None:
        with self._lock:
            if generation == self._generation and self.state is State.PROBING:
                self._breaker.open()
                self._close_for_cooldown()

    def _open_up(self) -> Event:
        """Admit everyone."""
        self._generation += 1
        self._permit = Permit(self, self._generation)
        self._failed_trials = 0
        return Event(Level.INFO, "service.up", {"down_s": round(self._now() - self._down_since, 3)})

    def _count_failure(self) -> None:
        with contextlib.suppress(_OutcomeError, pybreaker.CircuitBreakerError):
            self._breaker.call(_fail)

    def _close_for_cooldown(self) -> float:
        """Admit nobody for cooldown × 2ⁿ, n the failed trials in a row, ± 10 % so that hosts do not march in step."""
        self._generation += 1
        self._permit = None
        settings = self._settings
        growth: float = 2.0 ** min(self._failed_trials, 32)
        cooldown_s = min(settings.cooldown_max_s, settings.cooldown_s * growth * (0.9 + 0.2 * self._rng()))
        self._retry_at = self._now() + cooldown_s
        return cooldown_s


class _OutcomeError(Exception):
    """Tells pybreaker of a failure."""


def _succeed() -> None:
    """Tells pybreaker of a success."""


def _fail() -> None:
    raise _OutcomeError
