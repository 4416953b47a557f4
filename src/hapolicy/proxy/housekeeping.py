"""What a worker does by the clock: deadlines, timeouts, silence and hedges, probes, idle connections and clients."""

from __future__ import annotations

from collections import deque

from hapolicy.core import events
from hapolicy.core.exchange import Exchange, exchanges
from hapolicy.core.failover import Failover
from hapolicy.core.silence import silent_after_s
from hapolicy.core.upstream import Upstream
from hapolicy.proxy.connections import Connections
from hapolicy.proxy.prober import Prober
from hapolicy.proxy.services import Services
from hapolicy.proxy.session import IDLE_MAX_S
from hapolicy.proxy.worker import TICK_S

IDLE_TICK_S = 0.5

# Hedges with a fixed time are bounded: a pool that is slow must not get twice the load.
HEDGE_SHARE = 0.1
HEDGE_LEAST = 10  # where few requests come, each of the first ones counts
HEDGE_WINDOW = 1000

_UNREAD_OUTPUT_S = 1.0  # while stopping: a client that does not read its answer is not waited for
_SLOWLY_S = 1.0
_IDLE_CLIENTS_S = 10.0


class Housekeeping:
    """Ticks for one worker, some forty times a second while there is something to wait for."""

    def __init__(self, services: Services) -> None:
        self._worker = services.worker
        self._services = services
        self._prober = Prober(services.worker)
        self._hedged: deque[int] = deque()  # the numbers of requests
        self._slowly_at = 0.0
        self._idle_clients_at = 0.0

    def tick(self, now: float) -> float:
        """Do what is due; returns in how many seconds to look again."""
        worker = self._worker
        for failover in worker.waiting.expired(now):
            failover.expired(now)
        for upstream, connections in list(worker.connections.items()):
            self._look_after(upstream, connections, now)
        worker.carrier.tick(now)
        for session in worker.partial.expired(now):
            session.expire()
        if now >= self._slowly_at:
            self._slowly_at = now + _SLOWLY_S
            self._tick_slowly(now)
        return TICK_S if self._is_busy() else IDLE_TICK_S

    def _is_busy(self) -> bool:
        """Whether something may be due soon."""
        worker = self._worker
        return bool(worker.waiting or worker.partial or worker.finishing) or any(
            upstream.in_flight or upstream.own for upstream in worker.connections
        )

    def _look_after(self, upstream: Upstream, connections: Connections, now: float) -> None:
        worker = self._worker
        for exchange in exchanges((*upstream.in_flight.expired(now), *upstream.own.expired(now))):
            worker.carrier.expire(exchange)
        upstream.look(now)
        if upstream.in_flight and upstream.hedge.enabled:
            self._hedge(upstream, now)
        while (relief := connections.relieve(now)) is not None:
            worker.carry_on(*relief)
        for connection in connections.superfluous(now):
            worker.close(connection)
        crowding = connections.crowding
        connections.tick(now)
        if crowding.noticed:
            crowding.noticed = False
            address = str(upstream.service.address)
            worker.tell(events.SERVICE_CROWDED(service=upstream.name, address=address, connections=crowding.cap))
        while connections.may_open():
            queued = connections.next_queued(now)
            if queued is not None:
                worker.carrier.open(connections, queued)
        if upstream in worker.plan.upstreams:
            self._prober.look_after(upstream)

    def _hedge(self, upstream: Upstream, now: float) -> None:
        after_s = upstream.hedge.after_s
        for exchange in exchanges(upstream.in_flight):
            if upstream.silent:
                self._try_hedge(exchange, now)
            elif after_s is None or now - exchange.began < after_s:
                return
            elif not exchange.hedged and self._may_hedge() and self._try_hedge(exchange, now):
                self._hedged.append(self._worker.begun)

    def _try_hedge(self, exchange: Exchange, now: float) -> bool:
        failover = exchange.asker
        if not isinstance(failover, Failover):
            return False
        second = failover.hedge(exchange, now)
        if second is None:
            return False
        worker = self._worker
        worker.tell(
            events.REQUEST_HEDGED(
                service=exchange.upstream.name,
                address=str(exchange.upstream.service.address),
                instance=failover.request.instance,
                next=second.upstream.name,
                after_ms=round((now - exchange.began) * 1000, 3),
            )
        )
        worker.carry_out(second)
        return True

    def _may_hedge(self) -> bool:
        """Whether of the last `HEDGE_WINDOW` requests few enough were hedged."""
        begun, hedged = self._worker.begun, self._hedged
        while hedged and begun - hedged[0] >= HEDGE_WINDOW:
            hedged.popleft()
        return len(hedged) < max(HEDGE_LEAST, HEDGE_SHARE * min(begun, HEDGE_WINDOW))

    def _tick_slowly(self, now: float) -> None:
        worker = self._worker
        worker.longest_turn.tick(now)
        for upstream in worker.connections:
            upstream.silent_after_s = silent_after_s(upstream.latencies, now)
        grown = [upstream for upstream in worker.plan.upstreams if upstream.grow(now)]
        if grown:
            worker.plan.scheduler.changed()
        self._services.drop_retired()
        if now >= self._idle_clients_at:
            self._idle_clients_at = now + _IDLE_CLIENTS_S
            for session in list(worker.sessions.values()):
                if session.failover is None and now - session.idle_since > IDLE_MAX_S:
                    worker.close(session)
        if worker.finishing:
            for session in list(worker.sessions.values()):
                if session.unsent and now - session.idle_since > _UNREAD_OUTPUT_S:
                    worker.close(session)
