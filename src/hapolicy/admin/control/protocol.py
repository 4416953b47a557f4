"""What a line of the control protocol means: bytes in, orders and replies out. Pure; `control` tells what there is.

One JSON object a line, UTF-8, ended by a newline, both ways; each order has one reply, in the same sequence::

    {"v": 1, "command": "drain", "service": "GREY1"}
    {"v": 1, "ok": true, "result": {"service": "GREY1", "state": "draining", "in_flight": 2}}
    {"v": 1, "ok": false, "code": "refused", "error": "no service 'GREY9'; there are: GREY1, GREY2"}

`v` is raised when an order or a reply changes its meaning; new fields in a result are no such change. `code` is for
programs (`Code`), `error` for people.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hapolicy.core.protocol import REQUEST_MAX_BYTES, MalformedRequest, Request, RequestReader

VERSION = 1

# The longest order is a query: a whole request, with quotes around each name and value.
ORDER_MAX_BYTES = 2 * REQUEST_MAX_BYTES

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')


class Code(enum.Enum):
    """Why an order was not carried out."""

    MALFORMED = "malformed"  # it cannot be understood
    VERSION = "version"  # another version of the protocol
    DENIED = "denied"  # not from this user
    BUSY = "busy"  # too many others are connected
    REFUSED = "refused"  # understood, but it cannot be carried out; nothing has changed
    UNAVAILABLE = "unavailable"  # the service that a query was for gave no answer
    INTERNAL = "internal"  # a fault of the daemon's


class OrderError(Exception):
    """An order that is not carried out: the code for programs, the text for people."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Order:
    """What is to be done, and the further fields of the line."""

    command: str
    arguments: Mapping[str, Any]


def order_of(line: bytes) -> Order:
    """The order in a line. Raises `OrderError`."""
    fields = _object(line)
    version = fields.pop("v", None)
    if version != VERSION or isinstance(version, bool):
        raise OrderError(Code.VERSION, f'"v" must be {VERSION}, the version of the protocol that this daemon speaks')
    command = fields.pop("command", None)
    if not isinstance(command, str):
        raise OrderError(Code.MALFORMED, '"command" must be a string')
    return Order(command, fields)


def line_of(order: Order) -> bytes:
    """The line that says `order`."""
    return _line({"command": order.command, **order.arguments})


def result_line(result: Mapping[str, Any]) -> bytes:
    """The reply to an order that was carried out."""
    return _line({"ok": True, "result": result})


def error_line(error: OrderError) -> bytes:
    """The reply to an order that was not."""
    return _line({"ok": False, "code": error.code.value, "error": str(error)})


def result_of(line: bytes) -> dict[str, Any]:
    """The result in a reply. Raises `OrderError` when the daemon refuses, ValueError when it is no reply."""
    reply = json.loads(line)
    if not isinstance(reply, dict) or reply.get("v") != VERSION:
        raise ValueError(f"the daemon does not speak version {VERSION} of the control protocol")
    if reply.get("ok") is True and isinstance(reply.get("result"), dict):
        result: dict[str, Any] = reply["result"]
        return result
    code = next((code for code in Code if code.value == reply.get("code")), Code.REFUSED)
    raise OrderError(code, str(reply.get("error", "")))


def request_of(attributes: object) -> Request:
    """The policy request that a query's attributes make. Raises `OrderError`."""
    if not isinstance(attributes, Mapping) or not all(isinstance(value, str) for value in attributes.values()):
        raise OrderError(Code.MALFORMED, '"attributes" must be an object of strings')
    raw = "".join(f"{name}={value}\n" for name, value in attributes.items()) + "\n"
    reader = RequestReader()
    try:
        # Bytes that are no UTF-8 come as lone surrogates, in Python's way.
        reader.feed(raw.encode("utf-8", "surrogateescape"))
        request = reader.next_request()
    except MalformedRequest as error:
        raise OrderError(Code.MALFORMED, str(error)) from None
    except UnicodeEncodeError:
        raise OrderError(Code.MALFORMED, "a character that UTF-8 cannot encode") from None
    if request is None or reader.partial or raw.count("\n") != len(attributes) + 1:
        raise OrderError(Code.MALFORMED, "a newline in an attribute")
    return request


def _object(line: bytes) -> dict[str, Any]:
    # An order holds one object at most. The parser recurses, and the thread's stack is small.
    if len(re.findall(rb"[\[{]", _STRING.sub(b"", line))) > 2:
        raise OrderError(Code.MALFORMED, "nested deeper than any order")
    try:
        fields = json.loads(line.decode())  # of bytes it would guess the encoding; in UTF-16 one can hide brackets
    except ValueError as error:
        reason = getattr(error, "msg", None) or "not UTF-8, or a number beyond measure"
        raise OrderError(Code.MALFORMED, f"not JSON: {reason}") from None
    if not isinstance(fields, dict):
        raise OrderError(Code.MALFORMED, "not a JSON object")
    return fields


def _line(fields: Mapping[str, Any]) -> bytes:
    """Pure ASCII without a control character: a person may read it on a terminal."""
    text = json.dumps({"v": VERSION, **fields}, default=str)
    return text.replace("\x7f", "\\u007f").encode("ascii") + b"\n"
