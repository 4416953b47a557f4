"""The orders that the control socket takes: their fields, what each does, what its result holds.

docs/reference/control-protocol.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hapolicy.admin.control.protocol import Code, Order, OrderError, request_of
from hapolicy.admin.operations import Operations
from hapolicy.admin.status import Status
from hapolicy.config.settings import SettingsError
from hapolicy.core.event import Level
from hapolicy.core.failures import ServiceFailure
from hapolicy.proxy.pool import UnknownService

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """What a command does, which fields it must have and which it may have; whether it changes anything."""

    do: Callable[[Operations, Mapping[str, Any]], Result]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    changes: bool = True

    def carry_out(self, operations: Operations, arguments: Mapping[str, Any]) -> Result:
        """Do it. Raises `OrderError` when that is refused."""
        try:
            return self.do(operations, arguments)
        except (UnknownService, SettingsError) as error:
            raise OrderError(Code.REFUSED, str(error)) from None


def command_of(order: Order) -> Command:
    """What is to be done, with the fields that it needs. Raises `OrderError`."""
    command = COMMANDS.get(order.command)
    if command is None:
        raise OrderError(Code.MALFORMED, f"no command {order.command!r}; there are: {', '.join(COMMANDS)}")
    missing = [name for name in command.required if name not in order.arguments]
    unknown = [name for name in order.arguments if name not in command.required + command.optional]
    if missing or unknown:
        fault, names = ("field missing", missing) if missing else ("unknown field", unknown)
        raise OrderError(Code.MALFORMED, f"{fault}: {', '.join(names)}")
    return command


def _on_service(act: Callable[[Operations, str], None]) -> Command:
    def do(operations: Operations, arguments: Mapping[str, Any]) -> Result:
        name = _text(arguments, "service")
        act(operations, name)
        status = operations.status()
        for service in status.services:
            if service.name == name:
                now = {"service": name, "state": service.state, "in_flight": service.in_flight}
                return now | {"warnings": _none_left(status)}
        raise OrderError(Code.REFUSED, f"service {name!r} was just removed by a reload")

    return Command(do, required=("service",))


def _status(operations: Operations, _: Mapping[str, Any]) -> Result:
    return operations.status().as_dict()


def _log_level(operations: Operations, arguments: Mapping[str, Any]) -> Result:
    name = _text(arguments, "level").lower()
    levels = {level.name.lower(): level for level in Level}
    if name not in levels:
        raise OrderError(Code.REFUSED, f"no log level {name!r}; there are: {', '.join(levels)}")
    operations.set_log_level(levels[name])
    return {"level": name}


def _reload(operations: Operations, _: Mapping[str, Any]) -> Result:
    try:
        warnings = operations.reload()
    except TimeoutError:
        raise OrderError(
            Code.REFUSED, "not reloaded in time: the daemon is stopping, or its files take long to read"
        ) from None
    status = operations.status()
    return {
        "services": [service.name for service in status.services],
        "warnings": [*(f"{argument}: {warning}" for argument, warning in warnings), *_none_left(status)],
    }


def _none_left(status: Status) -> list[str]:
    """The warning that an operator needs who has taken the last service out."""
    if any(service.available for service in status.services):
        return []
    return [f"no service is left: each request gets the default action {status.default_action}"]


def _query(operations: Operations, arguments: Mapping[str, Any]) -> Result:
    request = request_of(arguments["attributes"])
    name = _text(arguments, "service") if "service" in arguments else None
    try:
        answered = operations.query(request, name)
    except ServiceFailure as failure:
        raise OrderError(Code.UNAVAILABLE, f"{name}: {failure}") from None
    except TimeoutError:
        raise OrderError(Code.UNAVAILABLE, "no answer in time") from None
    return {"action": answered.action, "service": answered.service, "took_ms": answered.took_ms}


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments[name]
    if not isinstance(value, str):
        raise OrderError(Code.MALFORMED, f'"{name}" must be a string')
    return value


COMMANDS = {
    "status": Command(_status, changes=False),
    "drain": _on_service(Operations.drain),
    "ready": _on_service(Operations.ready),
    "trip": _on_service(Operations.trip),
    "reset": _on_service(Operations.reset),
    "log-level": Command(_log_level, required=("level",)),
    "reload": Command(_reload),
    "query": Command(_query, required=("attributes",), optional=("service",), changes=False),
}
