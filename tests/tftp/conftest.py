"""Fixtures of the TFTP room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.settings.tftp import TftpUploads
from tests.tftp import server as servers
from tests.tftp.custodian import Custodian
from tests.tftp.uploading import UPLOADS, Box


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., servers.Server]]:
    """Start engines; each must still live at the end of the test, and end cleanly."""
    started: list[servers.Server] = []

    def one(*arguments, **more) -> servers.Server:
        server = servers.start(tmp_path, *arguments, **more)
        started.append(server)
        return server

    yield one
    for server in reversed(started):  # each holds the channels of those before it
        assert server.stop() == 0, server.log.read_text()


@pytest.fixture
def server(start: Callable[..., servers.Server]) -> servers.Server:
    """An engine with short timeouts, serving an empty folder."""
    return start()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One engine for many a request that changes nothing in it."""
    server = servers.start(tmp_path_factory.mktemp("lasting"))
    yield server
    assert server.counters["crashes"] == 0, server.log.read_text()
    assert server.stop() == 0, server.log.read_text()


@pytest.fixture
def open_box(start: Callable[..., servers.Server]) -> Iterator[Callable[..., Box]]:
    """Start engines with uploads and a scripted custodian: `open_box(uploads, sabotage=..., **settings)`."""
    boxes: list[Box] = []

    def one(
        uploads: TftpUploads = UPLOADS, *, sabotage: Callable[[], object] = servers.nothing, **changes: object
    ) -> Box:
        settings = replace(servers.SETTINGS, uploads=uploads, **changes)  # type: ignore[arg-type]
        server = start(settings, linked=True, sabotage=sabotage)
        assert server.link is not None
        boxes.append(Box(server, Custodian(server.link, server.root / uploads.path)))
        return boxes[-1]

    yield one
    for box in boxes:
        assert box.server.counters["crashes"] == 0, box.server.log.read_text()
        box.custodian.stop()


@pytest.fixture
def box(open_box: Callable[..., Box]) -> Box:
    """A server with short timeouts that takes uploads."""
    return open_box()
