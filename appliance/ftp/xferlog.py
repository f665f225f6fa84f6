"""Lines of an xferlog, the record that log analysers of wu-ftpd, vsftpd and proftpd read (xferlog(5)). Pure.

Invariant: a line has its 18 words and its one line end whatever a client chose as name or password, and fits into
PIPE_BUF, so that one write brings it whole.
"""

from __future__ import annotations

from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAME_MAX, _USER_MAX = 3000, 256  # characters as written; with the rest of a line below 4096
_DIRECTIONS = {"RETR": "o", "STOR": "i"}


def line(
    *, ended: float, seconds: float, client: str, size: int, path: str, text: bool, verb: str, user: str, done: bool
) -> bytes:
    """The line of one transfer, b"" for a verb that moves no file.

    `ended` in seconds since the epoch, told in UTC like every time of the appliance; `seconds` it took, at least 1 in
    the line because analysers divide by it. `text`: TYPE A. `user`: the password, by custom a mail address.
    """
    direction = _DIRECTIONS.get(verb)
    if direction is None:
        return b""
    words = (
        _date(ended),
        str(max(1, round(seconds))),
        client,
        str(size),
        _word(path, _NAME_MAX),
        "a" if text else "b",
        "_",  # nothing was packed or unpacked
        direction,
        "a",  # anonymous
        _word(user, _USER_MAX),
        "ftp 0 *",  # service, no RFC 1413 authentication, no user known by it
        "c" if done else "i",
    )
    return " ".join(words).encode("ascii") + b"\n"


def _date(moment: float) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    clock = f"{at.hour:02}:{at.minute:02}:{at.second:02}"
    return f"{_DAYS[at.weekday()]} {_MONTHS[at.month - 1]} {at.day:2} {clock} {at.year:04}"  # the day as ctime pads it


def _word(text: str, limit: int) -> str:
    r"""One word of printable ASCII: a space becomes _ as vsftpd writes it, all else \xNN; cut at `limit`."""
    word = ""
    for byte in text.encode("utf-8", "surrogateescape"):
        piece = chr(byte) if 0x20 < byte < 0x7F and byte != 0x5C else "_" if byte == 0x20 else f"\\x{byte:02x}"
        if len(word) + len(piece) > limit:
            break
        word += piece
    return word or "?"
