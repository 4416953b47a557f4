"""What a reload changes about a service that stays: every rule, from the next failure on."""

from __future__ import annotations

import pytest

from hapolicy.core.failures import FailureKind as K
from hapolicy.core.rules import HEDGE_OFF, HealthRules, Hedge, Probe
from hapolicy.core.service import parse_service
from hapolicy.core.upstream import VERIFYING_PROBES
from tests.core.test_judgement import fail_in_a_row
from tests.core.world import World


def reloaded(health: HealthRules, hedge: Hedge = HEDGE_OFF, service: str = "A=h:1") -> World:
    """Two services that began with the defaults; A has been told to go by others."""
    world = World("A=h:1", "B=h:2:20")
    world["A"].redefine(parse_service(service), health, hedge)
    return world


def test_fail_max() -> None:
    """One failure is enough now."""
    world = reloaded(HealthRules(fail_max=1))
    fail_in_a_row(world, "A", K.REFUSED, 1)
    assert world["A"].state == "down"


@pytest.mark.parametrize(("most_s", "expected_s"), [(60.0, 7.0), (5.0, 5.0)])
def test_cooldown(most_s: float, expected_s: float) -> None:
    """And --cooldown-max."""
    world = reloaded(HealthRules(cooldown_s=7.0, cooldown_max_s=most_s))
    fail_in_a_row(world, "A", K.REFUSED, 3)
    assert expected_s == world.changes[-1][1].cooldown_s


@pytest.mark.parametrize(("fail_rate", "probes"), [(0.3, VERIFYING_PROBES), (1.0, 0)])
def test_fail_rate(fail_rate: float, probes: int) -> None:
    """Too many failures call for probes in a row, or, switched off, for none."""
    world = reloaded(HealthRules(fail_rate=fail_rate))
    for number in range(12):
        world.ask(f"192.0.{number}.1")
        world.fail(world.at("A")[0], K.ANSWER_TIMEOUT)
        world.answer_all()
    assert probes == world["A"].verifying


def test_probe() -> None:
    """Its kind, and how long a service may be idle before it is probed; a service's own key counts for more."""
    world = reloaded(HealthRules(probe=Probe.TCP, probe_every_s=30))
    assert world["A"].probe_kind is Probe.TCP
    world.wait(31)
    assert world.probe("A", None)
    assert reloaded(HealthRules(probe=Probe.TCP), service="A=h:1,probe=off")["A"].probe_kind is Probe.OFF


def test_hedge() -> None:
    """Off, or after a time."""
    assert not reloaded(HealthRules())["A"].hedge.enabled
    assert 0.5 == reloaded(HealthRules(), Hedge(after_s=0.5))["A"].hedge.after_s
