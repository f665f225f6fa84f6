"""Arm and disarm: what is armed for one boot is handed to the keeper, and what is not any more is taken back.

It is done before the overlay with their files is served: of a key that nobody spoke of, nothing is served.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.boot.model import Owned


def settle(state_dir: str, armed: Sequence[Owned], alive: Collection[str]) -> None:
    """`armed` are handed over, as far as they are new; keys that are not in `alive` are taken back.

    Raises ApplianceError.
    """
    from appliance.boot.armed import file_of, is_key
    from appliance.boot.arming import FOLDER, hand_over

    folder = os.path.join(state_dir, FOLDER)
    try:
        if any(one.configs and one.loads for one in armed):
            os.makedirs(folder, 0o700, exist_ok=True)  # the supervisor gives it to the keeper
        if not os.path.lexists(folder):
            return
        for name in os.listdir(folder):
            key = name.removesuffix(".json")
            if name.endswith(".json") and is_key(key) and key not in alive:
                os.unlink(os.path.join(folder, file_of(key)))
        hand_over(state_dir, armed, _overlay(state_dir) + 1)
    except OSError as error:
        raise ApplianceError(f"{folder}: {error.strerror} (run as root, or as who runs the appliance)") from None


def _overlay(state_dir: str) -> int:
    """The number of the overlay that is served; 0 before the first publication."""
    try:
        with open(os.path.join(state_dir, "boot", "current"), "rb") as file:
            return int(file.read(100).split()[1])
    except (FileNotFoundError, ValueError, IndexError):
        return 0
