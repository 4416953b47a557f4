"""Everything that the command line decides, as plain values. Each default has its reason here, and only here."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field

from hapolicy.core.address import Address, TcpAddress
from hapolicy.core.event import Level
from hapolicy.core.rules import HealthRules, RequestRules
from hapolicy.core.service import Service

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Warnings = tuple[tuple[str, str], ...]  # (argument, what is doubtful about it)


class SettingsError(Exception):
    """A configuration that cannot be used; the text says where, what is wrong, and how it should look."""


class LogSink(enum.Enum):
    """Where events go."""

    AUTO = "auto"
    JOURNAL = "journal"
    STDERR = "stderr"
    STDOUT = "stdout"
    SYSLOG = "syslog"


@dataclass(frozen=True)
class Listener:
    """Where clients connect. `mode` is the permission bits of a unix socket."""

    address: Address
    # Like a TCP port on loopback: whoever is on the host may ask. smtpd runs as postfix, not as our user.
    mode: int = 0o666

    def __str__(self) -> str:
        return str(self.address)


DEFAULT_LISTENERS = (Listener(TcpAddress("127.0.0.1", 10060)),)


@dataclass(frozen=True)
class Settings:
    """One configuration of the daemon."""

    services: tuple[Service, ...]
    requests: RequestRules = field(default_factory=RequestRules)
    health: HealthRules = field(default_factory=HealthRules)
    probe_attributes: tuple[tuple[str, str], ...] = ()
    listeners: tuple[Listener, ...] = DEFAULT_LISTENERS
    allow: tuple[Network, ...] = ()
    stdio: bool = False
    control: Listener | None = None
    http: TcpAddress | None = None
    http_allow: tuple[Network, ...] = ()
    workers: int = 1  # with the GIL a second one only costs
    connect_timeout_s: float = 5.0
    max_clients: int = 1000  # ten times default_process_limit (100), one client an smtpd process
    drain_s: float = 30.0
    log_requests: bool = False
    log_sink: LogSink = LogSink.AUTO
    log_path: str | None = None
    log_level: Level = Level.INFO
    warnings: Warnings = ()
