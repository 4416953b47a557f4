"""When a service that owes answers counts as silent."""

from __future__ import annotations

from hapolicy.core.latencies import Latencies, quantile

# It has given no answer to anybody for longer than this, or than a multiple of what is usual for it. While little is
# known of it, for longer than a second.
SILENT_MIN_S = 0.25
SILENT_P99S = 3.0
SILENT_LONGEST = 2.0
SILENT_UNKNOWN_S = 1.0
_KNOWN_FROM = 100  # answers in the last minute


def silent_after_s(latencies: Latencies, now: float) -> float:
    """For how long it may be silent, by the answers of the last minute.

    The longest of them counts, too: SPF services wait for name servers, and their times have a long tail.
    """
    minute = latencies.minute(now)
    if sum(minute) < _KNOWN_FROM:
        return SILENT_UNKNOWN_S
    p99_s = quantile(minute, 0.99) or 0.0
    return max(SILENT_MIN_S, SILENT_P99S * p99_s, SILENT_LONGEST * latencies.longest_s(now))
