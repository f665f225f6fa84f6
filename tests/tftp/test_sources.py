"""sources and cache: the packets of a file, whatever is asked in whatever order, against packets cut by hand."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.tftp.blocks import last_block
from appliance.tftp.cache import SETTLE_NS, Cache
from appliance.tftp.files import OpenFile, open_file
from appliance.tftp.netascii import encode
from appliance.tftp.options import Agreed
from appliance.tftp.sources import GapBuffer, Held, NetasciiSource, Source, SourceError
from appliance.tftp.supply import Supply

Opener = Callable[[bytes], OpenFile]
YEAR_2100 = 4_102_444_800 * 10**9


@pytest.fixture
def opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Write a file and open it as the engine does."""
    monkeypatch.chdir(tmp_path)

    def make(content: bytes) -> OpenFile:
        Path("f").write_bytes(content)
        opened = open_file(b"f", world_readable_only=True, chrooted=False)
        assert isinstance(opened, OpenFile)
        return opened

    return make


@pytest.fixture
def no_descriptor_lost() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(before)


def cut(content: bytes, size: int, first: int, count: int) -> bytes:
    packets = b""
    for block in range(first, first + count):
        payload = content[(block - 1) * size : block * size]
        packets += b"\0\3" + (block & 0xFFFF).to_bytes(2, "big") + payload
    return packets


def walk(source: Source, content: bytes, size: int, moves: list[int], window: int) -> None:
    """Ask for windows as a session does: forward by any part of a window, which includes the same window again."""
    last, acked = last_block(len(content), size), 0
    for move in moves:
        count = min(window, last - acked)
        while count:
            run = min(count, source.slots)
            first = acked + min(window, last - acked) - count + 1
            assert source.packets(first, run) == cut(content, size, first, run)
            count -= run
        acked = min(acked + move, last - 1)


_MOVES = st.lists(st.integers(0, 6), min_size=1, max_size=30)
_QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@_QUICK
@given(st.binary(max_size=400), st.integers(8, 40), st.integers(1, 6), st.integers(1, 40), _MOVES)
def test_a_gap_buffer_gives_the_packets_of_the_file(opener, content, size, window, slots, moves) -> None:
    source = GapBuffer(opener(content), Agreed(size, window), slots)
    walk(source, content, size, moves, window)
    source.close()


@_QUICK
@given(st.binary(max_size=400), st.integers(8, 40), st.integers(1, 6), _MOVES)
def test_the_cache_gives_the_packets_of_the_file_to_several_at_once(opener, content, size, window, moves) -> None:
    cache, agreed = Cache(1 << 20), Agreed(size, window)
    first = opener(content)
    assert cache.lookup(first, agreed, YEAR_2100) is None
    source = cache.lookup(first, agreed, YEAR_2100)
    assert source is not None
    walk(source, content, size, moves, window)
    walk(source, content, size, moves[::-1], window)
    source.close()
    source.discard()


@_QUICK
@given(st.binary(max_size=400), st.integers(8, 40), st.integers(1, 6), _MOVES)
def test_content_in_memory_gives_the_packets_of_the_file(content, size, window, moves) -> None:
    walk(Held(content, Agreed(size, window)), content, size, moves, window)


@_QUICK
@given(st.text("ab\r\n", max_size=300), st.integers(8, 40), st.integers(1, 6), _MOVES)
def test_netascii_packets_are_those_of_the_encoded_text(opener, text, size, window, moves) -> None:
    content = encode(text.encode())
    source = NetasciiSource(opener(text.encode()), Agreed(size, window))
    assert source.known(1, window) in (None, last_block(len(content), size))
    walk(source, content, size, moves, window)
    source.close()


def test_a_buffer_may_grow_in_the_middle(opener: Opener, no_descriptor_lost: None) -> None:
    content = os.urandom(5000)
    source = GapBuffer(opener(content), Agreed(100, 1), 2)
    assert source.packets(7, 1) == cut(content, 100, 7, 1)
    source.resize(20)
    assert source.packets(7, 20) == cut(content, 100, 7, 20)
    source.close()


def test_every_source_of_a_truncated_file_says_so(opener: Opener, no_descriptor_lost: None) -> None:
    agreed = Agreed(100, 4)
    cache = Cache(1 << 20)
    cache.lookup(opener(b"x" * 3000), agreed, YEAR_2100)
    for make in (
        lambda file: GapBuffer(file, agreed, 4),
        lambda file: NetasciiSource(file, agreed),
        lambda file: shared(cache, file, agreed),
    ):
        source = make(opener(b"x" * 3000))
        os.truncate("f", 100)
        with pytest.raises(SourceError, match="file truncated"):
            source.packets(20, 4)
        source.close()
    os.close(max(int(fd) for fd in os.listdir("/proc/self/fd") if is_file(int(fd))))  # the first lookup's


def is_file(descriptor: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").endswith("/f")
    except OSError:
        return False


def shared(cache: Cache, file: OpenFile, agreed: Agreed) -> Source:
    cache.lookup(file, agreed, YEAR_2100)
    source = cache.lookup(file, agreed, YEAR_2100)
    assert source is not None
    return source


def test_a_file_that_changed_a_moment_ago_is_not_cached(opener: Opener) -> None:
    file, agreed, cache = opener(b"x" * 100), Agreed(), Cache(1 << 20)
    young = file.changed_ns + SETTLE_NS
    for _ in range(3):
        assert cache.lookup(file, agreed, young - 1) is None
    assert cache.lookup(file, agreed, young) is not None


def test_the_cache_keeps_within_its_capacity_and_drops_what_was_used_longest_ago(opener: Opener) -> None:
    cache = Cache(10_000)
    sizes = [Agreed(500 + number) for number in range(4)]
    files = [opener(b"x" * 3000) for _ in range(4)]
    sources = []
    for file, agreed in zip(files[:3], sizes, strict=False):
        cache.lookup(file, agreed, YEAR_2100)
        source = cache.lookup(file, agreed, YEAR_2100)
        assert (source is not None) == (len(sources) < 2)
        if source is not None:
            sources.append(source)
        assert cache.used <= 10_000
    for source in sources:
        source.close()  # nobody uses them: now there is room
    assert cache.lookup(files[2], sizes[2], YEAR_2100) is not None
    assert cache.used <= 10_000
    sources[0].discard()
    files[3].close()


def test_files_of_all_sizes_left_holes_in_the_heap_of_malloc_when_they_were_dropped(opener: Opener) -> None:
    agreed, content = Agreed(512, 4), bytes(range(256)) * 128
    made = [shared(Cache(1 << 20), opener(content[:size]), agreed) for size in (15_000, 32_768)]
    small, large = (memoryview(one.packets(1, 1)).obj for one in made)
    assert isinstance(small, bytearray)
    assert isinstance(large, mmap.mmap), "pages of its own, which go back to the kernel"
    sent = b"".join(bytes(made[1].packets(block, 1))[4:] for block in range(1, 66))
    assert sent == content
    for one in made:
        one.close()
        one.discard()


def test_where_no_page_can_be_had_a_file_is_cached_in_the_heap(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "vm.max_map_count")

    monkeypatch.setattr(mmap, "mmap", refuse)
    source = shared(Cache(1 << 20), opener(b"x" * 20_000), Agreed())
    assert bytes(source.packets(40, 1)) == b"\0\3\0\x28" + b"x" * 32
    source.close()
    source.discard()


def test_a_file_larger_than_half_of_the_cache_is_not_cached(opener: Opener, no_descriptor_lost: None) -> None:
    file, cache = opener(b"x" * 6000), Cache(10_000)
    for _ in range(3):
        assert cache.lookup(file, Agreed(), YEAR_2100) is None
    file.close()


# -- memory of all transfers


def test_memory_is_taken_and_given_back(opener: Opener, no_descriptor_lost: None) -> None:
    supply = Supply(1 << 20)
    sources = []
    for number in range(3):
        file = opener(os.urandom(100_000 + number))
        sources.append(supply.source(file, Agreed(1428, 16), netascii=number == 2, confirmed=True))
        assert sources[-1].slots >= 16
    assert supply.used == sum(source.footprint for source in sources) > 0
    for source in sources:
        supply.release(source)
    assert supply.used == 0


def test_with_little_memory_left_a_transfer_reads_block_by_block_and_with_none_it_ends(opener: Opener) -> None:
    supply = Supply(40_000)  # half of it for read-ahead
    file = opener(os.urandom(100_000))
    whole = supply.source(file, Agreed(1428, 12), netascii=False, confirmed=True)
    assert whole.slots == 12
    single = supply.source(opener(b"x" * 90_000), Agreed(1428, 12), netascii=False, confirmed=True)
    assert single.slots == 1
    last = opener(b"x" * 80_000)
    with pytest.raises(SourceError, match="out of memory"):
        supply.source(last, Agreed(1428, 12), netascii=True, confirmed=True)
    last.close()
    supply.release(whole)
    supply.release(single)
    assert supply.used == 0


def test_an_unconfirmed_requester_gets_little_memory_until_it_answers(opener: Opener) -> None:
    supply = Supply(1 << 20)
    file, agreed = opener(b"x" * 100_000), Agreed()
    source = supply.source(file, agreed, netascii=False, confirmed=False)
    assert source.footprint <= 8 * 1024
    supply.confirmed(source, file, agreed)
    assert source.footprint > 60 * 1024
    assert supply.used == source.footprint
    supply.release(source)


@pytest.mark.parametrize(("block", "window"), [(16380, 64), (1428, 64), (65464, 16), (512, 1), (8, 64)])
@pytest.mark.parametrize("size", [1, 3000, 8 << 20])
def test_a_netascii_source_holds_no_more_than_it_is_counted_for(
    opener: Opener, block: int, window: int, size: int
) -> None:
    file = opener(b"\n" * size)  # twice as long when it is encoded
    source = NetasciiSource(file, Agreed(block_size=block, window=window))
    held, first = 0, 1
    while first < 40 * window:
        last = source.known(first, window) or first + window
        if first > last:
            break
        packets = source.packets(first, min(window, source.slots, last - first + 1))
        held = max(held, len(source._encoded) + len(packets))
        first += window
    source.close()
    assert held <= source.footprint <= 4 * size + 4 * (window + 3) * (block + 4) + (512 << 10)
