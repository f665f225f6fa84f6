"""What was learnt about a client shapes its next negotiation; what was agreed never changes. Pure.

Three lessons, each bounded and forgotten after an hour without a new one:
- A path that silently eats large packets (a tunnel without ICMP, RFC 2923) shows only as silence after the OACK: the
  client is offered a smaller blksize.
- A window in which much gets lost is mostly sent in vain: a smaller windowsize is offered, and a larger one again when
  the losses have gone (docs/decisions/0011-a-server-that-learns.md has the figures behind the numbers).
- How long an answer takes: a lost OACK is repeated after that time and not after the configured one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

CLIENTS_MAX = 4096
REMEMBERED_S = 3600.0
HEAVY = 5.0  # losses in each window: from here on half the window is faster where the path has a bandwidth
BURSTY = 3.0  # fewer, though windows had to leave in slices: bursts got lost, and half the window is half the burst
LEAST_WINDOW = 16  # below this every step costs more time than it saves, whatever gets lost
ENOUGH_BLOCKS = 256  # fewer say nothing about a path
MANY_BLOCKS = 4096  # so many with few losses, and a larger window is tried; of older ones half counts
_WINDOW_MAX = 65535  # RFC 7440 section 3
_NEXT = {None: 1200, 1200: 512}  # 1200 fits every tunnel that carries IPv6 (RFC 8200 section 5), 512 needs no option


@dataclass(slots=True)
class _Path:
    """What transfers of one client have shown; `window` 0: no limit."""

    until: float
    window: int = 0
    blocks: float = 0.0
    losses: float = 0.0
    interval_s: float = 0.0


class Lessons:
    """What to offer, by client."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._paths: OrderedDict[str, _Path] = OrderedDict()

    def path_ate(self, client: str, now: float) -> int:
        """Full-sized blocks never reached the client; returns what it will be offered."""
        block = _NEXT.get(self.block_size_max(client, now), 512)
        self._blocks[client] = (now + REMEMBERED_S, block)
        self._blocks.move_to_end(client)
        if len(self._blocks) > CLIENTS_MAX:
            self._blocks.popitem(last=False)
        return block

    def block_size_max(self, client: str, now: float) -> int | None:
        """The limit for the client's next request; None where nothing is known."""
        until, block = self._blocks.get(client, (now, 0))
        return block if until > now else None

    def passed(
        self, client: str, now: float, *, window: int, blocks: int, losses: int, sliced: bool, interval_s: float
    ) -> None:
        """A transfer has ended: `blocks` arrived in windows of `window`, `losses` were mended.

        `sliced`: whole windows got lost until they were sent in slices. `interval_s`: as measured, 0 if it was not.
        """
        path = self._path(client, now)
        path.until = now + REMEMBERED_S
        path.interval_s = interval_s or path.interval_s
        if window > 1:
            path.blocks += blocks
            path.losses += losses
            self._judge(path, window, sliced)

    def window_max(self, client: str, now: float) -> int | None:
        """The largest windowsize for the client's next request; None where nothing is against it."""
        path = self._paths.get(client)
        return path.window or None if path is not None and path.until > now else None

    def interval_s(self, client: str, now: float) -> float:
        """After how many seconds silence means a loss; 0 where nothing is known."""
        path = self._paths.get(client)
        return path.interval_s if path is not None and path.until > now else 0.0

    def _path(self, client: str, now: float) -> _Path:
        path = self._paths.get(client)
        if path is None or path.until <= now:
            path = self._paths[client] = _Path(now)
        self._paths.move_to_end(client)
        if len(self._paths) > CLIENTS_MAX:
            self._paths.popitem(last=False)
        return path

    def _judge(self, path: _Path, window: int, sliced: bool) -> None:
        if path.blocks < ENOUGH_BLOCKS:
            return
        in_each = window * path.losses / path.blocks
        if window > LEAST_WINDOW and (in_each >= HEAVY or (sliced and in_each < BURSTY)):
            self._limit(path, max(LEAST_WINDOW, window // 2))
        elif path.blocks >= MANY_BLOCKS:
            if path.window and 2 * in_each <= HEAVY / 2:
                self._limit(path, 2 * path.window)
            path.blocks /= 2
            path.losses /= 2

    def _limit(self, path: _Path, window: int) -> None:
        """What was counted belongs to the window that is left."""
        path.window = window if window <= _WINDOW_MAX else 0
        path.blocks = path.losses = 0.0
