"""The services of one worker: made from the settings, kept over a reload, changed by operators."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from hapolicy.config.settings import Settings
from hapolicy.core import events
from hapolicy.core.breaker import Permit, State, StateChange
from hapolicy.core.event import Event
from hapolicy.core.exchange import Exchange, OwnExchange
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.plan import Plan
from hapolicy.core.service import Service
from hapolicy.core.upstream import Upstream
from hapolicy.net.resolver import Resolution, Resolver
from hapolicy.proxy.changes import Changes
from hapolicy.proxy.connections import Connections
from hapolicy.proxy.worker import Worker


class UnknownService(LookupError):
    """There is no service of that name; the text says which there are."""


class Services:
    """All of them; also told by each `Upstream` of its changes."""

    def __init__(self, worker: Worker, resolver: Resolver, changes: Changes, settings: Settings) -> None:
        self.worker = worker
        self._resolver = resolver
        self._changes = changes
        self._workers = settings.workers  # that were started: a reload with another number changes nothing
        self._retired: dict[Upstream, float] = {}  # and since when
        self.reconfigure(settings)

    # Settings

    def reconfigure(self, settings: Settings) -> None:
        """Go by other settings from now on; requests under way finish on the plan they began with."""
        self.worker.configure(settings, self._plan(settings))
        self.look_at_pool()

    def _plan(self, settings: Settings) -> Plan:
        """Make or keep the services that `settings` define."""
        worker = self.worker
        known = {upstream.name: upstream for upstream in worker.plan.upstreams}
        upstreams = [self._upstream(service, settings, known.get(service.name)) for service in settings.services]
        for upstream in known.values():
            if upstream not in upstreams:
                self._retire(upstream)
        return Plan(settings.requests, upstreams, worker.plan.scheduler.owed())

    def _upstream(self, service: Service, settings: Settings, known: Upstream | None) -> Upstream:
        health, hedge = settings.health, settings.requests.hedge
        limit = service.max_connections and max(1, service.max_connections // self._workers)
        if known is not None and known.service.address == service.address:
            known.redefine(service, health, hedge)
            self.worker.connections[known].set_limit(limit)
            return known
        upstream = Upstream(service, health, hedge, self, random.random)
        upstream.draining = known is not None and known.draining
        connections = self.worker.connections[upstream] = Connections(
            upstream, limit, self.worker.carrier.open, self.worker.close
        )
        connections.watched = self._resolver.watch(
            service.address,
            lambda resolution: self.worker.post(partial(self._resolved, connections, resolution)),
        )
        return upstream

    def _retire(self, upstream: Upstream) -> None:
        connections = self.worker.connections[upstream]
        connections.retire()
        self._retired[upstream] = self.worker.now
        if connections.watched is not None:
            connections.watched.stop()
        self._withdraw_queued(upstream)
        connections.name_error = connections.name_error or "the service is no longer configured"
        self.worker.carrier.resolved(connections)

    def drop_retired(self) -> None:
        """Forget services that are no longer configured once nothing is under way that asks them, or may yet."""
        worker = self.worker
        oldest = next(iter(worker.waiting), None)
        for upstream, since in list(self._retired.items()):
            connections = worker.connections[upstream]
            busy = connections.all or connections.opening or upstream.in_flight or upstream.own
            if not busy and (oldest is None or oldest.asked_at > since):
                del worker.connections[upstream], self._retired[upstream]

    def _resolved(self, connections: Connections, resolution: Resolution) -> None:
        """The name service has told the addresses of a service."""
        addresses, upstream = resolution.addresses, connections.upstream
        connections.name_error = resolution.error
        if set(addresses) != set(connections.addresses):
            connections.addresses = addresses
            connections.keep_only(addresses)
            upstream.breaker.hurry(self.worker.now)  # it may have moved to where it is well
        self.worker.carrier.resolved(connections)

    # What an upstream tells of itself

    def service_changed(self, upstream: Upstream, change: StateChange) -> None:
        """It went down or came up, or a probe failed."""
        worker = self.worker
        if change.state is State.DOWN:
            for idle in worker.connections[upstream].idle():
                worker.close(idle)
            self._withdraw_queued(upstream)
        self.tell_change(upstream, _event_of(change), is_change=not change.trial)

    def silence_changed(self, upstream: Upstream) -> None:
        """It fell silent or is heard again."""
        worker = self.worker
        worker.plan.scheduler.changed()
        if upstream.silent:
            silent_s = round(upstream.silent_for_s(worker.now), 3)
            owed = len(upstream.in_flight)
            worker.tell(_named(upstream, events.SERVICE_SILENT, owed=owed, silent_s=silent_s))

    def availability_changed(self, upstream: Upstream) -> None:
        """Without probes: it may be tried with a live request, or that one has been found."""
        self.worker.plan.scheduler.changed()

    def tell_change(self, upstream: Upstream, event: Callable[..., Event], *, is_change: bool = True) -> None:
        """Record and log a change of state."""
        worker = self.worker
        worker.plan.scheduler.changed()
        told = _named(upstream, event)
        if is_change:
            self._changes.note(told)
        worker.tell(told)
        self.look_at_pool()

    def look_at_pool(self) -> None:
        """Tell when no service is up any more, and when one is again."""
        worker = self.worker
        states = {upstream.name: upstream.state for upstream in worker.plan.upstreams}
        for event in self._changes.look(worker.number, states):
            self._changes.note(event)
            worker.tell(event)

    def _withdraw_queued(self, upstream: Upstream) -> None:
        """What waits for a connection asks another service."""
        for exchange in self.worker.connections[upstream].withdraw_queued():
            self.worker.failed(exchange, ServiceFailure(FailureKind.WITHDRAWN, "the service went down"))

    # Operators

    def find(self, name: str) -> Upstream:
        """The service of that name. Raises `UnknownService`."""
        upstreams = self.worker.plan.upstreams
        for upstream in upstreams:
            if upstream.name == name:
                return upstream
        known = ", ".join(upstream.name for upstream in upstreams)
        raise UnknownService(f"no service {name!r}; there are: {known}")

    def drain(self, name: str) -> None:
        """Ask it nothing new; what it was asked finishes."""
        upstream = self.find(name)
        if not upstream.draining:
            upstream.draining = True
            self._withdraw_queued(upstream)
            self.tell_change(upstream, events.SERVICE_DRAINING)

    def ready(self, name: str) -> None:
        """End a drain."""
        upstream = self.find(name)
        if upstream.draining:
            upstream.ready()
            self.tell_change(upstream, events.SERVICE_READY)

    def trip(self, name: str) -> None:
        """Count it as down; probes find out when it is well."""
        self.find(name).trip(self.worker.now)

    def reset(self, name: str) -> None:
        """Count it as up, no failure counted."""
        self.find(name).reset(self.worker.now)

    def query(self, name: str, raw: bytes, answered: Callable[[bytes | ServiceFailure], None]) -> float:
        """Ask this service alone, whatever its state; counts for nothing. Returns how many seconds it has."""
        upstream = self.find(name)
        exchange = OwnExchange(_Query(raw, answered), upstream, Permit(-1))
        self.worker.carrier.open(self.worker.connections[upstream], exchange)
        return upstream.service.timeout_s


class _Query:
    """An operator's query of one service."""

    wanted = True

    def __init__(self, raw: bytes, done: Callable[[bytes | ServiceFailure], None]) -> None:
        self.raw = raw
        self._done = done

    def answered(self, exchange: Exchange, answer: bytes, now: float) -> None:
        self._done(answer)

    def failed(self, exchange: Exchange, failure: ServiceFailure, now: float) -> None:
        self._done(failure)


def _named(upstream: Upstream, event: Callable[..., Event], **fields: object) -> Event:
    return event(service=upstream.name, address=str(upstream.service.address), **fields)


def _event_of(change: StateChange) -> Callable[..., Event]:
    if change.state is State.UP:
        return partial(events.SERVICE_UP, down_s=round(change.down_s, 3))
    event = events.SERVICE_PROBE_FAILED if change.trial else events.SERVICE_DOWN
    failures = {"failures": change.failures} if change.failures else {}
    return partial(event, kind=change.kind, cooldown_s=round(change.cooldown_s, 3), **failures)
