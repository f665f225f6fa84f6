"""A scripted custodian: a thread at the other end of a worker's link, which does what a test says."""

from __future__ import annotations

import array
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from appliance.custody import wire
from appliance.custody.wire import Reason

STEP = 4 << 20


class Custodian:
    """Keeps uploads in `folder`. `heard` are all messages; `script` may answer one itself by returning True.

    `allowance`: bytes granted at a time. `readable`: Fetch opens what there is.
    """

    def __init__(self, link: socket.socket, folder: Path) -> None:
        self.link, self.folder = link, folder
        self.heard: list[wire.FromWorker] = []
        self.script: Callable[[wire.FromWorker], bool] = lambda _message: False
        self.allowance = STEP
        self.readable = True
        self.open: dict[int, tuple[int, bytes]] = {}
        folder.mkdir(exist_ok=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the link, as a dead custodian does."""
        try:
            self.link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(10)
        self.link.close()
        for number in list(self.open):
            self._remove(number)

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.heard]

    def say(self, message: wire.FromCustodian, *descriptors: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.link.sendmsg([wire.pack(message)], rights)

    def _run(self) -> None:
        while True:
            try:
                datagram = self.link.recv(wire.MAX_MESSAGE)
            except OSError:
                return
            if not datagram:
                return
            message = wire.parse_from_worker(datagram)
            done = self.script(message)
            if not done:
                self.answer(message)
            self.heard.append(message)

    def answer(self, message: wire.FromWorker) -> None:
        """What a custodian of mode `create` does."""
        if isinstance(message, wire.Ask):
            taken = (self.folder / os.fsdecode(message.name)).exists()
            self.say(wire.Refused(message.id, Reason.EXISTS) if taken else wire.More(message.id, self.allowance))
        elif isinstance(message, wire.Reserve):
            hidden = self.folder / f".up-{message.id}"
            descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self.open[message.id] = descriptor, message.name
            self.say(wire.Granted(message.id, self.allowance), descriptor)
        elif isinstance(message, wire.Extend):
            self.say(wire.More(message.id, message.received + self.allowance))
        elif isinstance(message, wire.Commit):
            self._commit(message)
        elif isinstance(message, wire.Abort):
            self._remove(message.id)
        else:
            self._fetch(message)

    def _commit(self, message: wire.Commit) -> None:
        descriptor, name = self.open.pop(message.id)
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        hidden = self.folder / f".up-{message.id}"
        if size != message.size:
            hidden.unlink()
            self.say(wire.Refused(message.id, Reason.INCOMPLETE))
            return
        hidden.rename(self.folder / os.fsdecode(name))
        self.say(wire.Done(message.id))

    def _remove(self, number: int) -> None:
        descriptor, _name = self.open.pop(number, (-1, b""))
        if descriptor >= 0:
            os.close(descriptor)
            (self.folder / f".up-{number}").unlink()

    def _fetch(self, message: wire.Fetch) -> None:
        path = self.folder / os.fsdecode(message.name)
        if not self.readable or not path.exists():
            self.say(wire.Refused(message.id, Reason.ABSENT if self.readable else Reason.UNREADABLE))
            return
        descriptor = os.open(path, os.O_RDONLY)
        self.say(wire.Opened(message.id, path.stat().st_size), descriptor)
        os.close(descriptor)
