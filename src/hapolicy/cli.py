"""``hapolicy``: from the command line to a running daemon, with sysexits(3) for what goes wrong."""

from __future__ import annotations

import io
import os
import sys
import syslog
from collections.abc import Callable, Sequence

from hapolicy.config.loading import parse, settings_from
from hapolicy.config.option import Asked, UsageError
from hapolicy.config.settings import Settings, SettingsError
from hapolicy.core.text import quoted
from hapolicy.daemon.process import block_signals, raise_descriptor_limit, stdin_is_connected_socket
from hapolicy.log.eventlog import EventLog
from hapolicy.log.sinks import IDENTIFIER, is_client, open_sink


class Unwritten(Exception):
    """What was to be printed could not be: a full disk."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run hapolicy; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the locale lacks ends no --check; stderr has it
    try:
        return _outcome(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        return _complain(str(error), os.EX_USAGE)
    except SettingsError as error:
        return _complain(str(error), os.EX_CONFIG)
    except Unwritten as error:
        return _complain(str(error), os.EX_IOERR)


def _outcome(words: Sequence[str]) -> int:
    stdin_is_client = stdin_is_connected_socket()
    try:
        options = parse(words)
    except Asked as asked:
        _say(str(asked).rstrip("\n"))
        return os.EX_OK
    settings = settings_from(options, stdin_is_client=stdin_is_client)
    if options.check:
        _check_parts(settings)
        _print_plan(settings)
        return _try_services(settings) if options.connect else os.EX_OK
    _run(settings, lambda: settings_from(parse(words), stdin_is_client=stdin_is_client))
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
        Daemon(settings, _open_log(settings), read_settings).run()


def _open_log(settings: Settings) -> EventLog:
    try:
        return EventLog(open_sink(settings.log_sink, settings.log_path, stdio=settings.stdio), settings.log_level)
    except OSError as error:
        raise SettingsError(
            f"--log {settings.log_path}: {error.strerror}; example: --log /var/log/hapolicy.log"
        ) from None


def _check_parts(settings: Settings) -> None:
    """Raise `SettingsError` where a start would, for want of a library."""
    if settings.http and not settings.stdio:
        from hapolicy.admin.http.server import load_exposition

        load_exposition()


def _print_plan(settings: Settings) -> None:
    """What would run: ``--check``."""
    from hapolicy.config.plan import lines_of

    for line in lines_of(settings):
        _say(line)
    for argument, warning in settings.warnings:
        print(f"hapolicy: warning: {quoted(argument)}: {warning}", file=sys.stderr)


def _try_services(settings: Settings) -> int:
    """Ask each service once, past any daemon, and print what it says: ``--check --connect``."""
    from hapolicy.admin.trial import lines_of

    status = os.EX_OK
    for line, well in lines_of(settings):
        _say(line)
        status = status if well else os.EX_UNAVAILABLE
    return status


def _say(line: str) -> None:
    """Print it. Who reads a pipe may have seen enough (head(1)); what was found out stands all the same."""
    try:
        print(line, flush=True)
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # Python would try again at its end
        if not isinstance(error, BrokenPipeError):
            raise Unwritten(f"the output could not be written: {error.strerror}") from None


def _complain(text: str, status: int) -> int:
    """One line on stderr; where that leads to smtpd (spawn(8)) or is closed, to syslog instead."""
    if sys.stderr is None or is_client(2):  # print() would take stdout for None
        syslog.openlog(IDENTIFIER, syslog.LOG_PID, syslog.LOG_MAIL)
        syslog.syslog(syslog.LOG_ERR, text)
    else:
        print(f"hapolicy: {text}", file=sys.stderr)
    return status
