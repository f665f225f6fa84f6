"""Uploads into the drop box, as an FTP worker sees them: a write-only descriptor, an allowance, the custodian's word.

Invariant: 226 is only ever answered after the custodian's Done, and a commit is only asked for when the client has
ended the data connection in order (recv gave b"", never an error; under TLS that takes close_notify) and still is
there. Everything else ends with Abort, or with the end of the link, and the custodian removes what there is; but for a
data connection that broke, whose upload is kept for a while in case its session continues it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from functools import partial
from typing import TYPE_CHECKING

from appliance.custody import wire
from appliance.custody.client import Client
from appliance.custody.wire import Reason
from appliance.errors import WireError
from appliance.ftp import ascii, funnel
from appliance.ftp.data import Transfer, way
from appliance.ftp.funnel import Funnel
from appliance.ftp.kept import Kept
from appliance.ftp.loop import READ, WRITE

if TYPE_CHECKING:
    from appliance.ftp.house import House
    from appliance.ftp.session import Session
    from appliance.ftp.tls import TlsSocket

_BUFFER = memoryview(bytearray(256 << 10))  # one for the whole worker: filled and written in the same breath
_ANSWER_S = 60.0  # for the custodian, who may wait for the disk
_RECORDS = 16  # of TLS, taken in one turn
_FULL = 4  # full pieces, taken in one turn

REPLIES = {
    Reason.NAME_LENGTH: "553 The name is too long or empty.",
    Reason.NAME_TEXT: "553 The name is not UTF-8.",
    Reason.NAME_CHARACTER: "553 The name has characters that are not allowed.",
    Reason.NAME_START: "553 A name may not begin with a dot or a dash.",
    Reason.NAME_SPACE: "553 A name may not begin or end with a space.",
    Reason.NAME_DENIED: "553 Names like this are not accepted.",
    Reason.EXISTS: "553 This name is taken.",
    Reason.SIZE: "552 The file is too large.",
    Reason.QUOTA: "552 The drop box is full.",
    Reason.CLIENT_QUOTA: "552 Your share of the drop box is used up.",
    Reason.FILES: "552 The drop box holds too many files.",
    Reason.DISK: "452 The disk is full.",
    Reason.BUSY: "450 Too many uploads at once. Try again later.",
    Reason.INCOMPLETE: "451 The upload is incomplete and was removed.",
    Reason.STORE: "451 The upload could not be stored.",
    Reason.ABSENT: "550 There is no such file.",
    Reason.UNDER_WAY: "553 This name is taken.",
    Reason.UNREADABLE: "550 Permission denied.",
}
AWAY = "450 Uploads are not possible right now."
LOST = "451 The upload could not be stored."


class Custodian(Client):
    """The link to the custodian, in the loop of FTP."""

    def __init__(self, house: House) -> None:
        super().__init__(watch=self._begin, unwatch=lambda sock: house.loop.unregister(sock.fileno()), lost=self._gone)
        self._house = house
        self._events = READ
        self.funnel = Funnel()

    def reserve(self, upload: Upload, name: bytes, declared: int) -> int:
        """Ask for an upload; returns its id. The answer comes to the upload's `hear`."""
        client, name = upload.session.client, name[: wire.MAX_NAME]
        return self.begin(partial(self._tell, upload), lambda number: wire.Reserve(number, declared, client, name))

    def hand_over(self, number: int, upload: Upload | Kept) -> None:
        """What is said about this upload comes to another from now on."""
        self.take(number, partial(self._tell, upload))

    def say(self, message: wire.FromWorker) -> None:
        super().say(message)
        self._wait_for_room()

    @staticmethod
    def _tell(upload: Upload | Kept, message: wire.FromCustodian | None, fds: list[int]) -> None:
        if message is None:
            upload.end(LOST, "the custodian is gone")
            return
        try:
            upload.hear(message, fds)
        except Exception:
            upload.handle_error()

    def _begin(self, sock: socket.socket) -> None:
        self._events = READ
        self._house.loop.register(sock.fileno(), self, READ)

    def _gone(self, why: str, count: int) -> None:
        self._house.log.warning("the custodian is gone", reason=why, uploads=count)

    def _wait_for_room(self) -> None:
        events = READ | (WRITE if self._queue else 0)
        if self._sock is not None and events != self._events:
            self._events = events
            self._house.loop.modify(self._sock.fileno(), events)

    # --- what the loop calls

    def handle_write_event(self) -> None:
        self.flush()
        self._wait_for_room()

    def handle_read_event(self) -> None:
        self.receive()

    def handle_close(self) -> None:
        self.lose("it closed the link")

    def handle_error(self) -> None:
        self._house.crashed("")
        self.lose("crash")


class Upload(Transfer):
    """STOR: reserve, receive within the allowance, commit. `kept` is what is continued."""

    events = READ

    def __init__(
        self, session: Session, path: str, custodian: Custodian, declared: int, kept: Kept | None = None
    ) -> None:
        super().__init__(session, "STOR", path)
        self.size, self.layer = declared or -1, b"uploads"
        self._custodian = custodian
        self._text = session.type_a
        self._held_cr = False
        self._fd = -1
        self._allowed = 0
        self._low = 0  # with less than this left of what is allowed, ask for more
        self._asked = False  # an extension is under way
        self._enough: Reason | None = None  # why there was no further extension
        self._hope = 0  # `freed` of the custodian when more was last asked for with nothing left, and not got; 0: never
        self._committing = False
        self._written = 0
        if kept is None:
            name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
            self._id = custodian.reserve(self, name, declared)
        else:
            self._go_on_with(kept)

    def _go_on_with(self, kept: Kept) -> None:
        self._id, self._written = kept.number, kept.at
        self._allow(kept.allowed)
        self._asked, self._enough = kept.asked, kept.enough
        self._fd = kept.hand_over()
        os.lseek(self._fd, kept.at, os.SEEK_SET)
        self._custodian.hand_over(self._id, self)

    # --- what the custodian says

    def hear(self, message: wire.FromCustodian, fds: list[int]) -> None:
        """One message about this upload."""
        self.progress = self.house.now
        if isinstance(message, wire.Granted):
            self._granted(message.allowed, fds)
        elif isinstance(message, wire.More):
            self._allow(message.allowed)
            self._asked, self._hope = False, 0
            self._resume()
        elif isinstance(message, wire.Done):
            self._settled()
            self.end("226 Transfer complete.")
        elif isinstance(message, wire.Opened):
            raise WireError("nothing was fetched")
        elif not self._asked:  # answers come in order: an extension's stands before that of the commit
            self._settled()
            self.end(REPLIES[message.reason], message.reason.name.lower())
        else:
            self._enough, self._asked = message.reason, False
            self._resume()

    def _settled(self) -> None:
        """The custodian has let this upload go: nothing is left to abort."""
        self._custodian.forget(self._id)
        self._id = 0

    def _granted(self, allowed: int, fds: list[int]) -> None:
        if len(fds) != 1 or self._fd >= 0 or not stat.S_ISREG(os.fstat(fds[0]).st_mode):  # a pipe could stop us
            raise WireError("a grant without its descriptor")
        self._fd = fds.pop()
        self._allow(allowed)
        self.start()

    def _allow(self, allowed: int) -> None:
        self._allowed, self._low = allowed, (allowed - self._written) // 2

    def _resume(self) -> None:
        if self.sock is not None and not self._committing:
            self._watch(READ)
            if self._tls is not None and self._tls.pending():  # no event tells of what is decrypted already
                self.move()

    def _go_on(self) -> None:
        self._resume()

    # --- the data connection

    def move(self) -> None:
        if self._tls is None:
            for _ in range(_FULL):
                before = self.moved
                if not self._take() or self.moved - before < funnel.SIZE:  # the socket is empty now
                    return
            return
        records = 0
        while self._take() and (records < _RECORDS or self._tls.pending()):
            records += 1

    def _take(self) -> bool:
        """Take what has come, and write it; True when there may be more."""
        assert self.sock is not None
        room = self._allowed - self._written - self._held_cr
        if room <= 0 and (self._enough is None or self._may_have_room()):
            self._enough = None
            if not self._asked:  # ahead, while there was something left: a refusal of that is not the last word
                self._hope = self._custodian.freed
                self._ask()
            self._watch(0)  # until the custodian has answered
            return False
        limit = self.may(max(1, min(room, len(_BUFFER))))
        if not limit:
            return False
        # TYPE A is translated, TLS decrypted; without room one byte tells whether there is more
        by_hand = self._text or room <= 0 or self._tls is not None
        try:
            if by_hand:
                count = self.sock.recv_into(_BUFFER, limit)
            else:
                count = self._custodian.funnel.fill(self.sock.fileno(), limit if self._flow is not None else room)
        except BlockingIOError:
            return False
        except OSError as error:
            self.broken(error.errno or errno.EIO, error.strerror or "")
            return False
        self.progress = self.house.now
        if not count:
            self._received()
        elif room <= 0 and self._enough is not None:
            self.end(REPLIES[self._enough], self._enough.name.lower())
        else:
            self.took(count)
            self._keep(count, by_hand)
        if not self.over and self._enough is None and self._allowed - self._written < self._low:
            self._ask()
        return not self.over and not self._committing

    def _may_have_room(self) -> bool:
        """Whether what was refused may be granted now. Uploads that fill the box together are all refused when they
        ask ahead; those that go leave room for the others, which had failed with them otherwise."""
        return self._enough is not Reason.SIZE and self._hope != self._custodian.freed

    def _keep(self, count: int, by_hand: bool) -> None:
        """Write what came: it is in the buffer, or in the funnel."""
        try:
            if by_hand:
                self._write_by_hand(_BUFFER[:count])
            else:
                self._written += self._custodian.funnel.empty(self._fd, count)
        except OSError as error:
            self._unwritable(error.errno or errno.EIO)

    def _write_by_hand(self, data: memoryview) -> None:
        if self._text:
            text, self._held_cr = ascii.from_wire(bytes(data), self._held_cr)
            self._write(text)
        else:
            self._write(data)

    def _write(self, text: bytes | memoryview) -> None:
        while text:
            count = os.write(self._fd, text)
            self._written += count
            text = text[count:]

    def _unwritable(self, number: int) -> None:
        if number == errno.EFBIG:
            reply = REPLIES[Reason.SIZE]
        else:
            reply = REPLIES[Reason.DISK if number in (errno.ENOSPC, errno.EDQUOT) else Reason.STORE]
        self.end(reply, os.strerror(number))

    def _ask(self) -> None:
        if not self._asked and not self._committing:
            self._asked = True
            self._custodian.say(wire.Extend(self._id, self._written))

    def _received(self) -> None:
        """The client has closed in order. One that died looks the same, but its control connection is closed too."""
        if self.session.gone():
            self.end("426 Connection closed; transfer aborted.", "the client is gone")
            return
        if self._held_cr:
            self._held_cr = False
            try:
                self._write(b"\r")
            except OSError as error:
                self._unwritable(error.errno or errno.EIO)
        if self.over or self.sock is None:
            return
        if self._tls is not None:
            self._answer_bye(self._tls)
        if self._watched:
            self.house.loop.unregister(self.sock.fileno())
            self._watched = False
        self.sock.close()
        self._committing = True
        self._custodian.say(wire.Commit(self._id, self._written))

    @staticmethod
    def _answer_bye(tls: TlsSocket) -> None:
        """Clients wait for our close_notify; what they sent is whole without it."""
        try:
            tls.bye()
        except OSError:
            pass

    def broken(self, number: int, cause: str = "") -> None:
        if self.over or not self._worth_keeping():
            super().broken(number, cause)
            return
        kept = Kept(self.session, self._custodian, self._id, self.path, self._fd)
        kept.written, kept.allowed, kept.asked, kept.enough = self._written, self._allowed, self._asked, self._enough
        self._fd, self._id = -1, 0
        self.session.kept = kept
        text = f"426 Data connection {way(cause)}; {kept.written} bytes are kept for REST in this session."
        self.end(text, cause or os.strerror(number))

    def _worth_keeping(self) -> bool:
        """In TYPE A the place in the file is not the place in what was sent."""
        whole = self._fd >= 0 and self._id and not self._committing and not self._text
        return bool(whole and self._written and self.house.settings.incoming.resume)

    def check(self, now: float) -> None:
        if self._committing or self._fd < 0:
            if now - self.progress > _ANSWER_S:
                self.end(LOST, "the custodian does not answer")
        else:
            super().check(now)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._id:
            self._custodian.forget(self._id)
            self._custodian.say(wire.Abort(self._id))
            self._id = 0
