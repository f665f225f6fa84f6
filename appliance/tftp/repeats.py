"""How often and how late something is sent again, by the sender of a file and by its receiver alike. Pure."""

from __future__ import annotations

FIRST_REPEATS = 2
MAX_REPEATS = 20
LAST_REPEATS = 5  # a client that has everything may be gone (its final ACK lost): do not hold the slot for long
INTERVAL_MAX_S = 8.0  # growth of the retransmission interval stops here, or at the agreed timeout if that is longer


def first_wait_s(timeout_s: float) -> float:
    """How long a client that was never heard is waited for: the configured interval and its doublings.

    Where a path was remembered the end once came with the repeats, which that moves forward: after 3 s instead of 7. A
    client whose first ACK was held up for longer got nothing, because it had been served before.
    """
    longest_s = max(INTERVAL_MAX_S, timeout_s)
    return sum(min(timeout_s * 2.0**number, longest_s) for number in range(1 + FIRST_REPEATS))
