"""The control socket in the daemon: who may give orders, and the conversation with those who do.

`protocol` says how a line looks, `handlers` which orders there are. Root, the daemon's own user, and members of the
group that the socket's file has get in (`peer`). A line that is no order gets an error, and the next one is read; one
that is too long ends the conversation. Lines, conversations and silences are bounded, so whoever gets in can waste
their own time only.
"""

from __future__ import annotations

import _thread
import os
import socket
import threading
import time
from typing import Any

from hapolicy.admin.control.handlers import Result, command_of
from hapolicy.admin.control.peer import Peer, group_of, may_order, peer_of
from hapolicy.admin.control.protocol import ORDER_MAX_BYTES, Code, Order, OrderError, error_line, order_of, result_line
from hapolicy.admin.operations import Operations
from hapolicy.core import events
from hapolicy.log.eventlog import EventLog
from hapolicy.log.render import VALUE_MAX_CHARACTERS
from hapolicy.net.accept import AcceptServer

# A few operators, their scripts, and a --watch or two on every screen.
CLIENTS_MAX = 16

# For a whole order, counted from the last reply. hapolicyctl sends at once; a person with nc may think for a while.
IDLE_MAX_S = 60.0

# How long a reply may wait for its reader.
_SEND_MAX_S = 10.0

_RECEIVE_BYTES = 65_536


class ControlServer(AcceptServer):
    """Takes orders on one listening unix socket that somebody else has opened, each client on a thread of its own."""

    thread_name = "control"

    def __init__(self, listening: socket.socket, operations: Operations, log: EventLog) -> None:
        super().__init__(listening, log)
        self.operations = operations
        self._places = threading.BoundedSemaphore(CLIENTS_MAX)

    def admits(self, request: Any, client_address: Any) -> bool:
        """Whether this client may give orders and there is room for it; who may not is told so."""
        try:
            peer = peer_of(request)
        except OSError:
            return False
        try:
            self._admit(peer)
        except OrderError as error:
            self.log.emit(events.CONTROL_REJECTED(uid=peer.uid, pid=peer.pid, reason=str(error)))
            _tell_and_leave(request, error)
            return False
        return True

    def _admit(self, peer: Peer) -> None:
        """Give `peer` a place. Raises `OrderError`."""
        if not may_order(peer, os.geteuid(), group_of(self.socket)):
            text = (
                f"uid {peer.uid} is not allowed; only root, the daemon's user, and the group of the control socket are"
            )
            raise OrderError(Code.DENIED, text)
        if not self._places.acquire(blocking=False):
            raise OrderError(Code.BUSY, f"{CLIENTS_MAX} others are connected, which is the limit")

    def serve(self, sock: socket.socket, peer: str) -> None:
        """Start the client's thread."""
        try:
            # Not threading.Thread: its start() waits until the new thread runs, for ever if that dies before.
            _thread.start_new_thread(self._converse, (sock,))
        except RuntimeError:  # no more threads
            self._places.release()
            sock.close()

    def _converse(self, sock: socket.socket) -> None:
        try:
            _Conversation(sock, self).run()
        except Exception:  # noqa: BLE001 - must neither go unheard nor take more than this conversation along
            self.log.fault()
        finally:
            sock.close()
            self._places.release()


class _Conversation:
    """One client: orders and replies, until it ends or is silent for too long."""

    def __init__(self, sock: socket.socket, server: ControlServer) -> None:
        self.request = sock
        self.server = server
        self._buffer = b""

    def run(self) -> None:
        """Reply to each line. Raises nothing that a client could cause."""
        try:
            while (line := self._next_line()) is not None:
                self._send(self._reply(line))
        except OrderError as error:
            _tell_and_leave(self.request, error)
        except OSError:
            pass  # gone, or it does not read

    def _next_line(self) -> bytes | None:
        """The next line, None when the client has ended or is silent. Raises `OrderError` where no line can follow."""
        complete_by = time.monotonic() + IDLE_MAX_S
        while b"\n" not in self._buffer:
            if len(self._buffer) > ORDER_MAX_BYTES:
                raise OrderError(Code.MALFORMED, f"longer than {ORDER_MAX_BYTES} bytes")
            data = self._receive(complete_by - time.monotonic())
            if data:
                self._buffer += data
            elif self._buffer:
                raise OrderError(Code.MALFORMED, "cut off: a newline ends an order")
            else:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _receive(self, timeout_s: float) -> bytes:
        if timeout_s <= 0:
            return b""
        self.request.settimeout(timeout_s)
        try:
            return self.request.recv(_RECEIVE_BYTES)
        except TimeoutError:
            return b""

    def _send(self, reply: bytes) -> None:
        self.request.settimeout(_SEND_MAX_S)
        self.request.sendall(reply)

    def _reply(self, line: bytes) -> bytes:
        try:
            return result_line(self._carry_out(order_of(line)))
        except OrderError as error:
            return error_line(error)
        except Exception:  # noqa: BLE001 - the outermost guard
            self.server.log.fault()
            return error_line(OrderError(Code.INTERNAL, "a fault of the daemon; see daemon.error in its log"))

    def _carry_out(self, order: Order) -> Result:
        command = command_of(order)
        if not command.changes:
            return command.carry_out(self.server.operations, order.arguments)
        peer, log = peer_of(self.request), self.server.log
        words = " ".join(map(str, [order.command, *order.arguments.values()]))
        given = {"command": _shortened(words), "uid": peer.uid, "pid": peer.pid}
        log.emit(events.CONTROL_ORDERED(**given))
        try:
            return command.carry_out(self.server.operations, order.arguments)
        except OrderError as error:
            log.emit(events.CONTROL_REFUSED(**given, reason=_shortened(str(error))))
            raise


def _shortened(text: str) -> str:
    """What the log would keep of it: an order may be far longer, and thousands may wait for a log that is stalled."""
    return text[:VALUE_MAX_CHARACTERS]


def _tell_and_leave(request: socket.socket, error: OrderError) -> None:
    """A last word, which must not hold up anyone."""
    try:
        request.setblocking(False)
        request.send(error_line(error))
    except OSError:
        pass
