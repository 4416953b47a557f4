"""What may happen that is worth a log line."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Fields = Mapping[str, Any]


class Level(enum.IntEnum):
    """Severity, with the numbers of Python's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True)
class Event:
    """Something worth logging, decided under a lock and logged after it."""

    level: Level
    name: str
    fields: Fields = field(default_factory=dict)
