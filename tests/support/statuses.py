"""A daemon's status made by hand, for what only shows it."""

from __future__ import annotations

import dataclasses
from typing import Any

import hapolicy
from hapolicy.admin.status import Status
from hapolicy.core.latencies import BOUNDS_S
from hapolicy.core.status import ServiceStatus

SERVICE = ServiceStatus(
    name="GREY1",
    address="127.0.0.1:10031",
    prio=10,
    weight=2.0,
    timeout_s=30.0,
    state="up",
    draining=False,
    available=True,
    silent=False,
    trial_in_s=None,
    queries=12,
    answers=9,
    failed=2,
    in_flight=1,
    failures={"refused": 2},
    last_error="refused: Connection refused",
    last_error_age_s=200.0,
    probes_answered=1,
    probes_failed=3,
    suspects=6,
    hedges_sent=8,
    hedges_won=5,
    hedges_lost=2,
    connections_busy=1,
    connections_idle=4,
    connections_waiting=0,
    max_connections=None,
    queued=3,
    queued_for_s=0.25,
    share=1.0,
    p50_s=0.001,
    p99_s=0.002,
    sparkline_s=[None] * 30,
    latency_counts=[4, 0, 5] + [0] * (len(BOUNDS_S) - 3),
    latency_sum_s=0.0031,
)

STATUS: dict[str, Any] = {
    "version": hapolicy.__version__,
    "pid": 1,
    "uptime_s": 60.0,
    "clients": 7,
    "max_clients": 1000,
    "longest_wait_s": 1.5,
    "longest_turn_s": 0.004,
    "workers": 1,
    "deadline_s": 90.0,
    "default_action": "dunno",
    "suspect_action": "DEFER_IF_PERMIT try later",
    "hedge": "auto",
    "affinity": [],
    "log_level": "info",
    "log_requests": False,
    "log_dropped": 5,
    "requests": [
        {"outcome": "answered", "state": "RCPT", "count": 9},
        {"outcome": "defaulted", "state": "DATA", "count": 2},
        {"outcome": "suspect", "state": "RCPT", "count": 1},
    ],
    "services": [SERVICE],
    "changes": [],
}


def status_with(**fields: Any) -> Status:
    """The status above with other values; a field that the daemon's status has and this has not is empty."""
    empty = {field.name: 0 for field in dataclasses.fields(Status)}
    return Status(**{**empty, **STATUS, **fields})
