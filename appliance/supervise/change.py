"""What a reload has to do: the difference of two lists of services. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.supervise.service import Service


@dataclass(frozen=True, slots=True)
class Change:
    """Services to add, to replace by a new generation, to take away; everything else keeps running untouched."""

    added: tuple[Service, ...]
    replaced: tuple[Service, ...]
    removed: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True when nothing has to be done."""
        return not (self.added or self.replaced or self.removed)

    def __str__(self) -> str:
        parts = [f"{service.name} added" for service in self.added]
        parts += [f"{service.name} replaced" for service in self.replaced]
        parts += [f"{name} removed" for name in self.removed]
        return ", ".join(parts) or "nothing changed"


def difference(before: list[Service], after: list[Service], renewed: frozenset[str] = frozenset()) -> Change:
    """Compare by value: a service whose value is the same is not touched, unless its files were (`renewed`: names)."""
    old = {service.name: service for service in before}
    new = {service.name: service for service in after}
    return Change(
        added=tuple(service for name, service in new.items() if name not in old),
        replaced=tuple(s for name, s in new.items() if name in old and (old[name] != s or name in renewed)),
        removed=tuple(name for name in old if name not in new),
    )
