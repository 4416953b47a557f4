"""Services with few workers and many clients: nothing is defaulted, and the service's other clients are served, too."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from tests.services.few_workers import FewWorkers, MtPolicyd, Postfwd2, QuotaStatus
from tests.support.client import PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import wait_until

SMTPDS = 12
SECONDS = 4.0


class Smtpds:
    """Clients that ask one after the other; how many got `action`, and how many something else."""

    def __init__(self, address: str, action: str, count: int, seconds: float) -> None:
        self._action = action
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
                    if action == self._action:
                        self.answered += 1
                    else:
                        self.defaulted += 1
                time.sleep(0.02)

    def wait(self) -> None:
        """Until all have ended."""
        for thread in self._threads:
            thread.join(90)


@pytest.mark.parametrize("keys", ["", ",max=4"])
@pytest.mark.parametrize("kind", [MtPolicyd, Postfwd2, QuotaStatus])
def test_few_workers_and_many_clients(folder: Path, kind: type[FewWorkers], keys: str) -> None:
    """12 smtpds ask a service with 5 workers, with no options at all and with max=: no defaults, nobody starves."""
    with (
        kind(folder) as service,
        Daemon("-s", f"A={service.address}{keys}", "-d", "DEFER none") as daemon,
    ):
        others = Smtpds(service.address, service.action, 1, SECONDS)
        smtpds = Smtpds(daemon.address, service.action, SMTPDS, SECONDS)
        smtpds.wait()
        others.wait()
        while_idle = Smtpds(service.address, service.action, 1, 1)
        while_idle.wait()
        assert (0, 0, 0) == (smtpds.defaulted, others.defaulted, while_idle.defaulted)
        assert smtpds.answered > 100
        assert others.answered > 10
        assert while_idle.answered > 10
        assert [] == daemon.events_of("request.defaulted")


def test_few_workers_that_pause(folder: Path) -> None:
    """mtpolicyd stands still for a second: its mails wait, and nobody is to blame."""
    with (
        MtPolicyd(folder) as service,
        Daemon("-s", f"MT={service.address}:::5", "-d", "DEFER none") as daemon,
    ):
        smtpds = Smtpds(daemon.address, service.action, SMTPDS, SECONDS)
        wait_until(lambda: smtpds.answered > 50, "the first answers")
        service.signal_all(signal.SIGSTOP)
        time.sleep(1)
        service.signal_all(signal.SIGCONT)
        smtpds.wait()
        others = Smtpds(service.address, service.action, 1, 2)
        others.wait()
        assert smtpds.defaulted == 0
        assert smtpds.answered > 100
        assert others.answered > 10  # our idle connections made room for it
        assert [] == daemon.events_of("request.defaulted") + daemon.events_of("service.down")
