"""Finds out whether a service that is down is well again, without a live mail as guinea pig.

One thread waits for the next cooldown to end; each probe has a thread of its own, so one that hangs delays no
other service's.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable

from hapolicy.failure import ServiceFailure
from hapolicy.health import Trial
from hapolicy.settings import Probe
from hapolicy.upstream import LINK_IDLE_MAX_S, Upstream

_PROBE = (
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nhelo_name=hapolicy.invalid\n"
    "queue_id=\nsender=probe@hapolicy.invalid\nrecipient=probe@hapolicy.invalid\nrecipient_count=0\n"
    "client_address=127.0.0.1\nclient_name=localhost\nreverse_client_name=localhost\n"
    "instance={instance}\nsize=0\npolicy_context=hapolicy-probe\n\n"
)


class Recovery:
    """Probes what is down and drops idle links, until stopped."""

    def __init__(self) -> None:
        self._upstreams: tuple[Upstream, ...] = ()
        self._probe_kind = Probe.OFF
        self._instances = itertools.count()
        self._wake = threading.Event()
        self._started = False
        self._stopping = False

    def watch(self, upstreams: Iterable[Upstream], probe: Probe) -> None:
        """Watch over these from now on. Called from one thread."""
        self._upstreams = tuple(upstreams)
        self._probe_kind = probe
        self.wake()
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, name="recovery", daemon=True).start()

    def stop(self) -> None:
        """No further probes."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """A service went down: look again when its cooldown ends."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._wake.wait(self._look_round())

    def _look_round(self) -> float:
        """Start what is due; returns the seconds until the next look."""
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
