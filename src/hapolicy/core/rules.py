"""The rules that decisions go by, as plain values. Each default has its reason here, and only here."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Probe(enum.Enum):
    """How a service is asked whether it is well, without a live mail."""

    QUERY = "query"  # a made-up policy request: only a service that answers is well
    TCP = "tcp"  # a connection is enough: for services that must not see made-up requests
    OFF = "off"  # no probe: one live request is the trial


@dataclass(frozen=True)
class Hedge:
    """When a request is also asked of a second service: never, while its service is silent, or after `after_s`."""

    enabled: bool = True
    after_s: float | None = None  # None: "auto", when the service has gone silent

    def __str__(self) -> str:
        if not self.enabled:
            return "off"
        return "auto" if self.after_s is None else f"{self.after_s:g}"


HEDGE_AUTO = Hedge()
HEDGE_OFF = Hedge(enabled=False)


@dataclass(frozen=True)
class HealthRules:
    """When a service counts as down, and for how long."""

    fail_max: int = 3  # one refused connection is chance, three in a row are not
    fail_rate: float = 0.3  # a service of which every third answer hangs is found out; 1 switches it off
    cooldown_s: float = 1.0  # a probe is no mail: trying early costs nobody anything
    cooldown_max_s: float = 60.0  # a service that was away for long is back in a minute at most
    probe: Probe = Probe.QUERY
    probe_every_s: float | None = None  # also probe a service that is up and has answered nobody for this long


@dataclass(frozen=True)
class RequestRules:
    """How one request is answered."""

    default_action: str = "dunno"  # 1.00's: mail goes on as if nobody had been asked
    # As smtpd_policy_service_default_action, which tempfails: what Postfix itself does when a policy service breaks.
    suspect_action: str = "DEFER_IF_PERMIT 4.3.0 Policy service error, try again later"
    deadline_s: float = 90.0  # below smtpd_policy_service_timeout (100 s), so Postfix always gets an answer
    hedge: Hedge = HEDGE_AUTO
    affinity: tuple[str, ...] = ()  # attributes whose values choose the service within a tier
