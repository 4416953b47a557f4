"""What one configuration decides by: its rules, its services and whose turn it is. A reload makes a new one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hapolicy.core.affinity import key_of
from hapolicy.core.protocol import Request, answer_of
from hapolicy.core.rules import RequestRules
from hapolicy.core.scheduler import Scheduler
from hapolicy.core.upstream import Upstream


class Plan:
    """The services of one configuration, in the order in which they are to be asked.

    `owed` is what the scheduler of the plan before says: a reload changes nobody's share.
    """

    def __init__(
        self, rules: RequestRules, upstreams: Sequence[Upstream], owed: Mapping[Upstream, float] | None = None
    ) -> None:
        self.rules = rules
        self.deadline_s = rules.deadline_s
        self._affinity = rules.affinity
        self.scheduler = Scheduler(upstreams, owed)
        self.upstreams: tuple[Upstream, ...] = self.scheduler.members
        self.default_answer = answer_of(rules.default_action)

    def first(self, request: Request) -> Upstream | None:
        """Whose turn it is; takes the turn."""
        return self.scheduler.first(self._key(request)) if self._affinity else self.scheduler.turn()

    def other(self, tried: Collection[Upstream], request: Request) -> Upstream | None:
        """The best one that is not among `tried`; takes no turn."""
        return self.scheduler.others(tried, self._key(request) if self._affinity else None)

    def suspect_answer(self, upstream: Upstream) -> bytes:
        """The answer to a request on which services broke, `upstream` the first."""
        return answer_of(upstream.service.suspect_action or self.rules.suspect_action)

    def _key(self, request: Request) -> bytes | None:
        return key_of([(name, request.value(name)) for name in self._affinity])
