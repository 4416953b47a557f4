"""The running whole: start, signals, drain, stop."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

import hapolicy
from hapolicy.channel import Channel, PipeChannel, SocketChannel
from hapolicy.listeners import ListenError, close_listeners, describe, open_listeners
from hapolicy.logs import EventLog, Level
from hapolicy.pool import Pool
from hapolicy.server import Clients, PolicyServer
from hapolicy.session import Session
from hapolicy.settings import Settings

_STOP = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_STOP, signal.SIGUSR1)

# A thousand threads that all want the GIL wake each other 200 times a second at the default 5 ms.
_SWITCH_INTERVAL_S = 0.05

# Resident is what a thread touches, 20 kB; this is address space.
_STACK_BYTES = 256 * 1024

# What may be lost of the log at the end when its sink is stalled.
_LOG_CLOSE_S = 2.0


def block_signals() -> None:
    """Leave all signals to the main thread's sigwait; call before any thread is started.

    So no signal ever interrupts a thread in a system call, and no handler runs between any two lines.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


class Daemon:
    """Serves on the listeners until told to stop."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self._settings = settings
        self._log = log
        self._pool = Pool(settings, log)
        self._clients = Clients(settings.max_clients, log)
        self._started_at = time.monotonic()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises `ListenError` when it cannot begin."""
        threading.excepthook = self._log_uncaught
        listening, warnings = open_listeners(self._settings.listeners)
        try:
            servers = [self._server(sock) for sock in listening]
            self._pool.start()
            sys.setswitchinterval(_SWITCH_INTERVAL_S)
            threading.stack_size(_STACK_BYTES)
            for server in servers:
                server.start()
            self._tell_started([describe(sock) for sock in listening], warnings)
            self._stop(servers, self._wait_for_stop())
        finally:
            close_listeners(listening)
            self._log.close(_LOG_CLOSE_S)

    def _server(self, sock: socket.socket) -> PolicyServer:
        return PolicyServer(sock, self._clients, lambda: self._pool.relay, self._log, self._settings.allow)

    def _wait_for_stop(self) -> signal.Signals:
        while (received := signal.Signals(signal.sigwait(_HANDLED))) not in _STOP:
            self._pool.log_status()
        return received

    def _stop(self, servers: list[PolicyServer], why: signal.Signals) -> None:
        self._log.emit(Level.INFO, "daemon.stopping", signal=why.name, clients=len(self._clients))
        self._clients.finish()
        for server in servers:
            server.shutdown()
        drained = self._drain()
        self._pool.stop()
        uptime_s = round(time.monotonic() - self._started_at, 3)
        self._log.emit(Level.INFO, "daemon.stopped", drained=drained, clients=len(self._clients), uptime_s=uptime_s)

    def _drain(self) -> bool:
        """Wait for the requests in flight; a second SIGTERM or SIGINT ends the wait."""
        give_up_at = time.monotonic() + self._settings.drain_s
        while len(self._clients):
            if time.monotonic() > give_up_at or signal.sigtimedwait(_STOP, 0.02):
                return False
        return True

    def _tell_started(self, listen: list[str], missing: list[str]) -> None:
        tell_warnings(self._settings, self._log)
        for warning in missing:
            self._log.emit(Level.WARNING, "config.warning", argument="--listen", warning=warning)
        self._log.emit(
            Level.INFO,
            "daemon.started",
            version=hapolicy.__version__,
            pid=os.getpid(),
            listen=listen,
            services=[str(service) for service in self._settings.services],
            default=self._settings.default_action,
        )

    def _log_uncaught(self, caught: Any) -> None:
        lines = traceback.format_exception(caught.exc_type, caught.exc_value, caught.exc_traceback)
        self._log.emit(Level.ERROR, "daemon.error", error="".join(lines)[-2000:])


def serve_stdio(settings: Settings, log: EventLog) -> None:
    """Serve the one client on stdin and stdout until it ends (Postfix spawn(8))."""
    pool = Pool(settings, log)
    session = Session(_stdio_channel(), lambda: pool.relay, log, "stdin")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
    for stop in _STOP:
        signal.signal(stop, lambda *_: session.finish())
    signal.signal(signal.SIGUSR1, lambda *_: pool.log_status())
    tell_warnings(settings, log)
    pool.start()
    session.run()
    pool.stop()
    log.close(_LOG_CLOSE_S)


def tell_warnings(settings: Settings, log: EventLog) -> None:
    """Log what is doubtful about the configuration."""
    for argument, warning in settings.warnings:
        log.emit(Level.WARNING, "config.warning", argument=argument, warning=warning)


def stdin_is_connected_socket() -> bool:
    """Whether somebody is on stdin as spawn(8) or inetd would have it."""
    try:
        with socket.socket(fileno=os.dup(0)) as sock:
            sock.getpeername()
    except OSError:
        return False
    return True


def _stdio_channel() -> Channel:
    if not stdin_is_connected_socket():
        return PipeChannel(0, 1)
    sock = socket.socket(fileno=os.dup(0))
    sock.setblocking(True)
    return SocketChannel(sock)


__all__ = ["Daemon", "ListenError", "block_signals", "serve_stdio", "stdin_is_connected_socket"]
