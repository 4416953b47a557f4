"""Probes: whether a service that is down, suspected, silent or long unasked is well, without a live mail."""

from __future__ import annotations

import itertools
import os

from hapolicy.core import events
from hapolicy.core.breaker import Permit
from hapolicy.core.exchange import Exchange, OwnExchange
from hapolicy.core.failures import NOBODYS, ServiceFailure
from hapolicy.core.rules import Probe as ProbeKind
from hapolicy.core.synthetic import probe_request
from hapolicy.core.upstream import Upstream
from hapolicy.proxy.worker import Worker

_numbers = itertools.count(1)


class Probe:
    """One probe of one service."""

    wanted = True

    def __init__(self, worker: Worker, permit: Permit, raw: bytes) -> None:
        self.raw = raw  # empty: to connect is enough
        self._worker = worker
        self._permit = permit

    def answered(self, exchange: Exchange, answer: bytes, now: float) -> None:
        """The service is well."""
        upstream = exchange.upstream
        suspected = self._permit is upstream.breaker.permit
        upstream.probe_answered(self._permit, now)
        if suspected:
            self._worker.tell(events.SERVICE_ACQUITTED(service=upstream.name, address=str(upstream.service.address)))

    def failed(self, exchange: Exchange, failure: ServiceFailure, now: float) -> None:
        """It is not, unless it was our own fault."""
        upstream = exchange.upstream
        if failure.kind in NOBODYS:
            upstream.probe_withdrawn(self._permit, now)
        else:
            upstream.probe_broke(self._permit, exchange.began, failure, now)


class Prober:
    """Starts the probes that are due, on one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def look_after(self, upstream: Upstream) -> None:
        """Probe `upstream` when there is a reason to."""
        worker = self._worker
        if worker.finishing:
            return
        permit = upstream.probe_due(worker.now)
        if permit is None:
            return
        # An idle connection holds a worker of the service that the probe may need, or leads to where it was.
        connections = worker.connections[upstream]
        for idle in connections.idle():
            worker.close(idle)
        connections.refresh()
        raw = b""
        if upstream.probe_kind is ProbeKind.QUERY:
            raw = probe_request(f"hapolicy.{os.getpid():x}.{next(_numbers)}", worker.settings.probe_attributes)
        probe = Probe(worker, permit, raw)
        worker.carrier.open(connections, OwnExchange(probe, upstream, permit))
