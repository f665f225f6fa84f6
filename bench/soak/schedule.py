"""When which fault is injected. Pure: the same minutes and seed give the same schedule."""

from __future__ import annotations

import random

# each at least once even in a short soak, in an order that lets one fault meet the consequences of another
KINDS = (
    "publish", "kill tftp", "hostile", "kill custody", "disk full", "kill ftp", "reload unchanged", "kill events",
    "rollback", "kill tftp-custody", "reload refused", "history full", "kill keeper", "publish", "kill status",
    "hostile",
)  # fmt: skip
# these give a service new workers: rarely, so that the others live long enough to be judged
REPLACING = ("reload tftp", "reload ftp")
_APART_S, _REPLACE_S = (2.5, 20.0), 1500.0


def schedule(seconds: float, seed: int) -> list[tuple[float, str]]:
    """(seconds after the start, kind), in order; the last tenth is calm."""
    chance = random.Random(f"schedule {seed}")
    begin, end = min(seconds * 0.08, 30.0), seconds * 0.9
    apart = min(max((end - begin) / (len(KINDS) + 2), _APART_S[0]), _APART_S[1])
    found: list[tuple[float, str]] = []
    at, turn = begin, 0
    while at < end:
        kinds = list(KINDS)
        if turn:  # the first round in the order above
            chance.shuffle(kinds)
        for kind in kinds:
            if at >= end:
                break
            found.append((at, kind))
            at += apart * chance.uniform(0.8, 1.2)
        turn += 1
    every = min(_REPLACE_S, (end - begin) * 0.7)
    for number, kind in enumerate(REPLACING):
        at = begin + apart * (0.5 + number)
        while at < end:
            found.append((at, kind))
            at += every
    return sorted(found)
