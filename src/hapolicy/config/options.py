"""The options of ``hapolicy``, one row each: parser, ``--check``, errors, man page and reference are made from it."""

from __future__ import annotations

from hapolicy.config import values
from hapolicy.config.option import Option
from hapolicy.config.settings import LogSink, Settings
from hapolicy.core.rules import HEDGE_AUTO, HealthRules, RequestRules

_SETTINGS, _HEALTH, _REQUESTS = Settings(services=()), HealthRules(), RequestRules()


OPTIONS: tuple[Option, ...] = (
    Option(
        ("-s", "--service"),
        "A policy service. ADDRESS is IPv4, [IPv6], a host name, or unix:/path in place of ADDRESS:PORT. Lower PRIO"
        " is asked first (default 10), WEIGHT is its share within a PRIO (default 1), TIMEOUT how many seconds it may"
        " take to answer (default 30). Keys: max=N connections at most; hedge=, probe= and suspect= as the options, for"
        " this service alone; slow-start=SECONDS over which its share grows after it came up. Repeatable.",
        values.service,
        "NAME=ADDRESS:PORT[:PRIO[:WEIGHT[:TIMEOUT]]][,KEY=VALUE...]",
        example="-s GREY1=10.0.0.1:10031:10",
        examples={"unix": "-s GREY1=unix:/run/grey1.sock:10", "ipv6": "-s GREY1=[2001:db8::1]:10031:10"},
        repeatable=True,
    ),
    Option(
        ("-d", "--default"),
        "The action that Postfix gets when no service answered.",
        values.action,
        "ACTION",
        _REQUESTS.default_action,
        _REQUESTS.default_action,
        "-d dunno",
    ),
    Option(
        ("--suspect",),
        "The action for a request on which two services (or the only one twice) break: poison.",
        values.action,
        "ACTION",
        _REQUESTS.suspect_action,
        _REQUESTS.suspect_action,
        "--suspect 'DEFER_IF_PERMIT 4.3.0 try again later'",
    ),
    Option(("-l", "--logging"), "Log each request."),
    Option(
        ("-v", "--verbose"),
        "As -l, and also log attributes of each request, lost clients, and stale connections that were replaced.",
    ),
    Option(("-L", "--stdout"), "The same as --log stdout."),
    Option(
        ("--listen",),
        "Where Postfix connects: HOST:PORT, [IPV6]:PORT or unix:/path[:MODE]. Repeatable.",
        values.listener,
        "ADDRESS",
        shown="127.0.0.1:10060",
        example="--listen 127.0.0.1:10060",
        examples={"unix": "--listen unix:/run/hapolicy/policy.sock:660", "ipv6": "--listen [::1]:10060"},
        repeatable=True,
        reloads=False,
    ),
    Option(("--stdio",), "Serve the one client on stdin; assumed under Postfix spawn(8)."),
    Option(("--no-stdio",), "Run as a daemon even though stdin is a socket."),
    Option(
        ("--allow",),
        "A network that may connect to --listen, besides this host. Repeatable.",
        values.network,
        "CIDR",
        shown="none",
        example="--allow 10.0.0.0/24",
        repeatable=True,
    ),
    Option(
        ("--control",),
        f"Where hapolicyctl connects: unix:/path[:MODE]; the mode is {values.CONTROL_MODE} unless given.",
        values.control,
        "ADDRESS",
        shown="off",
        example="--control unix:/run/hapolicy/control.sock",
        reloads=False,
    ),
    Option(
        ("--http",),
        "Where to serve a status page for browsers, /metrics for Prometheus, /healthz and /readyz for load balancers.",
        values.http,
        "HOST:PORT",
        shown="off",
        example="--http 127.0.0.1:10061",
        examples={"ipv6": "--http [::1]:10061"},
        reloads=False,
    ),
    Option(
        ("--http-allow",),
        "A network that may read what --http serves, besides this host. Repeatable.",
        values.network,
        "CIDR",
        shown="none",
        example="--http-allow 10.0.0.0/24",
        repeatable=True,
    ),
    Option(
        ("--fail-max",),
        "Failures to connect in a row after which a service is down. A failure that a mail may have caused does not"
        " count: the service is probed at once, and down when the probe fails.",
        values.count,
        "N",
        _HEALTH.fail_max,
        str(_HEALTH.fail_max),
        "--fail-max 3",
    ),
    Option(
        ("--fail-rate",),
        "When this share of a service's last 20 requests failed in a way that a mail may have caused, from at least"
        " three sending hosts, it must answer six probes in a row, or it is down; off for no limit.",
        values.percent,
        "PERCENT",
        _HEALTH.fail_rate,
        f"{_HEALTH.fail_rate * 100:g}",
        "--fail-rate 30",
    ),
    Option(
        ("--cooldown",),
        "How long a service that is down is left alone before it is probed; doubled by each failed probe.",
        values.seconds,
        "SECONDS",
        _HEALTH.cooldown_s,
        f"{_HEALTH.cooldown_s:g}",
        "--cooldown 1",
    ),
    Option(
        ("--cooldown-max",),
        "The longest that it is left alone.",
        values.seconds,
        "SECONDS",
        shown=f"{_HEALTH.cooldown_max_s:g}, or --cooldown where that is longer",
        example="--cooldown-max 60",
    ),
    Option(
        ("--probe",),
        "How a service is asked whether it is well: query sends a made-up policy request, tcp merely connects, off"
        " tries it with the next live request after the cooldown.",
        values.probe,
        "query|tcp|off",
        _HEALTH.probe,
        _HEALTH.probe.value,
        "--probe query",
    ),
    Option(
        ("--probe-attribute",),
        "An attribute of the probe's request, in place of the usual one. Repeatable.",
        values.probe_attribute,
        "NAME=VALUE",
        example="--probe-attribute recipient=postmaster@example.com",
        repeatable=True,
    ),
    Option(
        ("--probe-every",),
        "Also probe a service that is up but has answered no request for this long.",
        values.seconds_or_off,
        "SECONDS",
        shown="off",
        example="--probe-every 60",
    ),
    Option(
        ("--hedge",),
        "When a request is also sent to a second service: auto, when the first one has fallen silent; SECONDS, also"
        " when it has not answered after that time, for at most 10 % of the requests; off, never: for services that"
        " count what they are asked.",
        values.hedge,
        "auto|off|SECONDS",
        HEDGE_AUTO,
        "auto",
        "--hedge auto",
    ),
    Option(
        ("--affinity",),
        "Attributes whose values choose the service within a PRIO, instead of turns: the same sender meets the same"
        " greylister, on every host.",
        values.affinity,
        "ATTRIBUTE[,ATTRIBUTE]",
        (),
        "off",
        "--affinity client_address",
    ),
    Option(
        ("--connect-timeout",),
        "How long it may take to connect to a service.",
        values.seconds,
        "SECONDS",
        _SETTINGS.connect_timeout_s,
        f"{_SETTINGS.connect_timeout_s:g}",
        "--connect-timeout 5",
    ),
    Option(
        ("--deadline",),
        "The longest that Postfix waits for its answer, all services together; Postfix's own limit is 100.",
        values.seconds,
        "SECONDS",
        _REQUESTS.deadline_s,
        f"{_REQUESTS.deadline_s:g}",
        "--deadline 90",
    ),
    Option(
        ("--max-clients",),
        "How many smtpd processes may be connected at once; more wait in the listen backlog.",
        values.count,
        "N",
        _SETTINGS.max_clients,
        str(_SETTINGS.max_clients),
        "--max-clients 1000",
    ),
    Option(
        ("--workers",),
        "Threads with an event loop. With Python's usual interpreter lock one is fastest.",
        values.workers,
        "N",
        _SETTINGS.workers,
        str(_SETTINGS.workers),
        "--workers 1",
        reloads=False,
    ),
    Option(
        ("--drain",),
        "How long requests in flight may still take after SIGTERM.",
        values.seconds_or_0,
        "SECONDS",
        _SETTINGS.drain_s,
        f"{_SETTINGS.drain_s:g}",
        "--drain 30",
    ),
    Option(
        ("--log",),
        "Where events go: auto (the journal, else syslog with facility mail, else stderr), journal, syslog, stderr,"
        " stdout, or the path of a file, which a reload reopens.",
        values.log_sink,
        "SINK",
        LogSink.AUTO,
        "auto",
        "--log auto",
        reloads=False,
    ),
    Option(("--check",), "Show what would run and what is doubtful about it, and exit."),
    Option(
        ("--connect",),
        "With --check: also ask each service, as a probe would, and show its answer; exit status 69 if one gives none.",
    ),
)
