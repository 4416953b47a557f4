"""Probes, turn by turn: on which connection, what is sent, and what comes of each outcome."""

from __future__ import annotations

import os
import re

import pytest

from hapolicy.core.rules import HealthRules, Probe
from hapolicy.core.synthetic import raw_request, request_attributes
from hapolicy.core.upstream import PROBE_PAUSE_S
from tests.proxy.carried import NO_HEDGE
from tests.proxy.ends import Link
from tests.proxy.told_names import ToldNames
from tests.proxy.turns import Turns


def test_a_service_that_broke_on_a_mail_is_probed_and_acquitted(turns: Turns) -> None:
    """At once, on a connection of the probe's own; the mail was to blame."""
    service, other = turns.service(), turns.service()
    turns.start(f"A={service.address}:1", f"B={other.address}:2", probe_attributes=(("sender", "us@example.org"),))
    client = turns.client()
    client.sends(instance="bad")
    service.accept().end()
    other.accept().serve()
    assert "DUNNO" == client.action()
    probe = service.accept()
    request = probe.serve()
    found = re.search(rb"\ninstance=(hapolicy\.([0-9a-f]+)\.[0-9]+)\n", request)
    assert found is not None
    assert os.getpid() == int(found[2], 16)
    assert request == raw_request(request_attributes("probe", found[1].decode()) | {"sender": "us@example.org"})
    assert [{"service": "A", "address": service.address}] == turns.told.named("service.acquitted")
    assert ["service.failed", "service.acquitted"] == turns.told.names
    status = turns.status()
    assert ("up", 1, 0) == (status.state, status.probes_answered, status.probes_failed)


def test_a_probe_asks_for_another_mail_each_time(turns: Turns) -> None:
    """A service that remembers the last mail must not answer from memory. What is idle gives way to the probe."""
    service = turns.service()
    turns.start(f"A={service.address}", health=HealthRules(probe_every_s=5))
    instances = set()
    link: Link | None = None
    for _ in range(3):
        turns.wait(5.6)  # where nothing is under way, it looks twice a second
        assert link is None or link.has_ended()
        link = service.accept()
        instances.add(re.findall(rb"\ninstance=(.*)\n", link.serve())[0])
    assert 3 == len(instances)
    assert [3, 3] == [turns.status().probes_answered, len(turns.told.named("service.acquitted"))]


def test_a_probe_that_fails_takes_a_service_down(turns: Turns) -> None:
    """The event says why; the status says what went wrong last, and when."""
    service, other = turns.service(), turns.service()
    turns.start(
        f"A={service.address}:1:1:3",
        f"B={other.address}:2",
        health=HealthRules(cooldown_s=60.12345, cooldown_max_s=100),
        requests=NO_HEDGE,
    )
    client = turns.client()
    client.sends(instance="bad")
    service.accept().end()
    other.accept().serve()
    probe = service.accept()
    turns.wait(2.9)
    assert probe.hears_nothing() is False  # the probe itself
    assert "up" == turns.status().state
    turns.wait(0.2)
    assert b"policy_context=hapolicy-probe" in probe.request()
    assert probe.has_ended()
    expected = {"service": "A", "address": service.address, "kind": "answer_timeout", "cooldown_s": 60.123}
    assert [expected] == turns.told.named("service.down")
    turns.wait(1)
    status = turns.status()
    assert ("down", 0, 1) == (status.state, status.probes_answered, status.probes_failed)
    assert "answer_timeout: no answer within 3 s" == status.last_error
    assert 1.0 == pytest.approx(status.last_error_age_s, abs=0.15)


def test_a_service_that_is_down_is_tried_by_probes_until_it_is_up(turns: Turns) -> None:
    """A probe that fails is told, one that is answered brings it back: nobody is acquitted, who was down."""
    service = turns.service()
    turns.start(f"A={service.address}", health=HealthRules(cooldown_s=2.0))
    turns.order(lambda: turns.pool.trip("A"))
    assert service.is_left_alone()
    turns.wait(2.6)
    service.accept().end()
    expected = {"service": "A", "address": service.address, "kind": "closed", "cooldown_s": 4.0}
    assert [expected] == turns.told.named("service.probe_failed")
    turns.wait(3.9)
    assert service.is_left_alone()
    turns.wait(0.6)
    service.accept().serve()
    expected_names = ["service.down", "pool.down", "service.probe_failed", "service.up", "pool.up"]
    assert expected_names == turns.told.names


def test_a_probe_that_came_to_nothing_for_a_reason_of_our_own_is_made_again(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not held against the service: the name service has not answered yet."""
    service = turns.service()
    names = ToldNames(turns, monkeypatch)
    turns.start("A=service.test:25", connect_timeout_s=1, health=HealthRules(probe_every_s=60))
    turns.wait(1.2)
    names.tell("service.test:25", service)
    assert service.is_left_alone()
    status = turns.status()
    assert ("up", 0, 0, "") == (status.state, status.probes_answered, status.probes_failed, status.last_error)
    turns.wait(PROBE_PAUSE_S)
    service.accept().serve()
    assert (1, []) == (turns.status().probes_answered, turns.told.named("service.down"))


def test_a_probe_asks_for_the_name_again(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may have moved."""
    names = ToldNames(turns, monkeypatch)
    turns.start("A=service.test:25")
    names.tell("service.test:25", turns.service())
    turns.order(lambda: turns.pool.trip("A"))
    turns.wait(1.6)
    assert ["service.test:25"] == names.refreshed


def test_a_tcp_probe_sends_nothing(turns: Turns) -> None:
    """To connect is enough, and all."""
    service = turns.service()
    turns.start(f"A={service.address}", health=HealthRules(cooldown_s=0.5, probe=Probe.TCP))
    turns.order(lambda: turns.pool.trip("A"))
    turns.wait(0.9)
    assert service.accept().has_ended()
    status = turns.status()
    assert ("up", 1, 0) == (status.state, status.probes_answered, status.probes_failed)


def test_no_probe_while_finishing(turns: Turns) -> None:
    """A daemon that ends has no use for it."""
    service = turns.service()
    turns.start(f"A={service.address}", requests=NO_HEDGE)
    client = turns.client()
    client.sends(instance="last")
    link = service.accept()
    turns.order(lambda: turns.pool.trip("A"))
    turns.pool.finish()
    turns.wait(1.5)
    assert service.is_left_alone()
    link.serve()
    assert "DUNNO" == client.action()
