"""The same sender to the same service: weighted rendezvous hashing on attributes of the request.

Two greylisters without a common database know a sender's retry only where they saw its first try. The hash depends on
the service's name and the attributes alone, so every MX host and every restart comes to the same choice; when a
service goes down, only its own senders move, and they come back with it.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable

# As greylisters and policyd-spf do: a provider's hosts are one sender.
_IPV4_PREFIX = 24
_IPV6_PREFIX = 64

_BELOW_1 = math.nextafter(1.0, 0.0)


def key_of(attributes: Iterable[tuple[str, bytes]]) -> bytes | None:
    """What is hashed of these attributes; None when one is empty: such a request takes a turn.

    Case does not count: the domain of an address has none, and a sender who changes it is still the same one.
    """
    parts = []
    for name, value in attributes:
        if not value:
            return None
        parts.append(network_of(value) if name == "client_address" else value.lower())
    return b"\0".join(parts)


def network_of(address: bytes) -> bytes:
    """The /24 or /64 in which an IP address is; anything else as it is."""
    try:
        ip = ipaddress.ip_address(address.decode("ascii"))
    except ValueError:
        return address
    ip = getattr(ip, "ipv4_mapped", None) or ip
    prefix = _IPV4_PREFIX if ip.version == 4 else _IPV6_PREFIX
    return ip.packed[: prefix // 8]


def score(name: str, key: bytes, weight: float) -> float:
    """How much the service `name` is wanted for `key`: the highest score of a tier is asked.

    -weight / ln(u), u evenly spread over (0, 1), gives each service its share by weight ("weighted rendezvous").
    """
    import hashlib  # takes a tenth of a start, and only --affinity needs it

    digest = hashlib.blake2b(key, digest_size=8, key=name.encode()[:64]).digest()
    spread = (int.from_bytes(digest) + 0.5) / 2.0**64
    return -weight / math.log(min(spread, _BELOW_1))  # the last few are rounded to 1
