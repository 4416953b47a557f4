"""Where a service answers or the daemon listens: TCP host and port, or a unix socket path. Pure parsing.

Every error text says what is wrong; the caller adds which argument it was, and an example of a right one of the
kind that was meant (`kind_of`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

# sun_path holds 108 bytes, the terminating NUL included (unix(7)).
UNIX_PATH_MAX_BYTES = 107

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
# An interface name, netdevice(7). Python takes its dots for those of a host name, and refuses empty labels.
_ZONE = re.compile(r"(?!.{16})[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NUMBERS_AND_DOTS = re.compile(r"[0-9.]+")
_UNIX = re.compile(r"\s*unix\s*(:|$)")
_PATH_ALONE = re.compile(r"\s*([A-Za-z]+:)?/(?!/)")
# As other programs write an address. "http:25" is a host of that name.
_PREFIX = re.compile(r"inet:|(tcp|https?):(?![0-9]+(:|$))")


class AddressError(ValueError):
    """An address that cannot be understood; the text says why."""


@dataclass(frozen=True)
class TcpAddress:
    """A TCP endpoint; `host` is an IPv4 or IPv6 address without brackets, a host name, or "" for any."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_literal(self) -> bool:
        """Whether `host` needs no look-up."""
        return _is_ip(self.host)


@dataclass(frozen=True)
class UnixAddress:
    """A unix stream socket at an absolute `path`."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def split_address(text: str) -> tuple[tuple[str, str], list[str]]:
    """Split ``ADDRESS:PORT:MORE...`` or ``unix:/path:MORE...`` into (address parts, more parts).

    The address parts are ``(host, port)`` or ``("unix", path)``; colons within brackets do not split.
    """
    if prefix := _PREFIX.match(text):
        raise AddressError(f"'{prefix[0]}' does not belong before it")
    if not _UNIX.match(text) and _PATH_ALONE.match(text):
        raise AddressError("a socket path needs 'unix:' before it")
    if _lacks_brackets(text):
        hint = "; for a host of that name leave no field empty" if _may_be_host_and_port(text) else ""
        raise AddressError(f"an IPv6 address needs brackets around it{hint}")
    fields = _bracketed_fields(text) if text.startswith("[") else text.split(":")
    where = ":".join(fields[:2])
    if fields[0] != "unix" and any(character.isspace() for character in where):
        raise AddressError(f"a space in {where!r}")
    if len(fields) < 2 or not fields[1]:
        raise AddressError(_what_is_missing(fields[0]))
    return (fields[0], fields[1]), fields[2:]


def kind_of(text: str) -> str:
    """What an address, right or wrong, is meant to be: "unix", "ipv6", or "tcp" for all else."""
    if _UNIX.match(text) or _PATH_ALONE.match(text):
        return "unix"
    bracketed = text.startswith("[") and ":" in text.partition("]")[0]
    return "ipv6" if bracketed or _lacks_brackets(text) else "tcp"


def _bracketed_fields(text: str) -> list[str]:
    host, bracket, rest = text.partition("]")
    if not bracket:
        raise AddressError("'[' without ']'")
    if rest and not rest.startswith(":"):
        raise AddressError(f"{rest!r} after ']' where ':PORT' should be")
    return [host + "]", *rest[1:].split(":")]


def _lacks_brackets(text: str) -> bool:
    """Whether it reads as an IPv6 address, be it with a port or without.

    None in use begins with a group of one or two digits such as db, so db:25::5 is a host, a port and a weight. Nor
    is cafe:25::5 sure to be an address, but it is better refused than asked at the wrong place.
    """
    is_address = any(":" in part and _is_ip(part) for part in (text, text.rpartition(":")[0]))
    is_short_host = len(text.partition(":")[0]) <= 2 and _may_be_host_and_port(text)
    return is_address and not is_short_host


def _may_be_host_and_port(text: str) -> bool:
    host, _, rest = text.partition(":")
    return not host.isdigit() and rest.partition(":")[0].isdigit()


def _what_is_missing(host: str) -> str:
    if host == "unix":
        return "no path after 'unix:'"
    if host.isdigit():
        return "no host before the port"
    return f"no port after {host!r}" if host else "no host and no port"


def parse_address(host: str, port: str, lowest_port: int = 1) -> Address:
    """The address that two parts of `split_address` mean. An empty host stands for any address.

    With `lowest_port` 0 the kernel may choose the port.
    """
    if host == "unix":
        return UnixAddress(_checked_path(port))
    return TcpAddress(_checked_host(host), _port(port, lowest_port))


def _port(text: str, lowest: int) -> int:
    if not text.isascii() or not text.isdigit():
        raise AddressError(f"port {text!r} is not a number")
    digits = text.lstrip("0") or "0"
    if len(digits) > 5 or not lowest <= int(digits) <= 65535:
        raise AddressError(f"port {text} is not between {lowest} and 65535")
    return int(digits)


def _checked_path(path: str) -> str:
    if not path.startswith("/"):
        raise AddressError(f"socket path {path!r} does not begin with '/'")
    if path.rstrip() != path:
        raise AddressError(f"socket path {path!r} ends with a space")
    if "\0" in path:
        raise AddressError("NUL in the socket path")
    if not path.isprintable():
        raise AddressError("the socket path contains an unprintable character")
    size = len(path.encode())
    if size > UNIX_PATH_MAX_BYTES:
        raise AddressError(f"socket path of {size} bytes, and the kernel takes at most {UNIX_PATH_MAX_BYTES}")
    return path


def _checked_host(text: str) -> str:
    if text.startswith("["):
        host = text[1:-1]
        _, zone_mark, zone = host.partition("%")
        if not _is_ip(host) or ":" not in host or (zone_mark and not _ZONE.fullmatch(zone)):
            raise AddressError(f"{host!r} in brackets is not an IPv6 address")
        return str(ipaddress.IPv6Address(host))
    if _is_ip(text) or text == "":
        return text
    if _NUMBERS_AND_DOTS.fullmatch(text):
        raise AddressError(f"{text!r} is not an IPv4 address")
    if len(text) > 253 or not _HOST_NAME.fullmatch(text):
        raise AddressError(f"{text!r} is not an IPv4 address, [IPv6] address or host name")
    return text


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
