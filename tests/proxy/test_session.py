"""One client's connection: what it gets, what it is shown the door for, and how it ends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hapolicy.core.events import Level
from hapolicy.log.events import EventLog
from hapolicy.proxy import session as room
from hapolicy.proxy.channel import SocketChannel
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.relay import Relay
from hapolicy.proxy.session import Session
from tests.proxy.scripted import REQUEST, Scripted, hang, refusing, well
from tests.support.capture import Capture
from tests.support.fixtures import MakePool
from tests.support.procs import SLACK_S, wait_until

Converse = Callable[[Pool], contextlib.AbstractContextManager["Client"]]


class Client:
    """The client's end of a session that runs on a thread."""

    def __init__(self, pool: Pool, log: EventLog) -> None:
        self.sock, self._theirs = socket.socketpair()
        self.sock.settimeout(10)
        self.pool = pool
        self.session = Session(SocketChannel(self._theirs), lambda: self.pool.relay, log, "peer:1")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._theirs:
            self.session.run()

    def send(self, *instances: str) -> None:
        """Send requests in one go."""
        self.sock.sendall(b"".join(REQUEST % instance.encode() for instance in instances))

    def actions(self, count: int) -> list[str]:
        """The next answers' actions."""
        data = b""
        while data.count(b"\n\n") < count:
            more = self.sock.recv(65_536)
            assert more, f"closed after {data!r}"
            data += more
        return [answer.removeprefix("action=") for answer in data.decode().split("\n\n")[:-1]]

    def rest(self) -> bytes:
        """All that comes until the session ends."""
        data = b""
        while more := self.sock.recv(65_536):
            data += more
        return data

    def wait_over(self) -> None:
        """Until the session has ended by itself."""
        self._thread.join(10)
        assert not self._thread.is_alive()

    def close(self) -> None:
        """The client goes."""
        self.sock.close()
        self.wait_over()


@pytest.fixture
def converse(log: EventLog) -> Converse:
    """Begins sessions."""

    @contextlib.contextmanager
    def converse(pool: Pool) -> Iterator[Client]:
        client = Client(pool, log)
        try:
            yield client
        finally:
            client.close()

    return converse


@pytest.fixture
def echo(make_pool: MakePool) -> Iterator[Pool]:
    """A pool of one service that answers each request with its instance."""
    with Scripted(well("{instance}")) as service:
        yield make_pool(f"A={service.address}")


def test_pipelined_requests_are_answered_in_order(converse: Converse, echo: Pool) -> None:
    """One answer a request, whatever the pieces."""
    instances = [str(number) for number in range(100)]
    with converse(echo) as client:
        client.send(*instances)
        assert instances == client.actions(100)
        for byte in REQUEST % b"bytewise":
            client.sock.sendall(bytes([byte]))
        assert ["bytewise"] == client.actions(1)


def test_the_client_ends(converse: Converse, echo: Pool, capture: Capture) -> None:
    """What it asked is answered first; that it ends is no event."""
    with converse(echo) as client:
        client.send("last")
        client.sock.shutdown(socket.SHUT_WR)
        assert b"action=last\n\n" == client.rest()
        client.wait_over()
    assert [] == capture.close()


def test_nonsense_is_rejected(converse: Converse, echo: Pool, capture: Capture) -> None:
    """What came before it is answered; then the reason is logged, nothing is said, and the session ends."""
    with converse(echo) as client:
        client.sock.sendall(REQUEST % b"whole" + b"GET / HTTP/1.1\r\n")
        assert b"action=whole\n\n" == client.rest()
    event = capture.wait("client.rejected")
    assert ("warning", "peer:1") == (event["level"], event["client"])
    assert "not name=value" in event["reason"]


def test_a_request_that_is_cut_off(converse: Converse, echo: Pool, capture: Capture) -> None:
    """A client that ends amid a request is said so."""
    with converse(echo) as client:
        client.sock.sendall(REQUEST[:20])
        client.sock.shutdown(socket.SHUT_WR)
        assert b"" == client.rest()
    assert "request cut off" == capture.wait("client.rejected")["reason"]


@pytest.mark.parametrize("drip", [False, True])
def test_a_request_must_be_complete_in_time(
    converse: Converse, echo: Pool, capture: Capture, monkeypatch: pytest.MonkeyPatch, drip: bool
) -> None:
    """From its first byte on, not from its last; silence before and between requests is none."""
    monkeypatch.setattr(room, "REQUEST_MAX_S", 0.3)
    with converse(echo) as client:
        time.sleep(0.4)  # longer than a request may take
        client.send("first")
        assert ["first"] == client.actions(1)
        time.sleep(0.4)
        start = time.monotonic()
        client.sock.sendall(b"request=")
        client.sock.settimeout(0.05 if drip else 10)
        while True:
            try:
                assert b"" == client.sock.recv(100)
                break
            except TimeoutError:
                client.sock.sendall(b"x")
        assert 0.29 <= time.monotonic() - start < 0.3 + SLACK_S
    assert "not complete 0.3 s after its first byte" in capture.wait("client.rejected")["reason"]


def test_a_slow_service_is_not_the_clients_fault(
    converse: Converse, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that came in part while another one was answered has its whole time from then on."""
    monkeypatch.setattr(room, "REQUEST_MAX_S", 0.3)
    with Scripted(hang) as service, converse(make_pool(f"A={service.address}:::0.5")) as client:
        client.sock.sendall(REQUEST % b"1" + REQUEST[:20])
        assert ["dunno"] == client.actions(1)
        client.sock.sendall(REQUEST[20:])
        assert ["dunno"] == client.actions(1)


def test_an_internal_error_still_has_an_answer(
    converse: Converse, echo: Pool, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours gives the default action and a loud event; the session goes on."""
    original = Relay.answer

    def fail(*_: object) -> bytes:
        raise ZeroDivisionError("a fault of ours")

    with converse(echo) as client:
        monkeypatch.setattr(Relay, "answer", fail)
        client.send("1", "2")
        assert ["dunno", "dunno"] == client.actions(2)
        monkeypatch.setattr(Relay, "answer", original)
        client.send("3")
        assert ["3"] == client.actions(1)
    event = capture.wait("daemon.error", nth=2)
    assert "error" == event["level"]
    assert "ZeroDivisionError: a fault of ours" in event["error"]


def test_an_internal_error_in_a_room_below(
    converse: Converse, echo: Pool, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same when the exchange itself has a fault: answered, told, and the service not charged."""
    with converse(echo) as client:
        monkeypatch.setattr("hapolicy.net.link.AnswerReader", None)
        client.send(*"123456")
        assert ["dunno"] * 6 == client.actions(6)
        monkeypatch.undo()
        client.send("7")
        assert ["7"] == client.actions(1)
    capture.wait("daemon.error", nth=6)


def test_an_internal_error_says_what_it_was(
    capture: Capture, converse: Converse, echo: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long traceback the end is kept, where the error is."""

    def fail(*arguments: object) -> bytes:
        if len(arguments) < 20:
            return fail(*arguments, "one more line of the traceback")
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Relay, "answer", fail)
    with converse(echo) as client:
        client.send("1")
        assert ["dunno"] == client.actions(1)
    assert "ZeroDivisionError: a fault of ours" in capture.wait("daemon.error")["error"]


def test_one_mail_one_service(converse: Converse, make_pool: MakePool) -> None:
    """Requests of one instance stay together on a connection, and only on it."""
    with Scripted(well("a")) as a, Scripted(well("b")) as b:
        pool = make_pool(f"A={a.address}", f"B={b.address}")
        with converse(pool) as first, converse(pool) as second:
            for client, expected in ((first, "a"), (second, "b")):
                client.send("mail", "mail", "mail")
                assert [expected] * 3 == client.actions(3)
            first.send("mail")
            assert ["a"] == first.actions(1)


def test_a_running_session_asks_the_new_pool(converse: Converse, echo: Pool, make_pool: MakePool) -> None:
    """After a reload the next request goes by the new configuration, in mid-mail too."""
    with Scripted(well("new")) as service, converse(echo) as client:
        client.send("1")
        assert ["1"] == client.actions(1)
        client.pool = make_pool(f"B={service.address}")
        client.send("1")
        assert ["new"] == client.actions(1)


def test_finish_while_idle(converse: Converse, echo: Pool, capture: Capture) -> None:
    """An idle session ends at once, and that is no event."""
    with converse(echo) as client:
        client.send("1")
        assert ["1"] == client.actions(1)
        client.session.finish()
        assert b"" == client.rest()
        client.wait_over()
    assert [] == capture.close()


def test_finish_while_a_request_is_in_flight(converse: Converse, make_pool: MakePool) -> None:
    """It is answered first."""
    with Scripted(hang) as service, converse(make_pool(f"A={service.address}:::0.4")) as client:
        client.send("1")
        wait_until(lambda: service.requests, "the request arrives")
        assert client.session.answering_s() >= 0
        client.session.finish()
        assert b"action=dunno\n\n" == client.rest()
        assert client.session.answering_s() < 0


def test_a_client_that_has_gone(converse: Converse, make_pool: MakePool, capture: Capture) -> None:
    """Before its answer: a debug event, nothing worse."""
    capture.log.level = Level.DEBUG
    with Scripted(hang) as service:
        with converse(make_pool(f"A={service.address}:::0.3")) as client:
            client.send("1")
            wait_until(lambda: service.requests, "the request arrives")
            client.sock.close()
        assert "debug" == capture.wait("client.lost")["level"]


def test_verbose_requests_cannot_forge_an_event(converse: Converse, echo: Pool, capture: Capture) -> None:
    """Attributes named like what every event has change nothing of it."""
    capture.log.level = Level.DEBUG
    with converse(echo) as client:
        client.sock.sendall(b"level=panic\nevent=forged\ntimestamp=never\n" + REQUEST % b"1")
        assert ["1"] == client.actions(1)
    events = capture.close()
    assert {"debug"} == {event["level"] for event in events}
    assert [] == [event for event in events if event["event"] == "forged" or event["timestamp"] == "never"]


def test_all_down_takes_no_time(converse: Converse, make_pool: MakePool) -> None:
    """Requests to services that are down are answered at once."""
    with converse(make_pool(f"A={refusing()}", f"B={refusing()}")) as client:
        client.send(*"12345")
        start = time.monotonic()
        assert ["dunno"] * 5 == client.actions(5)
        assert time.monotonic() - start < SLACK_S
