"""What the resolver has said about names: the last good address of each, and which cannot be looked up now. Pure.

Only names of the configuration are taken, and an address is four numbers: a resolver that fell can point passive data
connections of the service elsewhere, and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.errors import Problem

FAILING = "0.0.0.0"  # of wire.Resolved: no address


class Addresses:
    """By name."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self._failing: set[str] = set()

    def learn(self, name: str, address: str) -> bool:
        """Take the resolver's word; True when workers have to be told an address."""
        if address == FAILING:
            self._failing.add(name)
            return False
        self._failing.discard(name)
        new = self.known.get(name) != address
        self.known[name] = address
        return new

    def keep(self, names: Iterable[str]) -> None:
        """Forget all but these, which the configuration has now."""
        wanted = set(names)
        self._failing &= wanted
        self.known = {name: address for name, address in self.known.items() if name in wanted}

    def problems(self, names: Iterable[str]) -> list[Problem]:
        """What an operator should know of names of the configuration."""
        found = []
        for name in names:
            known = self.known.get(name)
            if name in self._failing and known:
                what = f"ftp.passive_address: {name} cannot be looked up now; clients are still told {known}"
                found.append(Problem("warning", what, "look at the name servers of /etc/resolv.conf"))
            elif known is None:
                what = f"ftp.passive_address: there is no address of {name} yet; PASV tells the one that was reached"
                found.append(
                    Problem("warning", what, "look at the name servers of /etc/resolv.conf, or write an address")
                )
        return found
