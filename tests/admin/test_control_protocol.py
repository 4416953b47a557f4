"""The control protocol's lines: what an order is, what is none, and that a reply harms no terminal."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hapolicy.admin.control.protocol import (
    ORDER_MAX_BYTES,
    Code,
    Order,
    OrderError,
    error_line,
    line_of,
    order_of,
    request_of,
    result_line,
    result_of,
)

REQUEST = {"request": "smtpd_access_policy"}

NO_ORDERS = [
    (b"", Code.MALFORMED, "not JSON"),
    (b"status", Code.MALFORMED, "not JSON"),
    (b"\x00\xff\xfe", Code.MALFORMED, "not JSON"),
    (b'{"v": 1, "command": "\xff"}', Code.MALFORMED, "not UTF-8"),
    (b'{"v": ' + b"1" * 10_000 + b"}", Code.MALFORMED, "a number beyond measure"),
    (b"[]", Code.MALFORMED, "not a JSON object"),
    (b"null", Code.MALFORMED, "not a JSON object"),
    (b"[" * 100_000, Code.MALFORMED, "nested"),
    (b'{"a":' * 20_000, Code.MALFORMED, "nested"),
    (b'{"v": 1, "command": "x", "a": {"b": {}}}', Code.MALFORMED, "nested"),
    ('{"a": "\u2220", "b": [[[[]]]], "": 0}'.encode("utf-16-le"), Code.MALFORMED, "not JSON"),
    (
        '{"a": "\u2220", "b": %s, "": 0}'.replace("%s", "[" * 9000 + "]" * 9000).encode("utf-16-le"),
        Code.MALFORMED,
        "not JSON",
    ),
    ('{"v": 1, "command": "status"}'.encode("utf-16"), Code.MALFORMED, "not UTF-8"),
    (b'\xef\xbb\xbf{"v": 1, "command": "status"}', Code.MALFORMED, "not JSON"),
    (b'{"command": "status"}', Code.VERSION, "1"),
    (b'{"v": 2, "command": "status"}', Code.VERSION, "1"),
    (b'{"v": "1", "command": "status"}', Code.VERSION, "1"),
    (b'{"v": true, "command": "status"}', Code.VERSION, "1"),
    (b'{"v": 1}', Code.MALFORMED, "command"),
    (b'{"v": 1, "command": 7}', Code.MALFORMED, "command"),
]


@pytest.mark.parametrize(("line", "code", "text"), NO_ORDERS)
def test_what_is_no_order(line: bytes, code: Code, text: str) -> None:
    """Junk, another version and a missing command are refused with a reason."""
    with pytest.raises(OrderError, match=text) as caught:
        order_of(line)
    assert code is caught.value.code


@given(st.binary(max_size=300))
@example(b'{"v":1,"command":"\\ud800"}')
def test_junk_raises_nothing_else(line: bytes) -> None:
    """Whatever comes is an order or an `OrderError`."""
    with contextlib.suppress(OrderError):
        order_of(line)


def test_brackets_within_strings_do_not_nest() -> None:
    """An attribute may hold as many brackets and quotes as it likes."""
    attributes = {"helo_name": '[[[{{{"\\', "x": "[192.0.2.1]"}
    order = Order("query", {"attributes": attributes})
    assert order == order_of(line_of(order))


def test_the_longest_request_fits() -> None:
    """A query may be as long as a request may be."""
    attributes = REQUEST | {f"name{index}": "x" * 2000 for index in range(32)}
    assert len(request_of(attributes).raw) > 64_000
    assert len(line_of(Order("query", {"attributes": attributes}))) < ORDER_MAX_BYTES


def test_replies_come_back() -> None:
    """What the daemon says is what hapolicyctl hears: a result, or an error with its code."""
    assert {"level": "info"} == result_of(result_line({"level": "info"}))
    with pytest.raises(OrderError, match="no such thing") as caught:
        result_of(error_line(OrderError(Code.REFUSED, "no such thing")))
    assert Code.REFUSED is caught.value.code


@pytest.mark.parametrize("line", [b"", b"hello", b"[]", b"{}", b'{"v": 2, "ok": true, "result": {}}'])
def test_what_is_no_reply(line: bytes) -> None:
    """Something else that listens there is not taken for the daemon."""
    with pytest.raises(ValueError):
        result_of(line)


def test_a_code_of_a_later_version_is_a_refusal() -> None:
    """A reason that is not known yet is a no all the same."""
    with pytest.raises(OrderError, match="why") as caught:
        result_of(b'{"v": 1, "ok": false, "code": "new", "error": "why"}')
    assert Code.REFUSED is caught.value.code


def test_a_reply_is_one_line_of_printable_ascii() -> None:
    """A reply read with nc does nothing to the terminal."""
    line = result_line({"last_error": "\x1b[2J\x9b\x7f\r\n\u202e né"})
    assert line.endswith(b"\n")
    assert line[:-1].decode("ascii").isprintable()
    assert "\x1b[2J\x9b\x7f\r\n\u202e né" == json.loads(line)["result"]["last_error"]


def test_a_request_is_made_of_attributes() -> None:
    """Order, empty values, '=' and bytes that are no UTF-8 stay as they are."""
    request = request_of(REQUEST | {"sender": "", "x": "a=b", "helo_name": "\udcff"})
    assert b"request=smtpd_access_policy\nsender=\nx=a=b\nhelo_name=\xff\n\n" == request.raw


BAD_ATTRIBUTES: list[object] = [
    None,
    [],
    "request=smtpd_access_policy",
    {},
    {"sender": "a"},
    REQUEST | {"sender": 1},
    REQUEST | {"sender": "a\nrecipient=b"},
    REQUEST | {"sender": "a\n\nrequest=smtpd_access_policy"},
    REQUEST | {"sender": "a\n\n"},
    REQUEST | {"a\nb": "c"},
    REQUEST | {"": "c"},
    REQUEST | {"sender": "a\0"},
    REQUEST | {"sender": "\ud800"},
    REQUEST | {"sender": "x" * 70_000},
]


@pytest.mark.parametrize("attributes", BAD_ATTRIBUTES)
def test_what_makes_no_request(attributes: object) -> None:
    """Nothing but one whole policy request leaves here."""
    with pytest.raises(OrderError) as caught:
        request_of(attributes)
    assert Code.MALFORMED is caught.value.code
