"""What several test modules need: confined children made by hand, bounded waiting, and who we are."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from appliance import wire
from appliance.confine.plan import Spec
from appliance.observe import shares, tables
from appliance.supervise.spawn import Child, spawn

ROOT = os.geteuid() == 0
PATIENCE_S = 60.0  # a busy machine is no defect
needs_root = [pytest.mark.root, pytest.mark.skipif(not ROOT, reason="needs root: chroot and other uids")]


def until(fact: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    """Wait for a fact of another process that no descriptor announces; returns it.

    `seconds` is what it takes at most where nothing else runs: it fails after that, but never before PATIENCE_S.
    """
    deadline = time.monotonic() + max(seconds, PATIENCE_S)
    while not (found := fact()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s, nor within {PATIENCE_S} s: {what or fact}")
        select.select([], [], [], 0.01)
    return found


@dataclass
class Made:
    """A child that was started by hand, and what came back."""

    child: Child
    ready: wire.Ready | None
    answer: Any


def spec(jail: str, promise: str, **changes: Any) -> Spec:
    fields: dict[str, Any] = {
        "uid": 64610 if ROOT else os.getuid(),
        "gid": 64610 if ROOT else os.getgid(),
        "writes": False,
        "bind_tcp": None,
        "nofile": 256,
        "fsize": -1,
        "parent": os.getpid(),
        "required": True,
    }
    return Spec(jail=jail, promise=promise, **{**fields, **changes})


@contextmanager
def born(
    main: str, confinement: Spec, settings: dict[str, Any], listeners: tuple[socket.socket, ...] = ()
) -> Iterator[Made]:
    """Start `main` through the real birth, wait for READY and for what it writes to `documents["answer"]`.

    `documents["sibling"]` is the table of a sibling, as the supervisor shows it.
    """
    child = spawn("test", 0)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    table = tables.create("test")
    owned = shares.create("sibling", shares.salt())
    shares.own(owned)
    roles = ("table", *(f"listener:{i}" for i in range(len(listeners))), "document:answer", "document:sibling")
    start = wire.Start("test", 0, main, {"log": "text", **settings}, asdict(confinement), roles)
    fds = [table, *(sock.fileno() for sock in listeners), write_end, owned]
    socket.send_fds(child.channel, [wire.pack(start)], fds)
    os.close(table)
    os.close(write_end)
    os.close(owned)
    made = Made(child, None, None)
    try:
        with os.fdopen(read_end, "rb") as answer:
            select.select([answer], [], [], 30)
            text = answer.read()
        made.answer = json.loads(text) if text else None
        try:
            made.ready = wire.parse(child.channel.recv(wire.MAX_MESSAGE), from_child=True)  # type: ignore[assignment]
        except (BlockingIOError, wire.WireError):
            made.ready = None
        yield made
    finally:
        child.channel.close()
        os.waitpid(child.pid, 0)
