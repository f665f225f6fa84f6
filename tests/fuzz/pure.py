"""Fuzz the pure rooms: packet.parse, options.negotiate, session.Session; nothing but PacketError may come out."""

from __future__ import annotations

import random
from collections.abc import Callable

from appliance.tftp.actions import Done, Failed, Send, SendOack
from appliance.tftp.options import BLOCK_MIN, IN_FLIGHT_MAX, Policy, negotiate
from appliance.tftp.packet import BLOCK_MAX, HEADER, PacketError, Request, parse
from appliance.tftp.repeats import FIRST_REPEATS
from appliance.tftp.session import Session
from tests.fuzz.seeds import SEEDS
from tests.tftp.test_packet import mutated

_EVENTS = 60
_ERRORS = 100  # datagrams for each walk through a session


class FoundError(Exception):
    """Something that must not happen; `test` is the regression test for it."""

    def __init__(self, what: str, test: str) -> None:
        super().__init__(what)
        self.test = test


def run(count: int, seed: int, progress: Callable[[int], None]) -> None:
    """Parse and negotiate `count` mutated datagrams, and walk through a session for each hundred. Raises FoundError."""
    source = random.Random(seed)
    for number in range(count):
        datagram = mutated(source, SEEDS)
        policy = Policy(source.choice((None, 8, 512, 65464)), source.choice((1, 16, 65535)), 1.0)
        room, size = source.choice((-40, 0, 512, 1468, 65500)), source.choice((None, 0, 1, 1 << 40))
        try:
            judge(datagram, policy, room, size)
        except Exception as error:
            raise FoundError(repr(error), _judge_test(datagram, policy, room, size, seed)) from error
        if number % _ERRORS == 0:
            walk_seed = source.getrandbits(64)
            try:
                walk(walk_seed)
            except Exception as error:
                raise FoundError(repr(error), _walk_test(walk_seed, seed)) from error
        progress(number + 1)


def judge(datagram: bytes, policy: Policy, room: int, size: int | None) -> None:
    """Parse, and negotiate what is a request: the answers are legal."""
    try:
        request = parse(datagram)
    except PacketError:
        return
    if not isinstance(request, Request):
        return
    agreed = negotiate(request, policy, room, size)
    assert BLOCK_MIN <= agreed.block_size <= BLOCK_MAX
    assert 1 <= agreed.window <= policy.windowsize_max
    assert agreed.window == 1 or agreed.window * (agreed.block_size + HEADER.size) <= IN_FLIGHT_MAX
    names = [name.lower() for name, _value in agreed.oack]
    assert len(set(names)) == len(names)
    assert all(pair[0] in {name for name, _value in request.options} for pair in agreed.oack)


def walk(seed: int) -> None:
    """A session that hears what a hostile client may say, at any time: its invariants hold."""
    source = random.Random(seed)
    options = tuple((b"blksize", b"%d" % source.choice((8, 512, 65464))) for _ in range(source.randrange(2)))
    options += tuple((b"windowsize", b"%d" % source.choice((2, 4, 64))) for _ in range(source.randrange(2)))
    request = Request(write=False, name=b"f", mode=b"octet", options=options)
    agreed = negotiate(request, Policy(None, 64, 1.0), 65000, None)
    last = source.choice((None, 1, 2, 5, 100, 65535, 65536, 200_000))
    session = Session(agreed, last=last, empty=source.random() < 0.1, give_up_s=source.choice((1.0, 60.0)))
    now, first_replies, over = 100.0, 0, False
    actions = session.start(now)
    for _ in range(_EVENTS):
        assert not (over and actions)
        over = over or any(isinstance(action, Done | Failed) for action in actions)
        if not session.heard:
            first_replies += sum(isinstance(action, Send | SendOack) for action in actions)
        assert first_replies <= 1 + FIRST_REPEATS
        assert 0 <= session.acked <= session.sent <= session.acked + agreed.window
        assert session.last is None or session.sent <= session.last
        for action in actions:
            if isinstance(action, Send):
                assert action.count >= 1 and session.acked < action.first <= session.sent
        now += source.choice((0.0, 0.0001, 0.01, 1.0))
        actions = _event(session, source, now)


def _event(session: Session, source: random.Random, now: float) -> tuple[object, ...]:
    match source.randrange(8):
        case 0:
            return session.on_timeout(session.deadline + 0.001)
        case 1:
            return session.on_ack(source.randrange(65536), now)
        case 2:
            return session.on_error(source.randrange(65536)) if source.random() < 0.2 else ()
        case 3:
            block = source.choice((session.sent, session.acked, source.randrange(65536))) & 0xFFFF
            count = session.advance(block, now)
            assert 0 <= count <= session.sent - session.acked
            return ()
        case _:
            return session.on_ack((session.acked + source.randrange(-2, 6)) & 0xFFFF, now)


def _judge_test(datagram: bytes, policy: Policy, room: int, size: int | None, seed: int) -> str:
    return (
        f"def test_this_datagram_is_judged_without_an_error() -> None:  # make fuzz, seed {seed}\n"
        f"    judge({datagram!r}, {policy!r}, {room}, {size})\n"
    )


def _walk_test(walk_seed: int, seed: int) -> str:
    return f"def test_this_walk_keeps_the_invariants() -> None:  # make fuzz, seed {seed}\n    walk({walk_seed})\n"
