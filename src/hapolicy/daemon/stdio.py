"""Serving the one client on stdin and stdout: Postfix spawn(8), inetd, a shell."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time

from hapolicy.config.settings import Settings
from hapolicy.core.event import Level
from hapolicy.daemon.process import (
    CLIENT_GONE,
    HANDLED_SIGNALS,
    LOG_CLOSE_S,
    STOP_SIGNALS,
    stdin_is_connected_socket,
    tell_status,
    tell_warnings,
)
from hapolicy.log.eventlog import EventLog
from hapolicy.log.sinks import is_client
from hapolicy.proxy.pool import Pool

_COPY_BYTES = 65_536
_POLL_S = 0.02


def serve_stdio(settings: Settings, log: EventLog) -> None:
    """Serve until the client ends; SIGTERM and SIGINT let its request in flight finish."""
    _keep_stderr_from_client()
    pool = Pool(settings, log, on_empty=lambda: os.kill(os.getpid(), CLIENT_GONE))
    # Each client has a process of its own: as warnings, the same few lines would come with every connection.
    if log.level <= Level.DEBUG:
        tell_warnings(settings.warnings, log)
    pool.start()
    writer = _hand_over(pool)
    told_to_stop = _serve(pool, log)
    if writer is not None:
        _wait_until_written(writer, LOG_CLOSE_S if told_to_stop else math.inf)
    pool.stop()
    log.close(LOG_CLOSE_S)


def _keep_stderr_from_client() -> None:
    """Nothing is written there any more; Python itself would, about a thread that dies, into the answers."""
    if is_client(2):
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)


def _serve(pool: Pool, log: EventLog) -> bool:
    """Wait until the client has ended; returns whether a signal has told us to stop before."""
    while (received := signal.sigwait([*HANDLED_SIGNALS, CLIENT_GONE])) != CLIENT_GONE:
        if received == signal.SIGUSR1:
            tell_status(pool, log)
        elif received in STOP_SIGNALS:
            _drain(pool)
            return True
    return False


def _drain(pool: Pool) -> None:
    """Wait for the request in flight; a second SIGTERM or SIGINT ends the wait."""
    pool.finish()
    give_up_at = time.monotonic() + pool.settings.drain_s
    while pool.clients and time.monotonic() < give_up_at:
        if signal.sigtimedwait([*STOP_SIGNALS, CLIENT_GONE], _POLL_S):
            return


def _hand_over(pool: Pool) -> threading.Thread | None:
    """Give the client to the worker. What is no socket is copied to one: epoll takes neither files nor all terminals.

    Returns the thread that writes to stdout, if there is one.
    """
    if stdin_is_connected_socket():
        pool.hand_over(socket.socket(fileno=os.dup(0)), "stdin")
        return None
    ours, theirs = socket.socketpair()
    threading.Thread(target=_copy_in, args=(theirs,), name="stdin", daemon=True).start()
    writer = threading.Thread(target=_copy_out, args=(theirs,), name="stdout", daemon=True)
    writer.start()
    pool.hand_over(ours, "stdin")
    return writer


def _wait_until_written(writer: threading.Thread, patience_s: float) -> None:
    """The reader of a pipe may take its time, and is owed all answers; SIGTERM and SIGINT end the wait."""
    give_up_at = time.monotonic() + patience_s
    while writer.is_alive() and time.monotonic() < give_up_at and not signal.sigtimedwait(STOP_SIGNALS, 0):
        writer.join(_POLL_S)


def _copy_in(to: socket.socket) -> None:
    with contextlib.suppress(OSError):  # what cannot be read has ended, too
        # Python has no stdin where that was closed at the start; its number is another file's by now.
        while sys.stdin and (data := os.read(0, _COPY_BYTES)):
            to.sendall(data)
    with contextlib.suppress(OSError):  # the worker has parted with the client
        to.shutdown(socket.SHUT_WR)


def _copy_out(source: socket.socket) -> None:
    try:
        while data := source.recv(_COPY_BYTES):
            while data:
                data = data[os.write(1, data) :]
    except OSError:  # nobody reads
        with contextlib.suppress(OSError):
            # The worker sees the end of its client. Closing would not do while the other thread sends.
            source.shutdown(socket.SHUT_RDWR)
