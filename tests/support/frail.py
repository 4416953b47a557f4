"""The sample service as real ones are: it breaks on some mails, and serves no more connections than it has workers.

    WORKERS [policy_service.py's arguments]

policyd-spf-perl ends when a label of the helo name is too long; mtpolicyd and postfwd leave the connections beyond
their workers in the listen backlog.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from examples import policy_service

POISON = "poison"  # how the instance of a mail begins on which it breaks
Unlimited = policy_service._Server


class Frail(policy_service.SampleService):
    """Hangs up on poison."""

    def control(self, listen: str = "127.0.0.1:0") -> str:
        """Take orders; from any number of callers."""
        return Unlimited(listen, self._obey_all).address

    def _answer(self, instance: bytes) -> bytes:
        if instance.startswith(POISON.encode()):
            raise policy_service.Hangup
        return super()._answer(instance)


class Limited(Unlimited):
    """Takes a connection when a worker is free for it."""

    workers = 1

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.Semaphore(self.workers)
        super().__init__(*arguments)

    def get_request(self) -> tuple[Any, Any]:
        """Accept the next one, once there is room."""
        if not self._free.acquire(timeout=0.2):
            raise BlockingIOError
        try:
            return super().get_request()
        except OSError:
            self._free.release()
            raise

    def shutdown_request(self, request: Any) -> None:
        """A worker is free again."""
        super().shutdown_request(request)
        self._free.release()


def main(arguments: list[str]) -> int:
    """Run one until it is told to end."""
    Limited.workers = int(arguments[0])
    policy_service.SampleService = Frail  # type: ignore[misc]
    policy_service._Server = Limited  # type: ignore[misc]
    return policy_service.main(arguments[1:])


# For `Sample`: elsewhere there is no current folder to import from.
PROGRAM = (
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from tests.support import frail; "
    "sys.exit(frail.main(sys.argv[1:]))",
)
