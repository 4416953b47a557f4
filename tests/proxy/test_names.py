"""Services by name: names that move, have several addresses, or are not told in time."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest

from examples.policy_service import SampleService
from hapolicy.core.address import TcpAddress
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Probe, RequestRules
from hapolicy.core.silence import SILENT_UNKNOWN_S
from hapolicy.net import resolver
from hapolicy.net.resolver import Resolution
from tests.proxy.asking import ask_at_once, client_of, service_of
from tests.proxy.carried import CONNECT_TIMEOUT_S, LATE_S, ask, start
from tests.proxy.name_service import Names, known
from tests.proxy.scripted import Full, refusing
from tests.proxy.turns import Turns
from tests.support.fixtures import MakePool
from tests.support.procs import wait_until


def test_a_name_that_moves_is_followed(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the old host still answers; and its connections end."""
    old, new = SampleService("old"), SampleService("new")
    where = [old]

    def look_up(address: TcpAddress) -> Resolution:
        host, _, port = where[0].listen.rpartition(":")
        return Resolution(((socket.AF_INET, (host, int(port))),))

    monkeypatch.setattr(resolver, "look_up", look_up)
    monkeypatch.setattr(resolver, "FRESH_S", 0.1)
    pool = make_pool("A=service.test:25")
    with client_of(pool) as client:
        assert client.ask().startswith("DUNNO old")
        where[0] = new
        wait_until(lambda: client.ask().startswith("DUNNO new"), "the new host to be asked")
        wait_until(lambda: old.stats()["open"] == 0, "the old host's connections to end")
    assert {} == service_of(pool).failures


def test_a_name_is_looked_up_anew_when_its_service_refuses(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before that is due: the service may have moved."""
    service = SampleService("A")
    where = [refusing()]

    def look_up(address: TcpAddress) -> Resolution:
        host, _, port = where[0].rpartition(":")
        return Resolution(((socket.AF_INET, (host, int(port))),))

    monkeypatch.setattr(resolver, "look_up", look_up)
    monkeypatch.setattr(resolver, "FRESH_S", 3600.0)
    monkeypatch.setattr(resolver, "REFRESH_PAUSE_S", 0.1)
    pool = make_pool("A=service.test:25")
    with client_of(pool) as client:
        assert "dunno" == client.ask()
        where[0] = service.listen
        wait_until(lambda: client.ask().startswith("DUNNO A"), "its new address")


def test_the_second_address_of_a_name_is_tried(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same request, when nobody listens at the first one."""
    service = SampleService("A")
    host, _, port = service.listen.rpartition(":")
    found = Resolution(((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, (host, int(port)))))
    monkeypatch.setattr(resolver, "look_up", lambda address: found)
    pool = make_pool("A=service.test:25")
    assert ["A"] * 6 == [answer.split()[1] for answer in ask_at_once(pool, 6)]
    assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address has its share of --connect-timeout, within the same request; nobody is charged."""
    service = SampleService("A")
    host, _, port = service.listen.rpartition(":")
    with Full() as hole:
        found = Resolution(((socket.AF_INET, hole.where), (socket.AF_INET, (host, int(port)))))
        monkeypatch.setattr(resolver, "look_up", lambda address: found)
        before_silence_s = 0.8 * SILENT_UNKNOWN_S  # or the probe of a silent service finds the other address
        pool = make_pool(
            "A=service.test:25", connect_timeout_s=before_silence_s, requests=RequestRules(hedge=HEDGE_OFF)
        )
        assert ask_at_once(pool, 1)[0].startswith("DUNNO A")
        assert ({}, "up") == (service_of(pool).failures, service_of(pool).state)


def test_a_slow_first_look_up_charges_nobody(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the name service has answered, the next service is asked; then this one has its share."""
    slow, other = SampleService("slow"), SampleService("other")
    host, _, port = slow.listen.rpartition(":")
    known = threading.Event()

    by_name_service = resolver.look_up

    def look_up(address: TcpAddress) -> Resolution:
        if address.is_literal:
            return by_name_service(address)
        known.wait(10)
        return Resolution(((socket.AF_INET, (host, int(port))),))

    monkeypatch.setattr(resolver, "look_up", look_up)
    pool = make_pool("A=service.test:25:1", f"B={other.listen}:2", connect_timeout_s=0.1)
    with client_of(pool) as client:
        for _ in range(5):
            assert client.ask().startswith("DUNNO other")
        assert ("up", {"unresolved": 5}) == (service_of(pool).state, service_of(pool).failures)
        known.set()
        wait_until(lambda: client.ask().startswith("DUNNO slow"), "the name's own service")


def test_a_share_of_the_connect_timeout_is_over_whoever_may_take_longer(turns: Turns, names: Names) -> None:
    """Another service has one address only, and so all of the time."""
    hole, good, slow = [turns.service(tcp=True) for _ in range(3)]
    hole.fill_up()
    slow.fill_up()
    names.tell("a.test", hole, good)
    turns.start(
        f"C={slow.address}:1",
        "A=a.test:25:2",
        requests=RequestRules(hedge=HEDGE_OFF),
        health=HealthRules(probe=Probe.OFF),
        connect_timeout_s=CONNECT_TIMEOUT_S,
    )
    known(turns)
    ask(turns)
    turns.upstream("C").draining = True
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S / 2 + LATE_S)
    assert not good.is_left_alone()
    good.accept().serve("DUNNO good")
    assert "DUNNO good" == client.action()


def test_a_service_whose_name_was_not_told_in_time_is_asked_later(turns: Turns, names: Names) -> None:
    """With max=N, too: nothing of it is busy."""
    a = turns.service(tcp=True)
    b = start(turns, "a.test:25,max=1")
    client = ask(turns)
    turns.wait(CONNECT_TIMEOUT_S + LATE_S)
    b.accept().serve("DUNNO B")
    assert "DUNNO B" == client.action()
    names.tell("a.test", a)
    known(turns)
    ask(turns)
    assert not a.is_left_alone()


def test_a_shorter_connect_timeout_holds_for_who_asks_from_then_on(turns: Turns, names: Names) -> None:
    """Though others, who asked before, wait longer for the name."""
    b = start(turns, "slow.test:25")
    ask(turns)
    turns.order(lambda: turns.pool.adopt(replace(turns.pool.settings, connect_timeout_s=1.0)))
    late = ask(turns, "late")
    turns.wait(1 + LATE_S)
    assert b"instance=late" in b.accept().serve("DUNNO B")
    assert "DUNNO B" == late.action()
