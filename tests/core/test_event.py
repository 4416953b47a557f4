"""Events and their kinds."""

from __future__ import annotations

import pytest

from hapolicy.core.event import EventType, Level

KIND = EventType("x.happened", Level.WARNING, "It happened.", {"what": "which", "why": "for which reason"}, "what")


def test_an_event_is_of_its_kind() -> None:
    """It has the fields that it was given, and may leave out others."""
    event = KIND(what="a")
    assert ("x.happened", Level.WARNING, {"what": "a"}, KIND) == (event.name, event.level, event.fields, event.type)
    assert {} == KIND().fields
    assert {"why": "b", "what": "a"} == KIND(what="a", why="b").fields


def test_a_field_that_is_not_registered_is_a_mistake() -> None:
    """Which is named."""
    with pytest.raises(TypeError) as caught:
        KIND(what="a", who="c", when="d")
    assert "x.happened has no field when, who" == str(caught.value)
