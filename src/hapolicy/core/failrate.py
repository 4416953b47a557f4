"""How many of a service's last outcomes were failures, and whether of different clients."""

from __future__ import annotations

from collections import deque

OUTCOMES = 20
CLIENTS_MIN = 3  # so that no single sender can take a service down


class FailRate:
    """The last `OUTCOMES` outcomes. Those before the first failure were successes, and cost nothing to keep."""

    def __init__(self, limit: float) -> None:
        self.limit = limit  # the share of failures that is too much; 1 or more: never
        self.failures = 0
        self._clients: deque[str | None] = deque([None] * OUTCOMES, OUTCOMES)  # whose request failed, None: answered

    def succeeded(self) -> None:
        """An answer. Only called while there is a failure among the last outcomes."""
        self._add(None)

    def failed(self, client: str) -> bool:
        """A failure on a request of `client`; returns whether it is this client's first among the last outcomes."""
        is_first = client not in self._clients
        self._add(client)
        return is_first

    @property
    def exceeded(self) -> bool:
        """Whether too many failed, and not of a few clients only."""
        if self.limit >= 1 or self.failures < self.limit * OUTCOMES:
            return False
        return len(set(self._clients) - {None}) >= CLIENTS_MIN

    def forget(self) -> None:
        """Begin anew."""
        self._clients.extend([None] * OUTCOMES)
        self.failures = 0

    def _add(self, client: str | None) -> None:
        self.failures += (client is not None) - (self._clients[0] is not None)
        self._clients.append(client)
