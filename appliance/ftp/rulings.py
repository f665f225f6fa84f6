"""What can come of a command: it runs, is answered with a constant, or ends the connection. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Place(Enum):
    """Where a path lies."""

    TREE = 0
    BOX = 1  # the folder of the drop box itself
    IN_BOX = 2  # directly inside it
    DEEP = 3  # in a folder inside it, which cannot exist
    HIDDEN = 4


@dataclass(frozen=True, slots=True)
class Run:
    """The command may run, on this path. `place` is TREE or, for a few verbs, the drop box."""

    path: str = ""
    place: Place = Place.TREE


@dataclass(frozen=True, slots=True)
class Refuse:
    """The command is answered with this and nothing happens."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection is closed without a word."""


Verdict: TypeAlias = Run | Refuse | Drop

UNKNOWN = Refuse(500, "Command not understood.")
NOT_LOGGED_IN = Refuse(530, "Log in with USER and PASS first.")
DENIED = Refuse(550, "Permission denied.")
MISSING = Refuse(550, "No such file or directory.")
BAD_ARGUMENT = Refuse(501, "Control characters are not allowed.")
NO_ARGUMENT = Refuse(501, "Command needs an argument.")
ARGUMENT = Refuse(501, "Command takes no argument.")
NO_DATA = Refuse(425, "Use PASV, EPSV, PORT or EPRT first.")
EPSV_ONLY = Refuse(501, "Only EPSV is allowed after EPSV ALL.")
NO_RESUME = Refuse(501, "Only an upload that broke off in this session can be resumed.")
NO_FOLDERS = Refuse(553, "Uploads go directly into the drop box.")
TLS_FIRST = Refuse(503, "Send AUTH TLS first.")
TLS_ALREADY = Refuse(503, "TLS is on already.")
TLS_TO_LOG_IN = Refuse(530, "Log in under TLS: send AUTH TLS first.")
TLS_FOR_DATA = Refuse(521, "Data connections are under TLS here: send PBSZ 0 and PROT P first.")
STAYS_PRIVATE = Refuse(534, "Data connections stay under TLS here.")
STAYS_SECURE = Refuse(534, "The control connection stays under TLS.")
NO_REIN = Refuse(502, "REIN would end TLS; connect anew.")  # RFC 4217 section 13: it ends the TLS session
