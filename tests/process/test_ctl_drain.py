"""drain under load: at once nothing new for the service, nothing in flight lost; ready brings it back."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.process.ctl import Controlled
from tests.support.client import Load, PolicyClient, new_instance
from tests.support.procs import PATIENCE_S, wait_until
from tests.support.sample import Sample

CONNECTIONS = 32
ROUNDS = 5
DRAIN_MAX_S = 0.1  # from the order's leaving to the last new request


class NotingLoad(Load):
    """A load that notes when the last request was sent that each service answered."""

    def __init__(self, address: str, connections: int, pause_s: float = 0.0) -> None:
        super().__init__(address, connections, pause_s)
        self.last_sent: dict[str, float] = {}

    def _ask(self, client: PolicyClient) -> None:
        instance, sent = new_instance(), time.monotonic()
        name = client.ask(instance=instance).split()
        with self._lock:
            if [instance] == name[2:]:
                self.tally.names[name[1]] += 1
                self.last_sent[name[1]] = max(sent, self.last_sent.get(name[1], 0.0))
            else:
                self.tally.wrong.append(f"{instance}: {name}")


def order(daemon: Controlled, command: str, name: str) -> tuple[float, dict[str, Any]]:
    """Give an order without the time that a process takes to start; returns when it was sent, and the result."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(str(daemon.socket))
        sent = time.monotonic()
        sock.sendall(json.dumps({"v": 1, "command": command, "service": name}).encode() + b"\n")
        reply = json.loads(sock.makefile().readline())
    assert reply["ok"], reply
    return sent, reply["result"]


def quiet(sample: Sample) -> Callable[[], bool]:
    """Whether a service was not asked since this was last looked at."""
    seen = [-1]

    def look() -> bool:
        before, seen[0] = seen[0], sample.stats()["requests"]
        return before == seen[0]

    return look


def test_drain_under_load(tmp_path: Path) -> None:
    """Must show: no new request 100 ms after the order, none lost, none defaulted, and back with ready."""
    with (
        Sample("A") as a,
        Sample("B") as b,
        Controlled(tmp_path, "-s", a.service(), "-s", b.service()) as daemon,
        NotingLoad(daemon.address, CONNECTIONS) as load,
    ):
        load.wait_answered(1000)
        for _ in range(ROUNDS):
            sent, _result = order(daemon, "drain", "A")
            wait_until(lambda: time.monotonic() > sent + DRAIN_MAX_S, "the time that a drain may take")  # noqa: B023
            wait_until(quiet(a), "the service's last request")
            asked = a.stats()["requests"]
            load.wait_answered(500)
            assert asked == a.stats()["requests"]
            assert load.last_sent["A"] - sent < DRAIN_MAX_S
            _, result = order(daemon, "ready", "A")
            assert "up" == result["state"]
            wait_until(lambda: a.stats()["requests"] > asked, "the service's being asked again")  # noqa: B023
        load.wait_answered(500)
        load.check()
        assert [] == daemon.events_of("request.defaulted") + daemon.events_of("service.failed")


def test_what_is_in_flight_ends_well(tmp_path: Path) -> None:
    """A request that a drained service has is answered by it, not cut off and not asked again elsewhere."""
    with (
        Sample("A", "--fault", "slow") as a,
        Sample("B") as b,
        Controlled(tmp_path, "-s", a.service(), "-s", b.service(":20"), "--hedge", "off") as daemon,
        PolicyClient(daemon.address) as early,
        PolicyClient(daemon.address) as late,
    ):
        a.fault("slow", 0.7)
        early.send(b"request=smtpd_access_policy\ninstance=early\n\n")
        wait_until(lambda: a.stats()["requests"], "the request's arrival at the service")
        _, result = order(daemon, "drain", "A")
        assert {"service": "A", "state": "draining", "in_flight": 1, "warnings": []} == result
        assert "DUNNO B late" == late.ask(instance="late")
        assert "DUNNO A early" == early.action()
        assert ["early"] == a.stats()["instances"]
        assert 0 == daemon.service("A")["in_flight"]


def test_a_mail_under_way_moves_on(tmp_path: Path) -> None:
    """Requests of one mail stay with one service, but not with one that is drained."""
    with (
        Sample("A") as a,
        Sample("B") as b,
        Controlled(tmp_path, "-s", a.service(), "-s", b.service(":20"), "--hedge", "off") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert "DUNNO A mail" == client.ask(instance="mail")
        order(daemon, "drain", "A")
        assert "DUNNO B mail" == client.ask(instance="mail")


def test_all_drained(tmp_path: Path) -> None:
    """With nobody left to ask, the default action says so in the log: draining, not down."""
    with Sample("A") as a, Controlled(tmp_path, "-s", a.service()) as daemon, PolicyClient(daemon.address) as client:
        order(daemon, "drain", "A")
        assert "dunno" == client.ask()
        assert {"A": "draining"} == daemon.wait_event("request.defaulted")["failures"]
