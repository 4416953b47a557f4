"""What the tests of the HTTP side share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sample import Sample
from tests.support.web import WebDaemon


@pytest.fixture(scope="module")
def web_service() -> Iterator[Sample]:
    """A service that none of a module's tests breaks."""
    with Sample("GREY1") as service:
        yield service


@pytest.fixture(scope="module")
def web(web_service: Sample) -> Iterator[WebDaemon]:
    """A daemon for a module's tests; at the end it must have gone in peace, whatever they did to it."""
    with WebDaemon("-s", web_service.service()) as daemon:
        yield daemon
        assert 200 == daemon.get("/healthz").status
