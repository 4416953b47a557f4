"""What the daemon and ``--stdio`` both need of the process: its signals, its processor, its first words."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket

from hapolicy.config.settings import Warnings
from hapolicy.core.events import Level
from hapolicy.log.events import EventLog

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANDLED_SIGNALS = (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGHUP)

# What may be lost of the log at the end when its sink is stalled.
LOG_CLOSE_S = 2.0


def stay_on_processor(cpu: str) -> None:
    """Run on one processor from here on, with all threads started later; call before any is.

    Only one thread of Python's runs at a time; where each may run on another processor, handing over the
    interpreter between them costs more than the work (measured: half of all time). "auto" picks one by our process id,
    so that several daemons on a host do not crowd one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if cpu != "off" and len(allowed) > 1:
        chosen = allowed[os.getpid() % len(allowed)] if cpu == "auto" else int(cpu)
        with contextlib.suppress(OSError):  # forbidden by a sandbox: slower, and well
            os.sched_setaffinity(0, {chosen})
            # A thread that wakes must not interrupt the one that has the interpreter: it could only wait for it.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def raise_descriptor_limit() -> None:
    """Use what the hard limit allows: a client and a link take a descriptor each, and 1024 are soon gone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def block_signals() -> None:
    """Leave all signals to the main thread's sigwait; call before any thread is started.

    So no signal ever interrupts a thread in a system call, and no handler runs between any two lines.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)


def tell_warnings(warnings: Warnings, log: EventLog, level: Level = Level.WARNING) -> None:
    """Log what is doubtful about the configuration."""
    for argument, warning in warnings:
        log.emit(level, "config.warning", argument=argument, warning=warning)


def stdin_is_connected_socket() -> bool:
    """Whether somebody is on stdin as spawn(8) or inetd would have it."""
    try:
        with socket.socket(fileno=os.dup(0)) as sock:
            sock.getpeername()
    except OSError:
        return False
    return True
