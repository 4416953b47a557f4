"""An event as a line of JSON, by structlog. Whatever a stranger wrote comes out printable and of bounded length."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from hapolicy.core.event import Event, Level
from hapolicy.core.text import escaped, shortened

Rendered = tuple[str, Mapping[str, Any]]  # the line; the same values by name

# Longer than any valid address (RFC 5321, 4.5.3.1.3: 256 octets), short enough that a line stays a line.
VALUE_MAX_CHARACTERS = 512


def load_renderer() -> Callable[[Event], Rendered]:
    """What renders events. Imports structlog, which takes longer than a first answer does."""
    import structlog

    json = structlog.processors.JSONRenderer()

    def render(_: Any, __: str, fields: MutableMapping[str, Any]) -> tuple[tuple[Rendered], dict[str, Any]]:
        return ((str(json(None, "", dict(fields))), fields),), {}

    logger = structlog.wrap_logger(
        _Returning(),
        processors=[_flatten, render],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=True,
    )
    methods = {level: getattr(logger, level.name.lower()) for level in Level}

    def line_of(event: Event) -> Rendered:
        rendered: Rendered = methods[event.level](event.name, fields=event.fields)
        return rendered

    return line_of


class _Returning:
    """What structlog calls at the end of its chain: hands the line back."""

    def debug(self, line: Rendered) -> Rendered:
        """The name of the level is the name of the method."""
        return line

    info = warning = error = debug


def _flatten(_: Any, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """One flat object, what every event has first."""
    now = time.time()
    seconds = int(now)
    flat = {
        "timestamp": f"{_second(seconds)}.{int((now - seconds) * 1_000_000):06d}Z",
        "level": level,
        "event": event["event"],
    }
    for name, value in event["fields"].items():
        flat.setdefault(name, _printable(value))
    return flat


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) <= VALUE_MAX_CHARACTERS and value.isascii() and value.isprintable():
            return value
        return escaped(shortened(value, VALUE_MAX_CHARACTERS))
    if isinstance(value, bytes):
        return _printable(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return {_printable(str(name)): _printable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    return value
