"""Hand what is armed over to the keeper: one file for each one-shot boot of an overlay, before `release` is said.

The folder is the keeper's, who is less than we may be: nothing there is followed, and nothing that is there is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from appliance.boot import armed
from appliance.boot.armed import Armed
from appliance.boot.model import Owned

FOLDER = "armed"  # in state_dir
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(state_dir: str, once: Iterable[Owned], overlay: int) -> int:
    """Give the keeper what it has not got yet of the one-shot boots that `overlay` has files for; how many these are.

    Raises OSError, FileNotFoundError where no keeper has ever run.
    """
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


def _shot(owned: Owned, overlay: int) -> Armed | None:
    once = owned.once
    if once is None or not owned.configs or not owned.loads:
        return None  # nothing to boot, or nothing by which to see that it was
    return Armed(once.id, owned.key, once.profile, overlay, owned.configs, owned.loads, once.until)


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
