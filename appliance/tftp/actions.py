"""What a pure machine of a transfer wants done, and how a transfer ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from appliance.tftp.packet import ErrorCode


@dataclass(frozen=True, slots=True)
class Send:
    """Send `count` blocks from block `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class SendOack:
    """Send the OACK (again)."""


@dataclass(frozen=True, slots=True)
class SendError:
    """Send an ERROR with one of our constant texts."""

    code: ErrorCode
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Over, and nothing went wrong; `outcome` is for the log."""

    outcome: str = "done"


@dataclass(frozen=True, slots=True)
class Failed:
    """Over without success; `outcome` is for the log."""

    outcome: str


Action: TypeAlias = Send | SendOack | SendError | Done | Failed
Actions: TypeAlias = tuple[Action, ...]

PROBE = "probe"
NO_ANSWER = "no answer"
TIMED_OUT = "timed out"
UNCONFIRMED = "last block not acknowledged"
ABORTED = "aborted by the client"
