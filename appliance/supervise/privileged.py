"""The privileged requests of workers, from the message to the answer; what is checked stands in `requests`."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable, Iterable

from appliance import wire
from appliance.errors import WireError
from appliance.supervise import requests
from appliance.supervise.group import Group
from appliance.supervise.service import Service
from appliance.supervise.slot import WorkerSlot


class Privileged:
    """`generations` are all groups, whose listeners a control connection may have come in by."""

    def __init__(self, selector: selectors.BaseSelector, generations: Callable[[], Iterable[Group]]) -> None:
        self._selector, self._generations = selector, generations
        self._active = requests.ActiveConnections(20, self._ftp_addresses)
        self._budgets: dict[int, requests.Budget] = {}

    def configure(self, service: Service) -> None:
        """A new generation of a service: its settings hold from now on."""
        if "active" in service.requests:
            self._active.source_port = int(service.settings["ftp"]["active"]["source_port"])

    def carry_out(self, slot: WorkerSlot, message: wire.Request, fds: list[int]) -> None:
        """Do what a worker asks, or refuse it. Raises WireError for what its service has no right to."""
        allowed = {requests.NAMES[name] for name in slot.service.requests if name in requests.NAMES}
        if message.kind not in allowed or len(fds) != 1:
            raise WireError(f"request {message.kind} with {len(fds)} descriptors is not in the table")
        budget = self._budgets.setdefault(slot.serial, requests.Budget(requests.rate(slot.service.workers)))
        try:
            if not budget.take(time.monotonic()):
                raise requests.Refused(errno.EAGAIN, "too many requests")
            data = self._active.open(fds[0], message.argument, time.monotonic())
        except requests.Liar as lie:
            raise WireError(str(lie)) from lie
        except requests.Refused as refusal:
            slot.send(wire.Reply(message.id, refusal.errno))
        except OSError as error:
            slot.send(wire.Reply(message.id, error.errno or errno.EIO))
        else:
            slot.send(wire.Reply(message.id, 0), [data.fileno()])
            if self._active.stands(data):
                self._active.settle(data)
            else:
                self._selector.register(data, selectors.EVENT_WRITE, lambda: self._settle(data))

    def expire(self, now: float) -> None:
        """Give up what takes too long."""
        for sock in self._active.expire(now):
            self._settle(sock)

    def forget(self, slot: WorkerSlot) -> None:
        """Its process is gone."""
        self._budgets.pop(slot.serial, None)

    def _settle(self, data: socket.socket) -> None:
        try:
            self._selector.unregister(data)
        except (KeyError, ValueError):
            pass  # twice is once
        self._active.settle(data)

    def _ftp_addresses(self) -> list[tuple[str, int]]:
        groups = [group for group in self._generations() if "active" in group.service.requests]
        return [name for group in groups for name in group.names]
