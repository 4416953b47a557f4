"""What must be over by a time."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class Deadlines(dict[T, float]):
    """Items, each with the time at which it is over, in the order of adding.

    Timeouts are constants, so what is added first is over first and `expired` looks no further. Where that does not
    hold (`ordered` False: after a reload that shortens a timeout, until all from before are gone), it looks at all.
    """

    __slots__ = ("ordered",)

    def __init__(self) -> None:
        super().__init__()
        self.ordered = True

    def expired(self, now: float) -> list[T]:
        """All whose time is over, first added first; they stay until they are removed."""
        if not self:
            self.ordered = True
        found = []
        for item, at in self.items():
            if at <= now:
                found.append(item)
            elif self.ordered:
                break
        return found
