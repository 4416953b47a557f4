"""What a worker does by the clock, turn by turn: deadlines, queues, connections and clients that are idle."""

from __future__ import annotations

from hapolicy.core.protocol import Request
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.proxy.housekeeping import IDLE_TICK_S
from hapolicy.proxy.session import IDLE_MAX_S
from hapolicy.proxy.surplus import IDLE_MAX_S as CONNECTION_IDLE_MAX_S
from hapolicy.proxy.worker import TICK_S
from tests.proxy.carried import NO_HEDGE
from tests.proxy.turns import Turns
from tests.support.client import request

# Requests


def test_a_request_has_its_answer_at_the_deadline(turns: Turns) -> None:
    """The default action; and a service that broke on it is charged, as no other one has shown that it is poison."""
    broken, hanging = turns.service(), turns.service()
    turns.start(
        f"A={broken.address}:1",
        f"B={hanging.address}:2",
        requests=RequestRules(hedge=HEDGE_OFF, deadline_s=2, default_action="defer"),
        health=HealthRules(fail_max=1, probe=Probe.TCP),
    )
    client = turns.client()
    client.sends(instance="m1")
    broken.accept().end()
    link = hanging.accept()
    turns.wait(1.9)
    assert client.hears_nothing()
    turns.wait(0.2)
    assert "defer" == client.action()
    (defaulted,) = turns.told.named("request.defaulted")
    assert (2, {"A": "closed", "B": "pending"}) == (defaulted["attempts"], defaulted["failures"])
    expected = {"service": "A", "address": broken.address, "kind": "closed", "cooldown_s": 1.0, "failures": 1}
    assert [expected] == turns.told.named("service.down")
    link.serve()
    assert client.hears_nothing()


def test_a_service_that_does_not_answer_in_time_is_given_up(turns: Turns) -> None:
    """The request goes on to the next one."""
    hanging, other = turns.service(), turns.service()
    turns.start(f"A={hanging.address}:1:1:3", f"B={other.address}:2", requests=NO_HEDGE)
    client = turns.client()
    client.sends(instance="m1")
    link = hanging.accept()
    turns.wait(2.9)
    assert other.is_left_alone()
    turns.wait(0.2)
    other.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert b"instance=m1" in link.request()
    assert link.has_ended()
    (failed,) = turns.told.named("service.failed")
    assert ("answer_timeout", "no answer within 3 s", b"m1") == (failed["kind"], failed["error"], failed["instance"])


def test_how_soon_it_looks_again(turns: Turns) -> None:
    """Some forty times a second while anything may be due, twice while nothing is: an idle daemon costs nothing."""

    def looks_again_in() -> float:
        return turns.worker.on_tick(turns.clock.now)

    service = turns.service()
    turns.start(f"A={service.address}", requests=RequestRules(hedge=HEDGE_OFF, deadline_s=0.2))
    client = turns.client()
    turns.turn()
    assert IDLE_TICK_S == looks_again_in()
    client.send(request()[:20])
    turns.turn()
    assert TICK_S == looks_again_in()  # a request that has come in part
    client.send(request()[20:])
    turns.wait(0.3)
    assert "dunno" == client.action()
    assert TICK_S == looks_again_in()  # a service that still owes its answer, though nobody waits for it
    link = service.accept()
    link.serve()
    assert IDLE_TICK_S == looks_again_in()
    asked = turns.begin_order(lambda: turns.pool.query(Request(request()), "A"))
    link = service.accept()
    assert TICK_S == looks_again_in()  # an operator's query
    link.serve("DUNNO asked")
    assert "DUNNO asked" == asked.result().action
    assert IDLE_TICK_S == looks_again_in()
    turns.pool.finish()
    turns.turn()
    assert TICK_S == looks_again_in()  # the daemon ends


# Connections


def test_a_queued_request_has_a_connection_opened_when_there_is_room(turns: Turns) -> None:
    """Though no connection falls idle: the one that was busy has ended."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:1:1:30,max=1", f"B={other.address}:2,max=1", requests=NO_HEDGE)
    clients = [turns.client() for _ in range(4)]
    for number, client in enumerate(clients):
        client.sends(instance=f"m{number}")
    first = service.accept()
    link = other.accept()
    assert (2, 0) == (turns.status("A").queued, turns.status("B").queued)
    assert b"instance=m0" in first.request()
    first.end()
    turns.wait(0.1)
    second = service.accept()
    assert b"instance=m2" in second.serve("DUNNO A")
    assert "DUNNO A" == clients[2].action()
    assert b"instance=m1" in link.request()


def test_a_trial_that_nobody_wants_any_more_is_given_back(turns: Turns) -> None:
    """Without probes one live request is the trial; where it waits for a connection in vain, another one is."""
    service = turns.service()
    turns.start(
        f"A={service.address}:1:1:30,max=1,probe=off",
        requests=RequestRules(hedge=HEDGE_OFF, deadline_s=5),
        health=HealthRules(cooldown_s=2),
    )
    first, trial, later = (turns.client(name) for name in ("first", "trial", "later"))
    first.sends(instance="first")
    link = service.accept()
    turns.order(lambda: turns.pool.trip("A"))
    turns.wait(2.2)
    trial.sends(instance="trial")
    turns.wait(5.2)
    assert ("dunno", "dunno", "probing") == (first.action(), trial.action(), turns.status().state)
    link.end()
    turns.wait(0.1)
    assert "down" == turns.status().state
    turns.wait(2.6)
    assert service.is_left_alone()
    later.sends(instance="later")
    assert b"instance=later" in service.accept().serve("DUNNO again")
    assert ("DUNNO again", "up") == (later.action(), turns.status().state)


def test_a_crowded_service_is_told_of_once(turns: Turns) -> None:
    """It has one worker: who waits in its backlog is served on the connection that falls idle."""
    service = turns.service()
    turns.start(f"A={service.address}:1:1:2", requests=NO_HEDGE)
    served, waiting = turns.client("served"), turns.client("waiting")
    served.sends()
    link = service.accept()
    link.serve()
    turns.wait(0.2)
    served.sends()
    waiting.sends(instance="waiting")
    for _ in range(9):
        link.serve()
        assert "DUNNO" == served.action()
        turns.wait(0.1)
        served.sends()
    link.serve()
    assert waiting.hears_nothing()
    turns.wait(0.2)
    assert b"instance=waiting" in link.serve("DUNNO at last")
    assert "DUNNO at last" == waiting.action()
    turns.wait(1)
    expected = {"service": "A", "address": service.address, "connections": 1}
    assert [expected] == turns.told.named("service.crowded")
    assert ["service.crowded"] == turns.told.names


def test_an_idle_connection_ends(turns: Turns) -> None:
    """Before the service ends it, of which a request could learn too late."""
    service = turns.service()
    turns.start(f"A={service.address}")
    client = turns.client()
    client.sends()
    link = service.accept()
    link.serve()
    turns.stand_still(CONNECTION_IDLE_MAX_S - 0.5)
    assert link.hears_nothing()
    turns.wait(1.1)
    assert link.has_ended()
    assert "DUNNO" == client.action()
    assert client.hears_nothing()


# Clients


def test_an_idle_client_is_parted_with(turns: Turns) -> None:
    """After longer than Postfix keeps a connection; not one that has just been answered, or waits for its answer."""
    service = turns.service()
    turns.start(f"A={service.address}:1:1:100", requests=RequestRules(hedge=HEDGE_OFF, deadline_s=200))
    idle, active, waiting = (turns.client(name) for name in ("idle", "active", "waiting"))
    turns.turn()
    turns.stand_still(IDLE_MAX_S - 20)
    turns.turn(2)
    active.sends()
    service.accept().serve()
    turns.wait(10)
    waiting.sends()
    assert idle.hears_nothing()
    turns.wait(21)
    assert idle.has_ended()
    assert "DUNNO" == active.action()
    assert active.hears_nothing()
    assert waiting.hears_nothing()
    assert 2 == turns.pool.clients


def test_a_daemon_that_ends_waits_a_second_for_a_client_that_does_not_read(turns: Turns) -> None:
    """Not for as long as its socket stays full; who waits for an answer is waited for."""
    service = turns.service()
    turns.start(f"A={service.address}:1:1:30,max=1", requests=NO_HEDGE)
    deaf, waiting = turns.client("deaf"), turns.client("waiting")
    turns.wait(0.7)  # what is not urgent is looked at once a second
    deaf.send(request() * 100)
    link = service.accept()
    while not link.hears_nothing():
        link.serve("DUNNO " + 16_000 * "x")  # until the socket takes no more
    waiting.sends()
    turns.pool.finish()
    turns.wait(0.9)
    assert 2 == turns.pool.clients
    turns.wait(1.3)
    assert 1 == turns.pool.clients
    link.serve("DUNNO after all")
    assert "DUNNO after all" == waiting.action()
    assert (0, 1) == (turns.pool.clients, turns.emptied)
