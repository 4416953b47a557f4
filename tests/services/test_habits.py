"""Real services and their habits: what they do to each other's mail when one of them breaks, is busy or remembers."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.nameserver import NameServer
from tests.services.remembering import PolicydRateLimit, PolicydWeight
from tests.services.spf import SpfPerl
from tests.support.client import PolicyClient, new_instance
from tests.support.daemon import Daemon

SPOOFED = {"client_address": "192.0.2.66", "helo_name": "mail.attacker.example", "sender": "ceo@bank.example"}
POISON = {"client_address": "203.0.113.9", "helo_name": "x" * 64 + ".example.net", "sender": "a@example.net"}
# Its name server does not answer; policyd-spf-perl gives up after 15 s.
UNKNOWABLE = {"client_address": "203.0.113.10", "helo_name": "mail.silent.example", "sender": "a@silent.example"}
# 10 is what a postmaster had who saw it; that takes half a minute.
SPF_TIMEOUT_S = float(os.environ.get("HAPOLICY_TEST_SPF_TIMEOUT", "4"))


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


def test_a_domain_without_dns_does_not_switch_spf_off(names: NameServer) -> None:
    """One mail for three waits for a name server that does not answer, at both services; other mail does not wait.

    It gets the default action. No service broke, so nothing says that this mail is to blame, and none is down.
    """
    with SpfPerl(names) as one, SpfPerl(names) as two:
        services = ["-s", f"A={one.address}:::{SPF_TIMEOUT_S}", "-s", f"B={two.address}:::{SPF_TIMEOUT_S}"]
        with Daemon(*services, "-d", "DEFER no time") as daemon, PolicyClient(daemon.address) as client:
            waits: list[float] = []
            answers: list[str] = []

            def mail() -> None:
                with PolicyClient(daemon.address, 3 * SPF_TIMEOUT_S + 20) as sender:
                    instance = new_instance()
                    answers.extend(
                        sender.ask(**UNKNOWABLE, instance=instance, recipient=f"r{recipient}@example.org")
                        for recipient in range(3)
                    )

            sending = threading.Thread(target=mail)
            sending.start()
            while sending.is_alive():
                asked = time.monotonic()
                assert client.ask(**SPOOFED).startswith(("550", "REJECT"))
                waits.append(time.monotonic() - asked)
                time.sleep(0.05)
            assert ["DEFER no time"] * 3 == answers
            assert statistics.median(waits) < SPF_TIMEOUT_S / 4  # some find no process, and have one started
            assert UNKNOWABLE["sender"] == daemon.wait_event("request.defaulted", nth=3)["from"]
            assert [] == daemon.events_of("service.down") + daemon.events_of("pool.down")


def test_a_character_in_two_pieces_does_not_switch_rates_off(folder: Path) -> None:
    """policyd-rate-limit dies of a character that its reads cut in two; its connection does, and it goes on."""
    poison = {"sender": "é" * 600 + "@example.com"}
    with PolicydRateLimit(folder, "one") as one, PolicydRateLimit(folder, "two") as two:
        services = ["-s", f"A={one.address},hedge=off", "-s", f"B={two.address},hedge=off"]
        with Daemon(*services) as daemon, PolicyClient(daemon.address) as client:
            assert client.ask() == "dunno"
            for _ in range(3):
                with PolicyClient(daemon.address) as attacker:
                    assert attacker.ask(**poison).startswith("DEFER_IF_PERMIT 4.3.0 ")
                assert client.ask() == "dunno"
            daemon.wait_event("request.suspect", nth=3)
            down = [daemon.events_of(name) for name in ("service.down", "pool.down", "request.defaulted")]
            assert [[], [], []] == down


def test_recipients_of_a_mail_are_scored_once(folder: Path, names: NameServer) -> None:
    """A process of policyd-weight remembers one mail, whatever connection it came on: one session at a time, then."""
    with (
        PolicydWeight(folder, names, "one") as one,
        PolicydWeight(folder, names, "two") as two,
        Daemon("-s", f"A={one.address}", "-s", f"B={two.address}") as daemon,
    ):
        for _ in range(8):
            mail = new_instance()
            with PolicyClient(daemon.address) as client:
                first, *others = [client.ask(instance=mail, recipient=f"r{number}@example.org") for number in range(4)]
            assert "multirecipient" not in first
            assert [True] * 3 == ["multirecipient" in other for other in others]
