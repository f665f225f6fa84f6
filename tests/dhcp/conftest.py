"""The lab that tests of this folder share."""

from __future__ import annotations

from tests.qemu.lab import room

__all__ = ["room"]
