"""The options of ``hapolicy``: their names, and what a value may be."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from typing import NoReturn, Self

import hapolicy
from hapolicy.config.settings import Listener, LogSink, Network, Settings, SettingsError
from hapolicy.core.address import AddressError, TcpAddress, kind_of, parse_address, split_address
from hapolicy.core.rules import Probe
from hapolicy.core.service import Service, ServiceError, parse_service

CONTROL_MODE = "660"  # its owner and its group

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{0,6})?|\.[0-9]{1,6}")
_COUNT = re.compile(r"0{0,9}[0-9]{1,9}")
_SHOWN_MAX_CHARACTERS = 200
_IPV4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_MODE = re.compile(r"0?[0-7]{3}")


class UsageError(SettingsError):
    """An argument that cannot be understood."""


class Written(str):
    """An argument that remembers where it was written: `where` is "file:line: "."""

    where: str

    def __new__(cls, text: str, where: str) -> Self:
        """`text`, written at `where`."""
        self = super().__new__(cls, text)
        self.where = where
        return self


class _BadValue(argparse.ArgumentTypeError):
    """What is wrong with a value: `given`, as it was written."""

    def __init__(self, given: str, reason: str) -> None:
        super().__init__(f"{printable(given)}: {reason}" if given.strip() else f"empty: {reason}")
        self.given = given


class Asked(Exception):
    """--help or --version was given; the text is the reply."""


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing and exiting: a daemon reads its arguments again for a reload."""

    def _print_message(self, message: str, file: object = None) -> NoReturn:  # all that --help and --version do first
        raise Asked(message)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; hapolicy --help lists the options")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar; the man page is made from it."""
    defaults = Settings(services=())
    health = defaults.health
    p = _Parser(
        prog="hapolicy",
        usage="%(prog)s [@FILE ...] [OPTIONS] -s NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]] [-s ...]",
        description="Asks Postfix policy services by priority and weight, the next one where one fails,"
        " and always has an answer in time.",
        epilog="@FILE stands for the arguments in FILE: several to a line as a shell splits them; # begins a comment.",
        exit_on_error=False,
    )
    add = p.add_argument
    service = "a policy service; ADDRESS is IPv4, [IPv6], a host name, or unix:/path in the place of ADDRESS:PORT;"
    service += " lower PRIO is asked first (10), WEIGHT is its share within a PRIO (1),"
    service += " TIMEOUT is how many seconds it may take to answer (30)"
    add("-s", "--service", action="append", type=_service, metavar="NAME=ADDRESS:PORT[:...]", help=service)
    text = "what Postfix is told to do when no service answered (%(default)s)"
    add("-d", "--default", type=_action, default=defaults.default_action, metavar="ACTION", help=text)
    add("-l", "--logging", action="store_true", help="log each request")
    text = "as -l, and more: all attributes of each request, clients that were lost, links that were renewed"
    add("-v", "--verbose", action="store_true", help=text)
    add("-L", "--stdout", action="store_true", help="the same as --log stdout")
    text = "where Postfix connects: HOST:PORT, [IPV6]:PORT or unix:/path[:MODE]; repeatable (127.0.0.1:10060)"
    add("--listen", action="append", type=_listener, metavar="ADDRESS", help=text)
    add("--stdio", action="store_true", help="serve the one client on stdin; taken for granted under Postfix spawn(8)")
    text = "a network beyond this host that may connect to --listen; repeatable (none)"
    add("--allow", action="append", type=_network, metavar="CIDR", help=text)
    text = f"where hapolicyctl connects: unix:/path[:MODE], of mode {CONTROL_MODE} unless given (off)"
    add("--control", type=_control, metavar="ADDRESS", help=text)
    text = "where to serve a status page for browsers, /metrics for Prometheus,"
    text += " /healthz and /readyz for load balancers (off)"
    add("--http", type=_http, metavar="HOST:PORT", help=text)
    text = "a network beyond this host that may read what --http serves; repeatable (none)"
    add("--http-allow", action="append", type=_network, metavar="CIDR", help=text)
    text = "failures in a row after which a service counts as down, and is not asked any more (%(default)s)"
    add("--fail-max", type=_count, default=health.fail_max, metavar="N", help=text)
    text = "how long a service that is down is left alone before a probe; doubled with each that fails (%(default)g)"
    add("--cooldown", type=_seconds, default=health.cooldown_s, metavar="SECONDS", help=text)
    text = f"where this doubling ends ({health.cooldown_max_s:g}, or --cooldown where that is longer)"
    add("--cooldown-max", type=_seconds, metavar="SECONDS", help=text)
    text = "how a service that is down is tried: query sends a made-up policy request, tcp merely connects,"
    text += " off takes the next live request (%(default)s)"
    add("--probe", choices=[probe.value for probe in Probe], default=health.probe.value, help=text)
    text = "how long it may take to connect to a service (%(default)g)"
    add("--connect-timeout", type=_seconds, default=defaults.connect_timeout_s, metavar="SECONDS", help=text)
    text = "the longest that Postfix waits for its answer, all services together; its own limit is 100 (%(default)g)"
    add("--deadline", type=_seconds, default=defaults.deadline_s, metavar="SECONDS", help=text)
    text = "smtpd processes that may be connected at once; more have to wait (%(default)s)"
    add("--max-clients", type=_count, default=defaults.max_clients, metavar="N", help=text)
    text = "how long requests in flight may still take after SIGTERM (%(default)g)"
    add("--drain", type=_seconds_or_0, default=defaults.drain_s, metavar="SECONDS", help=text)
    text = "the processor to stay on: auto picks one, off leaves it to the kernel (%(default)s)"
    add("--cpu", type=_cpu, default=defaults.cpu, metavar="auto|off|N", help=text)
    text = "where events go; auto is the journal, else syslog (facility mail), else stderr (%(default)s)"
    add("--log", choices=[sink.value for sink in LogSink], default="auto", help=text)
    add("--check", action="store_true", help="say what would run and what is doubtful about it, and exit")
    add("--version", action="version", version=f"hapolicy {hapolicy.__version__}")
    return p


def printable(text: str) -> str:
    """`text` as it may be shown on a terminal; in quotes where one could not see it, as a space at an end."""
    if len(text) > _SHOWN_MAX_CHARACTERS:
        text = text[:_SHOWN_MAX_CHARACTERS] + "..."
    return text if text.isprintable() and text == text.strip() else ascii(text)


def _service(text: str) -> Service:
    try:
        return parse_service(text)
    except ServiceError as error:
        raise _BadValue(text, str(error)) from None


def _action(text: str) -> str:
    if not text.strip():
        raise _BadValue(text, "without an action, Postfix would answer 451 to all mail that no service answered")
    if not text.isprintable():
        raise _BadValue(text, "the action holds a control character, which would break the answer")
    return text.strip()


def _listener(text: str) -> Listener:
    try:
        where, more = split_address(text)
        if where[0] == "unix":
            return _unix_listener(where, more)
        if more:
            raise AddressError(f"{':'.join(more)!r} after the port")
        host = "" if where[0] == "*" else where[0]
        return Listener(parse_address(host, where[1], lowest_port=0))
    except AddressError as error:
        raise _BadValue(text, str(error)) from None


def _control(text: str) -> Listener:
    if kind_of(text) != "unix":
        raise _BadValue(text, "hapolicyctl needs a unix socket, unix:/path")
    try:
        where, more = split_address(text)
        return _unix_listener(where, more or [CONTROL_MODE])
    except AddressError as error:
        raise _BadValue(text, str(error)) from None


def _http(text: str) -> TcpAddress:
    if kind_of(text) == "unix":
        raise _BadValue(text, "a browser and Prometheus need HOST:PORT, not a unix socket")
    address = _listener(text).address
    assert isinstance(address, TcpAddress)
    return address


def _unix_listener(where: tuple[str, str], more: list[str]) -> Listener:
    address = parse_address(*where)
    if not more:
        return Listener(address)
    if len(more) > 1 or not _MODE.fullmatch(more[0]):
        raise AddressError(f"mode {':'.join(more)!r} is not three octal digits such as 660")
    return Listener(address, int(more[0], 8))


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise _BadValue(text, f"not a network: {error}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_IPV4_MAPPED):
        plain = ipaddress.IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
        raise _BadValue(text, f"would match nobody: IPv4 clients count as such; write {plain}")
    return network


def _cpu(text: str) -> str:
    if text in ("auto", "off") or (_COUNT.fullmatch(text) and int(text) in os.sched_getaffinity(0)):
        return text
    allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
    raise _BadValue(text, f"neither auto nor off nor a processor that hapolicy may use (one of {allowed})")


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= 1_000_000:
        raise _BadValue(text, "not a whole number from 1 to 1000000")
    return int(text)


def _seconds(text: str) -> float:
    seconds = _seconds_or_0(text)
    if seconds == 0:
        raise _BadValue(text, "must be above 0 seconds")
    return seconds


def _seconds_or_0(text: str) -> float:
    if not _SECONDS.fullmatch(text):
        raise _BadValue(text, "not a number of seconds")
    return float(text)
