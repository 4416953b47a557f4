"""What the value of an option may be. Each parser raises `BadValue`, which says what is wrong with it."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import re

from hapolicy.config.settings import Listener, LogSink, Network
from hapolicy.core.address import AddressError, TcpAddress, kind_of, parse_address, split_address
from hapolicy.core.rules import Hedge, Probe
from hapolicy.core.service import Service, ServiceError, parse_action, parse_hedge, parse_service
from hapolicy.core.text import quoted

CONTROL_MODE = "660"  # its owner and its group

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{0,6})?|\.[0-9]{1,6}")
_COUNT = re.compile(r"0{0,9}[0-9]{1,9}")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_]{1,64}")
_IPV4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_MODE = re.compile(r"0?[0-7]{3}")


class BadValue(argparse.ArgumentTypeError):
    """What is wrong with a value: `given`, as it was written."""

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(f"{quoted(given)}: {reason}" if given.strip() else f"empty: {reason}")
        self.given = given


def service(text: str) -> Service:
    """NAME=ADDRESS:PORT and so on."""
    try:
        return dataclasses.replace(parse_service(text), written_at=getattr(text, "where", ""))
    except ServiceError as error:
        raise BadValue(text, str(error)) from None


def action(text: str) -> str:
    """An access(5) action."""
    try:
        return parse_action(text)
    except ServiceError as error:
        raise BadValue(text, str(error)) from None


def listener(text: str) -> Listener:
    """HOST:PORT, [IPV6]:PORT or unix:/path[:MODE]."""
    try:
        where, more = split_address(text)
        if where[0] == "unix":
            return _unix_listener(where, more)
        if more:
            raise AddressError(f"{':'.join(more)!r} after the port")
        host = "" if where[0] == "*" else where[0]
        return Listener(parse_address(host, where[1], lowest_port=0))
    except AddressError as error:
        raise BadValue(text, str(error)) from None


def control(text: str) -> Listener:
    """unix:/path[:MODE]."""
    if kind_of(text) != "unix":
        raise BadValue(text, "hapolicyctl needs a unix socket, unix:/path")
    try:
        where, more = split_address(text)
        return _unix_listener(where, more or [CONTROL_MODE])
    except AddressError as error:
        raise BadValue(text, str(error)) from None


def http(text: str) -> TcpAddress:
    """HOST:PORT or [IPV6]:PORT."""
    if kind_of(text) == "unix":
        raise BadValue(text, "a browser and Prometheus need HOST:PORT, not a unix socket")
    address = listener(text).address
    assert isinstance(address, TcpAddress)
    return address


def _unix_listener(where: tuple[str, str], more: list[str]) -> Listener:
    address = parse_address(*where)
    if not more:
        return Listener(address)
    if len(more) > 1 or not _MODE.fullmatch(more[0]):
        raise AddressError(f"mode {':'.join(more)!r} is not three octal digits such as 660")
    return Listener(address, int(more[0], 8))


def network(text: str) -> Network:
    """An IP network as CIDR."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise BadValue(text, _why_no_network(text)) from None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_IPV4_MAPPED):
        plain = ipaddress.IPv4Network((found.network_address.packed[12:], found.prefixlen - 96))
        raise BadValue(text, f"would match nobody: IPv4 clients count as such; write {plain}")
    return found


def _why_no_network(text: str) -> str:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "not an IP network"
    return f"not a network: the address has host bits set; write {meant}"


def count(text: str) -> int:
    """A whole number from 1."""
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= 1_000_000:
        raise BadValue(text, "not a whole number from 1 to 1000000")
    return int(text)


def workers(text: str) -> int:
    """How many threads."""
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= 64:
        raise BadValue(text, "not a whole number from 1 to 64")
    return int(text)


def percent(text: str) -> float:
    """1 to 100, or off; as a fraction, of which 1 is never reached."""
    if text == "off":
        return 1.0
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= 100:
        raise BadValue(text, "neither off nor a whole number of percent from 1 to 100")
    return int(text) / 100


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    found = seconds_or_0(text)
    if found == 0:
        raise BadValue(text, "must be above 0 seconds")
    return found


def seconds_or_0(text: str) -> float:
    """A number of seconds."""
    if not _SECONDS.fullmatch(text):
        raise BadValue(text, "not a number of seconds")
    return float(text)


def seconds_or_off(text: str) -> float | None:
    """A number of seconds, or off."""
    return None if text == "off" else seconds(text)


def probe(text: str) -> Probe:
    """query, tcp or off."""
    kinds = [kind.value for kind in Probe]
    if text not in kinds:
        raise BadValue(text, f"none of {', '.join(kinds)}")
    return Probe(text)


def hedge(text: str) -> Hedge:
    """auto, off or a number of seconds."""
    try:
        return parse_hedge(text)
    except ServiceError as error:
        raise BadValue(text, str(error)) from None


def affinity(text: str) -> tuple[str, ...]:
    """Names of attributes with commas between, or off."""
    if text == "off":
        return ()
    names = tuple(text.split(","))
    for name in names:
        if not _ATTRIBUTE.fullmatch(name):
            raise BadValue(text, f"{quoted(name)} is not the name of an attribute")
    return names


def probe_attribute(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not _ATTRIBUTE.fullmatch(name):
        raise BadValue(text, "not NAME=VALUE, an attribute of the protocol")
    if "\n" in value or "\r" in value or "\0" in value:
        raise BadValue(text, "the value holds a line end or a NUL, which would break the request")
    return name, value


def log_sink(text: str) -> LogSink | str:
    """One of the sinks, or the path of a file."""
    if text.startswith("/") and text.isprintable() and not text.endswith("/"):
        return text
    names = [sink.value for sink in LogSink]
    if text not in names:
        raise BadValue(text, f"neither {', '.join(names)} nor the absolute path of a file")
    return LogSink(text)
