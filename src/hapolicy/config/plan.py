"""What would run, in words: ``--check``."""

from __future__ import annotations

from collections.abc import Iterator

from hapolicy.config.settings import Settings
from hapolicy.core.rules import Probe
from hapolicy.core.service import Service
from hapolicy.core.text import counted


def lines_of(settings: Settings) -> Iterator[str]:
    """The plan, a line each."""
    rules, health = settings.requests, settings.health
    yield f"listen    {'stdin' if settings.stdio else _where(settings)}"
    for what, where in (("control", settings.control), ("http", settings.http)):
        if where and not settings.stdio:
            yield f"{what:<9} {where}"
    for service in sorted(settings.services, key=lambda service: service.prio):
        yield f"service   {_in_words(service)}"
    yield f"default   {rules.default_action}, at the latest after {rules.deadline_s:g} s"
    yield f"suspect   {rules.suspect_action}"
    yield f"health    down after {_failures(settings)}, for {health.cooldown_s:g} s up to {health.cooldown_max_s:g} s"
    every = health.probe_every_s
    yield f"probe     {health.probe.value}{f', also after {every:g} s without a request' if every is not None else ''}"
    yield f"hedge     {rules.hedge}"
    yield f"affinity  {','.join(rules.affinity) or 'off'}"


def _where(settings: Settings) -> str:
    return f"{', '.join(map(str, settings.listeners))}, unless a socket unit of systemd's listens in its place"


def _failures(settings: Settings) -> str:
    health = settings.health
    asks = {service.probe or health.probe for service in settings.services} == {Probe.QUERY}
    in_a_row = f"{counted(health.fail_max, 'failed connection' if asks else 'failure')} in a row"
    if health.fail_rate >= 1:
        return in_a_row
    return f"{in_a_row} or when {health.fail_rate * 100:g} % of its answers{' and a probe' if asks else ''} fail"


def _in_words(service: Service) -> str:
    keys = "".join(f", {key} {value}" for key, value in service.keys().items())
    return (
        f"{service.name} at {service.address}, prio {service.prio}, weight {float(service.weight):g},"
        f" timeout {service.timeout_s:g} s{keys}"
    )
