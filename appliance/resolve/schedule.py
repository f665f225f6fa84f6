"""When each name is looked up, which of its addresses is told, and when that is worth telling. Pure: time comes in.

Invariant: the last address that was found stays until another is found; a failure changes nothing but is told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

REFRESH_S = 60.0
_RETRY_S = (5.0, 10.0, 20.0, 40.0)  # after the first failures in a row; then as often as without
FAILING = "0.0.0.0"  # told instead of an address: the name cannot be looked up now


@dataclass(slots=True)
class _Name:
    due: float
    address: str = ""
    failures: int = 0


class Schedule:
    """The names of one configuration."""

    def __init__(self, names: Iterable[str], now: float) -> None:
        self._names = {name: _Name(now) for name in names}

    def due(self, now: float) -> list[str]:
        """Names to look up now; each is put off until it is answered or has failed."""
        found = [name for name, state in self._names.items() if state.due <= now]
        for name in found:
            self._names[name].due = float("inf")
        return found

    def answered(self, name: str, addresses: Iterable[str], now: float) -> str:
        """The address to tell, "" when it is the known one, or FAILING when none of these can be used.

        An address that is known stays as long as it is among them: answers come in changing order.
        """
        usable = [address for address in addresses if _usable(address)]
        if not usable:
            return self.failed(name, now)
        state = self._names[name]
        recovered, state.failures = state.failures > 0, 0
        state.due = now + REFRESH_S
        if state.address in usable:
            return state.address if recovered else ""
        state.address = usable[0]
        return state.address

    def failed(self, name: str, now: float) -> str:
        """It could not be looked up: FAILING, or "" when that was told already."""
        state = self._names[name]
        state.due = now + (_RETRY_S[state.failures] if state.failures < len(_RETRY_S) else REFRESH_S)
        state.failures += 1
        return FAILING if state.failures == 1 else ""


def _usable(text: str) -> bool:
    """An IPv4 address that a client could connect to."""
    address = ipaddress.IPv4Address(text)
    return not (address.is_unspecified or address.is_multicast or address.is_reserved)
