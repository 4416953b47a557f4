"""What can go wrong between hapolicy and a service: one name each, the same in logs, metrics and documents."""

from __future__ import annotations

import enum


class FailureKind(enum.Enum):
    """Why an exchange gave no answer. Each charges the service, except `LOCAL`, which is our own want."""

    REFUSED = "refused"  # nobody listens there
    UNREACHABLE = "unreachable"  # no way to the address
    UNRESOLVABLE = "unresolvable"  # the host name has no address
    CONNECT_TIMEOUT = "connect_timeout"  # no connection within --connect-timeout
    ANSWER_TIMEOUT = "answer_timeout"  # no whole answer within the service's timeout
    CLOSED = "closed"  # the link ended before a whole answer
    MALFORMED = "malformed"  # something that is no answer
    OVERSIZED = "oversized"  # an answer without end
    LOCAL = "local"  # this host is out of descriptors, memory or the like

    @property
    def charges_service(self) -> bool:
        """Whether the service is to blame."""
        return self is not FailureKind.LOCAL


class ServiceFailure(Exception):
    """An exchange with a service that gave no answer. `kept` tells whether it was on a kept link."""

    def __init__(self, kind: FailureKind, error: str, *, kept: bool = False) -> None:
        super().__init__(f"{kind.value}: {error}")
        self.kind = kind
        self.error = error
        self.kept = kept
