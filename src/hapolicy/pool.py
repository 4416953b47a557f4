"""All that one configuration runs: the upstreams, who asks them in which order, who watches over them."""

from __future__ import annotations

from hapolicy.health import State
from hapolicy.logs import Event, EventLog, Level
from hapolicy.recovery import Recovery
from hapolicy.relay import Relay, Rules
from hapolicy.scheduler import Scheduler
from hapolicy.settings import Settings
from hapolicy.upstream import Upstream


class Pool:
    """The services of one configuration, in use."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self.upstreams = tuple(
            Upstream(service, settings.health, settings.connect_timeout_s, log) for service in settings.services
        )
        self._recovery = Recovery(self.upstreams, settings.health.probe)
        self.relay = Relay(
            Scheduler(self.upstreams),
            Rules(settings.default_action, settings.deadline_s, settings.log_requests),
            log,
            on_health_change=self._recovery.wake,
        )

    def start(self) -> None:
        """Begin to watch over the services."""
        self._recovery.start()

    def stop(self) -> None:
        """No further probes; the kept links are closed."""
        self._recovery.stop()
        for upstream in self.upstreams:
            upstream.drop_idle_links(idle_max_s=0)

    def log_status(self) -> None:
        """One event a service: where it stands."""
        for upstream in self.upstreams:
            upstream.tell([_status(upstream)])


def _status(upstream: Upstream) -> Event:
    counters, trial_in_s = upstream.counters(), upstream.gate.trial_in_s
    fields: dict[str, object] = {
        "state": upstream.gate.state.value,
        "prio": upstream.prio,
        "weight": float(upstream.weight),
        "queries": counters.queries,
        "answers": counters.answers,
        "failed": counters.failed,
        "in_flight": counters.in_flight,
        "failures": {kind.value: count for kind, count in counters.failures.items()},
        "last_error": counters.last_error,
    }
    if upstream.gate.state is State.DOWN and trial_in_s is not None:
        fields["probe_in_s"] = round(trial_in_s, 3)
    return Event(Level.INFO, "service.status", fields)
