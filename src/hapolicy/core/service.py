"""What a user defines with ``-s``: one policy service. Pure.

``NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]]``, as hapolicy 1.00 read it; an empty field takes its default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from hapolicy.core.address import Address, AddressError, TcpAddress, parse_address, split_address

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
    """

    name: str
    address: Address
    prio: int
    weight: Fraction
    timeout_s: float

    def __str__(self) -> str:
        return f"{self.name}={self.address}:{self.prio}:{_decimal(self.weight)}:{_decimal(self.timeout_s)}"


def parse_service(text: str) -> Service:
    """The service that a ``-s`` argument defines. Raises `ServiceError`."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise ServiceError("no NAME= before the address")
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
    )


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
    value = Fraction(text if text[-1] != "." else text[:-1])
    if value == 0:
        raise ServiceError(f"{field} is 0, it must be above 0")
    return value
