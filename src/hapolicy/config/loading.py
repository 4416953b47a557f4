"""From the words of a command line to `Settings`.

``@FILE`` stands for the arguments in a file: several to a line as a shell would split them, ``#`` comments. Every
argument remembers where it was written, so that an error can name file and line.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import shlex
from collections.abc import Iterator, Sequence

from hapolicy.config.examples import right_example
from hapolicy.config.options import Asked, UsageError, Written, parser, printable
from hapolicy.config.settings import Listener, LogSink, Network, Settings, SettingsError
from hapolicy.core.address import Address, TcpAddress, UnixAddress
from hapolicy.core.events import Level
from hapolicy.core.rules import HealthRules, Probe
from hapolicy.core.service import Service

# access(5) actions, and the first words of the restrictions that postconf(5) allows in their place.
_ACTIONS = re.compile(
    r"ok|reject|defer|defer_if_(reject|permit)|bcc|discard|dunno|filter|hold|info|prepend|redirect|warn"
    r"|[0-9]+|permit(_.*)?|reject_.*|check_.*|warn_if_reject|sleep",
    re.IGNORECASE,
)
_IPS_OF_NAMES = {"localhost": ("127.0.0.1", "::1"), "": ("0.0.0.0", "::")}  # noqa: S104 - compared, not bound
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+(?=\s|$)""")
_MARGIN_S = 5
_POSTFIX_TIMEOUT_S = 100  # smtpd_policy_service_timeout


class ConfigError(SettingsError):
    """Arguments that are each right but cannot be carried out together, or an argument file that cannot be read."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options that `arguments` hold. Raises `UsageError` or `ConfigError`, `Asked` for --help and --version."""
    expanded = expand_files(arguments)
    try:
        options, unknown = parser().parse_known_args(expanded)
    except Asked:
        _refuse_asking_files(expanded)
        raise
    except argparse.ArgumentError as error:
        option = error.argument_name or ""
        given = getattr(error.__context__, "given", "")
        where = getattr(given, "where", "") or _where(expanded, option)
        raise UsageError(f"{where}{option}: {error.message}{right_example(option, given)}") from None
    for word in unknown:
        where = getattr(word, "where", "")
        hint = f"; a file of arguments is given as @{printable(word)}" if word.startswith("/") else ""
        raise UsageError(f"{where}{printable(word)}: not an option{hint}; hapolicy --help lists them")
    return options


def _refuse_asking_files(arguments: Sequence[str]) -> None:
    """Raise `UsageError` where the first that asks for help is a file: a daemon could not start with it."""
    asking = next(filter(_asks, arguments))
    if isinstance(asking, Written):
        hint = "not in a file; hapolicy --help lists the options"
        raise UsageError(f"{asking.where}{printable(asking)}: {hint}")


def _asks(argument: str) -> bool:
    """Whether an argument, by itself, asks for help or version: -h and --version do, and so do -lh and --he."""
    try:
        parser().parse_known_args([argument])
    except Asked:
        return True
    except (argparse.ArgumentError, UsageError):
        pass
    return False


def settings_from(options: argparse.Namespace, *, stdin_is_client: bool) -> Settings:
    """The settings that `options` mean. Raises `ConfigError`."""
    services: tuple[Service, ...] = tuple(options.service or ())
    _refuse_bad_services(services)
    stdio = options.stdio or (stdin_is_client and not options.listen)
    if options.stdio and options.listen:
        raise ConfigError("--stdio serves the one client on stdin; it does not go with --listen")
    defaults = Settings(services=services)
    listeners = tuple(options.listen or defaults.listeners)
    allow = tuple(options.allow or ())
    http_allow = tuple(options.http_allow or ())
    if not stdio:
        _refuse_ourselves(services, listeners)
        _refuse_open("--listen", listeners, "--allow", allow)
        if options.http:
            _refuse_open("--http", [Listener(options.http)], "--http-allow", http_allow)
    return Settings(
        services=services,
        default_action=options.default,
        listeners=listeners,
        allow=allow,
        stdio=stdio,
        control=options.control,
        http=options.http,
        http_allow=http_allow,
        health=_health(options),
        connect_timeout_s=options.connect_timeout,
        deadline_s=options.deadline,
        max_clients=options.max_clients,
        drain_s=options.drain,
        cpu=options.cpu,
        log_requests=options.logging or options.verbose,
        log_level=Level.DEBUG if options.verbose else Level.INFO,
        log_sink=LogSink.STDOUT if options.stdout else LogSink(options.log),
        warnings=tuple(_warnings(options, services)),
    )


def _health(options: argparse.Namespace) -> HealthRules:
    defaults = HealthRules()
    longest = options.cooldown_max
    if longest is None:
        longest = max(defaults.cooldown_max_s, options.cooldown)
    elif longest < options.cooldown:
        raise ConfigError(f"--cooldown-max {longest:g} is below --cooldown {options.cooldown:g}")
    return HealthRules(
        fail_max=options.fail_max, cooldown_s=options.cooldown, cooldown_max_s=longest, probe=Probe(options.probe)
    )


def _refuse_bad_services(services: tuple[Service, ...]) -> None:
    if not services:
        raise ConfigError(f"no service defined{right_example('-s/--service')}")
    names: set[str] = set()
    for service in services:
        if service.name in names:
            raise ConfigError(
                f"-s {service.name}=...: the name is defined twice; right is for example -s {service.name}2=..."
            )
        names.add(service.name)


def _refuse_open(option: str, listeners: Sequence[Listener], guard: str, allowed: tuple[Network, ...]) -> None:
    for listener in listeners:
        if not allowed and not _is_local(listener):
            raise ConfigError(
                f"{option} {listener}: others than this host could connect, so {guard} must say who may"
                f"{right_example(guard)}"
            )


def _refuse_ourselves(services: Sequence[Service], listeners: Sequence[Listener]) -> None:
    """A hapolicy that asks itself is full after one request."""
    for service in services:
        if any(_leads_to(service.address, listener.address) for listener in listeners):
            raise ConfigError(f"-s {service.name}={service.address}: that is where hapolicy itself listens")


def _leads_to(address: Address, listening: Address) -> bool:
    """As far as it can be told without a look-up."""
    if isinstance(address, UnixAddress) or isinstance(listening, UnixAddress):
        return address == listening
    if address.port != listening.port:
        return False
    if address.host.lower() == listening.host.lower():
        return True
    places = _known_ips(listening)
    return any(
        ip == place or (place.is_unspecified and place.version == ip.version and ip.is_loopback)
        for ip in _known_ips(address)
        for place in places
    )


def _is_local(listener: Listener) -> bool:
    if isinstance(listener.address, UnixAddress):
        return True
    ips = _known_ips(listener.address)
    return bool(ips) and all(ip.is_loopback for ip in ips)


def _known_ips(address: TcpAddress) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """None for a host that has to be looked up."""
    hosts = (address.host,) if address.is_literal else _IPS_OF_NAMES.get(address.host.lower(), ())
    ips = [ipaddress.ip_address(host) for host in hosts]
    return [getattr(ip, "ipv4_mapped", None) or ip for ip in ips]


def _warnings(options: argparse.Namespace, services: tuple[Service, ...]) -> list[tuple[str, str]]:
    warnings = []
    first_word = options.default.split()[0]
    if not _ACTIONS.fullmatch(first_word):
        text = f"{first_word!r} is no access(5) action; unless it is a restriction class, Postfix answers 451 4.3.5"
        warnings.append((f"-d {options.default}", text))
    total_s = sum(service.timeout_s for service in services)
    if total_s > options.deadline:
        text = f"the timeouts of all services add up to {total_s:g} s, so not each of them may be asked in time"
        warnings.append((f"--deadline {options.deadline:g}", text))
    if options.deadline > _POSTFIX_TIMEOUT_S - _MARGIN_S:
        text = f"Postfix gives up after {_POSTFIX_TIMEOUT_S} s (smtpd_policy_service_timeout, or timeout= in main.cf)"
        warnings.append((f"--deadline {options.deadline:g}", text))
    return warnings


def expand_files(arguments: Sequence[str]) -> list[str]:
    """`arguments` with each ``@FILE`` replaced by what the file holds. Raises `ConfigError`."""
    expanded: list[str] = []
    for argument in arguments:
        expanded += _read_file(argument[1:]) if argument.startswith("@") else [argument]
    return expanded


def _read_file(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a BOM
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"@{path}: {reason}{right_example('@FILE')}") from None
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}: "
        try:
            found += [Written(word, where) for word in _words(line)]
        except ValueError as error:
            raise ConfigError(f"{where}{error}; right is for example -d 'reject no service'") from None
    return found


def _words(line: str) -> Iterator[str]:
    """The words of a line as a shell would split it, up to an unquoted '#' at the beginning of a word.

    Not shlex alone: to it a '#' within a word begins a comment too, and a quote in a comment opens one.
    """
    rest = line.lstrip()
    while rest and not rest.startswith("#"):
        word = _WORD.match(rest)
        end = word.end() if word else len(rest)
        yield from shlex.split(rest[:end])  # raises ValueError for a quote that is not closed
        rest = rest[end:].lstrip()


def _where(arguments: Sequence[str], option: str) -> str:
    """Where the argument that is wrong was written, as well as can be told."""
    names = tuple(option.split("/"))
    for argument, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith(names) and isinstance(argument, Written):
            return value.where if isinstance(value, Written) else argument.where
    return ""
