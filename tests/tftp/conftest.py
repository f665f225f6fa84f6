"""Fixtures of the TFTP room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tftp import server as servers


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., servers.Server]]:
    """Start engines; each must still live at the end of the test, and end cleanly."""
    started: list[servers.Server] = []

    def one(*arguments, **more) -> servers.Server:
        server = servers.start(tmp_path, *arguments, **more)
        started.append(server)
        return server

    yield one
    for server in started:
        assert server.stop() == 0, server.log.read_text()


@pytest.fixture
def server(start: Callable[..., servers.Server]) -> servers.Server:
    """An engine with short timeouts, serving an empty folder."""
    return start()
