"""Read which release is in force: `boot/current` in the state folder, one line that the publisher renames into place.

Another account writes it, so nothing in it is believed before its form is right.
"""

from __future__ import annotations

import os
import re
import stat

from appliance.published import layers

FILE, FORMAT_FILE, FORMAT = "boot/current", "boot/format", "1"
_MOST = 64  # bytes
_LINE = re.compile(r"([0-9a-f-]{24}) ([0-9]{1,10})\n", re.ASCII)
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unusable(Exception):
    """What stands there cannot be used; the text says why."""


def read(state_dir: str) -> tuple[str, int] | None:
    """The release and the number of its overlay; None while nothing is published. Raises Unusable."""
    form = _text(f"{state_dir}/{FORMAT_FILE}")
    if form is not None and form != f"{FORMAT}\n":
        raise Unusable(f"{state_dir}/{FORMAT_FILE} is not {FORMAT}: another version of the appliance made this state")
    text = _text(f"{state_dir}/{FILE}")
    if text is None:
        return None
    found = _LINE.fullmatch(text)
    if found is None or not layers.is_id(found[1]) or int(found[2]) > layers.OVERLAY_MAX:
        raise Unusable(f"{state_dir}/{FILE} does not name a release")
    return found[1], int(found[2])


def missing(root: str, release: str, overlay: int) -> str:
    """The first folder of a release that is not there in a root; "" when all are."""
    for folder in (layers.folder_of(release), layers.overlay_of(overlay)):
        path = f"{root}/{folder.decode()}"
        try:
            found = os.lstat(path)
        except OSError:
            return path
        if not stat.S_ISDIR(found.st_mode):
            return path
    return ""


def _text(path: str) -> str | None:
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unusable(f"{path} is no file")
        return os.read(descriptor, _MOST).decode("latin-1")
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
