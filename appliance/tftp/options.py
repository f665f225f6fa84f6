"""Negotiate the options of a request (RFC 2347, 2348, 2349, 7440; utimeout, blksize2, rollover as tftpd-hpa).

Invariant: whatever a client asks, negotiate() returns; what it acknowledges is legal, never more than was asked, and
answers each option once, under the name as it was written. One that cannot be honoured is left out, never refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.tftp.packet import BLOCK_MAX, HEADER, Request

BLOCK_MIN = 8  # RFC 2348
BLOCK_DEFAULT = 512  # RFC 1350 section 5
IN_FLIGHT_MAX = 1 << 20  # bytes of one window: what a client may make us send for one ACK
# Above half of the 16-bit number space an ACK that was delayed by one window would pass for a new one.
WINDOW_LIMIT = 32767
UPLOAD_WINDOW_MAX = 256 * 1024  # bytes of one window of an upload: it is held in memory until the custodian answers
_QUEUE = 212_992  # bytes that a socket queues where nobody raised net.core.rmem_default, as the kernel counts them
_DIGITS_MAX = 20
_TERMS = {  # two names for one thing: the first that can be honoured counts
    b"blksize": "block",
    b"blksize2": "block",
    b"windowsize": "window",
    b"timeout": "timeout",
    b"utimeout": "timeout",
    b"tsize": "tsize",
    b"rollover": "rollover",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows. `blksize_max` None: what fits the path. `timeout_s`: unless the client asks.

    `refused`: options, by folded name, that are left out as if nobody had asked.
    """

    blksize_max: int | None
    windowsize_max: int
    timeout_s: float
    refused: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Agreed:
    """What holds for one transfer. `rollover` is the number that follows block 65535. No `oack`: begin with DATA 1.

    `timeout_asked`: `timeout_s` is the client's own wish, and is kept to; otherwise it is the longest first interval.
    """

    block_size: int = BLOCK_DEFAULT
    window: int = 1
    timeout_s: float = 1.0
    rollover: int = 0
    oack: tuple[tuple[bytes, bytes], ...] = ()
    timeout_asked: bool = False


def negotiate(request: Request, policy: Policy, room: int, size: int | None) -> Agreed:
    """Decide every option of `request`.

    `room`: bytes of data that one packet carries on this path without fragments. `size`: bytes on the wire, for tsize
    (RFC 2349): of the file to be read, or `declared` by who writes; None where nobody knows (reading in netascii), then
    tsize is left out.
    """
    asked = _asked(request, policy.refused)
    block = _block(asked, policy, room)
    most = _window_max(block, policy, request.write)
    answers: dict[bytes, int] = {}
    for folded, (_name, number) in asked.items():
        answer = _answer(folded, number, block, most, size)
        if answer is not None and _TERMS[folded] not in {_TERMS[other] for other in answers}:
            answers[folded] = answer
    return Agreed(
        block_size=block,
        window=answers.get(b"windowsize", 1),
        timeout_s=_timeout(answers, policy),
        rollover=answers.get(b"rollover", 0),
        oack=tuple((asked[folded][0], b"%d" % answer) for folded, answer in answers.items()),
        timeout_asked=b"timeout" in answers or b"utimeout" in answers,
    )


def _asked(request: Request, refused: frozenset[bytes]) -> dict[bytes, tuple[bytes, int]]:
    """Known options with a number, by folded name; of a repeated one the first that is a number counts."""
    asked: dict[bytes, tuple[bytes, int]] = {}
    for name, value in request.options:
        folded = name.lower()
        if (
            folded in _TERMS
            and folded not in refused
            and folded not in asked
            and value.isdigit()
            and len(value) <= _DIGITS_MAX
        ):
            asked[folded] = (name, int(value))
    return asked


def _block(asked: dict[bytes, tuple[bytes, int]], policy: Policy, room: int) -> int:
    most = max(BLOCK_MIN, min(room if policy.blksize_max is None else policy.blksize_max, BLOCK_MAX))
    for folded, (_name, number) in asked.items():
        if _TERMS[folded] == "block" and number >= BLOCK_MIN:
            size = min(number, most)
            return size if folded == b"blksize" else 1 << (size.bit_length() - 1)
    return BLOCK_DEFAULT


def declared(request: Request, refused: frozenset[bytes]) -> int:
    """The size that a write request announces (RFC 2349), 0 where it does not, at most 2^63 - 1."""
    _name, number = _asked(request, refused).get(b"tsize", (b"", 0))
    return min(number, (1 << 63) - 1)


def _window_max(block: int, policy: Policy, write: bool) -> int:
    most = min(policy.windowsize_max, WINDOW_LIMIT)
    stride = block + HEADER.size
    if not write:
        return min(most, max(1, IN_FLIGHT_MAX // stride))
    # What the socket cannot queue is lost: a packet counts there as its bytes and headers, rounded up to a power of 2.
    queued = (1 << (stride + 420).bit_length()) + 320
    return min(most, max(1, UPLOAD_WINDOW_MAX // stride), max(1, _QUEUE // queued))


def _answer(folded: bytes, number: int, block: int, window_max: int, size: int | None) -> int | None:
    """The number to acknowledge, or None to leave the option out."""
    if folded in (b"blksize", b"blksize2"):
        return block if number >= BLOCK_MIN else None
    if folded == b"windowsize":
        return min(number, window_max) if 1 <= number <= 65535 else None
    if folded == b"timeout":
        return number if 1 <= number <= 255 else None
    if folded == b"utimeout":
        return number if 10_000 <= number <= 255_000_000 else None
    if folded == b"rollover":
        return number if number <= 1 else None
    return size


def _timeout(answers: dict[bytes, int], policy: Policy) -> float:
    if b"timeout" in answers:
        return float(answers[b"timeout"])
    if b"utimeout" in answers:
        return answers[b"utimeout"] / 1e6
    return policy.timeout_s
