"""The picture of the status page in README and docs: three services under load, one of them killed.

``HAPOLICY_TEST_PICTURE=1`` takes it for the documents, after a minute of load; otherwise it is only shown that it can
be taken, and that the page says what the picture in the documents shows.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from tests.e2e.browser import Browser
from tests.support.client import Load
from tests.support.sample import Sample
from tests.support.web import WebDaemon

PICTURE = Path(__file__).parents[2] / "docs" / "status-page.png"
FOR_THE_DOCUMENTS = bool(os.environ.get("HAPOLICY_TEST_PICTURE"))
SIZE = (1080, 1260)
LINE_PIXELS = 21  # a text that is longer on a busy machine takes a line more
LOAD_S = 58.0 if FOR_THE_DOCUMENTS else 3.0  # a minute of latency is shown


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels (its first chunk, https://www.w3.org/TR/png/#11IHDR)."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_picture_of_the_documents(tmp_path: Path) -> None:
    """As wide as theirs, made from the running product."""
    picture = PICTURE if FOR_THE_DOCUMENTS else tmp_path / "picture.png"
    with (
        Sample("GREY1") as grey1,
        Sample("GREY2") as grey2,
        Sample("FALLBACK") as fallback,
        WebDaemon("-s", grey1.service(":10:2"), "-s", grey2.service(":10:1"), "-s", fallback.service(":20")) as daemon,
        Browser(SIZE) as browser,
        Load(daemon.address, 12, 0.01),
    ):
        browser.open(f"http://{daemon.web}/")
        time.sleep(0.4 * LOAD_S)
        grey2.fault("slow", 0.004)
        time.sleep(0.3 * LOAD_S)
        grey2.fault("none")
        time.sleep(0.15 * LOAD_S)
        grey1.kill()
        browser.wait_text("#says", "GREY1 is down")
        time.sleep(0.15 * LOAD_S)
        # The host's name is nobody's business.
        browser.run("display = () => {}; document.getElementById('host').textContent = 'on mx1'")
        browser.screenshot(picture)
    (width, height), (theirs, height_of_theirs) = size(picture), size(PICTURE)
    assert theirs == width
    assert abs(height - height_of_theirs) <= 2 * LINE_PIXELS
    assert picture.stat().st_size > PICTURE.stat().st_size / 2  # it is no blank page
