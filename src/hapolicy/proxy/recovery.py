"""Finds out whether a service that is down is well again, without a live mail as guinea pig; tells when all are down.

One thread waits for the next cooldown to end, or for the next change of a service; each probe has a thread of its
own, so one that hangs delays no other service's.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable

from hapolicy.config.settings import Settings
from hapolicy.core.breaker import State, Trial
from hapolicy.core.events import Event, Level
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.rules import Probe
from hapolicy.log.events import EventLog
from hapolicy.proxy.upstream import LINK_IDLE_MAX_S, Upstream

_PROBE = (
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nhelo_name=hapolicy.invalid\n"
    "queue_id=\nsender=probe@hapolicy.invalid\nrecipient=probe@hapolicy.invalid\nrecipient_count=0\n"
    "client_address=127.0.0.1\nclient_name=localhost\nreverse_client_name=localhost\n"
    "instance={instance}\nsize=0\npolicy_context=hapolicy-probe\n\n"
)


class Outage:
    """The time in which no service is up. Only one thread looks, so each change is told once, and in order."""

    def __init__(self) -> None:
        self._since: float | None = None

    def look(self, upstreams: Iterable[Upstream], action: str) -> tuple[Event, ...]:
        """What has changed since the last look; `action` is the default one."""
        now = time.monotonic()
        states = {upstream.name: upstream.state for upstream in upstreams}
        up, since = State.UP.value in states.values(), self._since
        if not up and since is None:
            self._since = now
            return (Event(Level.ERROR, "pool.down", {"action": action, "services": states}),)
        if up and since is not None:
            self._since = None
            return (Event(Level.INFO, "pool.up", {"down_s": round(now - since, 3)}),)
        return ()


class Recovery:
    """Probes what is down, drops idle links, tells of an outage, until stopped."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._upstreams: tuple[Upstream, ...] = ()
        self._probe_kind = Probe.OFF
        self._default_action = ""
        self._outage = Outage()
        self._instances = itertools.count()
        self._wake = threading.Event()
        self._started = False
        self._stopping = False

    def watch(self, upstreams: Iterable[Upstream], settings: Settings) -> None:
        """Watch over these from now on. Called from one thread."""
        self._probe_kind = settings.health.probe
        self._default_action = settings.default_action
        self._upstreams = tuple(upstreams)
        self.wake()
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="recovery", daemon=True).start()

    def stop(self) -> None:
        """No further probes."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """A service has changed: look again, and when the cooldown of one that went down ends."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._wake.wait(self._look_round())

    def _look_round(self) -> float:
        """Tell what has changed, start what is due; returns the seconds until the next look."""
        for event in self._outage.look(self._upstreams, self._default_action):
            self._log.emit_later(event.level, event.name, event.fields)
        next_look_s = LINK_IDLE_MAX_S / 3
        for upstream in self._upstreams:
            upstream.drop_idle_links()
            if self._probe_kind is Probe.OFF:
                continue
            if (trial := upstream.gate.admit_trial()) is not None:
                self._start_probe(upstream, trial)
            if (trial_in_s := upstream.gate.trial_in_s) is not None:
                next_look_s = min(next_look_s, trial_in_s)
        return next_look_s

    def _start_probe(self, upstream: Upstream, trial: Trial) -> None:
        thread = threading.Thread(target=self._probe, args=(upstream, trial), name="probe", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: our want, not the service's
            with trial:
                return

    def _probe(self, upstream: Upstream, trial: Trial) -> None:
        try:
            with trial:
                self._probe_under(trial, upstream)
        finally:
            self.wake()

    def _probe_under(self, trial: Trial, upstream: Upstream) -> None:
        try:
            upstream.probe(self._request())
        except ServiceFailure as failure:
            upstream.tell(trial.failed(failure.kind), error=failure.error)
        else:
            upstream.tell(trial.succeeded())

    def _request(self) -> bytes | None:
        if self._probe_kind is Probe.TCP:
            return None
        return _PROBE.format(instance=f"hapolicy.{os.getpid()}.{next(self._instances)}").encode()
