"""Who is measured, each before the same two services and started by the same hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.processes import PATIENCE_S, Process, connects, find, free_port, wait_until
from benchmarks.programs import Service

TIMEOUT_S = 1  # after which a service counts as failed, the same for all

# What its manual offers for services that may hang: a check that asks a policy request and wants an answer, and the
# sessions of a server that is down ended. One thread, and no cpu-map: left to the kernel it is not slower here than
# on one processor (NOTES.md).
HAPROXY = """\
global
    nbthread 1
    maxconn 9000
defaults
    mode tcp
    timeout connect {timeout_s}s
    timeout client 10m
    timeout server {timeout_s}s
    timeout check {timeout_s}s
    retries 2
    option redispatch 1
    option clitcpka
listen policy
    bind 127.0.0.1:{port} backlog 4096
    balance roundrobin
    option tcp-check
    tcp-check send request=smtpd_access_policy\\nprotocol_state=RCPT\\ninstance=check\\n\\n
    tcp-check expect string action=
    default-server check inter 1s fall 1 rise 1 on-marked-down shutdown-sessions observe layer4
    server A 127.0.0.1:{a}
    server B 127.0.0.1:{b}
"""


class Proxy:
    """One of those measured, between ``with`` and its end. `name` is its column's."""

    name = ""

    def __init__(self, services: Sequence[Service]) -> None:
        self.services = services
        self.port = free_port()
        self.process: Process | None = None

    @classmethod
    def missing(cls) -> str:
        """What is not here that it needs, "" when all is."""
        return ""

    @classmethod
    def version(cls) -> str:
        """Its version."""
        return ""

    def command(self) -> list[str]:
        """The command that runs it in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self.process = Process(self.command())
        wait_until(lambda: connects(self.port), f"{self.name} listens")

    def definitions(self) -> list[str]:
        """The services as both hapolicies want them."""
        options = [("-s", f"{service.name}=127.0.0.1:{service.port}:10:1:{TIMEOUT_S}") for service in self.services]
        return [word for option in options for word in option]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.end()


class Direct(Proxy):
    """Nobody between the load and a service: what the load itself can do."""

    name = "direct"

    def start(self) -> None:
        self.port = self.services[0].port


class Hapolicy2(Proxy):
    """The hapolicy installed for this interpreter."""

    name = "hapolicy 2"
    options: tuple[str, ...] = ("--log", "stderr")
    prefix: tuple[str, ...] = ()

    @classmethod
    def version(cls) -> str:
        return _output(sys.executable, "-m", "hapolicy", "--version").removeprefix("hapolicy ")

    def command(self) -> list[str]:
        limits = ["--max-clients", "12000", "--cooldown", "1", "--cooldown-max", "2"]
        listen = ["--listen", f"127.0.0.1:{self.port}"]
        return [*self.prefix, sys.executable, "-m", "hapolicy", *listen, *limits, *self.options, *self.definitions()]

    def start_to_ready_ms(self) -> float:
        """Start it; milliseconds until it tells the service manager that it is ready."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            path = os.path.join(folder, "notify")
            notified.bind(path)
            notified.settimeout(PATIENCE_S)
            began = time.monotonic()
            self.process = Process(self.command(), {"NOTIFY_SOCKET": path})
            while b"READY=1" not in notified.recv(4096):
                pass
            return (time.monotonic() - began) * 1000


class Hapolicy1(Proxy):
    """Debian's Perl hapolicy 1.00, one process a connection, as Postfix spawn(8) runs it."""

    name = "hapolicy 1.00"

    @classmethod
    def missing(cls) -> str:
        wanted = {"systemd-socket-activate": find("systemd-socket-activate"), cls.program(): find(cls.program())}
        return ", ".join(command for command, path in wanted.items() if path is None)

    @classmethod
    def program(cls) -> str:
        """Debian's, even where this interpreter's own hapolicy is on PATH."""
        return "/usr/sbin/hapolicy"

    @classmethod
    def version(cls) -> str:
        return f"Debian {_package_version('hapolicy')}"

    def command(self) -> list[str]:
        activate = find("systemd-socket-activate") or ""
        listen = f"--listen=127.0.0.1:{self.port}"
        # Where there is no syslog its Perl says so on stderr, which spawn(8) and inetd lead to the client.
        quiet = ["sh", "-c", 'exec "$0" "$@" 2>/dev/null', self.program()]
        return [activate, listen, "--accept", "--inetd", "--", *quiet, *self.definitions()]


class HAProxy(Proxy):
    """HAProxy in TCP mode, one thread."""

    name = "HAProxy"

    @classmethod
    def missing(cls) -> str:
        return "" if find("haproxy") else "haproxy"

    @classmethod
    def version(cls) -> str:
        return _output(find("haproxy") or "", "-v").split()[2]

    def command(self) -> list[str]:
        a, b = (service.port for service in self.services)
        self._file = tempfile.NamedTemporaryFile("w", suffix=".cfg")  # noqa: SIM115 - as long as the proxy
        self._file.write(HAPROXY.format(port=self.port, a=a, b=b, timeout_s=TIMEOUT_S))
        self._file.flush()
        return [find("haproxy") or "", "-db", "-q", "-f", self._file.name]


ALL: tuple[type[Proxy], ...] = (Direct, Hapolicy2, Hapolicy1, HAProxy)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout.strip()


def _package_version(package: str) -> str:
    query = find("dpkg-query")
    return _output(query, "--show", "--showformat=${Version}", package) if query else "unknown"


def stdio_commands(services: Sequence[Service]) -> dict[str, list[str]]:
    """How each hapolicy is spawned for the client on its stdin."""
    words = Hapolicy2(services).definitions()
    commands = {"hapolicy 2": [sys.executable, "-m", "hapolicy", *words]}
    if Path(Hapolicy1.program()).exists():
        commands["hapolicy 1.00"] = [Hapolicy1.program(), *words]
    return commands
