"""Hand the machines that are armed for one boot to the keeper, and take back those that are not any more.

It is done before the overlay with their files is served: of a key that nobody spoke of, nothing is served. A key is new
for every arming, so a file is written once and never changed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.boot.model import Owned

FOLDER = "armed"  # in state_dir; the supervisor gives it to the keeper


def settle(state_dir: str, armed: Iterable[Owned], alive: Collection[str]) -> None:
    """`armed` are handed over, as far as they are new; keys that are not in `alive` are taken back.

    Raises ApplianceError.
    """
    from appliance.boot.armed import Armed, encode, file_of, is_key

    folder = os.path.join(state_dir, FOLDER)
    found = {one.once.id: one for one in armed if one.once and one.configs and one.loads and is_key(one.once.id)}
    try:
        if found:
            os.makedirs(folder, 0o700, exist_ok=True)
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        keys = {name.removesuffix(".json") for name in names if name.endswith(".json")}
        for key in keys:
            if is_key(key) and key not in alive:
                os.unlink(os.path.join(folder, file_of(key)))
        overlay = _overlay(state_dir) + 1
        for key, one in found.items():
            if key not in keys and one.once is not None:
                content = encode(Armed(key, one.key, one.profile, overlay, one.configs, one.loads, one.once.until))
                _put(folder, file_of(key), content)
    except OSError as error:
        raise ApplianceError(f"{folder}: {error.strerror} (run as root, or as who runs the appliance)") from None


def _overlay(state_dir: str) -> int:
    """The number of the overlay that is served; 0 before the first publication."""
    try:
        with open(os.path.join(state_dir, "boot", "current"), "rb") as file:
            return int(file.read(100).split()[1])
    except (FileNotFoundError, ValueError, IndexError):
        return 0


def _put(folder: str, name: str, content: bytes) -> None:
    half = os.path.join(folder, f".{secrets.token_hex(8)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(half, os.path.join(folder, name))
