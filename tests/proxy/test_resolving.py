"""Services by name, turn by turn: names not told yet or without an address, and address after address."""

from __future__ import annotations

import pytest

from hapolicy.core.rules import HEDGE_OFF, RequestRules
from tests.proxy.carried import CONNECT_TIMEOUT_S, LATE_S, ask, check_two_at_once, failed, figures, start, start_alone
from tests.proxy.name_service import Names, known
from tests.proxy.turns import Turns

TOO_LONG = "/" + "x" * 200  # for the path of a unix socket


# Names


def test_who_asks_before_the_name_is_known_waits_for_it(turns: Turns, names: Names) -> None:
    """And for this name only."""
    a, other = turns.service(tcp=True), turns.service(tcp=True)
    b = turns.service()
    turns.start("A=a.test:25", "C=c.test:25", f"B={b.address}:99", requests=RequestRules(hedge=HEDGE_OFF))
    clients = [ask(turns) for _ in range(4)]  # A and C by turns
    turns.wait(1)
    names.tell("a.test", a)
    links = [a.accept() for _ in range(2)]
    for link in links:
        link.serve("DUNNO A")
    assert ["DUNNO A", "DUNNO A"] == [clients[0].action(), clients[2].action()]
    assert clients[1].hears_nothing()
    names.tell("c.test", other)
    links = [other.accept() for _ in range(2)]
    for link in links:
        link.serve("DUNNO C")
    assert ["DUNNO C", "DUNNO C"] == [clients[1].action(), clients[3].action()]
    assert (2, 2, {}, (0, 2)) == figures(turns)
    assert [] == turns.told.named("service.failed")
    assert b.is_left_alone()


def test_a_name_that_is_not_told_in_time_charges_nobody(turns: Turns, names: Names) -> None:
    """All that have waited for as long as a connection may take ask elsewhere; what comes later is for others."""
    a = turns.service(tcp=True)
    b = start(turns, "a.test:25")
    clients = [ask(turns) for _ in range(2)]
    turns.wait(CONNECT_TIMEOUT_S - 0.1)
    assert b.is_left_alone()
    turns.wait(0.1 + LATE_S)
    for client in clients:
        b.accept().serve("DUNNO B")
        assert "DUNNO B" == client.action()
    unresolved = failed("a.test:25", "unresolved", "no answer from the name service yet")
    assert [unresolved, unresolved] == turns.told.named("service.failed")
    assert (2, 0, {"unresolved": 2}, (0, 0)) == figures(turns)
    names.tell("a.test", a)
    known(turns)
    assert a.is_left_alone()
    clients = [ask(turns) for _ in range(2)]
    links = [a.accept() for _ in clients]
    for link, client in zip(links, clients, strict=True):
        link.serve("DUNNO A")
        assert "DUNNO A" == client.action()
    assert (4, 2, {"unresolved": 2}, (0, 2)) == figures(turns)


def test_nobody_waits_for_a_name_when_he_has_been_answered_elsewhere(turns: Turns, names: Names) -> None:
    """The service's timeout was over before; who still waits is served."""
    a = turns.service(tcp=True)
    b = start(turns, "a.test:25:1:1:2,max=2")
    early = ask(turns)
    turns.wait(1.9)
    late = ask(turns, "m2")
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == early.action()
    names.tell("a.test", a)
    a.accept().serve("DUNNO A")
    assert "DUNNO A" == late.action()
    turns.wait(CONNECT_TIMEOUT_S)
    assert a.is_left_alone()
    assert [failed("a.test:25", "unresolved", "no connection within 2 s")] == turns.told.named("service.failed")
    assert (2, 1, {"unresolved": 1}) == figures(turns)[:3]


def test_a_name_that_stays_unknown_is_waited_for_once(turns: Turns, names: Names) -> None:
    """Whom the service's timeout has sent elsewhere is told of once, also when the connect timeout is over."""
    b = start(turns, "a.test:25:1:1:2")
    client = ask(turns)
    turns.wait(2 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    turns.wait(CONNECT_TIMEOUT_S)
    assert [failed("a.test:25", "unresolved", "no connection within 2 s")] == turns.told.named("service.failed")
    assert (1, 0, {"unresolved": 1}, (0, 0)) == figures(turns)


def test_a_name_without_an_address_is_a_failure(turns: Turns, names: Names) -> None:
    """Of who waited for it, and of each that asks later, until it has one."""
    a = turns.service(tcp=True)
    names.tell("a.test", error="Name or service not known")
    b = start(turns, "a.test:25")
    for _ in range(2):
        client = ask(turns)
        b.accept().serve("DUNNO B")
        assert "DUNNO B" == client.action()
    unresolvable = failed("a.test:25", "unresolvable", "Name or service not known")
    assert [unresolvable, unresolvable] == turns.told.named("service.failed")
    assert (2, 0, {"unresolvable": 2}, (0, 0)) == figures(turns)
    names.tell("a.test", a)
    turns.worker.connections[turns.upstream()].refresh()
    known(turns)
    client = ask(turns)
    a.accept().serve("DUNNO A")
    assert "DUNNO A" == client.action()


def test_an_address_that_cannot_be_is_a_failure(turns: Turns, names: Names) -> None:
    """Which the operating system does not tell but Python does, in its words."""
    a = turns.service()
    a.where = TOO_LONG
    names.tell("a.test", a)
    b = start(turns, "a.test:25")
    client = ask(turns)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed("a.test:25", "unreachable", "AF_UNIX path too long")] == turns.told.named("service.failed")


def test_who_waits_for_a_name_counts_against_max(turns: Turns, names: Names) -> None:
    """Or there would be more connections than allowed once it is known; and later nobody is left counted."""
    a = turns.service(tcp=True)
    start_alone(turns, "a.test:25,max=2")
    clients = [ask(turns) for _ in range(3)]
    assert (2, 1) == (turns.status().in_flight, turns.status().queued)
    names.tell("a.test", a)
    check_two_at_once(turns, a, clients)


def test_who_has_waited_in_vain_for_a_name_counts_no_longer(turns: Turns, names: Names) -> None:
    """Who is queued behind has his turn."""
    a = turns.service(tcp=True)
    start_alone(turns, "a.test:25,max=2")
    clients = [ask(turns) for _ in range(5)]
    turns.wait(CONNECT_TIMEOUT_S + 2 * LATE_S)
    assert ["dunno", "dunno"] == [client.action() for client in clients[:2]]
    assert (2, 1) == (turns.status().in_flight, turns.status().queued)
    names.tell("a.test", a)
    check_two_at_once(turns, a, clients[2:])


# Names with several addresses


def test_connections_go_round_the_addresses_of_a_name(turns: Turns, names: Names) -> None:
    """Each new one leads to the next address."""
    services = [turns.service(tcp=True) for _ in range(3)]
    names.tell("a.test", *services)
    start(turns, "a.test:25")
    known(turns)
    for number in (0, 1, 2, 0, 1):
        client = ask(turns)
        link = services[number].accept()
        link.serve(f"DUNNO {number}")
        assert f"DUNNO {number}" == client.action()
        link.end()
    assert [] == turns.told.named("service.failed")


def test_each_address_has_its_share_of_the_connect_timeout(turns: Turns, names: Names) -> None:
    """Who swallows what is sent hides no other; nobody is charged for what the last one answers."""
    holes, good = [turns.service(tcp=True) for _ in range(2)], turns.service(tcp=True)
    for hole in holes:
        hole.fill_up()
    names.tell("a.test", *holes, good)
    start(turns, "a.test:25")
    known(turns)
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S * 2 / 3 - 0.1)
    assert good.is_left_alone()
    turns.wait(0.1 + LATE_S)
    good.accept().serve("DUNNO good")
    assert "DUNNO good" == client.action()
    assert (1, 1, {}, (0, 1)) == figures(turns)
    assert [] == turns.told.named("service.failed")


def test_what_a_refused_address_leaves_of_the_time_is_for_the_others(turns: Turns, names: Names) -> None:
    """It took none."""
    refusing, hole, good = [turns.service(tcp=True) for _ in range(3)]
    refusing.listener.close()
    hole.fill_up()
    names.tell("a.test", refusing, hole, good)
    start(turns, "a.test:25")
    known(turns)
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S / 2 - 0.1)
    assert good.is_left_alone()
    turns.wait(0.1 + LATE_S)
    good.accept().serve("DUNNO good")
    assert "DUNNO good" == client.action()
    assert [] == turns.told.named("service.failed")


def test_the_last_address_decides_what_the_failure_is_called(turns: Turns, names: Names) -> None:
    """All together have no more than the connect timeout."""
    refusing, hole, other = [turns.service(tcp=True) for _ in range(3)]
    refusing.listener.close()
    hole.fill_up()
    other.fill_up()
    names.tell("a.test", refusing, hole, other)
    b = start(turns, "a.test:25")
    known(turns)
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S - 0.1)
    assert b.is_left_alone()
    turns.wait(0.1 + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    assert [failed("a.test:25", "connect_timeout", "not connected within 6 s")] == turns.told.named("service.failed")
    assert (1, 0, {"connect_timeout": 1}, (0, 0)) == figures(turns)


@pytest.mark.parametrize("refusing", [False, True])
def test_no_further_address_is_tried_when_the_time_is_over(turns: Turns, names: Names, *, refusing: bool) -> None:
    """As where the whole process stood still for so long."""
    bad, good = turns.service(tcp=True), turns.service(tcp=True)
    if refusing:
        bad.listener.close()
    else:
        bad.fill_up()
    names.tell("a.test", bad, good)
    b = start(turns, "a.test:25")
    known(turns)
    client = ask(turns)
    turns.stand_still(CONNECT_TIMEOUT_S)
    turns.turn()
    turns.wait(LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    why = ("refused", "Connection refused") if refusing else ("connect_timeout", "not connected within 6 s")
    assert [failed("a.test:25", *why)] == turns.told.named("service.failed")
    assert good.is_left_alone()


@pytest.mark.parametrize("full", [False, True])
def test_it_is_the_same_where_the_outcome_is_known_at_once(turns: Turns, names: Names, *, full: bool) -> None:
    """Who refuses is passed over within the request, but a full backlog is waited for."""
    bad, good = turns.service(), turns.service()
    if full:
        bad.fill_up()
    else:
        bad.listener.close()
    names.tell("a.test", bad, good)
    b = start(turns, "a.test:25")
    known(turns)
    client = ask(turns)
    if full:
        turns.wait(CONNECT_TIMEOUT_S + LATE_S)
    service = b if full else good
    service.accept().serve("DUNNO next")
    assert "DUNNO next" == client.action()
    assert good.is_left_alone()
    expected = [failed("a.test:25", "connect_timeout", "its backlog was full for 6 s")] if full else []
    assert expected == turns.told.named("service.failed")


def test_a_name_that_refuses_is_looked_up_again(turns: Turns, names: Names) -> None:
    """The service may have moved: the next request is for where it is now."""
    old, new = turns.service(tcp=True), turns.service(tcp=True)
    names.tell("a.test", old)
    b = start(turns, "a.test:25")
    before = known(turns)
    old.listener.close()
    names.tell("a.test", new)
    client = ask(turns)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    turns.until(lambda: known(turns) != before)
    client = ask(turns)
    new.accept().serve("DUNNO A")
    assert "DUNNO A" == client.action()
