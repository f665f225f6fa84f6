"""Arm and disarm: what is armed for one boot is handed to the keeper, and what is not any more is taken back.

It is done before the overlay with their files is served: of a key that nobody spoke of, nothing is served.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.boot.model import Machine, Owned


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


def tell(state_dir: str, facts: Sequence[dict[str, Any]]) -> None:
    """Put what the keeper says into facts of machines: once.state and once.since. Raises ApplianceError."""
    from appliance.boot.arming import told

    if not any(fact["once"] for fact in facts):
        return
    try:
        stages = told(state_dir)
    except OSError as error:
        raise ApplianceError(
            f"{state_dir}/armed: {error.strerror} (run as root, or as who runs the appliance)"
        ) from None
    for fact in facts:
        if fact["once"]:
            waits = "armed" if fact["once"]["until"] > time.time() else "expired"
            state, since = stages.get(fact["once"]["id"], (waits, None))
            fact["once"] |= {"state": state, "since": since}


def confirm(state_dir: str, machine: Machine) -> None:
    """Hand an operator's word to the keeper. Raises ApplianceError."""
    from appliance.boot.arming import confirm as hand

    assert machine.once is not None
    try:
        hand(state_dir, machine.once.id)
    except FileNotFoundError:
        raise ApplianceError(f"{state_dir}/armed is not there: nobody keeps what is armed (appliance run)") from None
    except OSError as error:
        raise ApplianceError(
            f"{state_dir}/armed: {error.strerror} (run as root, or as who runs the appliance)"
        ) from None
