"""How many transfers or sessions each client has, in this worker and in its siblings. Pure: memory comes as views.

A table is 64-bit words: magic, how many in all, the salt (2 words), 4 unused ones, then the slots. A slot holds the tag
of a name (40 bits) and its count (24 bits) in ONE word, so that a reader beside the writer never sees the count of one
name under the tag of another. A name has BUCKET slots where it may stand; they are found by a hash with a salt
that is new at every start, so that nobody outside can aim at them.

Invariants
- A name that finds its slots taken is counted by its own worker alone: nobody is refused for a stranger's count.
- What a sibling says is clamped, and never takes a worker's reserve: an eighth of its even share of each cap. So a
  worker that lies can narrow its siblings, but not shut them.
"""

from __future__ import annotations

import hashlib
import struct

MAGIC = 0x41504C32_00000001
SLOTS = 16384
BUCKET = 8
SIZE = 64 + 8 * SLOTS
SALT_AT, SALT_SIZE = 16, 16  # in bytes, from the beginning
_HEAD = 8  # words before the slots
_COUNT_MAX = (1 << 24) - 1
_RESERVE = 8  # a worker always has cap / (_RESERVE * workers)
_PLACES_MAX = 4096  # names of which the place is remembered: clients come back for the next file
_DIGEST = struct.Struct("=Q")


class _Entry:
    """A name that has something: how many, and where that stands; slot 0 is nowhere."""

    __slots__ = ("count", "first", "slot", "tag")

    def __init__(self, first: int, tag: int) -> None:
        self.first, self.tag = first, tag
        self.count = self.slot = 0

    def publish(self, table: memoryview) -> None:
        if not self.slot:
            free = [slot for slot in range(self.first, self.first + BUCKET) if not table[slot]]
            self.slot = free[0] if free else 0
        if self.slot:
            table[self.slot] = self.tag << 24 | min(self.count, _COUNT_MAX) if self.count else 0


class Tally:
    """The counts of one worker, which it publishes, and those of its siblings, which it reads.

    A name is a client, or anything else that a cap is counted by; names of different kinds must differ.
    """

    def __init__(self, table: memoryview | None = None) -> None:
        """`table`: zeroes but for the salt, as 64-bit words; without one nothing is published."""
        self._table = table
        self._salt = b"" if table is None else struct.pack("=2Q", *table[2:4])
        self._mine: dict[str, _Entry] = {}
        self._siblings: dict[int, memoryview] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self.taken = 0
        if table is not None:
            table[0] = MAGIC

    def link(self, number: int, table: memoryview) -> None:
        """Count what sibling `number` says too; one of another build, whose table has another form, is left out."""
        if table[0] == MAGIC:
            self._siblings[number] = table

    def unlink(self, number: int) -> None:
        """That sibling is gone; unknown is right too."""
        self._siblings.pop(number, None)

    def mine(self, name: str) -> int:
        """How many this worker has given to `name`."""
        entry = self._mine.get(name)
        return entry.count if entry else 0

    def full(self, cap: int) -> bool:
        """Whether all workers together have given `cap` or more."""
        return self._reaches(self.taken, cap) and self.taken + sum(self._totals()) >= cap

    def full_for(self, name: str, cap: int) -> bool:
        """Whether all workers together have given `cap` or more to `name`."""
        entry = self._mine.get(name)
        mine = entry.count if entry else 0
        if not self._reaches(mine, cap) or mine + sum(self._totals()) < cap:
            return False  # the siblings hold less in all than `name` would need of them: no need to look for it
        return mine + sum(self._counts(name)) >= cap

    def share(self) -> float:
        """The part of a rate over all workers that is this worker's: the shares of those that count add up to 1."""
        return _share(self.taken, self._totals())

    def share_for(self, name: str) -> float:
        """The same for a rate of `name`."""
        return _share(self.mine(name), self._counts(name))

    def take(self, *names: str) -> None:
        """One more, for each of these names; one in all."""
        self.taken += 1
        for name in names:
            self.note(name)
        if self._table is not None:
            self._table[1] = self.taken

    def give(self, *names: str) -> None:
        """One less. Raises KeyError for a name that has none."""
        for name in names:
            self.drop(name, 1)
        self.taken -= 1
        if self._table is not None:
            self._table[1] = self.taken

    def note(self, name: str) -> None:
        """One more of something that is not counted in all."""
        entry = self._mine.get(name)
        if entry is None:
            entry = self._mine[name] = _Entry(*self._place(name))
        entry.count += 1
        if self._table is not None:
            entry.publish(self._table)

    def drop(self, name: str, count: int) -> None:
        """So many less. Raises KeyError for a name that has none."""
        entry = self._mine[name]
        entry.count -= count
        if not entry.count:
            del self._mine[name]
        if self._table is not None:
            entry.publish(self._table)

    def beside(self, name: str) -> int:
        """How many the siblings have of something that is not counted in all."""
        return sum(self._counts(name))

    def _reaches(self, mine: int, cap: int) -> bool:
        """Whether `mine` is beyond what siblings can take away, so that their counts matter; alone, all is."""
        siblings = len(self._siblings)
        return mine >= (cap // (_RESERVE * (1 + siblings)) if siblings else cap)

    def _totals(self) -> list[int]:
        return [min(table[1], _COUNT_MAX) for table in self._siblings.values()]

    def _counts(self, name: str) -> list[int]:
        if not self._siblings:
            return []
        first, tag = self._place(name)
        found = []
        for table in self._siblings.values():
            for word in table[first : first + BUCKET].tolist():
                if word >> 24 == tag:
                    found.append(word & _COUNT_MAX)
                    break
        return found

    def _place(self, name: str) -> tuple[int, int]:
        """Where a name may stand, and the tag it stands under."""
        place = self._places.get(name)
        if place is None:
            if len(self._places) >= _PLACES_MAX:
                self._places.clear()
            digest = hashlib.blake2b(self._salt + name.encode(), digest_size=_DIGEST.size).digest()
            number: int = _DIGEST.unpack(digest)[0]
            place = self._places[name] = _HEAD + number % (SLOTS // BUCKET) * BUCKET, number >> 24
        return place


def _share(mine: int, others: list[int]) -> float:
    """An eighth evenly to every worker that counts, the rest by what it counts. 1 when nobody else counts."""
    theirs = [count for count in others if count]
    mine = max(1, mine)
    return 1 / _RESERVE / (1 + len(theirs)) + (1 - 1 / _RESERVE) * mine / (mine + sum(theirs))
