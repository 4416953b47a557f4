"""Who is told what happens to a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hapolicy.core.breaker import StateChange

if TYPE_CHECKING:
    from hapolicy.core.upstream import Upstream


class Observer(Protocol):
    """All of its methods return at once."""

    def service_changed(self, upstream: Upstream, change: StateChange) -> None:
        """It went down or came up, or a probe failed."""

    def silence_changed(self, upstream: Upstream) -> None:
        """It fell silent or is heard again."""

    def availability_changed(self, upstream: Upstream) -> None:
        """Without probes: it may be tried with a live request, or that one has been found."""
