"""hapolicy's own requests, to the letter: services log them, remember them, and must not be led astray by them."""

from __future__ import annotations

from hapolicy.core.protocol import is_one_request
from hapolicy.core.synthetic import probe_request, raw_request, request_attributes

PROBE = b"""request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
helo_name=probe.hapolicy.invalid
queue_id=
sender=probe@hapolicy.invalid
recipient=probe@hapolicy.invalid
recipient_count=0
client_address=192.0.2.1
client_name=probe.hapolicy.invalid
reverse_client_name=probe.hapolicy.invalid
instance=i1
size=0
policy_context=hapolicy-probe

"""


def test_a_probe() -> None:
    """As it goes to a service, with what --probe-attribute replaces or adds."""
    assert PROBE == probe_request("i1")
    assert is_one_request(PROBE)
    changed = probe_request("i1", [("sender", "me@example.com"), ("x", "y")])
    assert PROBE.replace(b"probe@hapolicy.invalid", b"me@example.com", 1)[:-1] + b"x=y\n\n" == changed


def test_a_query_says_that_it_is_one() -> None:
    """And bytes that are not UTF-8 go as they came."""
    assert PROBE.replace(b"probe", b"query") == raw_request(request_attributes("query", "i1"))
    assert b"a=\xff\n\n" == raw_request({"a": "\udcff"})
