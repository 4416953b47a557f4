"""What Prometheus reads, made from the daemon's status when it asks: a request's path knows nothing of it.

Every series that an alert may watch is there from the start, at 0: Prometheus sees no increase in what was absent.
"""

from __future__ import annotations

import itertools
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hapolicy.admin.status import Status
from hapolicy.core.failures import FailureKind
from hapolicy.core.latencies import BOUNDS_S
from hapolicy.core.status import ServiceStatus

STATES = ("up", "down", "probing", "draining")
_OUTCOMES = ("answered", "defaulted", "suspect")
# As `proxy.ledger` counts them.
_PROTOCOL_STATES = ("CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN", "other")
_KINDS = tuple(kind.value for kind in FailureKind)
_BOUNDS = tuple("+Inf" if bound == math.inf else repr(bound) for bound in BOUNDS_S)

# A rendering takes a millisecond from the mail: so much a second and no more, however often somebody asks. Prometheus
# asks every 15 s.
AGE_MAX_S = 1.0

_ENCODERS = {
    "text/plain": choose_encoder(""),
    "application/openmetrics-text": choose_encoder("application/openmetrics-text; version=1.0.0"),
}

_Family = CounterMetricFamily | GaugeMetricFamily


class Exposition:
    """The text that Prometheus reads."""

    def __init__(self, status: Callable[[], Status], now: Callable[[], float] = time.monotonic) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StatusCollector(status))
        self._now = now
        self._rendered: dict[str, tuple[float, bytes]] = {}  # when and what, by media type: there are two

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics, at most `AGE_MAX_S` old, and their media type: the first in the Accept header that we speak."""
        encode, media_type = _encoder(accept)
        now = self._now()
        made_at, text = self._rendered.get(media_type, (-math.inf, b""))
        if now - made_at >= AGE_MAX_S:
            text = encode(self._registry)
            self._rendered[media_type] = now, text
        return text, media_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """The library's own choice goes by a version that a stranger wrote: it raises on some, and echoes others."""
    for wanted in accept.split(","):
        name = wanted.partition(";")[0].strip()
        if name in _ENCODERS:
            return _ENCODERS[name]
    return _ENCODERS["text/plain"]


class StatusCollector(Collector):
    """A status as metric families."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._started_at = round(time.time() - status().uptime_s, 3)  # once: the clock may be set

    def collect(self) -> Iterator[Metric]:
        """Look once, so that all figures are of one moment."""
        status = self._status()
        yield from _daemon(status, self._started_at)
        yield _requests(status)
        yield from _services(status.services)

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the names are fixed and not shared with another collector."""
        return ()


def _daemon(status: Status, started_at: float) -> Iterator[Metric]:
    build = {"version": status.version, "python": platform.python_version()}
    yield InfoMetricFamily("hapolicy_build", "The versions that run.", value=build)
    yield GaugeMetricFamily("hapolicy_start_time_seconds", "When the daemon started, in Unix time.", value=started_at)
    yield GaugeMetricFamily("hapolicy_clients", "Clients (smtpd processes) connected.", value=status.clients)
    yield GaugeMetricFamily("hapolicy_max_clients", "Clients that may be connected.", value=status.max_clients)
    waited = "The longest wait so far of a client that has no answer yet; 0 when none waits."
    yield GaugeMetricFamily("hapolicy_longest_wait_seconds", waited, value=status.longest_wait_s)
    turn = "The longest turn of an event loop in the last minute: how long one client may have delayed the others."
    yield GaugeMetricFamily("hapolicy_longest_turn_seconds", turn, value=status.longest_turn_s)
    yield GaugeMetricFamily("hapolicy_workers", "Threads with an event loop.", value=status.workers)
    deadline = "The longest that a client waits for its answer, all services together (--deadline)."
    yield GaugeMetricFamily("hapolicy_deadline_seconds", deadline, value=status.deadline_s)
    dropped = "Log events lost because the log did not take them."
    yield CounterMetricFamily("hapolicy_log_events_dropped", dropped, value=status.log_dropped)


def _requests(status: Status) -> Metric:
    family = CounterMetricFamily(
        "hapolicy_requests",
        "Requests by outcome (answered, defaulted: by no service, suspect: services broke on it) and protocol state.",
        labels=["outcome", "state"],
    )
    counts = dict.fromkeys(itertools.product(_OUTCOMES, _PROTOCOL_STATES), 0)
    counts |= {(entry["outcome"], entry["state"]): entry["count"] for entry in status.requests}
    for (outcome, state), count in counts.items():
        family.add_metric([outcome, state], count)
    return family


def _services(services: Sequence[ServiceStatus]) -> Iterator[Metric]:
    def each(family: _Family, value: Callable[[ServiceStatus], float]) -> Metric:
        for service in services:
            family.add_metric([service.name], value(service))
        return family

    def gauge(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"hapolicy_service_{name}", text, labels=["service"])

    def counter(name: str, text: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"hapolicy_service_{name}", text, labels=["service"])

    well = {"up", "draining"}
    yield each(gauge("up", "Whether the service is well (1), drained or not."), lambda s: s.state in well)
    yield _states(services)
    yield each(gauge("prio", "Lower is asked first."), lambda s: s.prio)
    yield each(gauge("weight", "Its WEIGHT: its share within its PRIO, relative to the others."), lambda s: s.weight)
    yield each(gauge("timeout_seconds", "How long one exchange may take."), lambda s: s.timeout_s)
    yield each(gauge("in_flight", "Requests that it has not answered yet."), lambda s: s.in_flight)
    left = "Seconds until it is probed, while it is down; else 0."
    yield each(gauge("cooldown_seconds", left), lambda s: s.trial_in_s or 0)
    yield each(
        gauge("silent", "1 while requests wait at it and it has answered none for too long."), lambda s: s.silent
    )
    yield each(gauge("queued", "Requests that wait for a connection to it (max=N)."), lambda s: s.queued)
    yield each(gauge("queued_seconds", "How long the first of them has waited."), lambda s: s.queued_for_s)
    yield each(counter("suspects", "Poison requests on which it broke: they got --suspect."), lambda s: s.suspects)
    yield each(counter("queries", "Requests that it was asked, reached or not."), lambda s: s.queries)
    yield each(counter("answers", "Requests that it answered."), lambda s: s.answers)
    yield _failures(services)
    yield _probes(services)
    yield _hedges(services)
    yield _connections(services)
    yield _durations(services)


def _states(services: Sequence[ServiceStatus]) -> Metric:
    text = "1 for the state that it is in."
    family = GaugeMetricFamily("hapolicy_service_state", text, labels=["service", "state"])
    for service, state in itertools.product(services, STATES):
        family.add_metric([service.name, state], service.state == state)
    return family


def _failures(services: Sequence[ServiceStatus]) -> Metric:
    text = "Requests that it did not answer, by what went wrong."
    family = CounterMetricFamily("hapolicy_service_failures", text, labels=["service", "kind"])
    for service, kind in itertools.product(services, _KINDS):
        family.add_metric([service.name, kind], service.failures.get(kind, 0))
    return family


def _probes(services: Sequence[ServiceStatus]) -> Metric:
    text = "Requests of hapolicy's own to it, by result (answered, failed)."
    family = CounterMetricFamily("hapolicy_service_probes", text, labels=["service", "result"])
    for service in services:
        family.add_metric([service.name, "answered"], service.probes_answered)
        family.add_metric([service.name, "failed"], service.probes_failed)
    return family


def _hedges(services: Sequence[ServiceStatus]) -> Metric:
    text = (
        "Requests also sent to a second service because it kept them waiting; won: the second was first; lost: it was."
    )
    family = CounterMetricFamily("hapolicy_service_hedges", text, labels=["service", "result"])
    for service in services:
        family.add_metric([service.name, "sent"], service.hedges_sent)
        family.add_metric([service.name, "won"], service.hedges_won)
        family.add_metric([service.name, "lost"], service.hedges_lost)
    return family


def _connections(services: Sequence[ServiceStatus]) -> Metric:
    text = "Connections to it: busy, idle, or waiting: not served yet as far as known, perhaps in its backlog."
    family = GaugeMetricFamily("hapolicy_service_connections", text, labels=["service", "state"])
    for service in services:
        family.add_metric([service.name, "busy"], service.connections_busy)
        family.add_metric([service.name, "idle"], service.connections_idle)
        family.add_metric([service.name, "waiting"], service.connections_waiting)
    return family


def _durations(services: Sequence[ServiceStatus]) -> Metric:
    text = "From asking it to its answer; requests that it did not answer are left out."
    family = HistogramMetricFamily("hapolicy_service_answer_duration_seconds", text, labels=["service"])
    for service in services:
        buckets = list(zip(_BOUNDS, map(float, itertools.accumulate(service.latency_counts)), strict=True))
        family.add_metric([service.name], buckets, service.latency_sum_s)
    return family
