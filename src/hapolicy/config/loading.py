"""From the words of a command line to `Settings`.

``@FILE`` stands for the arguments in a file: several to a line as a shell would split them, ``#`` comments. Every
argument remembers where it was written, so that an error can name file and line.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence

from hapolicy.config.checks import ConfigError, doubts, refuse_contradictions
from hapolicy.config.option import Asked, UsageError, Written
from hapolicy.config.parser import parser, right_example
from hapolicy.config.settings import DEFAULT_LISTENERS, LogSink, Settings
from hapolicy.core.event import Level
from hapolicy.core.rules import HealthRules, RequestRules
from hapolicy.core.text import quoted as printable

_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+(?=\s|$)""")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options that `arguments` hold. Raises `UsageError` or `ConfigError`, `Asked` for --help and --version."""
    expanded = expand_files(arguments)
    try:
        options, unknown = parser().parse_known_args(expanded)
    except Asked:
        _refuse_asking_files(expanded)
        raise
    except argparse.ArgumentError as error:
        option = error.argument_name or ""
        given = getattr(error.__context__, "given", "")
        where = getattr(given, "where", "") or _where(expanded, option)
        raise UsageError(f"{where}{option}: {error.message}{right_example(option, given)}") from None
    for word in unknown:
        where = getattr(word, "where", "")
        hint = f"; for a file of arguments write @{printable(word)}" if word.startswith("/") else ""
        raise UsageError(f"{where}{printable(word)}: not an option{hint}; hapolicy --help lists them")
    return options


def _refuse_asking_files(arguments: Sequence[str]) -> None:
    """Raise `UsageError` where the first that asks for help is a file: a daemon could not start with it."""
    asking = next(filter(_asks, arguments))
    if isinstance(asking, Written):
        hint = "not in a file; hapolicy --help lists the options"
        raise UsageError(f"{asking.where}{printable(asking)}: {hint}")


def _asks(argument: str) -> bool:
    """Whether an argument, by itself, asks for help or version: -h and --version do, and so do -lh and --hel."""
    try:
        parser().parse_known_args([argument])
    except Asked:
        return True
    except (argparse.ArgumentError, UsageError):
        pass
    return False


def settings_from(options: argparse.Namespace, *, stdin_is_client: bool) -> Settings:
    """The settings that `options` mean. Raises `ConfigError`."""
    if options.stdio and (options.listen or options.no_stdio):
        other = "--listen" if options.listen else "--no-stdio"
        raise ConfigError(
            f"--stdio serves the one client on stdin, so it does not go with {other}; leave one of them out"
        )
    if options.connect and not options.check:
        raise ConfigError("--connect tries the services, and needs --check; example: --check --connect")
    is_daemon = options.no_stdio or options.listen or options.control or options.http
    log_path = options.log if isinstance(options.log, str) else None
    settings = Settings(
        services=tuple(options.service or ()),
        requests=RequestRules(
            default_action=options.default,
            suspect_action=options.suspect,
            deadline_s=options.deadline,
            hedge=options.hedge,
            affinity=options.affinity,
        ),
        health=_health(options),
        probe_attributes=tuple(options.probe_attribute or ()),
        listeners=tuple(options.listen or DEFAULT_LISTENERS),
        allow=tuple(options.allow or ()),
        stdio=options.stdio or (stdin_is_client and not is_daemon),
        control=options.control,
        http=options.http,
        http_allow=tuple(options.http_allow or ()),
        workers=options.workers,
        connect_timeout_s=options.connect_timeout,
        max_clients=options.max_clients,
        drain_s=options.drain,
        log_requests=options.logging or options.verbose,
        log_sink=LogSink.STDOUT if options.stdout else LogSink.AUTO if log_path else options.log,
        log_path=None if options.stdout else log_path,
        log_level=Level.DEBUG if options.verbose else Level.INFO,
    )
    refuse_contradictions(settings)
    return dataclasses.replace(settings, warnings=tuple(doubts(settings)))


def _health(options: argparse.Namespace) -> HealthRules:
    longest = options.cooldown_max
    if longest is None:
        longest = max(HealthRules.cooldown_max_s, options.cooldown)
    elif longest < options.cooldown:
        raise ConfigError(
            f"--cooldown-max {longest:g} is below --cooldown {options.cooldown:g}; leave it out, or raise it"
        )
    return HealthRules(
        fail_max=options.fail_max,
        fail_rate=options.fail_rate,
        cooldown_s=options.cooldown,
        cooldown_max_s=longest,
        probe=options.probe,
        probe_every_s=options.probe_every,
    )


def expand_files(arguments: Sequence[str]) -> list[str]:
    """`arguments` with each ``@FILE`` replaced by what the file holds. Raises `ConfigError`."""
    expanded: list[str] = []
    for argument in arguments:
        expanded += _read_file(argument[1:]) if argument.startswith("@") else [argument]
    return expanded


def _read_file(path: str) -> list[str]:
    try:
        # A FIFO would be waited for, without an end: a reload, and even the end of the daemon, would wait with it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(mode := os.fstat(descriptor).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                raise ConfigError(f"@{path}: not a regular file{right_example('@FILE')}")
            with open(descriptor, encoding="utf-8-sig", closefd=False) as file:  # some editors begin one with a BOM
                lines = file.read().split("\n")  # str.splitlines() knows ten other line ends, no shell does
        finally:
            os.close(descriptor)  # `open` leaves it open when it fails
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"@{path}: {reason}{right_example('@FILE')}") from None
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}: "
        try:
            found += [Written(word, where) for word in _words(line)]
        except ValueError as error:
            raise ConfigError(f"{where}{error}; example: -d 'reject no service'") from None
    return found


def _words(line: str) -> Iterator[str]:
    """The words of a line as a shell would split it, up to an unquoted '#' at the beginning of a word.

    Not shlex alone: to it a '#' within a word begins a comment too, and a quote in a comment opens one.
    """
    rest = line.lstrip()
    while rest and not rest.startswith("#"):
        word = _WORD.match(rest)
        end = word.end() if word else len(rest)
        yield from shlex.split(rest[:end])  # raises ValueError for a quote that is not closed
        rest = rest[end:].lstrip()


def _where(arguments: Sequence[str], option: str) -> str:
    """Where the argument that is wrong was written, as well as can be told."""
    names = tuple(option.split("/"))
    for argument, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument.startswith(names) and isinstance(argument, Written):
            return value.where if isinstance(value, Written) else argument.where
    return ""
