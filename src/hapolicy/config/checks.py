"""What of a configuration does not go together, and what is doubtful about it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from hapolicy.config.parser import right_example
from hapolicy.config.settings import Listener, Network, Settings, SettingsError
from hapolicy.core.address import Address, TcpAddress, UnixAddress
from hapolicy.core.rules import Probe
from hapolicy.core.service import Service

# access(5) actions, and the first words of the restrictions that postconf(5) allows in their place.
_ACTIONS = re.compile(
    r"ok|reject|defer|defer_if_(reject|permit)|bcc|discard|dunno|filter|hold|info|prepend|redirect|warn"
    r"|[0-9]+|permit(_.*)?|reject_.*|check_.*|warn_if_reject|sleep",
    re.IGNORECASE,
)
# SMTPD_POLICY_README, "Protocol description".
_ATTRIBUTES = frozenset(
    [
        "protocol_state",
        "protocol_name",
        "helo_name",
        "queue_id",
        "sender",
        "recipient",
        "recipient_count",
        "client_address",
        "client_name",
        "reverse_client_name",
        "instance",
        "sasl_method",
        "sasl_username",
        "sasl_sender",
        "size",
        "ccert_subject",
        "ccert_issuer",
        "ccert_fingerprint",
        "ccert_pubkey_fingerprint",
        "encryption_protocol",
        "encryption_cipher",
        "encryption_keysize",
        "etrn_domain",
        "stress",
        "client_port",
        "policy_context",
        "server_address",
        "server_port",
        "compatibility_level",
        "mail_version",
    ]
)
_IPS_OF_NAMES = {"localhost": ("127.0.0.1", "::1"), "": ("0.0.0.0", "::")}  # noqa: S104 - compared, not bound
_PRIVATE = re.compile(r"/private/[^/]+$")
_MARGIN_S = 5
_POSTFIX_TIMEOUT_S = 100  # smtpd_policy_service_timeout


class ConfigError(SettingsError):
    """Arguments that are each right but cannot be carried out together, or an argument file that cannot be read."""


def refuse_contradictions(settings: Settings) -> None:
    """Raise `ConfigError` where the parts of `settings` do not go together."""
    services = settings.services
    _refuse_bad_services(services)
    for service in services:
        if service.max_connections is not None and service.max_connections < settings.workers:
            raise ConfigError(
                f"{service.written_at}-s {service.name}: max={service.max_connections} is below --workers"
                f" {settings.workers}, and each worker needs a connection; example: max={settings.workers}"
            )
    if not settings.stdio:
        _refuse_ourselves(services, settings.listeners)
        _refuse_open("--listen", settings.listeners, "--allow", settings.allow)
        if settings.http:
            _refuse_open("--http", [Listener(settings.http)], "--http-allow", settings.http_allow)


def _refuse_bad_services(services: tuple[Service, ...]) -> None:
    if not services:
        raise ConfigError(f"no service defined{right_example('-s/--service')}")
    names: dict[str, Service] = {}
    for service in services:
        first = names.setdefault(service.name, service)
        if first is not service:
            there = f" at {first.written_at.removesuffix(': ')}" if first.written_at else ""
            raise ConfigError(
                f"{service.written_at}-s {service.name}=...: another service has this name{there}; each needs its own;"
                f" example: -s {service.name}2=..."
            )


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
            raise ConfigError(
                f"{service.written_at}-s {service.name}={service.address}: that is where hapolicy itself listens;"
                " give the service's own address, or another --listen"
            )


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


def doubts(settings: Settings) -> list[tuple[str, str]]:
    """What is doubtful: (argument, why)."""
    rules = settings.requests
    found = [*_doubtful_actions(settings)]
    total_s = sum(service.timeout_s for service in settings.services)
    deadline = f"--deadline {rules.deadline_s:g}"
    if total_s > rules.deadline_s:
        text = f"the timeouts of all services add up to {total_s:g} s, so the last ones may not be asked in time"
        found.append((deadline, text))
    if rules.deadline_s > _POSTFIX_TIMEOUT_S - _MARGIN_S:
        text = f"Postfix gives up after {_POSTFIX_TIMEOUT_S} s (smtpd_policy_service_timeout, or timeout= in main.cf)"
        found.append((deadline, text))
    unknown = "not a known attribute; requests without it are shared by turns"
    found += [(f"--affinity {name}", unknown) for name in rules.affinity if name not in _ATTRIBUTES]
    for service in settings.services:
        hedge = service.hedge or rules.hedge
        if hedge.after_s is not None and hedge.after_s >= service.timeout_s:
            found.append((f"--hedge {hedge}", f"not below the timeout of {service.name}, so it has no effect there"))
        if isinstance(service.address, UnixAddress) and _PRIVATE.search(service.address.path):
            text = "only Postfix can enter its folder 'private'; make the service 127.0.0.1:PORT inet in master.cf"
            found.append((f"-s {service.name}", text))
    probes = {service.probe or settings.health.probe for service in settings.services}
    if settings.probe_attributes and Probe.QUERY not in probes:
        found.append(("--probe-attribute", "has no effect without --probe query"))
    return found


def _doubtful_actions(settings: Settings) -> list[tuple[str, str]]:
    rules = settings.requests
    actions = [("-d", rules.default_action), ("--suspect", rules.suspect_action)]
    actions += [(f"-s {s.name}: suspect=", s.suspect_action) for s in settings.services if s.suspect_action]
    found = []
    for option, action in actions:
        first_word = action.split()[0]
        if not _ACTIONS.fullmatch(first_word):
            text = (
                f"{first_word!r} is not an access(5) action; if no restriction class either, Postfix answers 451 4.3.5"
            )
            found.append((f"{option} {action}".replace("= ", "="), text))
    return found
