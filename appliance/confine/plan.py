"""The order in which a child is confined, and what it is confined to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything the steps need.

    ``jail``: folder that becomes "/". ``promise``: name of the system call list. ``writes``: may create and write files
    in the jail. ``bind_tcp``: first and last port it may bind by TCP, or None. ``parent``: pid that must still be the
    parent. ``nofile`` and ``fsize``: rlimits, descriptors and bytes. ``required``: below the level is an error.
    ``connect_tcp``: may connect to anybody by TCP.
    """

    jail: str
    promise: str
    uid: int
    gid: int
    writes: bool
    bind_tcp: tuple[int, int] | None
    nofile: int
    fsize: int
    parent: int
    required: bool
    connect_tcp: bool = False

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Spec:
        """From what crossed the channel; raises TypeError or KeyError when it does not fit."""
        bind = plain["bind_tcp"]
        return cls(**{**plain, "bind_tcp": (bind[0], bind[1]) if bind else None})


class Step(Enum):
    """The steps; each is put on and then tried before the next one."""

    LIMITS = "limits"
    USER_NAMESPACE = "user namespace"
    BOUNDING = "bounding set"
    JAIL = "jail"
    IDENTITY = "identity"
    DEATH_SIGNAL = "death signal"
    CAPABILITIES = "capabilities"
    NO_NEW_PRIVS = "no_new_privs"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"


# The bounding set goes before the uid: dropping it needs CAP_SETPCAP, which the change of uid takes away.
# The death signal comes after the uid: a change of uid clears it.
_TAIL = (Step.DEATH_SIGNAL, Step.CAPABILITIES, Step.NO_NEW_PRIVS, Step.LANDLOCK, Step.SECCOMP)
AS_ROOT = (Step.LIMITS, Step.BOUNDING, Step.JAIL, Step.IDENTITY, *_TAIL)
AS_USER = (Step.LIMITS, Step.USER_NAMESPACE, Step.BOUNDING, Step.JAIL, *_TAIL)


def steps(*, root: bool) -> tuple[Step, ...]:
    """The order for a supervisor that is root, or an ordinary user."""
    return AS_ROOT if root else AS_USER
