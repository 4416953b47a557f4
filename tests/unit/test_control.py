"""The control server: orders carried out, junk answered, nobody able to hold it up."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hapolicy import control
from hapolicy.commands import COMMANDS
from hapolicy.control import CLIENTS_MAX, ControlServer
from hapolicy.logs import Level
from hapolicy.operations import Operations
from hapolicy.orders import ORDER_MAX_BYTES
from hapolicy.pool import Pool
from hapolicy.service import parse_service
from hapolicy.settings import Settings, SettingsError, Warnings
from tests.support.procs import PATIENCE_S, wait_until
from tests.support.recorder import Recorder
from tests.unit.capture import Capture


class Control:
    """A control server before one service, A, that answers."""

    def __init__(self, path: Path, capture: Capture, service: str) -> None:
        self.path = str(path)
        self.reloads: list[Future[Warnings]] = []
        self.pool = Pool(Settings(services=(parse_service(f"A={service}"),)), capture.log)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(64)
        operations = Operations(lambda: self.pool, lambda: (3, 7), capture.log, self._reload)
        self.server = ControlServer(self.listening, operations, capture.log)
        self.server.start()

    def _reload(self) -> Future[Warnings]:
        return self.reloads.pop()

    def connect(self) -> socket.socket:
        """A new conversation."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        sock.connect(self.path)
        return sock

    def say(self, *lines: bytes) -> list[dict[str, Any]]:
        """Send lines at once; returns all replies until the conversation ends."""
        with self.connect() as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(b"".join(lines))
                sock.shutdown(socket.SHUT_WR)
            return replies(sock)

    def order(self, command: str, **arguments: object) -> dict[str, Any]:
        """Give one order; returns the reply."""
        line = json.dumps({"v": 1, "command": command, **arguments}).encode() + b"\n"
        (reply,) = self.say(line)
        return reply

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.listening.close()
        self.pool.stop()


def replies(sock: socket.socket) -> list[dict[str, Any]]:
    """All replies until the other side ends the conversation."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := sock.recv(65536):
            data += more
    return [json.loads(line) for line in data.splitlines()]


def status_of(attribute: str, running: Control) -> Any:
    """One value of the only service's status."""
    return running.order("status")["result"]["services"][0][attribute]


@pytest.fixture
def running(tmp_path: Path, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    """A server that is ended with all its threads."""
    monkeypatch.setattr(control, "_POLL_S", 0.02)
    with Recorder() as recorder:
        running = Control(tmp_path / "sock", capture, recorder.address)
        yield running
        running.close()
    wait_until(lambda: "control" not in {thread.name for thread in threading.enumerate()}, "the accept thread's end")


def test_status(running: Control) -> None:
    """The whole status, as plain values."""
    reply = running.order("status")
    assert (1, True) == (reply["v"], reply["ok"])
    assert (3, 7, "dunno") == tuple(reply["result"][name] for name in ("clients", "max_clients", "default_action"))
    assert ("A", "up") == (reply["result"]["services"][0]["name"], reply["result"]["services"][0]["state"])


@pytest.mark.parametrize(("command", "back", "state"), [("drain", "ready", "draining"), ("trip", "reset", "down")])
def test_orders_about_a_service(running: Control, capture: Capture, command: str, back: str, state: str) -> None:
    """They are carried out, reply with the state that follows, and the log says who gave them."""
    warnings = ["no service is left: each request gets the default action dunno"]
    now = {"service": "A", "state": state, "in_flight": 0, "warnings": warnings}
    assert now == running.order(command, service="A")["result"]
    assert state == status_of("state", running)
    now = {"service": "A", "state": "up", "in_flight": 0, "warnings": []}
    assert now == running.order(back, service="A")["result"]
    assert f"{command} A" == capture.wait("control.ordered")["command"]
    assert f"{back} A" == capture.wait("control.ordered", 2)["command"]


def test_log_level(running: Control, capture: Capture) -> None:
    """The level changes; an unknown one changes nothing."""
    assert {"level": "error"} == running.order("log-level", level="error")["result"]
    assert Level.ERROR is capture.log.level
    reply = running.order("log-level", level="loud")
    assert ("refused", Level.ERROR) == (reply["code"], capture.log.level)
    assert "debug, info, warning, error" in reply["error"]


def test_reload(running: Control) -> None:
    """A reload waits for its end; a bad configuration, or none in time, is refused."""
    good: Future[Warnings] = Future()
    good.set_result((("-d x", "doubtful"),))
    bad: Future[Warnings] = Future()
    bad.set_exception(SettingsError("hapolicy.args:3: no"))
    late: Future[Warnings] = Future()
    late.set_exception(TimeoutError())
    running.reloads = [good, late, bad, good]
    assert {"services": ["A"], "warnings": ["-d x: doubtful"]} == running.order("reload")["result"]
    reply = running.order("reload")
    assert ("refused", "hapolicy.args:3: no") == (reply["code"], reply["error"])
    assert "refused" == running.order("reload")["code"]
    running.order("drain", service="A")
    assert 2 == len(running.order("reload")["result"]["warnings"]), "nor is a service left"


def test_query(running: Control) -> None:
    """A query goes the way of a request, or to one service past all."""
    attributes = {"request": "smtpd_access_policy"}
    answered = running.order("query", attributes=attributes)["result"]
    assert ("DUNNO recorded", "A") == (answered["action"], answered["service"])
    running.order("trip", service="A")
    answered = running.order("query", attributes=attributes)["result"]
    assert ("dunno", None) == (answered["action"], answered["service"])
    answered = running.order("query", attributes=attributes, service="A")["result"]
    assert ("DUNNO recorded", "A") == (answered["action"], answered["service"])
    assert answered["took_ms"] > 0


BAD_ORDERS: list[tuple[str, dict[str, object], str]] = [
    ("malformed", {"command": "stat"}, "no command 'stat'"),
    ("malformed", {"command": "status", "servce": "A"}, "unknown field: servce"),
    ("malformed", {"command": "drain"}, "field missing: service"),
    ("malformed", {"command": "drain", "service": ["A"]}, "to be a string"),
    ("refused", {"command": "drain", "service": "B\n"}, "no service 'B\\n'; there are: A"),
    ("malformed", {"command": "log-level", "level": 10}, "to be a string"),
    ("malformed", {"command": "query"}, "field missing: attributes"),
    ("malformed", {"command": "query", "attributes": {}}, "empty line"),
    ("malformed", {"command": "query", "attributes": {"request": "smtpd_access_policy"}, "service": None}, "a string"),
    ("refused", {"command": "query", "attributes": {"request": "smtpd_access_policy"}, "service": "B"}, "no service"),
]


@pytest.mark.parametrize(("code", "fields", "text"), BAD_ORDERS)
def test_a_bad_order_changes_nothing(running: Control, code: str, fields: dict[str, object], text: str) -> None:
    """It gets an error with a reason, and the next order of the same conversation is carried out."""
    bad = json.dumps({"v": 1, **fields}).encode() + b"\n"
    error, status = running.say(bad, b'{"v": 1, "command": "status"}\n')
    assert (1, False, code) == (error["v"], error["ok"], error["code"])
    assert text in error["error"]
    assert "up" == status["result"]["services"][0]["state"]


def test_every_command_is_tested() -> None:
    """A new command is to be added here, and above."""
    assert {"status", "drain", "ready", "trip", "reset", "log-level", "reload", "query"} == COMMANDS.keys()


def test_junk_gets_an_error_each_line(running: Control) -> None:
    """Binary lines, empty ones and deep nesting are answered, a good order after them is carried out."""
    junk = [b"\x00\xff\x80\n", b"\n", b"[" * 100_000 + b"\n", b'{"v": 9}\n']
    *errors, last = running.say(*junk, b'{"v": 1, "command": "status"}\n')
    assert ["malformed"] * 3 + ["version"] == [error["code"] for error in errors]
    assert last["ok"] is True


def test_a_line_without_end(running: Control) -> None:
    """A line that is too long ends the conversation with an error; the server goes on."""
    (error,) = running.say(b"x" * (ORDER_MAX_BYTES + 100_000))
    assert "malformed" == error["code"]
    assert str(ORDER_MAX_BYTES) in error["error"]
    assert "up" == status_of("state", running)


def test_no_newline(running: Control) -> None:
    """An order that is cut off is not carried out."""
    (error,) = running.say(b'{"v": 1, "command": "drain", "service": "A"}')
    assert ("malformed", "up") == (error["code"], status_of("state", running))
    assert "newline" in error["error"]


def test_an_order_in_pieces(running: Control) -> None:
    """A byte at a time is as good."""
    with running.connect() as sock:
        for byte in b'{"v": 1, "command": "log-level", "level": "info"}\n':
            sock.sendall(bytes([byte]))
        sock.shutdown(socket.SHUT_WR)
        assert [{"v": 1, "ok": True, "result": {"level": "info"}}] == replies(sock)


@pytest.mark.parametrize(("sent", "codes"), [(b"", []), (b'{"v": 1', ["malformed"])])
def test_the_silent_are_sent_away(
    running: Control, monkeypatch: pytest.MonkeyPatch, sent: bytes, codes: list[str]
) -> None:
    """Who says nothing, or does not end its line, has no place for ever."""
    monkeypatch.setattr(control, "IDLE_MAX_S", 0.2)
    with running.connect() as sock:
        sock.sendall(sent)
        assert codes == [reply["code"] for reply in replies(sock)]


def test_no_more_than_so_many(running: Control) -> None:
    """The one too many is told so and sent away; when one leaves there is room again."""
    with contextlib.ExitStack() as stack:
        here = [stack.enter_context(running.connect()) for _ in range(CLIENTS_MAX)]
        (error,) = running.say(b'{"v": 1, "command": "status"}\n')
        assert "busy" == error["code"]
        here[0].close()
        wait_until(lambda: running.order("status")["ok"], "room for one more")


def test_who_does_not_read_is_left_behind(running: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that orders without reading loses its place, and nobody else notices."""
    monkeypatch.setattr(control, "_SEND_MAX_S", 0.2)
    with running.connect() as sock:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                sock.send(b'{"v": 1, "command": "status"}\n' * 100)
        assert running.order("status")["ok"]
        wait_until(lambda: _gone(sock), "its being left")


def _gone(sock: socket.socket) -> bool:
    """Whether the other side has closed, to be asked without reading what it said."""
    try:
        sock.send(b"\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_a_stranger_is_refused(running: Control, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not is told so before anything is read, and the log says who it was."""
    monkeypatch.setattr(control, "may_order", lambda *_: False)
    (error,) = running.say(b'{"v": 1, "command": "drain", "service": "A"}\n')
    assert "denied" == error["code"]
    assert {"uid", "pid", "reason"} <= capture.wait("control.rejected").keys()
    monkeypatch.undo()
    assert "up" == status_of("state", running)


def test_a_fault_of_ours_is_told_and_survived(
    running: Control, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody foresaw is an error for the client and an event for the postmaster."""

    def fail(*_: object) -> Callable[[], None]:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Operations, "status", fail)
    assert "internal" == running.order("status")["code"]
    assert "ZeroDivisionError" in capture.wait("daemon.error")["error"]
    monkeypatch.undo()
    assert running.order("status")["ok"]
