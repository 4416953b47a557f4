"""What the daemon and ``--stdio`` both need of the process: its signals, its limits, its standard input."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket

from hapolicy.admin.status import status_events
from hapolicy.config.settings import Warnings
from hapolicy.core import events
from hapolicy.log.eventlog import EventLog
from hapolicy.proxy.pool import Pool

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANDLED_SIGNALS = (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGHUP)
CLIENT_GONE = signal.SIGUSR2  # under --stdio, sent by a worker to the main thread, which waits for signals

# What may be lost of the log at the end when its sink is stalled.
LOG_CLOSE_S = 2.0


def raise_descriptor_limit() -> None:
    """Use what the hard limit allows: a client and a connection take a descriptor each, and 1024 are soon gone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # fs.nr_open is below it by now: what there is must do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def block_signals() -> None:
    """Leave all signals to the main thread's sigwait; call before any thread is started.

    So no signal ever interrupts a thread in a system call, and no handler runs between any two lines.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (*HANDLED_SIGNALS, CLIENT_GONE))


def tell_warnings(warnings: Warnings, log: EventLog) -> None:
    """Log what is doubtful about the configuration."""
    for argument, warning in warnings:
        log.emit(events.CONFIG_WARNING(argument=argument, warning=warning))


def tell_status(pool: Pool, log: EventLog) -> None:
    """Log where each service stands."""
    try:
        services = pool.status().services
    except TimeoutError:  # a loop stands still: the watchdog's business, and no reason to end
        log.fault()
        return
    for event in status_events(services):
        log.emit(event)


def stdin_is_connected_socket() -> bool:
    """Whether somebody is on stdin as spawn(8) or inetd would have it."""
    try:
        with socket.socket(fileno=os.dup(0)) as sock:
            # getpeername() knows no client that has reset in the meantime, and this is no daemon for that.
            return sock.type is socket.SOCK_STREAM and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return False
