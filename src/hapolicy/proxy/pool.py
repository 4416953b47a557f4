"""All that one configuration runs: the upstreams, who asks them in which order, who watches over them.

A reload makes a new pool from the former one: a service whose name and address stay keeps its health, links and
counters, whatever else of it changes. Requests in flight end on the pool on which they began.
"""

from __future__ import annotations

from hapolicy.config.settings import Settings
from hapolicy.core.counters import Changes, Tally
from hapolicy.core.scheduler import Scheduler
from hapolicy.core.service import Service
from hapolicy.log.events import EventLog
from hapolicy.proxy.recovery import Recovery
from hapolicy.proxy.relay import Relay, Rules
from hapolicy.proxy.upstream import Upstream


class Pool:
    """The services of one configuration, in use."""

    def __init__(self, settings: Settings, log: EventLog, former: Pool | None = None) -> None:
        self.settings = settings
        self.tally: Tally = former.tally if former else Tally()
        self._recovery: Recovery = former._recovery if former else Recovery(log)
        self.changes: Changes = former.changes if former else Changes(on_change=self._recovery.wake)
        self._log = log
        known = {upstream.name: upstream for upstream in former.upstreams} if former else {}
        self.upstreams: tuple[Upstream, ...] = tuple(
            self._upstream(service, known.get(service.name)) for service in settings.services
        )
        self.relay = Relay(
            Scheduler(self.upstreams),
            Rules(settings.default_action, settings.deadline_s, settings.log_requests),
            log,
            self.tally,
        )

    def watch(self) -> None:
        """Watch over the services, in the former pool's place; look at once."""
        self._recovery.watch(self.upstreams, self.settings)

    def retire(self, successor: Pool) -> None:
        """Part with the services that `successor` has not taken over."""
        for upstream in self.upstreams:
            if upstream not in successor.upstreams:
                upstream.retire()

    def stop(self) -> None:
        """No further probes; the kept links are closed."""
        self._recovery.stop()
        for upstream in self.upstreams:
            upstream.retire()

    def _upstream(self, service: Service, known: Upstream | None) -> Upstream:
        health, connect_timeout_s = self.settings.health, self.settings.connect_timeout_s
        if known is not None and known.service.address == service.address:
            known.redefine(service, health, connect_timeout_s)
            return known
        return Upstream(service, health, connect_timeout_s, self._log, self.changes)
