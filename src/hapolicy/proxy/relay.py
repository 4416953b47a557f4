"""One request in, one answer out, whatever the services do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from hapolicy.core.counters import Tally
from hapolicy.core.events import Event, Level
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.protocol import Request, action_of, answer_of
from hapolicy.core.scheduler import Scheduler
from hapolicy.log.events import EventLog
from hapolicy.proxy.upstream import Upstream

# In the place of a failure's kind: not asked, because its breaker is open,
# an operator drains it, or the deadline left no time.
DOWN = "down"
DRAINING = "draining"
NO_TIME = "no_time"


@dataclass
class Affinity:
    """Who answered a client's last request, and for which mail. Belongs to one client connection.

    postgrey and policyd-spf keep state for each `instance`; asked for every recipient of one mail they answer
    as one service only when they are asked as one.
    """

    instance: bytes = b""
    upstream: Upstream | None = None

    def favourite(self, request: Request) -> Upstream | None:
        """Who has answered this mail's requests so far."""
        return self.upstream if request.instance and request.instance == self.instance else None


@dataclass(frozen=True)
class Rules:
    """How the relay answers: see `Settings` for each."""

    default_action: str
    deadline_s: float
    log_requests: bool


class Relay:
    """Asks the services in turn until one answers; thread-safe."""

    def __init__(
        self,
        scheduler: Scheduler[Upstream],
        rules: Rules,
        log: EventLog,
        tally: Tally,
    ) -> None:
        self._scheduler = scheduler
        self._rules = rules
        self._log = log
        self._tally = tally
        self.default_answer = answer_of(rules.default_action)

    def answer(self, request: Request, affinity: Affinity) -> bytes:
        """The answer for the client: a service's, or the default action when none gave one by the deadline."""
        start = time.monotonic()
        deadline = start + self._rules.deadline_s
        failures: dict[str, str] = {}
        for upstream in self._scheduler.candidates(affinity.favourite(request)):
            answer = self._ask(upstream, request, deadline, failures)
            if answer is not None:
                affinity.instance, affinity.upstream = request.instance, upstream
                self._tally.add("answered", request.text("protocol_state"))
                if self._rules.log_requests:
                    self._log_answered(request, upstream, answer, start, len(failures))
                return answer
            if time.monotonic() >= deadline:
                break
        self._tally.add("defaulted", request.text("protocol_state"))
        self._log_defaulted(request, failures, start)
        return self.default_answer

    def rehearse(self) -> None:
        """Go the way of a request, every lock included, without asking anyone."""
        self._scheduler.peek()
        self._tally.counts()
        for upstream in self._scheduler.members:
            upstream.totals()
            _ = upstream.gate.trial_in_s

    def _ask(self, upstream: Upstream, request: Request, deadline: float, failures: dict[str, str]) -> bytes | None:
        """One candidate: its answer, or None with the reason added to `failures`."""
        permit = upstream.admit()
        if permit is None:
            return None
        with permit:
            try:
                answer = upstream.ask(request.raw, deadline)
            except ServiceFailure as failure:
                events = permit.failed(failure.kind)
                failures[upstream.name] = failure.kind.value
                _log_failure(upstream, request, failure)
                answer = None
            else:
                events = permit.succeeded()
        if events:
            upstream.tell(events)
        return answer

    def _log_answered(self, request: Request, upstream: Upstream, answer: bytes, start: float, failed: int) -> None:
        service, delay_ms = upstream.service, _ms_since(start)
        queries, answers, failures = upstream.totals()

        def fields() -> Mapping[str, object]:
            return {
                "service": service.name,
                "address": str(service.address),
                "prio": service.prio,
                "weight": float(service.weight),
                "queries": queries,
                "answers": answers,
                "failed": failures,
                "delay_ms": delay_ms,
                **_mail(request),
                "action": action_of(answer),
                "attempts": failed + 1,
            }

        self._log.emit_later(Level.INFO, "request.answered", fields)

    def _log_defaulted(self, request: Request, failures: dict[str, str], start: float) -> None:
        delay_ms, attempts = _ms_since(start), len(failures)
        for upstream in self._scheduler.members:
            failures.setdefault(upstream.name, _why_not_asked(upstream))

        def fields() -> Mapping[str, object]:
            return {
                "action": self._rules.default_action,
                "failures": failures,
                "delay_ms": delay_ms,
                **_mail(request),
                "attempts": attempts,
            }

        self._log.emit_later(Level.ERROR, "request.defaulted", fields)


def _log_failure(upstream: Upstream, request: Request, failure: ServiceFailure) -> None:
    fields = {
        "kind": failure.kind.value,
        "error": failure.error,
        "link": "kept" if failure.kept else "fresh",
        "instance": request.instance,
    }
    upstream.tell([Event(Level.WARNING, "service.failed", fields)])


def _why_not_asked(upstream: Upstream) -> str:
    if upstream.draining:
        return DRAINING
    return NO_TIME if upstream.available else DOWN


def _ms_since(start: float) -> float:
    return round((time.monotonic() - start) * 1000, 3)


def _mail(request: Request) -> Mapping[str, str]:
    """What a postmaster looks for in a log line, in 1.00's words."""
    text = request.text
    return {
        "client": f"{text('client_name')}[{text('client_address')}]",
        "helo": text("helo_name"),
        "from": text("sender"),
        "to": text("recipient"),
        "protocol_state": text("protocol_state"),
        "instance": text("instance"),
        "queue_id": text("queue_id"),
    }
