"""Each service is asked once, before a daemon runs with it: ``hapolicy --check --connect``."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator

from hapolicy.admin.direct import ask_service, reach_service
from hapolicy.config.settings import Settings
from hapolicy.core.failures import ServiceFailure
from hapolicy.core.rules import Probe
from hapolicy.core.service import Service
from hapolicy.core.synthetic import probe_request
from hapolicy.core.text import escaped


def lines_of(settings: Settings) -> Iterator[tuple[str, bool]]:
    """A line for each service, and whether it is well; and as which user, who may not reach what the daemon may."""
    yield f"as user   {_user()}", True
    for service in sorted(settings.services, key=lambda service: service.prio):
        try:
            said, well = _try(service, settings), True
        except ServiceFailure as failure:
            said, well = f"failed, {failure}", False
        yield f"try       {service.name}: {said}", well


def _try(service: Service, settings: Settings) -> str:
    if (service.probe or settings.health.probe) is not Probe.QUERY:
        return f"takes connections ({reach_service(service.address, settings.connect_timeout_s):.1f} ms)"
    request = probe_request(f"hapolicy.check.{os.getpid():x}", settings.probe_attributes)
    action, took_ms = ask_service(service.address, request, service.timeout_s)
    return f"{escaped(action)} ({took_ms:.1f} ms)"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
