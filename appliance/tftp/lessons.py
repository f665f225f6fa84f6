"""What was learnt about a client shapes its next negotiation; what was agreed never changes. Pure.

A path that silently eats large packets (a tunnel without ICMP, RFC 2923) shows only as silence after the OACK: the
client is offered less at its next request.
"""

from __future__ import annotations

from collections import OrderedDict

_CLIENTS_MAX = 4096
_REMEMBERED_S = 3600.0
_NEXT = {None: 1200, 1200: 512}  # 1200 fits every tunnel that carries IPv6 (RFC 8200 section 5), 512 needs no option


class Lessons:
    """Largest block to offer, by client. Bounded; forgotten after an hour."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def path_ate(self, client: str, now: float) -> int:
        """Full-sized blocks never reached the client; returns what it will be offered."""
        block = _NEXT.get(self.block_size_max(client, now), 512)
        self._blocks[client] = (now + _REMEMBERED_S, block)
        self._blocks.move_to_end(client)
        if len(self._blocks) > _CLIENTS_MAX:
            self._blocks.popitem(last=False)
        return block

    def block_size_max(self, client: str, now: float) -> int | None:
        """The limit for the client's next request; None where nothing is known."""
        until, block = self._blocks.get(client, (now, 0))
        return block if until > now else None
