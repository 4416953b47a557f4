"""What is logged of a request and of a failed exchange."""

from __future__ import annotations

from hapolicy.core import events
from hapolicy.core.event import Event
from hapolicy.core.exchange import Exchange
from hapolicy.core.failover import Failover, Outcome
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.protocol import Request, action_of


def request_event(failover: Failover, now: float) -> Event:
    """What became of a request."""
    if failover.outcome is Outcome.ANSWERED:
        return _answered(failover, now)
    kind = events.REQUEST_SUSPECT if failover.outcome is Outcome.SUSPECT else events.REQUEST_DEFAULTED
    return kind(
        action=action_of(failover.answer or b""),
        failures=failover.failures,
        delay_ms=_delay_ms(failover, now),
        **_mail(failover.request),
        attempts=failover.attempts,
    )


def _answered(failover: Failover, now: float) -> Event:
    winner = failover.winner
    assert winner is not None
    upstream = winner.upstream
    return events.REQUEST_ANSWERED(
        **upstream.service.described,
        queries=upstream.queries,
        answers=upstream.answers,
        failed=upstream.failed,
        delay_ms=_delay_ms(failover, now),
        **_mail(failover.request),
        action=action_of(failover.answer or b""),
        attempts=failover.attempts,
    )


def failure_event(exchange: Exchange, request: Request, failure: ServiceFailure) -> Event:
    """An exchange for a client's request that came to nothing."""
    service = exchange.upstream.service
    return events.SERVICE_FAILED(
        service=service.name,
        address=str(service.address),
        kind=failure.kind.value,
        error=failure.error,
        connection="kept" if exchange.kept else "fresh",
        instance=request.instance,
    )


def _delay_ms(failover: Failover, now: float) -> float:
    return round((now - failover.asked_at) * 1000, 3)


def _mail(request: Request) -> dict[str, str]:
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
