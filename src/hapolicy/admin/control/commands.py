"""``hapolicyctl``: see and change a running hapolicy over its control socket.

Exit status, after sysexits(3): 0 done, 1 refused by the daemon (an unknown service, a bad file on reload), 64 a
command line that cannot be understood, 69 no answer (no daemon; for a query of one service, none from it), 74 done, but
the output could not be written, 77 not allowed, 130 Ctrl-C (which ends --watch with 0).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import hapolicy
from hapolicy.admin.control import client as asking
from hapolicy.admin.control import outputs
from hapolicy.admin.control import render as table
from hapolicy.admin.control.protocol import Code, OrderError, request_of
from hapolicy.admin.direct import ask_service
from hapolicy.core.address import Address, AddressError, TcpAddress, UnixAddress, parse_address, split_address
from hapolicy.core.event import Level
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.protocol import ANSWER_MAX_BYTES
from hapolicy.core.text import counted

DEFAULT_CONTROL = "/run/hapolicy/control.sock"
INSTANCE_CONTROL = "/run/hapolicy-{}/control.sock"  # RuntimeDirectory= of the template unit

SHELLS = ("bash", "zsh", "fish", "tcsh")

EX_REFUSED = 1
EX_INTERRUPTED = 130  # as a shell says it: 128 + SIGINT

# As systemd has it for instances, and no way out of /run.
_INSTANCE = re.compile(r"[A-Za-z0-9:_.@\\-]{1,64}")

# A shell expands the words of a completion: only names that are nothing but names may get there.
_NAMES = "hapolicyctl status --names 2>/dev/null | grep -x '[A-Za-z0-9_.-]*'"

_ON_SERVICE = {
    "drain": "ask the service nothing new; what it was asked is still answered",
    "ready": "end a drain",
    "trip": "count the service as down; probes find out when it is well",
    "reset": "count the service as up at once, no failure counted",
}


class _UsageError(Exception):
    """Words that cannot be understood."""


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing its usage over several lines."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; {self.prog} --help has more")


def parser(names: object = None) -> argparse.ArgumentParser:
    """The command line's grammar; the man page and the completions are made from it.

    `names` is what shtab is to know about an argument that is a service's name.
    """
    p = _Parser(
        prog="hapolicyctl",
        description="Shows and changes a running hapolicy over its control socket.",
        epilog="Exit status: 0 done; 1 refused by the daemon; 64 wrong usage; 69 no daemon, or no answer from the"
        " service that was asked; 74 done, but the output could not be written; 77 not allowed; 130 Ctrl-C (which ends"
        " --watch with 0).",
    )
    where = p.add_mutually_exclusive_group()
    text = f"the daemon's control socket (unix:{DEFAULT_CONTROL})"
    where.add_argument("--control", type=_control, default=f"unix:{DEFAULT_CONTROL}", metavar="unix:/path", help=text)
    text = "the daemon of hapolicy@NAME.service, at unix:" + INSTANCE_CONTROL.format("NAME")
    where.add_argument("-i", "--instance", dest="control", type=_instance, metavar="NAME", help=text)
    text = "print a completion script for a shell, and exit; needs hapolicy[ctl]"
    p.add_argument("--print-completion", choices=SHELLS, metavar="SHELL", help=text + f": {', '.join(SHELLS)}")
    p.add_argument("--version", action="version", version=f"hapolicyctl {hapolicy.__version__}")
    commands = p.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    _add_status(commands)
    for command, text in _ON_SERVICE.items():
        named = commands.add_parser(command, help=text, description=_sentence(text))
        named.add_argument("name", metavar="NAME", help="the service's name").complete = names  # type: ignore[attr-defined]
    text = "log from this level on, until the next reload"
    level = commands.add_parser("log-level", help=text, description=_sentence(text))
    level.add_argument("level", choices=[level.name.lower() for level in Level], metavar="LEVEL", help=_levels())
    text = "read the argument files again; nothing changes when they are bad"
    commands.add_parser("reload", help=text, description=_sentence(text))
    _add_query(commands, names)
    return p


def _add_status(commands: Any) -> None:
    text = "show the daemon and its services"
    status = commands.add_parser("status", help=text, description=_sentence(text))
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="all of it, as one JSON object")
    how.add_argument("--names", action="store_true", help="only the services' names, one a line")
    how.add_argument("--watch", action="store_true", help="refresh in place each second; needs hapolicy[ctl]")


def _add_query(commands: Any, names: object) -> None:
    text = "ask as Postfix would; show the action, which service gave it, and how long it took"
    query = commands.add_parser(
        "query",
        help=text,
        description=_sentence(text),
        epilog="Attributes not given have harmless defaults; greylisters and the like record a query all the same.",
    )
    whom = query.add_mutually_exclusive_group()
    text = "ask the policy service at HOST:PORT, [IPV6]:PORT or unix:/path directly, without a daemon"
    whom.add_argument("--to", type=_address, metavar="ADDRESS", help=text)
    text = "have the daemon ask this service alone, whatever its state"
    whom.add_argument("--service", metavar="NAME", help=text).complete = names
    text = "an attribute of the request, such as client_address=192.0.2.1"
    query.add_argument("attributes", nargs="*", metavar="attr=value", help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run hapolicyctl; returns the exit status."""
    outputs.open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = _outcome(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # head(1) has seen enough
        status = os.EX_OK
    except OSError as error:  # of an output: those of a conversation have names of their own
        status = _complain(f"done, but the output could not be written: {error.strerror}", os.EX_IOERR)
    outputs.drop_what_cannot_be_written()
    return status


def _outcome(arguments: Sequence[str] | None) -> int:
    try:
        _run(parser().parse_args(arguments))
    except SystemExit:  # --help and --version, printed
        pass
    except _UsageError as error:
        return _complain(str(error), os.EX_USAGE)
    except asking.NoDaemon as error:
        return _complain(str(error), os.EX_UNAVAILABLE)
    except asking.NotAllowed as error:
        return _complain(str(error), os.EX_NOPERM)
    except OrderError as error:
        return _complain(str(error), _STATUS_OF.get(error.code, EX_REFUSED))
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    return os.EX_OK


_STATUS_OF = {Code.UNAVAILABLE: os.EX_UNAVAILABLE, Code.BUSY: os.EX_UNAVAILABLE, Code.MALFORMED: os.EX_USAGE}


def _run(options: argparse.Namespace) -> None:
    if options.print_completion:
        print(_completion(options.print_completion))
    elif options.command is None:
        raise _UsageError("no command; hapolicyctl --help lists them")
    elif options.command == "status":
        _status(options)
    elif options.command == "query":
        _query(options)
    elif options.command == "log-level":
        print("log level", asking.order(options.control, "log-level", level=options.level)["level"])
    elif options.command == "reload":
        done = asking.order(options.control, "reload")
        services = done["services"]
        print(f"reloaded; {counted(len(services), 'service')}: {', '.join(map(table.safe, services))}")
        _warn(done)
    else:
        done = asking.order(options.control, options.command, service=options.name)
        flight = f", {done['in_flight']} in flight" if done["in_flight"] else ""
        print(f"{table.safe(done['service'])} is {table.safe(done['state'])}{flight}")
        _warn(done)


def _status(options: argparse.Namespace) -> None:
    if options.watch:
        _watch(options.control)
        return
    status = asking.order(options.control, "status")
    if options.json:
        print(json.dumps(status, indent=2).replace("\x7f", "\\u007f"))
    elif options.names:
        print(*(table.safe(service["name"]) for service in status["services"]), sep="\n")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(table.render(status, colours=_colours_wanted(), width=width))


def _watch(control: str) -> None:
    try:
        from hapolicy.admin.control.watch import watch
    except ImportError:
        raise _UsageError("--watch needs rich: pip install 'hapolicy[ctl]'") from None
    if not sys.stdout.isatty():
        raise _UsageError("--watch needs a terminal; status and status --json do not")
    asking.order(control, "status")  # who is not allowed, or has the path wrong, is told so at once
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        watch(lambda: asking.order(control, "status"), asking.NoDaemon)


def _query(options: argparse.Namespace) -> None:
    try:
        attributes = asking.attributes_of(options.attributes)
    except ValueError as error:
        raise _UsageError(table.safe(error)) from None
    if options.to:
        answered = _ask_service(options.to, attributes)
    else:
        named = {"service": options.service} if options.service else {}
        answered = asking.order(options.control, "query", attributes=attributes, **named)
    service = "none: the default action" if answered["service"] is None else table.safe(answered["service"])
    print(f"action   {table.safe(answered['action'], most=ANSWER_MAX_BYTES)}")
    print(f"service  {service}")
    print(f"took     {answered['took_ms']:.1f} ms")


def _ask_service(address: Address, attributes: dict[str, str]) -> dict[str, Any]:
    try:
        action, took_ms = ask_service(address, request_of(attributes).raw)
    except ServiceFailure as failure:
        raise OrderError(Code.UNAVAILABLE, f"{address}: {failure}") from None
    return {"action": action, "service": str(address), "took_ms": took_ms}


def _completion(shell: str) -> str:
    try:
        import shtab
    except ImportError:
        raise _UsageError("--print-completion needs shtab: pip install 'hapolicy[ctl]'") from None
    return shtab.complete(parser(shtab.cmd(_NAMES)), shell)


def _colours_wanted() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return sys.stdout.isatty() and not plain


def _levels() -> str:
    return ", ".join(level.name.lower() for level in Level)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _control(text: str) -> str:
    address = _address(text)
    if not isinstance(address, UnixAddress):
        raise argparse.ArgumentTypeError(f"{table.safe(text)}: not a unix socket; example: unix:{DEFAULT_CONTROL}")
    return address.path


def _instance(text: str) -> str:
    if not _INSTANCE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{table.safe(text)}: not the name of an instance; example: -i spf")
    return INSTANCE_CONTROL.format(text)


def _address(text: str) -> Address:
    try:
        where, more = split_address(text)
        if more:
            raise AddressError(f"{':'.join(more)!r} after the address")
        address = parse_address(*where)
        if isinstance(address, TcpAddress) and not address.host:
            raise AddressError("no host")
    except AddressError as error:
        example = "example: 127.0.0.1:10031 or unix:/run/service"
        raise argparse.ArgumentTypeError(f"{table.safe(text)}: {table.safe(error)}; {example}") from None
    return address


def _warn(done: dict[str, Any]) -> None:
    sys.stdout.flush()  # the answer is out, whatever becomes of the warnings
    for warning in done.get("warnings", ()):  # a daemon from before an upgrade knows none
        _say(f"warning: {warning}")


def _complain(text: str, status: int) -> int:
    with contextlib.suppress(OSError):  # the status says it too
        _say(text)
    return status


def _say(text: str) -> None:
    print(f"hapolicyctl: {table.safe(text, most=4000)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
