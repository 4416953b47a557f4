"""The control server: junk answered, nobody able to hold it up."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import pytest

from hapolicy.admin.control import server as control
from hapolicy.admin.control.protocol import ORDER_MAX_BYTES
from hapolicy.admin.control.server import CLIENTS_MAX
from hapolicy.admin.operations import Operations
from tests.admin.controlled import Control, replies, status_of
from tests.support.capture import Capture
from tests.support.procs import wait_until


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
