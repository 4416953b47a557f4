"""Services that are removed or have moved while something of theirs is under way, turn by turn."""

from __future__ import annotations

import pytest

from hapolicy.core.failures import ServiceFailure
from hapolicy.core.protocol import Request
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.net.poll import RECEIVE_BYTES
from tests.proxy.carried import NO_HEDGE, NO_PROBE, ask
from tests.proxy.told_names import ToldNames
from tests.proxy.turns import Turns
from tests.support.client import request

NAME = "service.test:25"
SOON_S, LATER_S = 0.1, 1.5  # before and after what is no longer used is looked for


@pytest.mark.parametrize("after_s", [SOON_S, LATER_S])
def test_a_mail_goes_on_with_the_others(turns: Turns, after_s: float) -> None:
    """Though the service that is gone was the one that answered it so far."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:1", f"B={b.address}:9", requests=NO_HEDGE)
    client = ask(turns)
    a.accept().serve()
    assert "DUNNO" == client.action()
    turns.reload(f"B={b.address}:9", requests=NO_HEDGE)
    turns.wait(after_s)
    client.sends(instance="m1")
    assert a.hears_nothing()
    b.asked().serve("DUNNO B")
    assert "DUNNO B" == client.action()


def test_a_request_from_before_the_reload_may_still_ask_it(turns: Turns) -> None:
    """It goes by the services that there were when it came."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:1", f"B={b.address}:9", requests=NO_HEDGE, health=NO_PROBE)
    client = ask(turns)
    link = a.accept()
    turns.reload(f"A={a.address}:1", requests=NO_HEDGE, health=NO_PROBE)
    turns.wait(LATER_S)
    link.end()
    b.asked().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    turns.wait(LATER_S)
    assert ["A"] == [upstream.name for upstream in turns.worker.connections]


def test_what_it_failed_at_before_is_held_against_it_in_peace(turns: Turns) -> None:
    """The answer of the next one tells that it was no poison: that comes when the first one has long been gone."""
    a, b = turns.service(), turns.service()
    health = HealthRules(probe=Probe.OFF, fail_max=1)
    turns.start(f"A={a.address}:1", f"B={b.address}:9", requests=NO_HEDGE, health=health)
    client = ask(turns)
    a.accept().end()
    link = b.accept()
    turns.reload(f"B={b.address}:9", requests=NO_HEDGE, health=health)
    turns.wait(LATER_S)
    link.serve("DUNNO B")
    assert "DUNNO B" == client.action()


def test_its_probe_and_an_operators_query_have_their_time(turns: Turns) -> None:
    """Both wait for room in its backlog."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:1:1:3", f"B={b.address}:9", requests=NO_HEDGE, health=HealthRules(probe_every_s=1))
    a.fill_up()
    turns.wait(1.5)
    given = turns.begin_order(lambda: turns.pool.query(Request(request()), "A"))
    own = turns.upstream().own
    turns.until(lambda: len(own) == 2)
    turns.reload(f"B={b.address}:9", requests=NO_HEDGE, health=NO_PROBE)
    turns.wait(4)
    assert not own
    with pytest.raises(ServiceFailure, match="connect_timeout: no connection within 3 s"):
        given.result(1)


def test_it_is_probed_no_more(turns: Turns) -> None:
    """Though something that it was asked is under way, and takes long."""
    a, b = turns.service(), turns.service()
    turns.start(f"A={a.address}:1", f"B={b.address}:9", requests=NO_HEDGE)
    ask(turns)
    a.accept()
    turns.reload(f"B={b.address}:9", requests=NO_HEDGE)
    turns.wait(3)
    assert a.is_left_alone()


@pytest.mark.parametrize("how", ["long", "cut off"])
def test_an_answer_under_way_comes_to_its_end(turns: Turns, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The service's name leads elsewhere meanwhile: the connection is not used again, but read on."""
    names = ToldNames(turns, monkeypatch)
    before, now, b = turns.service(), turns.service(), turns.service()
    turns.start(f"A={NAME}:1", f"B={b.address}:9", requests=NO_HEDGE, health=NO_PROBE)
    names.tell(NAME, before)
    client = ask(turns)
    link = before.accept()
    names.tell(NAME, now)
    if how == "long":
        action = "PREPEND X: " + "x" * 2 * RECEIVE_BYTES
        link.request()
        link.answer(action)
        assert action == client.action()
        assert link.has_ended()
    else:
        link.send(b"action=DUN")
        link.end()
        assert {"closed": 1} == turns.status().failures


def test_nobody_waits_for_its_name(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not looked up any more."""
    ToldNames(turns, monkeypatch)
    b = turns.service()
    turns.start(f"A={NAME}:1", f"B={b.address}:9", requests=NO_HEDGE, health=NO_PROBE)
    client = ask(turns)
    turns.reload(f"B={b.address}:9", requests=NO_HEDGE, health=NO_PROBE)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
