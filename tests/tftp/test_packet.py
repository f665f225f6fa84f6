"""packet.parse: every well-formed packet, and nothing but PacketError for the rest."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.tftp import packet
from appliance.tftp.packet import Ack, Data, Error, ErrorCode, PacketError, Request, parse

# one datagram each of these ended another Python server, or drove it where it should not go
KILLERS = [
    b"",
    b"\0",
    b"\0\1",
    b"\0\3\0",
    b"\0\4\0",
    b"\0\1boot\xff\xfe\0octet\0",
    b"\0\1boot\0oct\xe9t\0",
    b"\0\1boot\0octet\0blk\xffsize\0512\0",
    b"\0\1boot\0octet\0blksize\0\xb9\0",
    b"\0\1boot\0octet\0blksize\0abc\0",
    b"\0\1boot\0octet\0blksize\0-1\0",
    b"\0\1boot\0octet\0blksize\0" + b"9" * 1000 + b"\0",
    b"\0\1boot\0octet\0multicast\0\0",
    b"\0\1boot\0octet\0blksize",
    b"\0\1boot\0octet\0blksize\0",
    b"\0\1boot\0octet",
    b"\0\1boot\0",
    b"\0\1boot",
    b"\0\1\0\0",
    b"\0\1" + b"\0" * 100,
    b"\0\2\0octet\0",
    b"\0\1" + b"a" * 1000 + b"\0octet\0",
    b"\0\1" + b"a" * 65000 + b"\0octet\0",
    b"\0\1boot\0octet\0" + b"x\0y\0" * 60,
    b"\0\1../../etc/passwd\0octet\0",
    b"\0\6blksize\x001428\0",
    b"\0\7\0\0",
    b"\x63\x63garbage",
    b"\xff" * 65507,
    b"\0\5\xff\xff" + b"%n%s\x1b[2J" * 100,
]


def test_a_plain_request_is_read() -> None:
    assert parse(b"\0\1boot/pxelinux.0\0octet\0") == Request(False, b"boot/pxelinux.0", b"octet")


def test_a_write_request_is_read() -> None:
    assert parse(b"\0\2up\0NetASCII\0") == Request(True, b"up", b"netascii")


def test_options_keep_their_order_and_spelling() -> None:
    request = parse(b"\0\1a\0octet\0TSize\x000\0blksize\x001468\0")
    assert request == Request(False, b"a", b"octet", ((b"TSize", b"0"), (b"blksize", b"1468")))


@pytest.mark.parametrize("padding", [1, 2, 3, 300])
def test_nul_padding_after_a_request_is_ignored(padding: int) -> None:
    plain = b"\0\1a\0octet\0tsize\x000\0"
    assert parse(plain + b"\0" * padding) == parse(plain)


def test_an_option_without_a_value_is_ignored() -> None:
    assert parse(b"\0\1a\0octet\0tsize\x000\0blksize\0") == parse(b"\0\1a\0octet\0tsize\x000\0")


def test_an_empty_option_name_is_ignored_and_the_next_option_counts() -> None:
    assert parse(b"\0\1a\0octet\0\0x\0tsize\x000\0") == parse(b"\0\1a\0octet\0tsize\x000\0")


def test_names_stay_bytes_whatever_they_contain() -> None:
    request = parse(b"\0\1\xff\x1b[2J\0octet\0")
    assert isinstance(request, Request)
    assert request.name == b"\xff\x1b[2J"


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\0\4\0", b"\0\1a\0octet", b"\0\1a\0", b"\0\0\0\0", b"\0\6a\0b\0", b"\1\1a\0octet\0", b"\0\7ab"],
)
def test_what_is_no_packet_of_a_client_raises_packet_error(datagram: bytes) -> None:
    with pytest.raises(PacketError):
        parse(datagram)


@pytest.mark.parametrize(("size", "fits"), [(2047, True), (2048, True), (2049, False)])
def test_a_request_has_at_most_2048_bytes(size: int, fits: bool) -> None:
    datagram = b"\0\1" + b"a" * (size - 9) + b"\0octet\0"
    assert len(datagram) == size
    if fits:
        assert isinstance(parse(datagram), Request)
    else:
        with pytest.raises(PacketError):
            parse(datagram)


@pytest.mark.parametrize(("size", "fits"), [(0, True), (65464, True), (65465, False)])
def test_a_block_has_at_most_65464_bytes(size: int, fits: bool) -> None:
    datagram = b"\0\3\0\7" + b"d" * size
    if fits:
        assert parse(datagram) == Data(7, b"d" * size)
    else:
        with pytest.raises(PacketError):
            parse(datagram)


def test_an_ack_is_read_and_may_be_padded() -> None:
    assert parse(b"\0\4\xff\xfe") == Ack(0xFFFE) == parse(b"\0\4\xff\xfe\0\0")


@pytest.mark.parametrize("tail", [b"\0", b"", b"\0rest"])
def test_an_error_is_read_with_or_without_its_final_nul(tail: bytes) -> None:
    assert parse(b"\0\5\0\x08User aborted" + tail) == Error(8, b"User aborted")


def test_a_long_error_text_is_cut() -> None:
    error = parse(b"\0\5\0\0" + b"x" * 60000)
    assert isinstance(error, Error)
    assert len(error.text) == packet.TEXT_MAX


def test_built_packets_have_the_form_of_the_rfc() -> None:
    assert packet.ack(65537) == b"\0\4\0\1"
    assert packet.error(ErrorCode.NOT_FOUND, "File not found") == b"\0\5\0\1File not found\0"
    assert packet.oack(((b"tsize", b"10"), (b"blksize", b"512"))) == b"\0\6tsize\x0010\0blksize\x00512\0"


@pytest.mark.parametrize("datagram", KILLERS)
def test_what_ended_other_servers_is_a_packet_or_a_packet_error(datagram: bytes) -> None:
    try:
        assert isinstance(parse(datagram), Request | Data | Ack | Error)
    except PacketError:
        pass


@given(st.binary(max_size=600))
def test_any_bytes_are_a_packet_or_a_packet_error(datagram: bytes) -> None:
    try:
        assert isinstance(parse(datagram), Request | Data | Ack | Error)
    except PacketError:
        pass


_FIELD = st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw)


@given(st.booleans(), _FIELD, _FIELD, st.lists(st.tuples(_FIELD, _FIELD), max_size=8), st.integers(0, 9))
def test_every_request_is_read_back_as_it_was_written(
    write: bool, name: bytes, mode: bytes, options: list[tuple[bytes, bytes]], padding: int
) -> None:
    fields = [name, mode, *(field for pair in options for field in pair)]
    datagram = (b"\0\2" if write else b"\0\1") + b"".join(field + b"\0" for field in fields) + b"\0" * padding
    assert parse(datagram) == Request(write, name, mode.lower(), tuple(options))


def mutated(source: random.Random, seeds: Sequence[bytes] = KILLERS) -> bytes:
    """One of the seeds with some bytes changed, cut, doubled or spliced with another one."""
    datagram = bytearray(source.choice(seeds)[:600])
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(datagram) + 1)
        match source.randrange(5):
            case 0:
                datagram[at : at + 1] = bytes((source.randrange(256),))
            case 1:
                del datagram[at : at + source.randrange(1, 20)]
            case 2:
                datagram[at:at] = datagram[at : at + source.randrange(1, 20)]
            case 3:
                datagram[at:] = source.choice(seeds)[:300]
            case _:
                datagram[at:at] = b"\0" * source.randrange(1, 4)
    return bytes(datagram)


def test_fifty_thousand_mutated_datagrams_leave_only_packets_and_packet_errors() -> None:
    source = random.Random(1350)
    parsed = 0
    for _ in range(50_000):
        try:
            parse(mutated(source))
            parsed += 1
        except PacketError:
            pass
    assert 1000 < parsed < 49_000  # the mutator reaches both sides
