"""What operators order of a worker's services, turn by turn, and what is told of it."""

from __future__ import annotations

import pytest

from hapolicy.core.failures import ServiceFailure
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.proxy.pool import Answered, UnknownService
from tests.proxy.carried import NO_HEDGE
from tests.proxy.turns import Turns
from tests.support.client import request


@pytest.mark.parametrize("order", ["drain", "ready", "trip", "reset", "query"])
def test_an_order_for_an_unknown_service_says_which_there_are(turns: Turns, order: str) -> None:
    """And changes nothing."""
    turns.start("A=127.0.0.1:9", "B=127.0.0.1:9")
    arguments = (Request(request()), "X") if order == "query" else ("X",)
    with pytest.raises(UnknownService, match=r"^no service 'X'; there are: A, B$"):
        turns.order(lambda: getattr(turns.pool, order)(*arguments))
    assert [] == turns.told.events


def test_what_orders_change_is_told_once_and_kept(turns: Turns) -> None:
    """Each event as a whole; an order that changes nothing is not told."""
    service, other = turns.service(), turns.service()
    turns.start(
        f"A={service.address}",
        f"B={other.address}",
        health=HealthRules(cooldown_s=60.12345, cooldown_max_s=100, probe=Probe.OFF),
    )
    client = turns.client()
    client.sends()
    idle = service.accept()
    idle.serve()
    assert "DUNNO" == client.action()
    a, b = {"service": "A", "address": service.address}, {"service": "B", "address": other.address}
    tripped = {"kind": "tripped", "cooldown_s": 60.123}
    expected: list[tuple[str, dict[str, object]]] = []

    def order(name: str, of: str, *events: tuple[str, dict[str, object]]) -> None:
        for _ in range(2):
            turns.order(lambda: getattr(turns.pool, name)(of))
        turns.turn()
        expected.extend(events)
        assert expected == [(event.name, dict(event.fields)) for event in turns.told.events]

    order("ready", "A")
    order("drain", "A", ("service.draining", a))
    assert not idle.has_ended()
    order("trip", "B", ("service.down", b | tripped), ("pool.down", _no_service("draining", "down")))
    turns.stand_still(1.23456)
    turns.turn()
    order("ready", "A", ("service.ready", a), ("pool.up", {"down_s": 1.235}))
    order("trip", "A", ("service.down", a | tripped), ("pool.down", _no_service("down", "down")))
    assert idle.has_ended()
    turns.stand_still(1.23456)
    turns.turn()
    order("reset", "A", ("service.up", a | {"down_s": 1.235}), ("pool.up", {"down_s": 1.235}))
    changes = turns.order(turns.pool.status).changes
    assert expected == [(change.event, change.fields) for change in changes]
    assert [0, 0, 0, 1.23456, 1.23456, 1.23456, 1.23456, 2.46912, 2.46912] == [
        pytest.approx(change.when - changes[0].when) for change in changes
    ]


def _no_service(a: str, b: str) -> dict[str, object]:
    return {"action": "dunno", "services": {"A": a, "B": b}}


def test_a_drained_service_is_asked_nothing_new(turns: Turns) -> None:
    """Until the drain ends."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:1", f"B={other.address}:2", requests=NO_HEDGE)
    client = turns.client()
    turns.order(lambda: turns.pool.drain("A"))
    client.sends()
    other.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert ("draining", False) == (turns.status().state, turns.status().available)
    turns.order(lambda: turns.pool.ready("A"))
    client.sends()
    service.accept().serve("DUNNO A")
    assert "DUNNO A" == client.action()


def test_failures_in_a_row_take_a_service_down(turns: Turns) -> None:
    """The event says how many; a failed trial is told, but is no change to be shown."""
    service, other = turns.service(), turns.service()
    service.listener.close()
    turns.start(f"A={service.address}:1", f"B={other.address}:2", requests=NO_HEDGE, health=HealthRules(cooldown_s=2.5))
    client = turns.client()
    client.sends()
    link = other.accept()
    for _ in range(2):
        link.serve()
        assert "DUNNO" == client.action()
        client.sends()
    link.serve()
    assert "DUNNO" == client.action()
    a = {"service": "A", "address": service.address, "kind": "refused"}
    assert [a | {"cooldown_s": 2.5, "failures": 3}] == turns.told.named("service.down")
    turns.wait(3.1)
    assert [a | {"cooldown_s": 5.0}] == turns.told.named("service.probe_failed")
    assert ["service.down"] == [change.event for change in turns.order(turns.pool.status).changes]


@pytest.mark.parametrize("after", ["start", "reload"])
def test_a_pool_is_up_while_a_worker_sees_a_service_up(turns: Turns, after: str) -> None:
    """Each worker judges for itself; what is told is of all of them."""
    service = turns.service()
    service.listener.close()
    turns.start(f"A={service.address}", workers=2, health=HealthRules(fail_max=1, cooldown_s=60))
    if after == "reload":
        turns.reload(f"A={service.address}")
    for told_down in ([], [{"action": "dunno", "services": {"A": "down"}}]):
        client = turns.client()
        client.sends()
        assert ("dunno", told_down) == (client.action(), turns.told.named("pool.down"))


def test_an_operator_asks_one_service(turns: Turns) -> None:
    """Whatever its health, on a connection of the query's own; it counts for nothing, and a failure is told as such."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:1:1:3", f"B={other.address}:2", health=HealthRules(cooldown_s=60))
    turns.order(lambda: turns.pool.trip("A"))
    query = Request(request(instance="q"))
    asked = turns.begin_order(lambda: turns.pool.query(query, "A"))
    link = service.accept()
    turns.stand_still(0.25)
    assert query.raw == link.serve("REJECT")
    assert Answered("REJECT", "A", 250.0) == asked.result()
    asked = turns.begin_order(lambda: turns.pool.query(query, "A"))
    link = service.accept()
    assert query.raw == link.request()
    turns.wait(3.1)
    with pytest.raises(ServiceFailure, match=r"^answer_timeout: no answer within 3 s$"):
        asked.result()
    status = turns.status()
    assert ("down", 0, 0, "") == (status.state, status.queries, status.failed, status.last_error)
    assert ["service.down"] == turns.told.names
