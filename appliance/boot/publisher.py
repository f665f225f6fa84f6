"""The publisher: a short-lived, confined child without network that alone writes the store and the releases.

It keeps folders outside of its empty jail: state_dir/boot, and `.releases` of each root. What it takes in comes as open
descriptors, and is hashed as it is copied.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from appliance.boot import records
from appliance.boot.publish import Home, Keep, Overlay, Published
from appliance.boot.records import BootError, Given
from appliance.boot.talk import Talk, content
from appliance.child.context import Context
from appliance.observe.log import Log

_MOST_OVERLAY = 1 << 30


class _Publisher:
    def __init__(self, context: Context) -> None:
        self._talk = Talk(socket.socket(fileno=context.documents["talk"]))
        self._log = Log("publisher", str(context.settings["log"]))
        self._boot = context.folders["boot"]
        self._roots = {name: context.folders[name] for name in records.ROOTS if name in context.folders}

    def run(self) -> None:
        """Answer until the command line has nothing more to ask."""
        try:
            home = Home(self._boot, self._roots)
        except (BootError, OSError) as error:
            self._talk.send({"error": _words(error)})
            return
        with home:
            self._talk.send({"ok": True})
            while (heard := self._talk.receive()) is not None:
                self._talk.send(self._answer(home, *heard))

    def _answer(self, home: Home, order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """One order, one answer; whatever goes wrong is told, and the next order is heard."""
        try:
            return _VERBS[str(order["verb"])](home, order, fds)
        except (BootError, OSError) as error:
            return {"error": _words(error)}
        except Exception as error:
            self._log.crash("an order failed", verb=str(order.get("verb"))[:20])
            return {"error": f"the publisher failed ({type(error).__name__}); its last words are above"}
        finally:
            for fd in fds:
                os.close(fd)


def _take(home: Home, order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """Files into the store: their digests and sizes."""
    expected = order["expected"]
    found = []
    for fd, digest in zip(fds, expected, strict=True):
        found.append(home.store.add(fd, int(order["most"]), digest))
    return {"files": found}


def _settle(home: Home, _order: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    home.store.settle()
    return {}


def _record(home: Home, _order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    home.record(records.decode_fetched(content(fds[0], records.MOST_BYTES)))
    return {}


def _saw(home: Home, order: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    home.saw(str(order["list"]), int(order["signed"]))
    return {}


def _publish(home: Home, order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    release = records.decode(content(fds[0], records.MOST_BYTES))
    return _told(home.publish(release, _overlay(fds[1:]), _keep(order)))


def _rollback(home: Home, order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    return _told(home.rollback(records.release_id(order["id"]), _overlay(fds), int(order["now"])))


def _render(home: Home, order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    return _told(home.render(_overlay(fds), int(order["now"])))


def _collect(home: Home, order: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
    sources = order["sources"]
    found = home.collect(_keep(order), None if sources is None else set(map(str, sources)))
    return asdict(found)


def _adopt(home: Home, _order: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    home.adopt(records.decode(content(fds[0], records.MOST_BYTES)))
    return {}


def _keep(order: dict[str, Any]) -> Keep:
    held = order["held"]
    return Keep(
        int(order["keep"]), int(order["now"]), float(order["pin"]), None if held is None else tuple(map(str, held))
    )


def _overlay(fds: list[int]) -> Overlay:
    """An index and, in the second descriptor, the contents one after the other."""
    index = json.loads(content(fds[0], records.MOST_BYTES))
    whole = memoryview(content(fds[1], _MOST_OVERLAY))
    given, place = [], 0
    for root, path, what in index:
        if isinstance(what, str):
            given.append(Given(root, path, what))
        else:
            given.append(Given(root, path, bytes(whole[place : place + what])))
            place += what
    return given


def _told(published: Published) -> dict[str, Any]:
    return {
        "id": published.id,
        "overlay": published.overlay,
        "unchanged": published.unchanged,
        "how": dict(published.how),  # `asdict` does not know a Counter
    }


def _words(error: BootError | OSError) -> str:
    if isinstance(error, BootError):
        return str(error)
    return f"the publisher cannot go on: {error.strerror or error}" + (f": {error.filename}" if error.filename else "")


_VERBS: dict[str, Callable[[Home, dict[str, Any], list[int]], dict[str, Any]]] = {
    "take": _take,
    "settle": _settle,
    "record": _record,
    "saw": _saw,
    "publish": _publish,
    "rollback": _rollback,
    "render": _render,
    "collect": _collect,
    "adopt": _adopt,
}


def prepare(context: Context) -> _Publisher:
    """Everything is imported; modes are those that are asked for."""
    os.umask(0o022)
    return _Publisher(context)
