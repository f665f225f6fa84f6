"""A real browser: headless Chromium by the WebDriver protocol (W3C), which is JSON over HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
]  # fmt: skip


class Browser:
    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._session = ""

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def begin(self, profile: str, dark: bool) -> None:
        arguments = [*OPTIONS, f"--user-data-dir={profile}", *(["--force-dark-mode"] if dark else [])]
        options = {"binary": shutil.which("chromium"), "args": arguments}
        wanted = {
            "capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        }
        self._session = "/session/" + self._call("POST", "/session", wanted)["sessionId"]

    def end(self) -> None:
        if self._session:
            self._call("DELETE", self._session)

    def open(self, url: str) -> None:
        self._call("POST", self._session + "/url", {"url": url})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def devtools(self, command: str, parameters: Any) -> Any:
        return self._call("POST", self._session + "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._call("POST", self._session + "/execute/sync", {"script": script, "args": list(arguments)})

    def keys(self, *keys: str) -> None:
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        actions = [{"type": "key", "id": "keyboard", "actions": steps}]
        self._call("POST", self._session + "/actions", {"actions": actions})

    def until(self, script: str, *arguments: Any, seconds: float = 60) -> Any:
        """Wait until a script returns something true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.run(script, *arguments):
                return found
        raise AssertionError(f"never true: {script}; log: {self.log()}")

    def log(self) -> list[Any]:
        return list(self._call("POST", self._session + "/se/log", {"type": "browser"}))

    def shot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self._call("GET", self._session + "/screenshot")))
        return path


@contextlib.contextmanager
def browser(dark: bool = False) -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        log = Path(profile, "driver.log")
        with log.open("wb") as out:
            driver = subprocess.Popen(
                ["chromedriver", "--port=0"], stdout=out, stderr=out, env={**os.environ, "HOME": profile}
            )
        one = None
        try:
            one = Browser(_port(log, lambda: driver.poll() is None))
            one.begin(f"{profile}/data", dark)
            yield one
        finally:
            if one is not None:
                with contextlib.suppress(OSError):
                    one.end()
            driver.terminate()
            driver.wait(20)


def _port(log: Path, alive: Callable[[], bool]) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and alive():
        for line in log.read_text(errors="replace").splitlines():
            if "started successfully on port " in line:
                return int(line.rsplit(" ", 1)[1].rstrip("."))
    raise AssertionError(log.read_text(errors="replace"))
