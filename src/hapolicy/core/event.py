"""What an event is: a kind with a meaning and registered fields, and one thing of that kind that happened."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]


class Level(enum.IntEnum):
    """Severity, with the numbers of Python's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Event:
    """One thing that happened."""

    __slots__ = ("fields", "type")

    def __init__(self, type_: EventType, fields: Fields) -> None:
        self.type = type_
        self.fields = fields

    @property
    def name(self) -> str:
        """As it is logged."""
        return self.type.name

    @property
    def level(self) -> Level:
        """Its severity."""
        return self.type.level


@dataclass(frozen=True, eq=False)
class EventType:
    """A kind of event: what it means, and what each field of it means. Call it to make an event."""

    name: str
    level: Level
    meaning: str
    fields: Mapping[str, str]
    repeats_by: str = ""  # a field: of events of this kind with equal values there, only some a second are logged

    def __call__(self, **fields: Any) -> Event:
        """An event with these fields. Raises TypeError for a field that is not registered."""
        if not self.fields.keys() >= fields.keys():
            raise TypeError(f"{self.name} has no field {', '.join(sorted(fields.keys() - self.fields.keys()))}")
        return Event(self, fields)
