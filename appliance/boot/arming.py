"""What goes between the command line and the keeper: what is armed (one file for each, before `release` is said), an
operator's word that a machine is done, and back how far each is.

The folder is the keeper's, who is less than we may be: nothing there is followed, and nothing that is there is written.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from appliance.boot import armed
from appliance.boot.armed import Armed
from appliance.boot.model import Owned
from appliance.boot.oneshot import Stage
from appliance.confine import libc

FOLDER = "armed"  # in state_dir
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(state_dir: str, once: Iterable[Owned], overlay: int) -> int:
    """Give the keeper what it has not got yet of the one-shot boots that `overlay` has files for; how many these are.

    Raises OSError, FileNotFoundError where no keeper has ever run.
    """
    with _as_its_owner(f"{state_dir}/{FOLDER}"):
        folder = os.open(f"{state_dir}/{FOLDER}", _FOLDER)
        try:
            known = set(os.listdir(folder))
            given = [shot for owned in once if (shot := _shot(owned, overlay)) and armed.file_of(shot.key) not in known]
            for shot in given:
                _put(folder, shot)
            os.fsync(folder)
        finally:
            os.close(folder)
    return len(given)


@contextmanager
def _as_its_owner(folder: str) -> Iterator[None]:
    """Root goes into the keeper's folder with the keeper's rights: it may lack the one to pass by all permissions."""
    found = os.stat(folder, follow_symlinks=False)
    if os.geteuid() == 0:
        libc.look_as(found.st_uid, found.st_gid)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            libc.look_as(0, os.getegid())


def _shot(owned: Owned, overlay: int) -> Armed | None:
    once = owned.once
    if once is None or not owned.configs or not owned.loads:
        return None  # nothing to boot, or nothing by which to see that it was
    return Armed(once.id, owned.key, once.profile, overlay, owned.configs, owned.loads, once.until, owned.confirm)


def _put(folder: int, shot: Armed) -> None:
    new = f"{shot.key}.given"
    try:
        os.unlink(new, dir_fd=folder)
    except FileNotFoundError:
        pass
    descriptor = os.open(new, _MAKE, 0o644, dir_fd=folder)
    try:
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, armed.encode(shot))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(new, armed.file_of(shot.key), src_dir_fd=folder, dst_dir_fd=folder)


def told(state_dir: str) -> dict[str, tuple[str, int]]:
    """What the keeper says of the armed: key -> stage ("armed", "loaded", "confirmed", "expired"), since when.

    Empty where no keeper has run. What it wrote is distrusted: whatever has another form is left out.
    Raises OSError where the folder cannot be read.
    """
    try:
        folder = os.open(f"{state_dir}/{FOLDER}", _FOLDER)
    except FileNotFoundError:
        return {}
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".state")]
        found = {name.removesuffix(".state"): _stage(folder, name) for name in names}
    finally:
        os.close(folder)
    return {key: said for key, said in found.items() if armed.is_key(key) and said is not None}


def _stage(folder: int, name: str) -> tuple[str, int] | None:
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            plain = json.loads(os.read(descriptor, armed.LARGEST))
        finally:
            os.close(descriptor)
        return Stage(plain["stage"]).value, int(plain["at"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def confirm(state_dir: str, key: str) -> None:
    """An operator's word that the installer of this arming is done. Raises OSError."""
    folder = os.open(f"{state_dir}/{FOLDER}", _FOLDER)
    try:
        os.close(os.open(f"{key}.confirm", _MAKE, 0o644, dir_fd=folder))
    except FileExistsError:
        pass  # said already, and not heard yet
    finally:
        os.close(folder)
