"""Who is asked, in which order: the promises of 1.00's manual, kept exactly."""

from __future__ import annotations

import collections
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import PolicyClient, new_instance
from tests.support.daemon import Daemon
from tests.support.sample import Sample


def service_of(action: str) -> str:
    """The name of the service that gave an answer."""
    return action.split()[1]


def test_priorities_are_numbers() -> None:
    """Prio 9 is asked before prio 10 (as strings, 1.00's way, it would not be), and 10 when 9 fails."""
    with (
        Sample("TEN") as ten,
        Sample("NINE") as nine,
        Daemon("-s", ten.service(":10"), "-s", nine.service(":9")) as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert {"NINE"} == {service_of(client.ask()) for _ in range(20)}
        nine.fault("refuse")
        assert {"TEN"} == {service_of(client.ask()) for _ in range(20)}
        daemon.wait_event("service.down", service="NINE")


@pytest.mark.parametrize("weights", [("2", "1"), ("0.5", "0.25")])
def test_weights_are_exact_across_connections(weights: tuple[str, str]) -> None:
    """Of 300 requests over ten connections, taking turns, exactly two in three of any window go to the first."""
    a_weight, b_weight = weights
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(f":10:{a_weight}"), "-s", b.service(f":10:{b_weight}")) as daemon,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(PolicyClient(daemon.address)) for _ in range(10)]
        asked = [service_of(clients[number % 10].ask()) for number in range(300)]
        assert {"A": 200, "B": 100} == collections.Counter(asked)
        assert {2} == {asked[start : start + 3].count("A") for start in range(298)}
        assert (200, 100) == (a.stats()["requests"], b.stats()["requests"])


def test_weights_are_exact_under_concurrency() -> None:
    """Ten connections asking at the same time share 300 requests 2:1 to the last one."""
    with Sample("A") as a, Sample("B") as b, Daemon("-s", a.service("::2"), "-s", b.service()) as daemon:

        def ask_thirty(_: int) -> list[str]:
            with PolicyClient(daemon.address) as client:
                return [service_of(client.ask()) for _ in range(30)]

        with ThreadPoolExecutor(10) as pool:
            asked = [name for names in pool.map(ask_thirty, range(10)) for name in names]
        assert {"A": 200, "B": 100} == collections.Counter(asked)


def test_requests_of_one_mail_stay_with_one_service() -> None:
    """Same instance, same connection, same service; weights then count mails, not requests."""
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(), "-s", b.service()) as daemon,
        PolicyClient(daemon.address) as client,
    ):
        mails = [{service_of(client.ask(instance=mail)) for _ in range(5)} for mail in ("m1", "m2", "m3", "m4")]
        assert [1, 1, 1, 1] == [len(services) for services in mails]
        assert {"A": 2, "B": 2} == collections.Counter(name for services in mails for name in services)
        assert (10, 10) == (a.stats()["requests"], b.stats()["requests"])


def test_requests_without_an_instance_do_not_stick() -> None:
    """An empty instance says nothing about the mail: such requests take turns."""
    with Sample("A") as a, Sample("B") as b, Daemon("-s", a.service(), "-s", b.service()) as daemon:
        with PolicyClient(daemon.address) as client:
            asked = [client.ask(instance="").split()[1] for _ in range(10)]
        assert {"A": 5, "B": 5} == collections.Counter(asked)


def test_a_mail_whose_service_fails_moves_and_stays_moved() -> None:
    """When the service of a mail fails, the other one gets the rest of that mail."""
    with (
        Sample("A") as a,
        Sample("B") as b,
        Daemon("-s", a.service(":9"), "-s", b.service(":10")) as daemon,
        PolicyClient(daemon.address) as client,
    ):
        mail = new_instance()
        assert "A" == service_of(client.ask(instance=mail))
        a.fault("reset")
        assert "B" == service_of(client.ask(instance=mail))
        daemon.wait_event("service.down", service="A")  # a probe of its own has failed, too
        a.fault("none")
        assert "B" == service_of(client.ask(instance=mail))
        daemon.wait_event("service.up", service="A")
        assert "B" == service_of(client.ask(instance=mail))
        assert "A" == service_of(client.ask())


def test_default_action_is_sent_as_given() -> None:
    """-d is what a client gets when no service answers; without it, dunno."""
    with Sample("A", "--fault", "refuse") as a:
        for arguments, expected in (
            ([], "dunno"),
            (["-d", "DEFER_IF_PERMIT Try again"], "DEFER_IF_PERMIT Try again"),
        ):
            with Daemon("-s", a.service(), *arguments) as daemon, PolicyClient(daemon.address) as client:
                assert expected == client.ask()
                event = daemon.wait_event("request.defaulted")
                assert (expected, {"A": "refused"}) == (event["action"], event["failures"])


def test_services_on_unix_sockets_and_host_names(tmp_path: object) -> None:
    """A service may be a unix socket or a host name, not only an IPv4 address."""
    with Sample("U", listen=f"unix:{tmp_path}/u.sock") as unix, Sample("H") as host:
        named = f"H=localhost:{host.address.rpartition(':')[2]}"
        with Daemon("-s", unix.service(), "-s", named) as daemon, PolicyClient(daemon.address) as client:
            assert {"U", "H"} == {service_of(client.ask()) for _ in range(4)}
