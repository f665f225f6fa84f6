"""Everything that Python would load or open later, loaded now: after the jail there is nothing left to load from.

Each line is a trap that was seen: a codec looked up by a socket call, the time zone, the source lines of a traceback.
"""

from __future__ import annotations

import codecs
import gc
import importlib
import linecache
import os
import time

CODECS = ("ascii", "latin_1", "utf_8", "idna", "unicode_escape", "raw_unicode_escape", "cp437", "punycode")
MODULES = (
    "calendar",
    "encodings.idna",
    "errno",
    "json",
    "linecache",
    "selectors",
    "signal",
    "socket",
    "stringprep",
    "traceback",
    "_strptime",
)


def warm() -> None:
    """Load codecs, modules, the time zone and the look-up tables behind error texts."""
    for name in MODULES:
        importlib.import_module(name)
    for name in CODECS:
        codecs.lookup(name)
    os.environ["TZ"] = "UTC0"  # no /etc/localtime in the jail, and every time that we show is UTC
    time.tzset()
    time.strftime("%a %b %d %H:%M:%S %Y", time.localtime())
    linecache.checkcache()
    os.strerror(1)
    gc.collect()
    gc.freeze()
