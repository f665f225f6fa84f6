"""Whether uploads can be stored at all: a rehearsal of one is made at the start and whenever an upload failed.

Invariant: the fault that is shown (the gauge `fault`, an errno) is what the last rehearsal ended with, and while one is
shown there is another rehearsal every AGAIN_S, so that it goes when what caused it is mended, with or without clients.
"""

from __future__ import annotations

import errno
import os

from appliance.custody import store
from appliance.observe.log import Log
from appliance.observe.tables import Counters

AGAIN_S = 10.0
_APART_S = 1.0


class Health:
    """`doubt` when something could not be stored; `turn` once per turn of the loop."""

    def __init__(self, counters: Counters, log: Log) -> None:
        self._counters, self._log = counters, log
        self._fault = 0
        self._doubted = True  # the first turn looks
        self._last = float("-inf")  # monotonic time

    def doubt(self) -> None:
        """It may not be the fault of that one upload. Many doubts cost one rehearsal."""
        self._doubted = True

    def turn(self, now: float) -> None:
        """Look where there is a doubt, or whether it is mended."""
        if now >= self._last + (AGAIN_S if self._fault else _APART_S) and (self._doubted or self._fault):
            self._rehearse(now)

    def _rehearse(self, now: float) -> None:
        self._last, self._doubted = now, False
        try:
            store.rehearse()
        except OSError as error:
            found = error.errno or errno.EIO
        else:
            found = 0
        if found != self._fault:
            self._fault = found
            self._counters.set("fault", found)
            if found:
                self._log.error("uploads cannot be stored", cause=os.strerror(found))
            else:
                self._log.info("uploads are stored again")
