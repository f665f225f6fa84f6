"""The record files that workers append to: opened here, because nothing can be opened in a jail.

Invariants: workers get a descriptor that only appends; what is opened is a regular file with one name, that no service
serves and that nobody but us or root could have put there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from appliance.errors import StartError
from appliance.supervise.service import Service

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO never blocks us


class Records:
    """One descriptor for each path, kept for workers that are born later."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def renew(self, current: Iterable[Service], coming: Iterable[Service]) -> None:
        """Open the files of `coming` anew. Raises StartError, and then nothing has changed.

        Those of `current` alone stay as they are, so that a file that is gone does not hinder its removal; others go.
        """
        current, coming = tuple(current), tuple(coming)
        jails = tuple(service.jail for service in (*current, *coming))
        new: dict[str, int] = {}
        try:
            for path in {service.record for service in coming if service.record}:
                new[path] = _opened(path, jails)
        except StartError:
            _close(new)
            raise
        staying = {service.record for service in current} - new.keys()
        old, kept = self._open, {path: held for path, held in self._open.items() if path in staying}
        self._open = {**kept, **new}
        _close({path: held for path, held in old.items() if path not in kept})

    def of(self, service: Service) -> list[int]:
        """The descriptor for the workers of a service; none where it records nothing."""
        return [self._open[service.record]] if service.record in self._open else []


def _close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _opened(path: str, jails: tuple[str, ...]) -> int:
    folder = os.path.realpath(os.path.dirname(path))
    for jail in jails:
        if f"{folder}/".startswith(f"{os.path.realpath(jail).rstrip('/')}/"):
            raise StartError(f"observe.xferlog: {path} lies in {jail}, where clients could read it (name another file)")
    try:
        above = os.stat(folder)
        if above.st_uid not in (0, os.geteuid()) or (above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX):
            raise StartError(f"observe.xferlog: {folder} can be written by others (chown root and chmod go-w it)")
        descriptor = os.open(f"{folder}/{os.path.basename(path)}", _FLAGS, 0o640)
    except OSError as error:
        why = f"cannot open {path}: {os.strerror(error.errno or 0)}"
        raise StartError(f"observe.xferlog: {why} (a file of this user, no link, in a folder that is there)") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid not in (0, os.geteuid()):
        os.close(descriptor)
        raise StartError(f"observe.xferlog: {path} is no plain file of this user with one name (name another file)")
    return descriptor
