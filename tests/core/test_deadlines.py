"""What is over is found, in whatever order it is over."""

from __future__ import annotations

from hapolicy.core.deadlines import Deadlines


def test_what_was_added_first_is_over_first() -> None:
    """At its time, not before; it stays until it is removed, and what is behind it waits its turn."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines["first"], deadlines["second"] = 10.0, 20.0
    assert [] == deadlines.expired(9.9)
    assert ["first"] == deadlines.expired(10.0)
    assert ["first", "second"] == deadlines.expired(20.0)
    del deadlines["first"]
    assert ["second"] == deadlines.expired(20.0)


def test_out_of_order_all_are_looked_at_until_none_is_left() -> None:
    """A reload made a timeout shorter; once those from before are gone, the first one tells of all again."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines["long"], deadlines["short"] = 30.0, 2.0
    assert [] == deadlines.expired(2.0)
    deadlines.ordered = False
    assert ["short"] == deadlines.expired(2.0)
    assert deadlines.ordered is False
    deadlines.clear()
    assert [] == deadlines.expired(2.0)
    assert deadlines.ordered is True
