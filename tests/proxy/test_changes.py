"""When the whole pool counts as down, and which changes are kept for the status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from hapolicy.core import events
from hapolicy.core.event import Event
from hapolicy.core.status import Change
from hapolicy.proxy.changes import Changes
from tests.proxy.turns import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which changes go."""
    clock = Clock()
    monkeypatch.setattr("hapolicy.proxy.changes.time", clock)
    return clock


def _told(found: Iterable[Event]) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.fields)) for event in found]


def test_the_pool_is_down_when_no_worker_sees_a_service_up(clock: Clock) -> None:
    """And up when one does. Each is told once, though every change of a service is a reason to look."""
    changes = Changes("dunno")
    assert [] == _told(changes.look(0, {"A": "up", "B": "down"}))
    assert [] == _told(changes.look(1, {"A": "up", "B": "down"}))
    assert [] == _told(changes.look(0, {"A": "down", "B": "down"}))
    clock.now += 100
    changes.default_action = "defer"  # by a reload
    down = {"A": "down", "B": "probing"}
    assert [("pool.down", {"action": "defer", "services": down})] == _told(changes.look(1, down))
    clock.now += 1
    assert [] == _told(changes.look(1, {"A": "draining", "B": "down"}))
    clock.now += 1.23456
    assert [("pool.up", {"down_s": 2.235})] == _told(changes.look(0, {"A": "up", "B": "down"}))
    assert [] == _told(changes.look(1, {"A": "up", "B": "down"}))
    assert [] == _told(changes.look(1, {"A": "down", "B": "down"}))
    clock.now += 1
    assert ["pool.down"] == [name for name, _ in _told(changes.look(0, {"A": "down"}))]
    clock.now += 0.5
    assert [("pool.up", {"down_s": 0.5})] == _told(changes.look(1, {"A": "down", "B": "up"}))


def test_a_service_that_is_configured_no_more_keeps_no_pool_up(clock: Clock) -> None:
    """What was known of it is forgotten with it."""
    changes = Changes("dunno")
    assert [] == _told(changes.look(0, {"gone": "up", "A": "down"}))
    assert [("pool.down", {"action": "dunno", "services": {"A": "down"}})] == _told(changes.look(0, {"A": "down"}))


def test_the_last_fifty_changes_are_kept(clock: Clock) -> None:
    """Oldest first, each with the time of day; what is handed out is not changed by what comes."""
    changes = Changes("dunno")
    expected = []
    for number in range(52):
        clock.now += 1
        event = events.SERVICE_READY(service=f"s{number}", address="h:1")
        changes.note(event)
        expected.append(Change(clock.time(), "service.ready", {"service": f"s{number}", "address": "h:1"}))
    kept = changes.kept()
    assert expected[2:] == kept
    changes.note(events.POOL_UP(down_s=1.0))
    assert expected[2:] == kept
