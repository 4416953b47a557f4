"""``hapolicy``: from the command line to a running daemon, with sysexits(3) for what goes wrong."""

from __future__ import annotations

import os
import sys
import syslog
from collections.abc import Callable, Sequence

from hapolicy.config.loading import parse, settings_from
from hapolicy.config.options import Asked, UsageError, printable
from hapolicy.config.settings import Settings, SettingsError
from hapolicy.core.text import counted
from hapolicy.daemon.process import block_signals, raise_descriptor_limit, stay_on_processor, stdin_is_connected_socket
from hapolicy.log.events import EventLog
from hapolicy.log.sinks import IDENTIFIER, is_client, open_sink


def main(arguments: Sequence[str] | None = None) -> int:
    """Run hapolicy; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    stdin_is_client = stdin_is_connected_socket()
    try:
        options = parse(words)
        settings = settings_from(options, stdin_is_client=stdin_is_client)
        if options.check:
            _check_parts(settings)
            _print_plan(settings)
        else:
            _run(settings, lambda: settings_from(parse(words), stdin_is_client=stdin_is_client))
    except Asked as asked:
        print(asked, end="")
    except UsageError as error:
        return _complain(str(error), os.EX_USAGE)
    except SettingsError as error:
        return _complain(str(error), os.EX_CONFIG)
    return os.EX_OK


def _run(settings: Settings, read_settings: Callable[[], Settings]) -> None:
    """Each way imports only what it runs: under spawn a client waits for that."""
    block_signals()
    if settings.stdio:
        from hapolicy.daemon.stdio import serve_stdio

        serve_stdio(settings, _open_log(settings))
    else:
        from hapolicy.daemon.daemon import Daemon

        raise_descriptor_limit()
        stay_on_processor(settings.cpu)
        Daemon(settings, _open_log(settings), read_settings).run()


def _open_log(settings: Settings) -> EventLog:
    return EventLog(lambda: open_sink(settings.log_sink, stdio=settings.stdio), settings.log_level)


def _check_parts(settings: Settings) -> None:
    """Raise `SettingsError` where a start would, for want of a library."""
    if settings.http and not settings.stdio:
        from hapolicy.admin.http.server import load_exposition

        load_exposition()


def _print_plan(settings: Settings) -> None:
    """What would run: ``--check``."""
    listen = "stdin" if settings.stdio else ", ".join(map(str, settings.listeners))
    print(f"listen    {listen}")
    for what, where in (("control", settings.control), ("http", settings.http)):
        if where and not settings.stdio:
            print(f"{what:<9} {where}")
    for service in sorted(settings.services, key=lambda service: service.prio):
        print(
            f"service   {service.name} at {service.address}, prio {service.prio},"
            f" weight {float(service.weight):g}, timeout {service.timeout_s:g} s"
        )
    health = settings.health
    print(f"default   {settings.default_action}, at the latest after {settings.deadline_s:g} s")
    print(
        f"health    down after {counted(health.fail_max, 'failure')} in a row, for {health.cooldown_s:g} s"
        f" up to {health.cooldown_max_s:g} s, probe {health.probe.value}"
    )
    for argument, warning in settings.warnings:
        print(f"hapolicy: warning: {printable(argument)}: {warning}", file=sys.stderr)


def _complain(text: str, status: int) -> int:
    """One line on stderr; where that leads to smtpd (spawn(8)), to syslog instead."""
    if is_client(2):
        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_MAIL)
        syslog.syslog(syslog.LOG_ERR, text)
    else:
        print(f"hapolicy: {text}", file=sys.stderr)
    return status
