"""A machine's turn is told once: booted, stalled, failed; a client that boots nothing is not spoken of."""

from __future__ import annotations

from appliance.board.hearing import Hearing
from appliance.board.live import Live
from appliance.board.turns import Turns
from appliance.observe import events
from appliance.observe.live import SIZE
from appliance.observe.live import Live as Table

CLIENT = b"192.0.2.7"
START = 1_700_000_000.0


class World:
    def __init__(self) -> None:
        self.live = Live({})
        self.hearing, self.turns = Hearing(self.live), Turns(self.live)
        self.clock_ms = 0  # of whoever dated the records

    def ended(self, at: float, file: bytes, outcome: bytes = b"done", number: int = 100) -> None:
        event = events.Ended(
            size=number, bytes=number, client=CLIENT, verb=b"RRQ", file=file, outcome=outcome, acknowledged=1
        )
        self.hearing.take([events.Record(1, self.clock_ms, "tftp.0", event)], START + at)

    def told(self, at: float) -> list[events.Machine]:
        return list(self.turns.of(self.live.tick(START + at)))


def test_a_boot_is_told_when_it_is_complete_and_only_once() -> None:
    world = World()
    for at, file in enumerate((b"pxelinux.0", b"pxelinux.cfg/01-52-54-00-12-34-56", b"vmlinuz")):
        world.ended(at, file)
        assert world.told(at) == []
    world.ended(4, b"initrd.gz")
    (event,) = world.told(4)
    assert (event.state, event.mac, event.client, event.file) == (b"booted", b"52:54:00:12:34:56", CLIENT, b"initrd.gz")
    assert (event.ms, event.bytes) == (4000, 400)
    assert world.told(5) == []


def test_a_boot_that_stops_is_told_with_what_mends_it_and_a_hostile_name_is_escaped_once() -> None:
    world = World()
    world.ended(0, b"pxe\xff\x1blinux.0")
    world.ended(1, b"vmlinuz", b"timed out", 5)
    (event,) = world.told(1)
    assert event.state == b"failed" and b"vmlinuz" in event.detail and event.remedy
    assert world.told(30) == []  # failed it stays
    world = World()
    world.ended(0, b"gr\xff\x1b\\ub.efi")
    assert world.told(1) == []
    (event,) = world.told(40)
    assert (event.state, event.file) == (b"stalled", b"gr\xff\x1b\\ub.efi")


def test_a_client_that_boots_nothing_is_not_spoken_of() -> None:
    world = World()
    world.ended(0, b"switch-config.txt")
    world.hearing.take([events.Record(2, 0, "custody.0", events.Stored(name=b"x"))], START)  # about no machine
    assert world.told(1) == world.told(60) == []


def test_the_next_boot_is_told_again_and_what_was_forgotten_is_forgotten_here() -> None:
    world = World()
    world.ended(0, b"vmlinuz")
    world.ended(1, b"initrd")
    assert [event.state for event in world.told(1)] == [b"booted"]
    world.ended(100, b"grubx64.efi")
    world.ended(101, b"vmlinuz")
    world.ended(102, b"initrd")
    assert [event.state for event in world.told(102)] == [b"booted"]
    assert list(world.turns.of({"rows": [], "gone": ["192.0.2.7"]})) == []
    world.ended(103, b"vmlinuz")
    assert [event.state for event in world.told(103)] == [b"booted"]


def test_a_long_transfer_that_moves_is_not_stalled_and_one_that_stands_is() -> None:
    world, memory = World(), memoryview(bytearray(SIZE))
    table = Table(memory)
    number = table.begin(int(START * 1000), int(START * 1000), (CLIENT, b"RRQ", b"initrd.gz"), size=10_000)
    world.hearing.view(1, "tftp.0", memory)
    for second in range(60):
        table.update(number, int((START + second) * 1000), 100 * second, 0)
        world.hearing.look(START + second)
        assert world.told(second) == []
    for second in range(60, 79):
        world.hearing.look(START + second)
        assert world.told(second) == []
    world.hearing.look(START + 80)
    (event,) = world.told(80)
    assert (event.state, event.bytes) == (b"stalled", 5900) and b"59 %" in event.detail
    world.hearing.unview(1)
    world.hearing.unview(2)  # one that was never shown
    world.hearing.look(START + 100)
    assert world.told(100) == []


def test_a_clock_that_jumps_forward_or_back_stalls_nobody_and_hides_no_stall() -> None:
    world = World()
    for at, jump in enumerate((0, 86_400_000, -86_400_000, 4_000_000_000_000)):
        world.clock_ms = jump
        world.ended(at, b"pxelinux.0")
        assert world.told(at) == []
    assert [event.state for event in world.told(3 + 21)] == [b"stalled"]
