"""What can go wrong between hapolicy and a service: one name each, the same in logs, metrics and documents."""

from __future__ import annotations

import enum


class FailureKind(enum.Enum):
    """Why an exchange gave no answer. The groups below say whose fault that can be."""

    REFUSED = "refused"  # nobody listens there
    UNREACHABLE = "unreachable"  # no way to the address
    UNRESOLVABLE = "unresolvable"  # the host name has no address
    CONNECT_TIMEOUT = "connect_timeout"  # no connection within --connect-timeout, or the service's timeout
    ANSWER_TIMEOUT = "answer_timeout"  # no whole answer within the service's timeout
    CLOSED = "closed"  # the connection ended before a whole answer
    MALFORMED = "malformed"  # something that is no answer
    OVERSIZED = "oversized"  # an answer without end
    LOCAL = "local"  # this host is out of descriptors, ports, memory or the like
    UNRESOLVED = "unresolved"  # the name service has not answered yet
    WITHDRAWN = "withdrawn"  # waited for a connection of a service that went down meanwhile

    def __repr__(self) -> str:
        return self.value


_K = FailureKind

# Nobody's fault: never held against a service.
NOBODYS = frozenset({_K.LOCAL, _K.UNRESOLVED, _K.WITHDRAWN})

# The mail may have brought it about, so it does not convict: a probe does.
DEPENDS_ON_MAIL = frozenset({_K.CLOSED, _K.MALFORMED, _K.OVERSIZED, _K.ANSWER_TIMEOUT})

# The service broke on the request; two that break on the same one make it a poison request.
BREAKS = frozenset({_K.CLOSED, _K.MALFORMED, _K.OVERSIZED})

# Failed at once: as a last resort such a service may be asked again, since that costs no wait.
QUICK = frozenset({_K.REFUSED, _K.UNREACHABLE, _K.CLOSED, _K.MALFORMED})


class ServiceFailure(Exception):
    """An exchange with a service that gave no answer."""

    def __init__(self, kind: FailureKind, error: str) -> None:
        super().__init__(f"{kind.value}: {error}")
        self.kind = kind
        self.error = error
