"""Real services and their habits: what they do to each other's mail when one of them breaks, is busy or remembers."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.real import MtPolicyd, NameServer, SpfPerl
from tests.support.client import PolicyClient, new_instance
from tests.support.daemon import Daemon
from tests.support.procs import wait_until

SPOOFED = {"client_address": "192.0.2.66", "helo_name": "mail.attacker.example", "sender": "ceo@bank.example"}
POISON = {"client_address": "203.0.113.9", "helo_name": "x" * 64 + ".example.net", "sender": "a@example.net"}
SMTPDS = 12


@pytest.fixture
def names() -> Iterator[NameServer]:
    """bank.example sends no mail but from 192.0.2.1."""
    with NameServer(bank_example="v=spf1 ip4:192.0.2.1 -all") as names:
        yield names


def test_poison_does_not_switch_spf_off(names: NameServer) -> None:
    """A session with a helo that kills policyd-spf-perl: its mail is deferred, spoofed mail is still rejected."""
    with SpfPerl(names) as one, SpfPerl(names) as two:
        services = ["-s", f"A={one.address}", "-s", f"B={two.address}"]
        with Daemon(*services) as daemon, PolicyClient(daemon.address) as client:

            def is_rejected() -> bool:
                return client.ask(**SPOOFED).startswith(("550", "REJECT"))

            assert is_rejected()
            with PolicyClient(daemon.address) as attacker:
                instance = new_instance()
                for recipient in range(3):
                    action = attacker.ask(**POISON, instance=instance, recipient=f"r{recipient}@example.org")
                    assert action.startswith("DEFER_IF_PERMIT 4.3.0 ")
                    assert is_rejected()
            for _ in range(20):
                assert is_rejected()
            suspect = daemon.wait_event("request.suspect", nth=3)
            assert (POISON["helo_name"], POISON["sender"]) == (suspect["helo"], suspect["from"])
            assert {"A": "closed", "B": "closed"} == suspect["failures"]
            down = [daemon.events_of(name) for name in ("service.down", "pool.down", "request.defaulted")]
            assert [[], [], []] == down


def test_one_received_spf_header_a_mail(names: NameServer) -> None:
    """8 sessions, 4 recipients a mail: the service remembers a mail for each connection, so the mail stays with one."""
    headers: Counter[str] = Counter()
    lock = threading.Lock()

    def session(address: str) -> None:
        with PolicyClient(address) as client:
            for _ in range(4):
                mail = new_instance()
                for recipient in range(4):
                    attributes = {"client_address": "198.51.100.7", "recipient": f"r{recipient}@example.org"}
                    action = client.ask(instance=mail, **attributes)
                    with lock:
                        headers[mail] += action.startswith("PREPEND Received-SPF")
                    time.sleep(0.01)

    with (
        SpfPerl(names) as one,
        SpfPerl(names) as two,
        Daemon("-s", f"A={one.address}", "-s", f"B={two.address}") as daemon,
    ):
        sessions = [threading.Thread(target=session, args=(daemon.address,)) for _ in range(8)]
        for thread in sessions:
            thread.start()
        for thread in sessions:
            thread.join(60)
    assert [1] * 32 == sorted(headers.values())


class Smtpds:
    """Clients that ask one after the other; how many were answered, and how many got the default action."""

    def __init__(self, address: str, count: int, seconds: float) -> None:
        self.answered = self.defaulted = 0
        self.slowest_s = 0.0
        self._lock = threading.Lock()
        self._until = time.monotonic() + seconds
        self._threads = [threading.Thread(target=self._run, args=(address,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, address: str) -> None:
        with PolicyClient(address, 60) as client:
            while time.monotonic() < self._until:
                sent = time.monotonic()
                action = client.ask()
                with self._lock:
                    self.slowest_s = max(self.slowest_s, time.monotonic() - sent)
                    if action == "DUNNO mtpolicyd":
                        self.answered += 1
                    else:
                        self.defaulted += 1
                time.sleep(0.02)

    def wait(self) -> None:
        """Until all have ended."""
        for thread in self._threads:
            thread.join(90)


@pytest.mark.parametrize("keys", ["", ",max=4"])
def test_few_workers_and_many_clients(tmp_path: Path, keys: str) -> None:
    """mtpolicyd with 5 workers, 12 smtpds and a pause of a second: nothing is defaulted, and others are served, too."""
    with (
        MtPolicyd(tmp_path) as service,
        Daemon("-s", f"MT={service.address}:::5{keys}", "-d", "DEFER none") as daemon,
    ):
        smtpds = Smtpds(daemon.address, SMTPDS, 6)
        wait_until(lambda: smtpds.answered > 50, "the first answers")
        service.signal_all(signal.SIGSTOP)
        time.sleep(1)
        service.signal_all(signal.SIGCONT)
        smtpds.wait()
        others = Smtpds(service.address, 1, 2)
        others.wait()
        assert smtpds.defaulted == 0
        assert smtpds.answered > 200
        assert others.answered > 10
        assert [] == daemon.events_of("request.defaulted")
