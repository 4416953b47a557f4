"""The decisions of core with an injected clock: services that are told what happens, and clients that get answers."""

from __future__ import annotations

import itertools

from hapolicy.core.breaker import StateChange
from hapolicy.core.exchange import Exchange
from hapolicy.core.failover import Failover
from hapolicy.core.failures import FailureKind, ServiceFailure
from hapolicy.core.plan import Plan
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HEDGE_AUTO, HealthRules, Hedge, RequestRules
from hapolicy.core.service import parse_service
from hapolicy.core.upstream import Upstream

ANSWER = b"action=DUNNO\n\n"
_instances = itertools.count(1)


def request(client: str = "192.0.2.7", instance: str = "") -> Request:
    """A request of a sending host."""
    instance = instance or f"i{next(_instances)}"
    lines = f"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address={client}\ninstance={instance}\n\n"
    return Request(lines.encode())


class Asked:
    """A client and its request."""

    def __init__(self, world: World, failover: Failover) -> None:
        self.world = world
        self.failover = failover
        self.replies: list[bytes] = []

    @property
    def action(self) -> str | None:
        """The answer so far."""
        return self.replies[0].decode().removeprefix("action=").strip() if self.replies else None


class World:
    """Services of which none does anything by itself."""

    def __init__(
        self,
        *definitions: str,
        health: HealthRules | None = None,
        rules: RequestRules | None = None,
        hedge: Hedge = HEDGE_AUTO,
    ) -> None:
        self.now = 1000.0
        self.changes: list[tuple[str, StateChange]] = []
        self.reordered: list[str] = []  # whose silence or availability changed
        self.health = health or HealthRules()
        self.upstreams = [
            Upstream(parse_service(text), self.health, hedge, self, rng=lambda: 0.5) for text in definitions
        ]
        self.plan = Plan(rules or RequestRules(), self.upstreams)
        self.sent: list[Exchange] = []  # exchanges under way
        self.asked: list[Asked] = []

    # What core tells

    def service_changed(self, upstream: Upstream, change: StateChange) -> None:
        """Keep it."""
        self.changes.append((upstream.name, change))
        self.plan.scheduler.changed()

    def silence_changed(self, upstream: Upstream) -> None:
        """Let the scheduler know."""
        self.reordered.append(upstream.name)
        self.plan.scheduler.changed()

    availability_changed = silence_changed

    def reply(self, failover: Failover) -> None:
        """A client gets its answer."""
        asked = next(asked for asked in self.asked if asked.failover is failover)
        assert failover.answer is not None
        asked.replies.append(failover.answer)

    # What happens

    def __getitem__(self, name: str) -> Upstream:
        return next(upstream for upstream in self.upstreams if upstream.name == name)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def ask(self, client: str = "192.0.2.7") -> Asked:
        """A client asks."""
        failover = Failover(request(client), self.plan, self.now, self)
        asked = Asked(self, failover)
        self.asked.append(asked)
        self.send(failover.begin(None, self.now))
        return asked

    def send(self, exchange: Exchange | None, *, kept: bool = False) -> None:
        """Carry an exchange out."""
        if exchange is not None:
            exchange.kept = kept
            exchange.begin(self.now)
            self.sent.append(exchange)

    def at(self, name: str) -> list[Exchange]:
        """What is under way at a service."""
        return [exchange for exchange in self.sent if exchange.upstream.name == name]

    def answer(self, exchange: Exchange) -> None:
        """The service answers."""
        self.sent.remove(exchange)
        exchange.answered(ANSWER, self.now)

    def fail(self, exchange: Exchange, kind: FailureKind = FailureKind.CLOSED) -> None:
        """The exchange fails; what core wants next is sent."""
        self.sent.remove(exchange)
        self.send(exchange.failed(ServiceFailure(kind, "as the test wants"), self.now))

    def answer_all(self) -> None:
        """Every service answers everything."""
        while self.sent:
            self.answer(self.sent[0])

    def probe(self, name: str, outcome: FailureKind | None) -> bool:
        """The probe that is due comes to `outcome` (None: answered); returns whether one was due."""
        upstream = self[name]
        permit = upstream.probe_due(self.now)
        if permit is None:
            return False
        if outcome is None:
            upstream.probe_answered(permit, self.now)
        else:
            upstream.probe_broke(permit, self.now, ServiceFailure(outcome, "as the test wants"), self.now)
        return True
