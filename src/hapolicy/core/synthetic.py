"""Requests of hapolicy's own: probes, and what hapolicyctl query sends unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def request_attributes(who: str, instance: str) -> dict[str, str]:
    """A harmless RCPT by `who` (probe, query).

    The client is in TEST-NET-1 (RFC 5737): a service that keeps what it has seen, as policyd-weight does, must not
    remember 127.0.0.1. The names end in .invalid (RFC 2606), so no name server has to be asked for long.
    """
    return {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "helo_name": f"{who}.hapolicy.invalid",
        "queue_id": "",
        "sender": f"{who}@hapolicy.invalid",
        "recipient": f"{who}@hapolicy.invalid",
        "recipient_count": "0",
        "client_address": "192.0.2.1",
        "client_name": f"{who}.hapolicy.invalid",
        "reverse_client_name": f"{who}.hapolicy.invalid",
        "instance": instance,
        "size": "0",
        "policy_context": f"hapolicy-{who}",
    }


def probe_request(instance: str, attributes: Iterable[tuple[str, str]] = ()) -> bytes:
    """A probe as it goes to a service; `attributes` replace or add to the usual ones (``--probe-attribute``)."""
    return raw_request(request_attributes("probe", instance) | dict(attributes))


def raw_request(attributes: Mapping[str, str]) -> bytes:
    """The bytes of a request; those that are not UTF-8 are lone surrogates in `attributes`, in Python's way."""
    lines = "".join(f"{name}={value}\n" for name, value in attributes.items())
    return (lines + "\n").encode("utf-8", "surrogateescape")
