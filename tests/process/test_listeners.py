"""Where hapolicy listens, and to how many."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import CLIENT_TIMEOUT_S, PolicyClient, request
from tests.support.daemon import Daemon
from tests.support.sample import Sample


def has_ipv6() -> bool:
    """Whether this host has ::1."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.fixture(scope="module")
def sample() -> Iterator[Sample]:
    """A service that is well."""
    with Sample("A") as sample:
        yield sample


def test_several_listeners_of_every_kind(sample: Sample, tmp_path: Path) -> None:
    """TCP and unix listeners serve at the same time; the started event names their real addresses."""
    path = tmp_path / "sock"
    with Daemon("-s", sample.service(), "--listen", "127.0.0.1:0", "--listen", f"unix:{path}:0660") as daemon:
        tcp, unix = daemon.addresses
        assert f"unix:{path}" == unix
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)
        for address in (tcp, unix):
            with PolicyClient(address) as client:
                assert "DUNNO A here" == client.ask(instance="here")


def test_a_stale_socket_file_is_replaced(sample: Sample, tmp_path: Path) -> None:
    """A socket file that nobody listens on, left by a kill -9, does not stop the next start."""
    path = tmp_path / "sock"
    arguments = ["-s", sample.service(), "--listen", f"unix:{path}"]
    Daemon(*arguments).kill()
    assert path.is_socket()
    with Daemon(*arguments) as daemon, PolicyClient(daemon.address) as client:
        assert "DUNNO A again" == client.ask(instance="again")
    assert not path.exists()


@pytest.mark.skipif(not has_ipv6(), reason="this host has no ::1")
def test_ipv6_listener_and_service() -> None:
    """Both sides may be IPv6."""
    with (
        Sample("A", listen="[::1]:0") as sample,
        Daemon("-s", sample.service(), "--listen", "[::1]:0") as daemon,
        PolicyClient(daemon.address) as client,
    ):
        assert daemon.address.startswith("[::1]:")
        assert "DUNNO A six" == client.ask(instance="six")


def test_an_open_listener_needs_and_takes_allow(sample: Sample) -> None:
    """With --allow hapolicy listens beyond loopback."""
    with Daemon("-s", sample.service(), "--listen", "0.0.0.0:0", "--allow", "192.0.2.0/24") as daemon:
        port = daemon.address.rpartition(":")[2]
        with PolicyClient(f"127.0.0.1:{port}") as client:
            assert "DUNNO A local" == client.ask(instance="local")


def test_a_full_house_lets_clients_wait(sample: Sample) -> None:
    """At --max-clients nobody more is accepted, which is said once; who waits is served when one leaves."""
    with Daemon("-s", sample.service(), "--max-clients", "2") as daemon, contextlib.ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(PolicyClient(daemon.address)) for _ in range(4))
        assert ["DUNNO A 1", "DUNNO A 2"] == [first.ask(instance="1"), second.ask(instance="2")]
        third.send(request(instance="3"))
        fourth.send(request(instance="4"))
        assert 2 == daemon.wait_event("server.full")["max_clients"]
        third.link.settimeout(0.5)
        with pytest.raises(TimeoutError):
            third.action()
        assert "DUNNO A still" == first.ask(instance="still")
        assert 1 == len(daemon.events_of("server.full"))
        first.close()
        third.link.settimeout(CLIENT_TIMEOUT_S)
        assert "DUNNO A 3" == third.action()
        second.close()
        assert "DUNNO A 4" == fourth.action()


def test_many_clients_come_at_once(sample: Sample) -> None:
    """A hundred clients that connect at the same time and stay are all answered."""
    with Daemon("-s", sample.service()) as daemon:
        clients = [PolicyClient(daemon.address) for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(request(instance=str(number)))
        assert [f"DUNNO A {number}" for number in range(100)] == [client.action() for client in clients]
        for client in clients:
            client.close()
