"""Makes docs/status-page.png anew: ``python -m tests.e2e.picture``. Three services under load, one of them killed."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.browser import Browser
from tests.support.client import Load
from tests.support.sample import Sample
from tests.support.web import WebDaemon

PICTURE = Path(__file__).parents[2] / "docs" / "status-page.png"
SIZE = (1080, 1260)
WARM_UP_S = 50.0  # so that there is a minute of latency to see


def main() -> None:
    """Set the scene, wait, take the picture."""
    with (
        Sample("GREY1") as grey1,
        Sample("GREY2") as grey2,
        Sample("FALLBACK") as fallback,
        WebDaemon("-s", grey1.service(":10:2"), "-s", grey2.service(":10:1"), "-s", fallback.service(":20")) as daemon,
        Browser(SIZE) as browser,
        Load(daemon.address, 12, 0.01),
    ):
        browser.open(f"http://{daemon.web}/")
        time.sleep(WARM_UP_S * 0.4)
        grey2.fault("slow", 0.004)
        time.sleep(WARM_UP_S * 0.3)
        grey2.fault("none")
        time.sleep(WARM_UP_S * 0.3)
        grey1.kill()
        browser.wait_text("#says", "GREY1 is down")
        time.sleep(8)
        # The host's name is nobody's business.
        browser.run("display = () => {}; document.getElementById('host').textContent = 'on mx1'")
        browser.screenshot(PICTURE)


if __name__ == "__main__":
    main()
