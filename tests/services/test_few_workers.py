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
SECONDS = 3.0
STARVED_S = 30.0  # a client that waits as long has been forgotten


class Smtpds:
    """Clients that ask one after the other until they are stopped; how many got `action`, how many something else."""

    def __init__(self, address: str, action: str, count: int) -> None:
        self._action = action
        self.answered = self.defaulted = 0
        self.slowest_s = 0.0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(address,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, address: str) -> None:
        with PolicyClient(address, 60) as client:
            while not self._ending.is_set():
                sent = time.monotonic()
                action = client.ask()
                with self._lock:
                    self.slowest_s = max(self.slowest_s, time.monotonic() - sent)
                    if action == self._action:
                        self.answered += 1
                    else:
                        self.defaulted += 1
                time.sleep(0.02)

    def wait_answers(self, answers: int) -> None:
        """Wait until so many were answered."""
        wait_until(lambda: self.answered > answers, f"{answers} answers", STARVED_S)

    def stop(self) -> None:
        """Wait for the last answers."""
        self._ending.set()
        for thread in self._threads:
            thread.join(90)


@pytest.mark.parametrize("keys", ["", ",max=4"])
@pytest.mark.parametrize("kind", [MtPolicyd, Postfwd2, QuotaStatus])
def test_few_workers_and_many_clients(folder: Path, kind: type[FewWorkers], keys: str) -> None:
    """12 smtpds ask a service with 5 workers, with no options at all and with max=: no defaults, nobody starves.

    Without max= all five may be ours by the time another client comes; one that was there keeps its worker.
    """
    with (
        kind(folder) as service,
        Daemon("-s", f"A={service.address}{keys}", "-d", "DEFER none") as daemon,
    ):
        others = Smtpds(service.address, service.action, 1)
        others.wait_answers(0)
        smtpds = Smtpds(daemon.address, service.action, SMTPDS)
        time.sleep(SECONDS)
        smtpds.wait_answers(100)
        others.wait_answers(others.answered + 10)  # while ours go on asking
        smtpds.stop()
        others.stop()
        while_idle = Smtpds(service.address, service.action, 1)
        while_idle.wait_answers(10)
        while_idle.stop()
        assert (0, 0, 0) == (smtpds.defaulted, others.defaulted, while_idle.defaulted)
        assert [] == daemon.events_of("request.defaulted")


def test_few_workers_that_pause(folder: Path) -> None:
    """mtpolicyd stands still for a second: its mails wait, and nobody is to blame."""
    with (
        MtPolicyd(folder) as service,
        Daemon("-s", f"MT={service.address}:::5", "-d", "DEFER none") as daemon,
    ):
        smtpds = Smtpds(daemon.address, service.action, SMTPDS)
        smtpds.wait_answers(50)
        service.signal_all(signal.SIGSTOP)
        time.sleep(1)
        service.signal_all(signal.SIGCONT)
        smtpds.wait_answers(smtpds.answered + 50)
        smtpds.stop()
        others = Smtpds(service.address, service.action, 1)
        others.wait_answers(10)  # our idle connections made room for it
        others.stop()
        assert (0, 0) == (smtpds.defaulted, others.defaulted)
        assert [] == daemon.events_of("request.defaulted") + daemon.events_of("service.down")
