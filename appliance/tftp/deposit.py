"""The file of one write: what the custodian has opened for it, its allowance, and what is asked of the custodian.

Invariant: nothing is written before its Granted nor beyond what it allows, and what was reserved ends with Done, with a
refusal, with Abort, or with the end of the link.
"""

from __future__ import annotations

import errno
import os
import stat

from appliance.custody import wire
from appliance.custody.client import Hearer
from appliance.custody.wire import Reason
from appliance.errors import WireError
from appliance.tftp.custodian import Custodian

ASK_AHEAD = 2 << 20  # ask for more when less than this is left: half of what the ledger gives at a time
_DISK = {errno.ENOSPC, errno.EDQUOT}


class Deposit:
    """`enough` is why there will be no larger allowance; `written` is in bytes."""

    __slots__ = (
        "_allowed", "_asked", "_custodian", "_descriptor", "_hope", "_id", "declared", "enough", "name", "written",
    )  # fmt: skip

    def __init__(self, custodian: Custodian, name: bytes, declared: int) -> None:
        """`name`: in the box; `declared`: bytes, 0 for unknown."""
        self._custodian, self.name, self.declared = custodian, name, declared
        self._id = 0  # at the custodian, while there is something to abort
        self._descriptor = -1
        self._allowed = 0
        self._asked = False  # for a larger allowance
        self.enough: Reason | None = None
        self._hope = 0  # `freed` of the custodian when more was asked for with nothing left, and not got; 0: never
        self.written = 0

    def reserve(self, hearer: Hearer, client: str) -> bool:
        """Ask for the file; the answer comes to `hearer`. False when there is no custodian."""
        if self._custodian.here:
            self._id = self._custodian.reserve(hearer, self.declared, client, self.name)
        return bool(self._id)

    def hear(self, message: wire.FromCustodian, descriptors: list[int]) -> Reason | None:
        """What the custodian says before the end; returns why the upload is refused. Raises WireError if it does not
        fit.
        """
        if isinstance(message, wire.Granted) and descriptors and self._descriptor < 0:
            if not stat.S_ISREG(os.fstat(descriptors[0]).st_mode):
                raise WireError("no regular file: writing into a pipe could stop the whole worker")
            self._descriptor, self._allowed = descriptors.pop(), message.allowed
        elif isinstance(message, wire.More) and self._asked:
            self._allowed, self._asked, self._hope = message.allowed, False, 0
        elif isinstance(message, wire.Refused) and self._asked:
            # answers come in order: an extension's stands before that of the commit
            self.enough, self._asked = message.reason, False
        elif isinstance(message, wire.Refused):
            self.over()
            return message.reason
        else:
            raise WireError(f"{type(message).__name__} does not fit")
        return None

    def has_room(self, count: int) -> bool:
        """Whether so many bytes more are allowed."""
        return self.written + count <= self._allowed

    def write(self, data: bytes | memoryview, *, last: bool) -> Reason | None:
        """Put this at the end of the file; returns why it failed. Where more is to come it is asked for ahead."""
        try:
            while data:
                count = os.write(self._descriptor, data)
                self.written += count
                data = data[count:]
        except OSError as error:
            if error.errno == errno.EFBIG:  # RLIMIT_FSIZE, which bounds what a broken worker could write
                return Reason.SIZE
            return Reason.DISK if error.errno in _DISK else Reason.STORE
        left = self._allowed - self.written
        if left < ASK_AHEAD and not last and self._allowed < (self.declared or 1 << 63):
            self.ask()
        return None

    def ask(self) -> None:
        """For a larger allowance, unless that is under way or was refused."""
        if not self._asked and self.enough is None:
            self._asked = True
            self._custodian.say(wire.Extend(self._id, self.written))

    def ask_now(self) -> Reason | None:
        """For what cannot be done without; returns why it is refused for good.

        What was refused when it was asked for ahead may be granted now: uploads that fill the box together are all
        refused then, and those that go leave room.
        """
        if self.enough is Reason.SIZE or (self.enough and self._hope == self._custodian.freed):
            return self.enough
        self.enough = None
        if not self._asked:  # ahead: a refusal of that is not the last word
            self._hope = self._custodian.freed
            self.ask()
        return None

    def commit(self) -> None:
        """The file is whole."""
        self._custodian.say(wire.Commit(self._id, self.written))

    def over(self) -> None:
        """Nothing more is said about it: who is not forgotten is kept as long as the link, with all it has."""
        self._custodian.forget(self._id)
        self._id = 0

    def close(self) -> None:
        """Let go of it; what is not stored is aborted."""
        if self._id:
            self._custodian.say(wire.Abort(self._id))
        self.over()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
