"""Serving the one client on stdin and stdout: Postfix spawn(8), inetd, a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

from hapolicy.admin.status import log_status
from hapolicy.config.settings import Settings
from hapolicy.core.events import Level
from hapolicy.daemon.process import LOG_CLOSE_S, STOP_SIGNALS, stdin_is_connected_socket, tell_warnings
from hapolicy.log.events import EventLog
from hapolicy.proxy.channel import Channel, PipeChannel, SocketChannel
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.session import Session


def serve_stdio(settings: Settings, log: EventLog) -> None:
    """Serve until the client ends; SIGTERM and SIGINT let its request in flight finish."""
    with contextlib.ExitStack() as stack:
        pool = Pool(settings, log)
        session = Session(_channel(stack), lambda: pool.relay, log, "stdin")
        _handle_signals(session)
        threading.Thread(target=_tell_status, args=(pool,), name="status", daemon=True).start()
        # Each client has a process of its own: as warnings, the same few lines would come with every connection.
        tell_warnings(settings.warnings, log, Level.DEBUG)
        pool.watch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        session.run()
        pool.stop()
    log.close(LOG_CLOSE_S)


def _channel(stack: contextlib.ExitStack) -> Channel:
    if not stdin_is_connected_socket():
        return PipeChannel(0, 1)
    sock = stack.enter_context(socket.socket(fileno=os.dup(0)))
    sock.setblocking(True)
    return SocketChannel(sock)


def _handle_signals(session: Session) -> None:
    for stop in STOP_SIGNALS:
        signal.signal(stop, lambda *_: session.finish())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the next client has a process of its own


def _tell_status(pool: Pool) -> None:
    """On SIGUSR1, from a thread: a handler interrupts a request at any line, perhaps one that holds a lock it needs."""
    while True:
        signal.sigwait([signal.SIGUSR1])
        log_status(pool)
