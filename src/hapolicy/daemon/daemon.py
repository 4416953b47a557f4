"""The running whole: start, signals, reload, drain, stop."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import hapolicy
from hapolicy.admin.operations import Operations
from hapolicy.config.settings import Settings, SettingsError, Warnings
from hapolicy.core import events
from hapolicy.daemon import systemd
from hapolicy.daemon.process import HANDLED_SIGNALS, LOG_CLOSE_S, STOP_SIGNALS, tell_status, tell_warnings
from hapolicy.daemon.watchdog import Watchdog
from hapolicy.log.eventlog import EventLog
from hapolicy.net.listeners import Listening, describe
from hapolicy.proxy.pool import Pool
from hapolicy.proxy.server import PolicyServer

if TYPE_CHECKING:
    from hapolicy.admin.control.server import ControlServer
    from hapolicy.admin.http.server import WebServer

_READY_S = 5.0  # a service manager that is busy for a moment must hear of it all the same
_END_S = 15.0  # what the end takes beside --drain, at most

# What a reload cannot change: the sockets are open, and privileges may be gone.
_FIXED = {"listeners": "--listen", "control": "--control", "http": "--http", "workers": "--workers"}
_FIXED |= {"log_sink": "--log", "log_path": "--log"}


class Daemon:
    """Serves on the listeners until told to stop. `read_settings` reads the configuration again, for a reload."""

    def __init__(self, settings: Settings, log: EventLog, read_settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._log = log
        self._read_settings = read_settings
        self._pool = Pool(settings, log)
        self._servers: list[PolicyServer] = []
        self._control: list[ControlServer] = []
        self._web: list[WebServer] = []
        self._operations = Operations(self._pool, log, self.reload)
        self._started_at = time.monotonic()
        self._reloads: queue.SimpleQueue[Future[Warnings]] = queue.SimpleQueue()  # who waits for the next reload

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises `ListenError` when it cannot begin."""
        threading.excepthook = sys.unraisablehook = self._log_uncaught
        try:
            with contextlib.closing(Listening(self._settings, systemd.passed_sockets())) as listening:
                self._serve(listening)
        finally:
            self._pool.stop()
            self._log.close(LOG_CLOSE_S)
            # While Python ends, nothing of ours can be relied upon; a hook that fails then can hang the process.
            threading.excepthook, sys.unraisablehook = threading.__excepthook__, sys.__unraisablehook__

    def reload(self) -> Future[Warnings]:
        """Have the main thread read the configuration again; the future raises `SettingsError` when it is bad."""
        done: Future[Warnings] = Future()
        self._reloads.put(done)
        os.kill(os.getpid(), signal.SIGHUP)
        return done

    def _serve(self, listening: Listening) -> None:
        watchdog = Watchdog(listening.clients, self._pool, self._log)
        self._log.warm()  # what it loads are files: clients could have taken the last descriptor
        self._start(listening)
        systemd.notify("READY=1", watchdog.status_line(), patience_s=_READY_S)
        if interval_s := systemd.watchdog_s():
            watchdog.start(interval_s)
        why = self._wait_for_stop()
        # However long --drain is: TimeoutStopSec= must not cut it short.
        systemd.notify("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round((self._pool.settings.drain_s + _END_S) * 1e6)}")
        watchdog.stop()
        self._stop(why, listening)

    def _start(self, listening: Listening) -> None:
        settings, log = self._settings, self._log
        self._pool.start()
        self._servers = [PolicyServer(sock, self._pool, log, settings.allow) for sock in listening.clients]
        # What is not used costs neither time nor memory.
        if listening.control:
            from hapolicy.admin.control.server import ControlServer

            self._control = [ControlServer(sock, self._operations, log) for sock in listening.control]
        if listening.http:
            from hapolicy.admin.http.server import WebServer

            status = self._operations.status
            self._web = [WebServer(sock, status, log, settings.http_allow) for sock in listening.http]
        for server in (*self._servers, *self._control, *self._web):
            server.start()
        self._tell_started(listening)

    def _wait_for_stop(self) -> signal.Signals:
        while (received := signal.Signals(signal.sigwait(HANDLED_SIGNALS))) not in STOP_SIGNALS:
            if received is signal.SIGHUP:
                self._reload()
            else:
                tell_status(self._pool, self._log)
        return received

    def _reload(self) -> None:
        systemd.reloading()
        # Those before the file is read: who comes later may have changed it since.
        waiting = [self._reloads.get() for _ in range(self._reloads.qsize())]
        failure = None
        warnings: Warnings = ()
        try:
            warnings = self._adopt(self._read_settings())
        except SettingsError as error:
            failure = error
            self._log.emit(events.DAEMON_RELOAD_FAILED(error=str(error)))
        except Exception as fault:  # noqa: BLE001 - whatever a file may bring about, mail goes on
            failure = SettingsError(f"a fault of hapolicy, logged as daemon.error: {fault!r}")
            self._log.fault()
        systemd.notify("READY=1", patience_s=_READY_S)
        for done in waiting:
            if failure:
                done.set_exception(failure)
            else:
                done.set_result(warnings)

    def _adopt(self, settings: Settings) -> Warnings:
        """Go by `settings` from now on; clients and requests in flight go on."""
        former = self._pool.settings
        self._reopen_log()
        self._pool.adopt(settings)
        for server in self._servers:
            server.allow = settings.allow
        for web in self._web:
            web.allow = settings.http_allow
        self._log.level = settings.log_level
        warnings = settings.warnings + self._takes_a_restart(settings)
        tell_warnings(warnings, self._log)
        self._tell_reloaded(former, settings)
        return warnings

    def _reopen_log(self) -> None:
        try:
            self._log.reopen()
        except OSError as error:
            path = self._settings.log_path
            raise SettingsError(f"--log {path}: {error.strerror}; the former file stays in use") from None

    def _takes_a_restart(self, settings: Settings) -> Warnings:
        """Changed options that need a restart."""
        changed = [
            option for field, option in _FIXED.items() if getattr(settings, field) != getattr(self._settings, field)
        ]
        return tuple((option, "changed, which needs a restart") for option in dict.fromkeys(changed))

    def _stop(self, why: signal.Signals, listening: Listening) -> None:
        self._log.emit(events.DAEMON_STOPPING(signal=why.name, clients=self._pool.clients))
        for server in (*self._servers, *self._control, *self._web):
            server.shutdown()
        self._pool.finish()
        listening.close()  # who comes now is better refused than kept waiting
        drained = self._drain()
        clients = self._pool.clients
        self._pool.stop()
        uptime_s = round(time.monotonic() - self._started_at, 3)
        self._log.emit(events.DAEMON_STOPPED(drained=drained, clients=clients, uptime_s=uptime_s))

    def _drain(self) -> bool:
        """Wait for the requests in flight; a second SIGTERM or SIGINT ends the wait."""
        give_up_at = time.monotonic() + self._pool.settings.drain_s
        while self._pool.clients:
            if time.monotonic() > give_up_at or signal.sigtimedwait(STOP_SIGNALS, 0.02):
                return False
        return True

    def _tell_started(self, listening: Listening) -> None:
        tell_warnings(self._settings.warnings, self._log)
        tell_warnings(tuple(("--listen", warning) for warning in listening.warnings), self._log)
        self._log.emit(
            events.DAEMON_STARTED(
                version=hapolicy.__version__,
                pid=os.getpid(),
                listen=[describe(sock) for sock in listening.clients],
                control=[describe(sock) for sock in listening.control],
                http=[describe(sock) for sock in listening.http],
                services=[str(service) for service in self._settings.services],
                default=self._settings.requests.default_action,
            )
        )

    def _tell_reloaded(self, former: Settings, settings: Settings) -> None:
        before, after = set(former.services), set(settings.services)
        self._log.emit(
            events.DAEMON_RELOADED(
                services=[str(service) for service in settings.services],
                new=sorted(str(service) for service in after - before),
                gone=sorted(str(service) for service in before - after),
            )
        )

    def _log_uncaught(self, caught: Any) -> None:
        with contextlib.suppress(MemoryError):  # then there is none for words either
            self._log.fault(caught.exc_value)
