"""The metrics that Prometheus reads, from a status made by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import hapolicy
from hapolicy.admin.http.metrics import _PROTOCOL_STATES, Exposition
from hapolicy.admin.status import Status
from hapolicy.core.latencies import BOUNDS_S
from hapolicy.core.status import ServiceStatus
from hapolicy.proxy.ledger import STATES
from tests.support.statuses import SERVICE, status_with

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(*services: ServiceStatus, **fields: Any) -> Samples:
    """All samples as a Prometheus parser sees them: (name, labels) to value."""
    status = status_with(services=list(services) or [SERVICE], **fields)
    text, _ = Exposition(lambda: status).render("")
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def sample(samples: Samples, name: str, **labels: str) -> float:
    """The value of one sample."""
    return samples[f"hapolicy_{name}", tuple(sorted(labels.items()))]


def test_counters_and_gauges_carry_the_figures_of_the_status() -> None:
    """Each figure is found under its name, with its labels."""
    samples = samples_of()
    assert 9 == sample(samples, "requests_total", outcome="answered", state="RCPT")
    assert 2 == sample(samples, "requests_total", outcome="defaulted", state="DATA")
    assert (7, 1000, 5) == tuple(sample(samples, n) for n in ("clients", "max_clients", "log_events_dropped_total"))
    assert (1.5, 90) == tuple(sample(samples, n) for n in ("longest_wait_seconds", "deadline_seconds"))
    expected = {
        "up": 1,
        "prio": 10,
        "weight": 2,
        "timeout_seconds": 30,
        "in_flight": 1,
        "cooldown_seconds": 0,
        "queries_total": 12,
        "answers_total": 9,
    }
    assert expected == {name: sample(samples, f"service_{name}", service="GREY1") for name in expected}
    assert 2 == sample(samples, "service_failures_total", service="GREY1", kind="refused")
    assert 1 == sample(samples, "service_probes_total", service="GREY1", result="answered")
    assert 3 == sample(samples, "service_probes_total", service="GREY1", result="failed")
    assert 1 == sample(samples, "requests_total", outcome="suspect", state="RCPT")
    assert (0.004, 1) == tuple(sample(samples, n) for n in ("longest_turn_seconds", "workers"))
    hedges = {"sent": 8, "won": 5, "lost": 2}
    assert hedges == {r: sample(samples, "service_hedges_total", service="GREY1", result=r) for r in hedges}
    connections = {"busy": 1, "idle": 4, "waiting": 0}
    found = {s: sample(samples, "service_connections", service="GREY1", state=s) for s in connections}
    assert connections == found
    assert (6, 3, 0.25, 0) == tuple(
        sample(samples, f"service_{name}", service="GREY1")
        for name in ("suspects_total", "queued", "queued_seconds", "silent")
    )
    builds = [labels for name, labels in samples if name == "hapolicy_build_info"]
    assert [hapolicy.__version__] == [dict(labels)["version"] for labels in builds]


def test_what_has_not_happened_yet_is_there_as_0() -> None:
    """The first default action and the first failure of a kind are an increase, not a new series."""
    samples = samples_of(dataclasses.replace(SERVICE, failures={}), requests=[])
    assert {0.0} == {value for (name, _), value in samples.items() if name == "hapolicy_requests_total"}
    assert 0 == sample(samples, "requests_total", outcome="defaulted", state="RCPT")
    assert 0 == sample(samples, "service_failures_total", service="GREY1", kind="answer_timeout")


def test_every_protocol_state_that_is_counted_is_known_here() -> None:
    """A state that the workers learn must be there as 0, too."""
    assert {*(state.decode() for state in STATES), "other"} == set(_PROTOCOL_STATES)


def test_state_is_1_for_one_state_alone_and_up_holds_while_drained() -> None:
    """What an alert on service_up means: well or not, whatever the operator has decided."""
    for state, up in {"up": 1, "draining": 1, "down": 0, "probing": 0}.items():
        samples = samples_of(dataclasses.replace(SERVICE, state=state, trial_in_s=17.5 if state == "down" else None))
        states = {dict(labels)["state"]: v for (name, labels), v in samples.items() if name == "hapolicy_service_state"}
        assert {"up": 0, "down": 0, "probing": 0, "draining": 0} | {state: 1} == states
        assert up == sample(samples, "service_up", service="GREY1")
        assert (17.5 if state == "down" else 0) == sample(samples, "service_cooldown_seconds", service="GREY1")


def test_latency_histogram_is_cumulative_and_ends_with_all() -> None:
    """Bucket for bucket what `stats` counted, the last one +Inf and equal to the count."""
    samples = samples_of()
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "hapolicy_service_answer_duration_seconds_bucket"
    }
    assert list(BOUNDS_S) == sorted(buckets)
    assert [4, 4, 9, 9] == [buckets[bound] for bound in BOUNDS_S[:4]]
    assert 9 == buckets[math.inf] == sample(samples, "service_answer_duration_seconds_count", service="GREY1")
    assert 0.0031 == sample(samples, "service_answer_duration_seconds_sum", service="GREY1")


def test_a_hostile_name_breaks_no_line() -> None:
    """Quotes, backslashes and line ends in a label come out as they went in."""
    name = 'a"b\\c\nd<script>'
    samples = samples_of(dataclasses.replace(SERVICE, name=name))
    assert 1 == sample(samples, "service_up", service=name)


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    """Prometheus says in its Accept header which format it wants."""
    exposition = Exposition(status_with)
    text, media_type = exposition.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert ("application/openmetrics-text", b"# EOF\n") == (media_type.partition(";")[0], text[-6:])
    assert "text/plain" == exposition.render("")[1].partition(";")[0]
    both = "text/plain;version=0.0.4, application/openmetrics-text"
    assert "text/plain" == exposition.render(both)[1].partition(";")[0]


@pytest.mark.parametrize("version", ["abc", "1.x", "", "9999999999.1", "1" * 6000, "0.0.1;escaping=\x1b"])
def test_a_strangers_version_is_neither_read_nor_echoed(version: str) -> None:
    """prometheus_client's own choice raises TypeError on some of these, and gives others back in a header."""
    exposition = Exposition(status_with)
    for name in ("application/openmetrics-text", "text/plain"):
        _, media_type = exposition.render(f"{name};version={version}")
        assert media_type == exposition.render(name)[1]
        assert name == media_type.partition(";")[0]


def test_a_rendering_is_given_for_a_second_however_often_somebody_asks() -> None:
    """A second scrape at once costs no second look at the counters; one a second later does."""
    clock, looks = [100.0], []

    def status() -> Status:
        looks.append(clock[0])
        return status_with()

    exposition = Exposition(status, lambda: clock[0])
    looks.clear()
    for clock[0] in (100.0, 100.5, 100.999, 101.0, 101.5):
        exposition.render("")
    assert [100.0, 101.0] == looks
    exposition.render("application/openmetrics-text")
    assert [100.0, 101.0, 101.5] == looks


def test_start_time_does_not_wander() -> None:
    """It is the same at every scrape, so that a change of it means a restart."""
    uptimes = iter([60.0, 61.0, 75.0])
    exposition = Exposition(lambda: status_with(uptime_s=next(uptimes)))

    def line() -> list[bytes]:
        return [text for text in exposition.render("")[0].splitlines() if text.startswith(b"hapolicy_start_time")]

    assert line() == line()
