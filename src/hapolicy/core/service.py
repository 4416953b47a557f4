"""What a user defines with ``-s``: one policy service. Pure.

``NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]][,KEY=VALUE...]``; without keys as hapolicy 1.00 read it. An empty field
takes its default. A comma that belongs to a value, in an action or a socket path, is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from hapolicy.core.address import Address, AddressError, TcpAddress, parse_address, split_address
from hapolicy.core.rules import HEDGE_AUTO, HEDGE_OFF, Hedge, Probe

DEFAULT_PRIO = 10
DEFAULT_WEIGHT = "1"
DEFAULT_TIMEOUT_S = "30"

# A name becomes a journal field, a metric label and a word on a command line.
_NAME_MAX_CHARACTERS = 64
_DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{0,3})?|\.[0-9]{1,3}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


class ServiceError(ValueError):
    """A service definition that cannot be understood; the text says why."""


@dataclass(frozen=True)
class Service:
    """One policy service.

    `prio`: lower is asked first. `weight`: its share among the services of its prio, exact.
    `timeout_s`: the longest that one exchange with it may take, in seconds.
    `max_connections`: how many connections to it there may be, None for any number.
    `hedge`, `probe`, `suspect_action`: its own in the place of the options', None for these.
    `slow_start_s`: over how many seconds its share grows after it came up.
    `written_at`: "file:line: " where it was defined in a file, for errors.
    """

    name: str
    address: Address
    prio: int
    weight: Fraction
    timeout_s: float
    max_connections: int | None = None
    hedge: Hedge | None = None
    probe: Probe | None = None
    slow_start_s: float = 0.0
    suspect_action: str | None = None
    written_at: str = field(default="", compare=False)

    @cached_property
    def described(self) -> dict[str, object]:
        """As events of it tell."""
        return {"service": self.name, "address": str(self.address), "prio": self.prio, "weight": float(self.weight)}

    def __str__(self) -> str:
        fields = f"{self.name}={self.address}:{self.prio}:{_decimal(self.weight)}:{_decimal(self.timeout_s)}"
        return "".join([fields.replace(",", ",,"), *(f",{key}={value}" for key, value in self.keys().items())])

    def keys(self) -> dict[str, str]:
        """What is set by ``,KEY=VALUE``, as it is written."""
        written = {
            "max": self.max_connections,
            "hedge": self.hedge,
            "probe": self.probe and self.probe.value,
            "slow-start": _decimal(self.slow_start_s) if self.slow_start_s else None,
            "suspect": self.suspect_action and self.suspect_action.replace(",", ",,"),
        }
        return {key: str(value) for key, value in written.items() if value is not None}


def parse_service(text: str) -> Service:
    """The service that a ``-s`` argument defines. Raises `ServiceError`."""
    if "\0" in text:
        raise ServiceError("a NUL, which no name, path or action can hold")
    definition, *pairs = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    name, equals, rest = definition.partition("=")
    if not equals:
        raise ServiceError("no NAME= before the address")
    keys = parse_keys(pairs)
    try:
        where, more = split_address(rest)
        address = parse_address(*where)
    except AddressError as error:
        raise ServiceError(str(error)) from None
    if isinstance(address, TcpAddress) and not address.host:
        raise ServiceError("no host before the port")
    if len(more) > 3:
        raise ServiceError(f"too many fields: {':'.join(more[3:])!r} comes after the timeout")
    prio, weight, timeout = more + [""] * (3 - len(more))
    return Service(
        name=_checked_name(name),
        address=address,
        prio=_integer("prio", prio or str(DEFAULT_PRIO)),
        weight=_decimal_above_0("weight", weight or DEFAULT_WEIGHT),
        timeout_s=float(_decimal_above_0("timeout", timeout or DEFAULT_TIMEOUT_S)),
        **keys,
    )


def parse_keys(pairs: Iterable[str]) -> dict[str, Any]:
    """The fields of `Service` that KEY=VALUE pairs set. Raises `ServiceError`."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in _KEYS:
            raise ServiceError(f"{pair!r} after a comma is not KEY=VALUE; there are: {', '.join(_KEYS)}")
        field, parse = _KEYS[key]
        if field in found:
            raise ServiceError(f"{key}= is given twice")
        found[field] = parse(value)
    return found


def parse_hedge(text: str) -> Hedge:
    """auto, off or a number of seconds. Raises `ServiceError`."""
    if text in ("auto", "off"):
        return HEDGE_AUTO if text == "auto" else HEDGE_OFF
    try:
        return Hedge(after_s=float(_decimal_above_0("hedge", text)))
    except ServiceError:
        raise ServiceError(f"hedge {text!r} is neither auto, off nor a number of seconds above 0") from None


def parse_action(text: str) -> str:
    """An access(5) action as it goes to Postfix. Raises `ServiceError`."""
    if not text.strip():
        raise ServiceError("an empty action; Postfix would answer 451 4.3.5 to the mail")
    if not text.isprintable():
        raise ServiceError("the action holds a control character, which would break the answer")
    return text.strip()


def _max(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= 100_000:
        raise ServiceError(f"max {text!r} is not a whole number from 1 to 100000")
    return int(text)


def _probe(text: str) -> Probe:
    kinds = [kind.value for kind in Probe]
    if text not in kinds:
        raise ServiceError(f"probe {text!r} is none of {', '.join(kinds)}")
    return Probe(text)


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "max": ("max_connections", _max),
    "hedge": ("hedge", parse_hedge),
    "probe": ("probe", _probe),
    "slow-start": ("slow_start_s", lambda text: float(_decimal_above_0("slow-start", text))),
    "suspect": ("suspect_action", parse_action),
}


def _checked_name(name: str) -> str:
    if not name:
        raise ServiceError("no name before '='")
    if len(name) > _NAME_MAX_CHARACTERS or not name.isprintable() or " " in name:
        raise ServiceError(f"name {name!r} is not 1 to {_NAME_MAX_CHARACTERS} printable characters, no spaces")
    return name


def _integer(field: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ServiceError(f"{field} {text!r} is not a whole number")
    return int(text)


def _decimal(value: Fraction | float) -> str:
    """As it was written, up to zeros: at most three decimals are allowed."""
    return f"{float(value):.3f}".rstrip("0").rstrip(".")


def _decimal_above_0(field: str, text: str) -> Fraction:
    if not _DECIMAL.fullmatch(text):
        raise ServiceError(f"{field} {text!r} is not a number from 0.001 to 999999.999")
    value = Fraction(text)
    if value == 0:
        raise ServiceError(f"{field} is 0, it must be above 0")
    return value
