"""Everything that is worth a log line: a registry, from which the reference is made."""

from __future__ import annotations

from hapolicy.core.event import EventType, Fields, Level

REGISTRY: dict[str, EventType] = {}


def _event(name: str, level: Level, meaning: str, fields: Fields | None = None, repeats_by: str = "") -> EventType:
    REGISTRY[name] = kind = EventType(name, level, meaning, fields or {}, repeats_by)
    return kind


_SERVICE = {"service": "the service's name", "address": "its address"}
_MAIL = {
    "client": "the sending host: client_name[client_address]",
    "helo": "helo_name",
    "from": "the sender",
    "to": "the recipient",
    "protocol_state": "the SMTP state in which Postfix asks",
    "instance": "the same for all requests of one mail",
    "queue_id": "Postfix's queue id, once there is one",
}
_OUTCOME = {
    "action": "the action that Postfix got",
    "delay_ms": "from the request to the answer",
    "attempts": "how many services were asked",
}
_FAILURES = {
    "failures": "by service, why it gave no answer: a kind of failure, down, draining, pending (no answer yet), no_time"
}
_PEER = {"client": "the peer's address and port, or unix"}
_D, _I, _W, _E = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR

# Requests

REQUEST_RECEIVED = _event(
    "request.received", _D, "A request arrived (-v).", {"attributes": "all attributes of the request, by name"}
)
REQUEST_ANSWERED = _event(
    "request.answered",
    _I,
    "A service answered a request (-l). The first fields are hapolicy 1.00's, in its order.",
    {
        **_SERVICE,
        "prio": "its PRIO",
        "weight": "its WEIGHT",
        "queries": "requests that it was asked so far",
        "answers": "requests that it answered so far",
        "failed": "requests that it did not answer so far",
        **_MAIL,
        **_OUTCOME,
    },
)
REQUEST_DEFAULTED = _event(
    "request.defaulted",
    _E,
    "No service answered in time: the request got the default action.",
    {**_OUTCOME, **_FAILURES, **_MAIL},
)
REQUEST_SUSPECT = _event(
    "request.suspect",
    _W,
    "Two services, or the only one twice, broke on this request: it got --suspect, and no failure counts.",
    {**_OUTCOME, **_FAILURES, **_MAIL},
)
REQUEST_HEDGED = _event(
    "request.hedged",
    _D,
    "A service kept a request waiting, so it was also sent to a second one.",
    {
        **_SERVICE,
        "instance": _MAIL["instance"],
        "next": "the second service",
        "after_ms": "how long the request had waited",
    },
)

# Services

SERVICE_FAILED = _event(
    "service.failed",
    _W,
    "A service gave no valid answer to a request; the next one is asked, if there is one.",
    {
        **_SERVICE,
        "kind": "what went wrong",
        "error": "the details",
        "connection": "kept: used before; fresh: new",
        "instance": _MAIL["instance"],
    },
)
SERVICE_SILENT = _event(
    "service.silent",
    _W,
    "Requests wait at a service and it has answered none for too long: the others of its PRIO are asked first.",
    {**_SERVICE, "owed": "requests that it has not answered", "silent_s": "for how long"},
)
SERVICE_ACQUITTED = _event(
    "service.acquitted",
    _D,
    "A service that is up answered a probe: it had failed, fallen silent, or was idle (--probe-every).",
    _SERVICE,
)
_DOWN = {
    **_SERVICE,
    "kind": "why: the last failure's kind, fail_rate, or tripped by an operator",
    "cooldown_s": "how long until it is probed",
}
SERVICE_DOWN = _event(
    "service.down",
    _W,
    "A service is not asked any more until it answers a probe.",
    {**_DOWN, "failures": "how many in a row, if that is the reason"},
)
SERVICE_PROBE_FAILED = _event("service.probe_failed", _W, "A probe of a service that is down failed.", _DOWN)
SERVICE_UP = _event("service.up", _I, "A service is well again.", {**_SERVICE, "down_s": "how long it was down"})
SERVICE_DRAINING = _event("service.draining", _I, "An operator drains a service: nothing new is asked of it.", _SERVICE)
SERVICE_READY = _event("service.ready", _I, "An operator ended a drain.", _SERVICE)
SERVICE_CROWDED = _event(
    "service.crowded",
    _W,
    "A service serves fewer connections than hapolicy opened, so for a minute it gets no more than it serves; max=N"
    " makes that permanent.",
    {**_SERVICE, "connections": "how many it serves"},
)
SERVICE_CONNECTION_STALE = _event(
    "service.connection_stale", _D, "A service had closed an idle connection; a fresh one was used.", _SERVICE
)
SERVICE_OUT_OF_TURN = _event(
    "service.out_of_turn",
    _W,
    "A service sent something unasked; from now on each connection to it carries one request.",
    _SERVICE,
)
SERVICE_STATUS = _event(
    "service.status",
    _I,
    "The state of a service (SIGUSR1).",
    {
        **_SERVICE,
        "state": "up, down, probing or draining",
        "prio": "its PRIO",
        "weight": "its WEIGHT",
        "queries": "requests that it was asked",
        "answers": "requests that it answered",
        "failed": "requests that it did not answer",
        "in_flight": "requests that it has not answered yet",
        "failures": "by kind",
        "hedges_sent": "requests that were also sent to a second service because it kept them waiting",
        "last_error": "what went wrong last",
        "last_error_age_s": "how long ago",
        "probe_in_s": "how long until it is probed, while it is down",
    },
)
POOL_DOWN = _event(
    "pool.down",
    _E,
    "No service is up: requests get the default action.",
    {"action": "the default action", "services": "the state of each service"},
)
POOL_UP = _event("pool.up", _I, "A service is up again.", {"down_s": "how long none was"})
NAME_CHANGED = _event(
    "name.changed",
    _I,
    "A service's host name resolves to other addresses.",
    {
        "name": "the host name and port",
        "addresses": "what it resolves to",
        "gone": "former addresses that are not among these",
    },
)
NAME_FAILED = _event(
    "name.failed",
    _W,
    "A service's host name could not be looked up; its last known addresses stay in use.",
    {"name": "the host name and port", "error": "why"},
)

# Clients and listeners

CLIENT_REJECTED = _event(
    "client.rejected",
    _W,
    "A peer was turned away: it does not speak the protocol, or is not allowed to connect.",
    {**_PEER, "reason": "why"},
    repeats_by="client",
)
CLIENT_LOST = _event("client.lost", _D, "A client's connection broke.", {**_PEER, "error": "how"})
SERVER_FULL = _event(
    "server.full",
    _W,
    "--max-clients are connected; more wait in the listen backlog.",
    {"max_clients": "how many may be connected"},
)
SERVER_ACCEPT_FAILED = _event(
    "server.accept_failed",
    _E,
    "A client could not be accepted for lack of descriptors or memory; hapolicy tries again.",
    {"error": "what is missing"},
)

# The daemon

CONFIG_WARNING = _event(
    "config.warning",
    _W,
    "Something in the configuration is doubtful.",
    {"argument": "which argument", "warning": "what is doubtful about it"},
)
_SERVICES = {"services": "the services, as -s defines them"}
DAEMON_STARTED = _event(
    "daemon.started",
    _I,
    "The daemon listens.",
    {
        "version": "hapolicy's version",
        "pid": "the process id",
        "listen": "where clients connect",
        "control": "where hapolicyctl connects",
        "http": "where HTTP is served",
        **_SERVICES,
        "default": "the default action",
    },
)
DAEMON_RELOADED = _event(
    "daemon.reloaded",
    _I,
    "The configuration was read again and is in use.",
    {**_SERVICES, "new": "new and changed services", "gone": "removed services, and changed ones as they were"},
)
DAEMON_RELOAD_FAILED = _event(
    "daemon.reload_failed", _E, "The configuration could not be used; the former one stays.", {"error": "why"}
)
DAEMON_STOPPING = _event(
    "daemon.stopping", _I, "The daemon got a signal to stop.", {"signal": "which one", "clients": "still connected"}
)
DAEMON_STOPPED = _event(
    "daemon.stopped",
    _I,
    "The daemon has stopped.",
    {
        "drained": "whether every request in flight was answered",
        "clients": "clients that it did not wait for",
        "uptime_s": "how long it ran",
    },
)
DAEMON_ERROR = _event("daemon.error", _E, "A fault in hapolicy: please report it.", {"error": "the traceback's end"})
WATCHDOG_FAILED = _event(
    "watchdog.failed", _E, "A check failed, so the service manager is not notified.", {"error": "which check"}
)
LOG_DROPPED = _event("log.dropped", _W, "The log did not take some events.", {"count": "how many"})
LOG_REPEATED = _event(
    "log.repeated",
    _W,
    "Events of one kind and peer came too fast to be logged one by one.",
    {"of": "the kind", "peer": "the peer", "count": "how many were left out", "seconds": "within how many seconds"},
)

# The control socket

_ORDER = {"command": "the command", "uid": "the operator's user id", "pid": "and process id"}
CONTROL_ORDERED = _event(
    "control.ordered",
    _I,
    "An operator gave an order that changes something.",
    _ORDER,
)
CONTROL_REFUSED = _event(
    "control.refused",
    _W,
    "An order could not be carried out.",
    {**_ORDER, "reason": "why"},
)
CONTROL_REJECTED = _event(
    "control.rejected",
    _W,
    "A client of the control socket was turned away: it is not allowed, or too many are connected.",
    {"uid": "the user id", "pid": "the process id", "reason": "why"},
    repeats_by="uid",
)
