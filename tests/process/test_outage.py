"""Services that hang, die and come back under load: nothing lost, nobody kept waiting, no guinea pigs."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hapolicy.core.silence import SILENT_UNKNOWN_S
from tests.support.client import Load, PolicyClient
from tests.support.daemon import Daemon
from tests.support.procs import SLACK_S, wait_until
from tests.support.sample import Sample
from tests.support.web import WebDaemon

COOLDOWN_S, COOLDOWN_MAX_S = 0.5, 1.0
COOLDOWN = ["--cooldown", str(COOLDOWN_S), "--cooldown-max", str(COOLDOWN_MAX_S)]


def test_a_hung_service_costs_one_timeout_and_comes_back_by_a_probe() -> None:
    """Must show 2: SIGSTOP under load costs requests in flight one timeout, later ones nothing; SIGCONT heals."""
    timeout_s = 1.0
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(f"::1:{timeout_s}"), "-s", b.service(f"::1:{timeout_s}"), *COOLDOWN) as daemon,
        Load(daemon.address, 16, pause_s=0.005) as load,
    ):
        load.wait_answered(500)
        a.pause()
        daemon.wait_event("service.down", service="A", kind="answer_timeout")
        down = time.monotonic()
        daemon.wait_event("service.probe_failed", service="A", kind="answer_timeout")
        load.wait_answered(500)
        live_failures = len(daemon.events_of("service.failed", service="A"))
        a.resume()
        resumed = time.monotonic()
        up = daemon.wait_event("service.up", service="A")
        back_s = time.monotonic() - resumed
        answered_by_a = load.tally.names["A"]
        wait_until(lambda: load.tally.names["A"] > answered_by_a + 100, "answers of the recovered service")
        load.check()
        assert load.tally.slowest_s() < timeout_s + SLACK_S
        assert load.tally.slowest_s(since=down) < SLACK_S
        assert back_s < COOLDOWN_MAX_S * 1.1 + 2
        assert up["down_s"] >= COOLDOWN_S * 0.9
        # No live request was the trial: what failed did so before the recovery began, and one a client at most.
        assert live_failures == len(daemon.events_of("service.failed", service="A")) <= 16
        assert any(instance.startswith("hapolicy") for instance in a.stats()["instances"])
        assert [] == daemon.events_of("service.down", service="B") + daemon.events_of("request.defaulted")


def test_no_mail_waits_for_a_hung_service() -> None:
    """Long before its timeout is over its mails are asked of its equal, too, and newcomers go there."""
    timeout_s, last_s = 4.0, 3.0
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(f":::{timeout_s}"), "-s", b.service(f":::{timeout_s}")) as daemon,
        ThreadPoolExecutor(64) as mails,
    ):

        def mail(_: int) -> tuple[float, float]:
            sent = time.monotonic()
            with PolicyClient(daemon.address) as client:
                assert client.ask().startswith("DUNNO")
            return sent, time.monotonic() - sent

        a.pause()
        hung = time.monotonic()
        asked = []
        while time.monotonic() < hung + last_s:
            asked.append(mails.submit(mail, 0))
            time.sleep(0.05)
        waits = [(sent - hung, wait_s) for sent, wait_s in (one.result() for one in asked)]
        newcomers = [wait_s for sent_s, wait_s in waits if sent_s > SILENT_UNKNOWN_S + SLACK_S]
        assert max(wait_s for _, wait_s in waits) < SILENT_UNKNOWN_S + SLACK_S  # they were asked of B, too
        assert len(newcomers) > 10
        assert max(newcomers) < SLACK_S
        assert [] == daemon.events_of("request.defaulted")


def test_kill_9_of_one_of_two_services_loses_nothing() -> None:
    """Must show 3: under 32 busy connections each request gets an answer that is its own, before and after."""
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(), "-s", b.service(), *COOLDOWN) as daemon,
        Load(daemon.address, 32) as load,
    ):
        for nth in range(1, 4):
            load.wait_answered(1000)
            a.kill()
            daemon.wait_event("service.down", nth=nth, service="A")
            load.wait_answered(1000)
            a.start()
            daemon.wait_event("service.up", nth=nth, service="A")
        load.wait_answered(1000)
        load.check()
        assert [] == daemon.events_of("request.defaulted") + daemon.events_of("service.failed", service="B")
        assert min(load.tally.names["A"], load.tally.names["B"]) > 500
        assert load.tally.slowest_s() < 1 + SLACK_S


@pytest.mark.parametrize("probe", ["query", "tcp", "off"])
def test_a_service_recovers_with_every_kind_of_probe(probe: str) -> None:
    """A service that was stopped and goes on is asked again within its cooldown, with no request unanswered."""
    timeout_s = 0.3
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(f":1:1:{timeout_s}"), "-s", b.service(":2"), "--probe", probe, *COOLDOWN) as daemon,
        Load(daemon.address, 4, pause_s=0.01, hosts=True) as load,  # without query probes each of three counts once
    ):
        load.wait_answered(50)
        a.pause()
        daemon.wait_event("service.down", service="A")
        a.resume()
        resumed = time.monotonic()
        daemon.wait_event("service.up", service="A")
        before = load.tally.names["A"]
        wait_until(lambda: load.tally.names["A"] > before + 20, "answers of the recovered service")
        assert time.monotonic() - resumed < COOLDOWN_MAX_S * 1.1 + 2
        load.check()
        instances = a.stats()["instances"]
        assert (probe == "query") == any(name.startswith("hapolicy") for name in instances)


def test_with_probe_off_one_live_request_is_the_trial() -> None:
    """One request waits for a service that still hangs; the others go to the next one at once."""
    timeout_s = 1.0
    with (
        Sample("A", "--fault", "hang") as a,
        Sample("B") as b,
        Daemon(
            *("-s", a.service(f":1:1:{timeout_s}"), "-s", b.service(":2"), "--fail-max", "1"),
            *("--probe", "off", "--cooldown", "0.3", "--cooldown-max", "60"),
        ) as daemon,
    ):
        with PolicyClient(daemon.address) as client:
            client.ask()
        daemon.wait_event("service.down", service="A")
        with Load(daemon.address, 8, pause_s=0.01) as load:
            failed = daemon.wait_event("service.probe_failed", service="A")
        assert "answer_timeout" == failed["kind"]
        assert 0.54 <= failed["cooldown_s"] <= 0.66
        load.check()
        assert 2 == a.stats()["requests"]


@pytest.mark.parametrize("probe", ["query", "off"])
def test_an_outage_is_the_same_in_the_log_the_metrics_and_readyz(probe: str) -> None:
    """Only that with --probe off the daemon is ready once a cooldown is over: a request is what may end the outage."""
    options = ["--fail-max", "1", "--cooldown", "0.3", "--cooldown-max", "0.3", "--probe", probe, "-d", "DEFER x"]
    with (
        Sample("A", "--fault", "refuse") as a,
        Sample("B", "--fault", "refuse") as b,
        WebDaemon("-s", a.service(":1"), "-s", b.service(":2"), *options) as daemon,
        PolicyClient(daemon.address) as client,
    ):

        def up() -> int:
            return daemon.get("/metrics").body.count(b'state="up"} 1.0')

        assert (2, 200) == (up(), daemon.get("/readyz").status)
        client.ask()
        down = daemon.wait_event("pool.down")
        assert ("error", "DEFER x", ["A", "B"]) == (down["level"], down["action"], sorted(down["services"]))
        wait_until(lambda: up() == 0, "metrics of the outage, which may be a second old")
        wait_until(lambda: daemon.get("/readyz").status == (503 if probe == "query" else 200), "the right readiness")
        assert (0, []) == (up(), daemon.events_of("pool.up"))
        b.fault("none")
        wait_until(lambda: client.ask() and daemon.events_of("pool.up"), "the end of the outage")
        wait_until(lambda: daemon.get("/readyz").status == 200, "readiness again")
        wait_until(lambda: up() == 1, "metrics of its end")
    assert 1 == len(daemon.events_of("pool.down")) == len(daemon.events_of("pool.up"))


def test_cooldown_grows_up_to_its_limit() -> None:
    """Each failed probe doubles the cooldown, within a tenth, to --cooldown-max at most; an idle daemon probes too."""
    with (
        Sample("A") as a,
        Daemon("-s", a.service(), "--fail-max", "1", "--cooldown", "0.2", "--cooldown-max", "1") as d,
    ):
        with PolicyClient(d.address) as client:
            a.fault("refuse")
            client.ask()
        cooldowns = [d.wait_event("service.down", service="A")["cooldown_s"]]
        cooldowns += [d.wait_event("service.probe_failed", nth=nth, service="A")["cooldown_s"] for nth in range(1, 5)]
        for expected, cooldown_s in zip([0.2, 0.4, 0.8, 1.0, 1.0], cooldowns, strict=True):
            # The log rounds to milliseconds: 0.36, which is less than 0.9 * 0.4.
            assert round(0.9 * expected, 3) <= cooldown_s <= round(1.1 * expected, 3)
        a.fault("none")
        d.wait_event("service.up", service="A")


def test_a_hung_probe_delays_no_other_service() -> None:
    """While the probe of one service hangs, another service is found well again."""
    fields = "::1:5"
    with (
        Sample("A", "--fault", "refuse") as a,
        Sample("B", "--fault", "refuse") as b,
        Daemon("-s", a.service(fields), "-s", b.service(fields), "--fail-max", "1", *COOLDOWN) as daemon,
    ):
        with PolicyClient(daemon.address) as client:
            client.ask()
        for name in ("A", "B"):
            daemon.wait_event("service.down", service=name)
        a.fault("hang")
        wait_until(lambda: a.stats()["requests"], "a probe at the hung service")
        b.fault("none")
        daemon.wait_event("service.up", service="B", timeout_s=COOLDOWN_MAX_S * 1.1 + 2)


def test_a_pause_of_hapolicy_is_no_services_fault() -> None:
    """What had answered while hapolicy stood still is read first, however many turns that takes, and then the clock."""
    timeout_s, clients = 4.0, 200  # more answers than one turn reads; and time for all to be asked on a busy machine
    asked_s = timeout_s / 4
    with (
        Sample("A") as a,
        Daemon("-s", a.service(f":::{timeout_s}"), "--hedge", "off") as daemon,
        ThreadPoolExecutor(clients) as mails,
    ):
        a.fault("slow", asked_s)

        def mail(_: int) -> str:
            with PolicyClient(daemon.address) as client:
                return client.ask()

        asked = [mails.submit(mail, number) for number in range(clients)]
        wait_until(lambda: a.stats()["requests"] >= clients, "all requests at the service")
        daemon.signal(signal.SIGSTOP)
        time.sleep(1.2 * timeout_s)
        daemon.signal(signal.SIGCONT)
        assert {"DUNNO"} == {answer.result().split()[0] for answer in asked}
        assert [] == daemon.events_of("service.failed") + daemon.events_of("request.defaulted")
