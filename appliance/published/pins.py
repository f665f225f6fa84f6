"""Which release each client began with, in this worker and in all others of TFTP and FTP. Pure: memory comes as views.

A table is 64-bit words: magic, the number of the release in force, the salt (2 words), until when a pin to another
release may stand here, the name of the release in force (3 words), then the slots. A slot is ONE word, so that a reader
beside the writer sees a whole pin: 24 bits of a salted hash of the client, 10 of the release's number, 30 of the time
of its last request, in steps of 0.2 ms. The latest pin of a client counts, whichever worker made it.

Invariants
- While nothing was published for the length of a pin, no table but its head is looked into.
- What a sibling says is a number that this worker knows, or a name of the form that releases have: a worker that lies
  can have its siblings serve another release, or what is no release at all to them, which is then the one in force.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from appliance.published.layers import ID_SIZE, is_id

MAGIC = 0x41504C33_00000001
SLOTS = 16384
BUCKET = 8
SIZE = 64 + 8 * SLOTS
_NUMBER, _SALT, _UNTIL, _NAME, _HEAD = 1, 2, 4, 5, 8  # words
_STEPS = 5000  # in a second
_STAMP_BITS, _NUMBER_BITS, _TAG_BITS = 30, 10, 24
_STAMP_MASK, NUMBER_MASK = (1 << _STAMP_BITS) - 1, (1 << _NUMBER_BITS) - 1
_HALF = 1 << (_STAMP_BITS - 1)  # a stamp so far back is one of a worker whose clock is a little ahead of ours
_PLACES_MAX = 4096
_DIGEST = struct.Struct("=Q")
LONGEST_S = 86400.0  # of a pin


def held(tables: Iterable[Sequence[int]], now: float, length_s: float) -> set[int]:
    """The numbers of the releases that some client is pinned to, by all tables, as they stand there (`NUMBER_MASK`)."""
    moment, length = int(now * _STEPS), round(length_s * _STEPS)
    latest: dict[int, tuple[int, int]] = {}  # bucket and tag of a client -> age of its last request, number
    for words in tables:
        if words[0] != MAGIC:
            continue
        for place, word in enumerate(words[_HEAD:]):
            if word:
                age = (moment - word) & _STAMP_MASK
                age -= _STAMP_MASK + 1 if age >= _HALF else 0
                client = place // BUCKET << _TAG_BITS | word >> (_STAMP_BITS + _NUMBER_BITS)
                if age < latest.get(client, (length, 0))[0]:
                    latest[client] = age, word >> _STAMP_BITS & NUMBER_MASK
    return {number for _age, number in latest.values()}


class Pins:
    """The pins that one worker makes, and those of its siblings. Times are monotonic, in seconds."""

    def __init__(self, length_s: float, table: memoryview | None = None) -> None:
        """`length_s`: a pin ends so long after the last request. `table`: zeroes but for the salt, as 64-bit words."""
        if table is None:
            table = memoryview(bytearray(SIZE)).cast("Q")
        self._table, self._length = table, round(length_s * _STEPS)
        self._salt = struct.pack("=2Q", *table[_SALT : _SALT + 2])
        self._siblings: dict[int, memoryview] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._any = False
        table[0] = MAGIC

    @property
    def length_s(self) -> float:
        """How long a pin lasts."""
        return self._length / _STEPS

    def link(self, sibling: int, table: memoryview) -> None:
        """Believe what a sibling says too; one of another build, whose table has another form, is left out."""
        if table[0] == MAGIC:
            self._siblings[sibling] = table

    def unlink(self, sibling: int) -> None:
        """That sibling is gone, and its pins have ended; unknown is right too."""
        self._siblings.pop(sibling, None)

    def in_force(self, number: int, release: str, now: float) -> None:
        """Another release is in force: who is pinned stays so."""
        if self._any and number != self._table[_NUMBER]:
            self._table[_UNTIL] = int(now * _STEPS) + self._length
        for index, word in enumerate(struct.unpack("=3Q", release.encode("ascii")), _NAME):
            self._table[index] = word
        self._table[_NUMBER] = number

    def find(self, client: str, now: float, *, everywhere: bool = False) -> tuple[int, str] | None:
        """The number of the release that a client is pinned to, and its name where a sibling tells that.

        None: it is pinned to none, or to the one in force. `everywhere`: look for that pin, too.
        """
        moment = int(now * _STEPS)
        latest, best, where = self._length, -1, self._table
        for table in self._telling(moment, everywhere):
            first, tag = self._place(client)
            for word in table[first : first + BUCKET].tolist():
                if word >> (_STAMP_BITS + _NUMBER_BITS) == tag and word:
                    age = (moment - word) & _STAMP_MASK
                    age -= _STAMP_MASK + 1 if age >= _HALF else 0
                    if age < latest:
                        latest, best, where = age, word >> _STAMP_BITS & NUMBER_MASK, table
        if best < 0:
            return None
        return best, self._name(where) if where[_NUMBER] & NUMBER_MASK == best else ""

    def _telling(self, moment: int, everywhere: bool) -> list[memoryview]:
        """All tables, or none while no table may hold a pin to another release than the one in force here."""
        own, siblings = self._table, self._siblings.values()
        number = own[_NUMBER]
        if everywhere or own[_UNTIL] > moment:
            return [own, *siblings]
        for table in siblings:
            if table[_UNTIL] > moment or table[_NUMBER] != number:
                return [own, *siblings]
        return []

    def pin(self, client: str, number: int, now: float) -> None:
        """A client has asked for something of a release: that one stays its own."""
        table, moment = self._table, int(now * _STEPS)
        if number & NUMBER_MASK != table[_NUMBER] & NUMBER_MASK:
            table[_UNTIL] = max(table[_UNTIL], moment + self._length)
        first, tag = self._place(client)
        slot, oldest = first, -1
        for index, word in enumerate(table[first : first + BUCKET].tolist(), first):
            if word >> (_STAMP_BITS + _NUMBER_BITS) == tag and word:
                slot = index
                break
            age = (moment - word) & _STAMP_MASK if word else _STAMP_MASK
            if age > oldest:
                slot, oldest = index, age
        stamp = moment & _STAMP_MASK or 1  # a slot of zeroes is a free one
        table[slot] = (tag << _NUMBER_BITS | number & NUMBER_MASK) << _STAMP_BITS | stamp
        self._any = True

    def _name(self, table: memoryview) -> str:
        text = struct.pack("=3Q", *table[_NAME : _NAME + 3])[:ID_SIZE].decode("latin-1")
        return text if is_id(text) else ""

    def _place(self, client: str) -> tuple[int, int]:
        """Where a client may stand, and the tag it stands under."""
        place = self._places.get(client)
        if place is None:
            if len(self._places) >= _PLACES_MAX:
                self._places.clear()
            digest = hashlib.blake2b(self._salt + client.encode(), digest_size=_DIGEST.size).digest()
            number: int = _DIGEST.unpack(digest)[0]
            place = self._places[client] = _HEAD + number % (SLOTS // BUCKET) * BUCKET, number >> 40
        return place
