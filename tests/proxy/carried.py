"""What tests of exchanges have in common: a service A, the next one B, and what is told of A."""

from __future__ import annotations

from typing import Any

from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.proxy.connections import Connection
from hapolicy.proxy.worker import TICK_S
from tests.proxy.ends import Client, Service
from tests.proxy.turns import Turns

NO_HEDGE = RequestRules(hedge=HEDGE_OFF)
NO_PROBE = HealthRules(probe=Probe.OFF)
CONNECT_TIMEOUT_S = 6.0
TIMEOUT_S = 3
LATE_S = 3 * TICK_S  # as late as what is due may be noticed, by a clock that goes on in steps


def start(turns: Turns, definition: str, **settings: Any) -> Service:
    """A service A of this definition; returns B, for what A leaves unanswered. Nothing is probed unless told so."""
    b = turns.service()
    start_alone(turns, definition, f"B={b.address}:99", **settings)
    return b


def start_alone(turns: Turns, definition: str, *more: str, **settings: Any) -> None:
    """The same without B."""
    settings.setdefault("health", NO_PROBE)
    turns.start(f"A={definition}", *more, requests=NO_HEDGE, connect_timeout_s=CONNECT_TIMEOUT_S, **settings)


def start_pair(turns: Turns, *, tcp: bool = False, **settings: Any) -> tuple[Service, Service]:
    """A service of three seconds, and the next one."""
    a = turns.service(tcp=tcp)
    return a, start(turns, f"{a.address}:1:1:{TIMEOUT_S}", **settings)


def ask(turns: Turns, instance: str = "m1") -> Client:
    """A new client with one request."""
    client = turns.client()
    client.sends(instance=instance)
    return client


def failed(address: str, kind: str, error: str, *, connection: str = "fresh") -> dict[str, Any]:
    """service.failed of A as a whole, for the mail m1."""
    return {
        "service": "A",
        "address": address,
        "kind": kind,
        "error": error,
        "connection": connection,
        "instance": b"m1",
    }


def connections(turns: Turns) -> tuple[int, int]:
    """How many connections to A are busy, and how many are idle."""
    status = turns.status()
    return status.connections_busy + status.connections_waiting, status.connections_idle


def figures(turns: Turns) -> tuple[int, int, dict[str, int], tuple[int, int]]:
    """What A was asked and has answered, its failures, and its connections; nothing of it is under way."""
    status = turns.status()
    assert (0, status.queries) == (status.in_flight, status.answers + status.failed)
    return status.queries, status.answers, status.failures, connections(turns)


def only_connection(turns: Turns) -> Connection:
    """The one connection to A."""
    (connection,) = turns.worker.connections[turns.upstream()].all
    return connection


def check_two_at_once(turns: Turns, a: Service, clients: list[Client]) -> None:
    """A has max=2 and three clients that have asked it: see that it serves two at a time, now and later."""
    for _ in range(2):
        links = [a.accept() for _ in range(2)]
        assert (2, 1) == (turns.status().in_flight, turns.status().queued)
        for number, link in enumerate((*links, links[0])):
            link.serve(f"DUNNO {number}")
        assert ["DUNNO 0", "DUNNO 1", "DUNNO 2"] == [client.action() for client in clients]
        assert (0, 2) == connections(turns)
        for client in clients:
            client.sends(instance="m2")
        assert (2, 1) == (turns.status().in_flight, turns.status().queued)
        for link in (*links, links[0]):
            link.serve()
        assert ["DUNNO"] * 3 == [client.action() for client in clients]
        for link in links:
            link.end()
        for client in clients:
            client.sends(instance="m3")
