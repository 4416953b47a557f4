"""Everything that the command line decides, as plain values. Each default has its reason here, and only here."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field

from hapolicy.core.address import Address, TcpAddress
from hapolicy.core.events import Level
from hapolicy.core.rules import HealthRules
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
    default_action: str = "dunno"  # 1.00's: mail goes on as if nobody had been asked
    listeners: tuple[Listener, ...] = DEFAULT_LISTENERS
    allow: tuple[Network, ...] = ()
    stdio: bool = False
    control: Listener | None = None
    http: TcpAddress | None = None
    http_allow: tuple[Network, ...] = ()
    health: HealthRules = field(default_factory=HealthRules)
    connect_timeout_s: float = 5.0
    deadline_s: float = 90.0  # below smtpd_policy_service_timeout (100 s), so Postfix always gets an answer
    max_clients: int = 1000  # ten times default_process_limit (100), one client an smtpd process
    drain_s: float = 30.0
    cpu: str = "auto"  # "auto", "off", or the number of a processor
    log_requests: bool = False
    log_sink: LogSink = LogSink.AUTO
    log_level: Level = Level.INFO
    warnings: Warnings = ()
