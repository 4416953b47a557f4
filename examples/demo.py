"""What ``make run`` starts: hapolicy before two sample services, all on loopback, and a text on what to try.

    python3 examples/demo.py [--listen HOST:PORT]

The sample services live in this process; hapolicy itself is the real thing in a process of its own, its log
on our standard error. Ctrl-C or SIGTERM ends all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import IO

import policy_service
from policy_service import SampleService, parse_address

# Short, so that a newcomer sees a service go and come back without waiting for it.
COOLDOWN = ["--cooldown", "5", "--cooldown-max", "10"]
SERVICE_FIELDS = "10:1:2"  # prio, weight, timeout in seconds

TEXT = """
hapolicy answers on {listen}, before two sample services, A and B.

Ask it something. The answer names the service that gave it; ask again and the other one has its turn:

    {ask}

or, without nc:

    {ask_python}

Break service A (hang, slow 1, refuse, reset, half, drip, garbage, oversized), ask on, and mend it:

    {python} {service} tell {controls[0]} fault hang
    {python} {service} tell {controls[0]} fault none

Service B takes such orders at {controls[1]}.

The status page: {page}

What to watch below, one JSON line an event: service.failed when A lets a request down (service.silent before it, when A
hangs), service.down when a probe of hapolicy's own fails as well, request.answered by B all the while, and service.up
some seconds after A is well again. With both broken: pool.down, request.defaulted or request.suspect.
Ctrl-C ends it all.
"""


def instructions(listen: str, page: str, controls: Sequence[str]) -> str:
    """The text for the newcomer, every command ready to paste."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    python = shlex.quote(_shortest(sys.executable))
    request = r"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=demo.1\n\n"
    connect = f"import socket; s = socket.create_connection(('{host}', {port}))"
    exchange = f"s.sendall(b'{request}'); print(s.recv(999).decode())"
    return TEXT.format(
        listen=listen,
        page=page,
        ask=f"printf '{request}' | nc -q1 {host} {port}",
        ask_python=f'{python} -c "{connect}; {exchange}"',
        python=python,
        service=shlex.quote(_shortest(policy_service.__file__)),
        controls=controls,
    )


def _shortest(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _pass_on(log: IO[str], controls: Sequence[str]) -> None:
    """Copy hapolicy's log to ours; once it says where it listens, tell the newcomer."""
    for line in log:
        sys.stderr.write(line)
        with contextlib.suppress(ValueError, TypeError, LookupError):  # no event: passed on all the same
            event = json.loads(line)
            if event["event"] == "daemon.started":
                page = f"http://{event['http'][0]}/"
                print(instructions(event["listen"][0], page, controls), flush=True)


def run(listen: str) -> int:
    """Run the demonstration until a signal ends it; returns hapolicy's exit status."""
    started: list[subprocess.Popen[str]] = []

    def end(signum: int, frame: FrameType | None) -> None:
        if not started:
            sys.exit(0)
        started[0].terminate()

    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, end)
    services = [SampleService(name) for name in ("A", "B")]
    arguments = ["-l", "--log", "stderr", "--listen", listen, "--http", "127.0.0.1:0", *COOLDOWN]
    for service in services:
        arguments += ["-s", f"{service.name}={service.listen}:{SERVICE_FIELDS}"]
    hapolicy = subprocess.Popen(
        [sys.executable, "-m", "hapolicy", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # a terminal's Ctrl-C reaches us alone, and hapolicy gets one signal: ours
    )
    started.append(hapolicy)
    assert hapolicy.stderr is not None
    with hapolicy.stderr:
        _pass_on(hapolicy.stderr, [service.control() for service in services])
    return abs(hapolicy.wait())


def _tcp_address(text: str) -> str:
    if not isinstance(parse_address(text)[1], tuple):
        raise ValueError
    return text


def main(arguments: Sequence[str]) -> int:
    """The command line of the demonstration."""
    parser = argparse.ArgumentParser("demo.py", description="hapolicy before two sample services.")
    parser.add_argument(
        "--listen",
        type=_tcp_address,
        default="127.0.0.1:10060",
        metavar="HOST:PORT",
        help="where hapolicy is to listen (default: %(default)s)",
    )
    return run(parser.parse_args(arguments).listen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
