"""Each option that a reload takes is taken: seen in what the daemon does from then on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from hapolicy.config.settings import Settings
from tests.faults.host import Pair
from tests.process.test_reload import Configured, reload
from tests.proxy.scripted import Full
from tests.support.client import PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import free_port
from tests.support.sample import Sample

# Asks a policy port and a web port; prints what each said, "" where it was closed.
ASKING = """\
import socket, sys
host, policy, web = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for port, said in ((policy, b"request=smtpd_access_policy\\n\\n"), (web, b"GET /healthz HTTP/1.0\\r\\n\\r\\n")):
    try:
        with socket.create_connection((host, port), 5) as link:
            link.sendall(said)
            print(link.recv(100).partition(b"\\n")[0].decode().strip())
    except OSError:
        print("")
"""


def test_who_may_connect(tmp_path: Path) -> None:
    """--allow and --http-allow: another host is let in, and after a reload it is not."""
    file = tmp_path / "hapolicy.args"
    with Pair() as net, Sample("A", prefix=net.near.prefix, control=f"unix:{tmp_path}/control") as a:
        policy, web = free_port(), free_port()
        fixed = [f"-s {a.service()}", f"--listen {net.NEAR}:{policy}", f"--http {net.NEAR}:{web}"]

        def write(allowed: str) -> None:
            file.write_text("\n".join([*fixed, f"--allow {allowed}", f"--http-allow {allowed}", ""]))

        def said() -> list[str]:
            words = [*net.far.prefix, sys.executable, "-c", ASKING, net.NEAR, str(policy), str(web)]
            return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()

        write("192.0.2.0/24")
        with Daemon(f"@{file}", program=net.near.hapolicy) as daemon:
            assert ["action=DUNNO A", "HTTP/1.1 200 OK"] == said()
            write("198.51.100.0/24")
            reload(daemon, 1)
            assert ["", ""] == said()
            write("192.0.2.0/24")
            reload(daemon, 2)
            assert ["action=DUNNO A", "HTTP/1.1 200 OK"] == said()


def test_how_much_is_logged(tmp_path: Path) -> None:
    """--verbose and -l."""
    configured = Configured(tmp_path)
    with Sample("A") as a:
        configured.write(f"-s {a.service()}")
        with configured.daemon() as daemon, PolicyClient(daemon.address) as client:
            client.ask(instance="before")
            configured.write(f"-s {a.service()}", "-l", "--verbose")
            reload(daemon, 1)
            client.ask(instance="after")
            daemon.wait_event("request.received")
            daemon.wait_event("request.answered", instance="after")
            assert [] == daemon.events_of("request.answered", instance="before")


def test_how_long_is_waited(tmp_path: Path) -> None:
    """--connect-timeout, and --deadline."""
    configured = Configured(tmp_path)
    with Full() as full:
        service = f"-s A={full.address}"
        configured.write(service, "--hedge off")
        with configured.daemon() as daemon, PolicyClient(daemon.address) as client:
            for number, option in enumerate(("--connect-timeout 0.3", "--deadline 0.3 --connect-timeout 9"), 1):
                configured.write(service, "--hedge off", option, "--fail-max 1000")
                reload(daemon, number)
                began = time.monotonic()
                assert "dunno" == client.ask()
                assert 0.3 <= time.monotonic() - began < Settings.connect_timeout_s
