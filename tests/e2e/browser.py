"""A real browser: Debian's Chromium, headless, driven through its chromedriver (W3C WebDriver: JSON over HTTP)."""

from __future__ import annotations

import base64
import json
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.need import need
from tests.support.procs import Process, free_port, wait_until

# No screen, no sandbox (CI runs as root), and nothing that talks to the world by itself.
CHROMIUM_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    # Whatever is not this host does not exist.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
REQUEST_TIMEOUT_S = 60.0


class Browser:
    """One tab; as a context manager it ends with its driver."""

    def __init__(self, size: tuple[int, int] = (1280, 900)) -> None:
        chromium, driver = need("chromium", "chromium"), need("chromedriver", "chromium-driver")
        self._profile = tempfile.TemporaryDirectory(prefix="hapolicy-chromium-", ignore_cleanup_errors=True)
        # Not --port=0: it takes one on ::1, and ends when another program has the same one on 127.0.0.1.
        self._driver = Process([driver, f"--port={free_port()}"], cwd=self._profile.name)
        try:
            self._base = f"http://127.0.0.1:{self._port()}"
            options = {
                "binary": chromium,
                "args": [*CHROMIUM_OPTIONS, f"--user-data-dir={self._profile.name}/profile"],
            }
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            self._session = ""
            session = self._tell("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{session['sessionId']}"
            self.resize(*size)
        except BaseException:
            self.close()
            raise

    def _port(self) -> int:
        """The port that the driver took, from its greeting."""
        said = re.compile(r"started successfully on port (\d+)")
        found = self._driver.wait_for(
            lambda: [match for line in self._driver.noise if (match := said.search(line))], "chromedriver's port"
        )
        return int(found[0][1])

    def open(self, url: str) -> None:
        """Go there."""
        self._tell("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """What a function with this body returns."""
        return self._tell("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text that a person sees there; nothing when there is no such element."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def style(self, selector: str, name: str) -> str:
        """A computed style."""
        return str(
            self.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)
        )

    def wait_text(self, selector: str, wanted: str, timeout_s: float = 20.0) -> str:
        """The text there, once it holds `wanted`."""

        def found() -> str:
            text = self.text(selector)
            return text if wanted in text else ""

        return wait_until(found, f"{wanted!r} in {selector}", timeout_s)

    def resize(self, width: int, height: int) -> None:
        """A screen of so many pixels; as narrow as a phone's, which a window cannot be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """The reader's preference: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self._devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the browser has logged since the last call: refused scripts, failed requests, errors."""
        entries = self._tell("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def accessibility_names(self, role: str) -> list[str]:
        """The names by which a screen reader announces the elements of a role."""
        nodes = self._devtools("Accessibility.getFullAXTree", {})["nodes"]
        return [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") == role]

    def close(self) -> None:
        """End browser and driver."""
        try:
            if getattr(self, "_session", ""):
                self._tell("DELETE", self._session)
        finally:
            self._driver.kill()
            self._profile.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._tell("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _tell(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if method == "DELETE" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy
        try:
            with opener.open(request, timeout=REQUEST_TIMEOUT_S) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.read().decode(errors='replace')[:1000]}") from None


def luminance(colour: str) -> float:
    """How light a CSS colour "rgb(r, g, b)" is, 0 to 1 (WCAG 2, relative luminance)."""

    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(number) / 255) for number in re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colours: Sequence[str]) -> float:
    """The contrast of two CSS colours, 1 to 21 (WCAG 2)."""
    lighter, darker = sorted(map(luminance, colours), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
