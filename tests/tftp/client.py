"""A strict TFTP client for wire tests: it speaks RFC 1350, 2347 and 7440, and can lose or repeat what a test says."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

PATIENCE_S = 30.0
WAIT_S = 0.15  # silence, after which what was lost is asked for, or sent, again
_UNDISTURBED_S = 5.0  # where nothing gets lost, silence means that the machine is busy


class RefusedError(Exception):
    """An ERROR came: `code` and `text`."""

    def __init__(self, packet: bytes) -> None:
        self.code = struct.unpack_from("!H", packet, 2)[0]
        self.text = packet[4:].rstrip(b"\0").decode()
        super().__init__(f"{self.code} {self.text}")


def rrq(name: bytes | str, options: dict[str, object] | None = None, *, mode: str = "octet", opcode: int = 1) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode()
    fields = [raw, mode.encode()]
    for key, value in (options or {}).items():
        fields += [key.encode(), str(value).encode()]
    return struct.pack("!H", opcode) + b"".join(field + b"\0" for field in fields)


def ack(block: int) -> bytes:
    return struct.pack("!HH", 4, block & 0xFFFF)


def options_of(packet: bytes) -> dict[str, str]:
    assert packet[:2] == b"\0\6", packet[:20]
    fields = packet[2:].split(b"\0")[:-1]
    return {key.decode(): value.decode() for key, value in zip(fields[::2], fields[1::2], strict=True)}


def udp(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((host, port))
    sock.settimeout(PATIENCE_S)
    return sock


def none_lost(_block: int, _times: int) -> bool:
    """Every block arrives."""
    return False


def answer(sock: socket.socket, request: bytes, server: tuple[str, int]) -> tuple[bytes, tuple]:
    """What is answered to a request, and from where; it is repeated, as by every client, until something comes."""
    sock.settimeout(1.0)
    for _ in range(int(PATIENCE_S)):
        sock.sendto(request, server)
        try:
            found = sock.recvfrom(70000)
        except TimeoutError:
            continue
        sock.settimeout(PATIENCE_S)
        return found
    raise AssertionError("no answer")


class Fetch:
    """One download. `lose(block, try_number)` drops a received DATA; `blocks` and `acks` count what went by."""

    def __init__(
        self,
        server: tuple[str, int],
        name: bytes | str,
        options: dict[str, object] | None = None,
        *,
        mode: str = "octet",
        lose: Callable[[int, int], bool] = none_lost,
        sock: socket.socket | None = None,
    ) -> None:
        self.server, self.request, self.lose = server, rrq(name, options, mode=mode), lose
        self.sock = sock or udp("::1" if ":" in server[0] else "127.0.0.1")
        self.owned = sock is None
        self.agreed: dict[str, str] = {}
        self.blocks = self.acks = 0
        self.seen: dict[int, int] = {}
        self.tid: tuple = ()
        self.wait_s = WAIT_S if lose is not none_lost else _UNDISTURBED_S

    def run(self) -> bytes:
        try:
            return self._run()
        finally:
            if self.owned:
                self.sock.close()

    def _receive(self) -> bytes | None:
        try:
            packet, peer = self.sock.recvfrom(70000)
        except TimeoutError:
            return None
        self.tid = self.tid or peer
        assert peer == self.tid, f"{peer} is not {self.tid}"
        if packet[:2] == b"\0\5":
            raise RefusedError(packet)
        return packet

    def _ack(self, block: int, rollover: int) -> None:
        self.acks += 1
        self.sock.sendto(ack(block if block < 65536 or not rollover else (block - 1) % 65535 + 1), self.tid)

    def _run(self) -> bytes:
        self.sock.settimeout(1.0)
        packet = None
        for _ in range(int(PATIENCE_S)):
            self.sock.sendto(self.request, self.server)
            if (packet := self._receive()) is not None:
                break
        assert packet is not None, "no answer"
        self.sock.settimeout(self.wait_s)
        if packet[:2] == b"\0\6":
            self.agreed = options_of(packet)
            self._ack(0, 0)
            packet = None
        agreed = {key.lower(): value for key, value in self.agreed.items()}
        size = int(agreed.get("blksize") or agreed.get("blksize2") or 512)
        window, rollover = int(agreed.get("windowsize", 1)), int(agreed.get("rollover", 0))
        return self._collect(packet, size, window, rollover)

    def _collect(self, packet: bytes | None, size: int, window: int, rollover: int) -> bytes:
        content, got, in_window, told_gap = bytearray(), 0, 0, False
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"stuck after block {got}"
            packet = packet or self._receive()
            if packet is None:
                self._ack(got, rollover)
                in_window, told_gap = 0, False
                continue
            if packet[:2] == b"\0\6":  # again: our ACK 0 was lost, or late
                packet = None
                if not got:
                    self._ack(0, 0)
                continue
            block16, payload = struct.unpack_from("!H", packet, 2)[0], packet[4:]
            assert packet[:2] == b"\0\3" and len(payload) <= size
            packet = None
            self.blocks += 1
            wanted = got + 1
            wire = wanted & 0xFFFF if not rollover else (wanted - 1) % 65535 + 1
            if block16 != wire:
                if window > 1 and not told_gap:  # RFC 7440 section 4: tell the gap, once
                    self._ack(got, rollover)
                    in_window, told_gap = 0, True
                continue
            times = self.seen[wanted] = self.seen.get(wanted, 0) + 1
            if self.lose(wanted, times):
                continue
            content += payload
            got, in_window, told_gap = wanted, in_window + 1, False
            if len(payload) < size:
                self._ack(got, rollover)
                return bytes(content)
            if in_window == window:
                self._ack(got, rollover)
                in_window = 0


def fetch(server: tuple[str, int], name: bytes | str, options: dict[str, object] | None = None, **more) -> bytes:
    """The content of one file."""
    return Fetch(server, name, options, **more).run()


class Put:
    """One upload. `lose(block, try_number)` drops a DATA instead of sending it; `sent` and `acks` count what went by.

    A sender as RFC 7440 has it: a whole window from the last acknowledged block on; after silence the window again.
    """

    def __init__(
        self,
        server: tuple[str, int],
        name: bytes | str,
        content: bytes,
        options: dict[str, object] | None = None,
        *,
        mode: str = "octet",
        lose: Callable[[int, int], bool] = none_lost,
        sock: socket.socket | None = None,
    ) -> None:
        self.server, self.content, self.lose = server, content, lose
        self.request = rrq(name, options, mode=mode, opcode=2)
        self.sock = sock or udp("::1" if ":" in server[0] else "127.0.0.1")
        self.owned = sock is None
        self.agreed: dict[str, str] = {}
        self.sent = self.acks = 0
        self.patience_s = PATIENCE_S
        self.seen: dict[int, int] = {}
        self.tid: tuple = ()
        self.wait_s = WAIT_S if lose is not none_lost else _UNDISTURBED_S

    def run(self) -> None:
        try:
            self._run()
        finally:
            if self.owned:
                self.sock.close()

    def begin(self) -> tuple:
        """Ask, and take the answer; returns the server's TID."""
        deadline = time.monotonic() + self.patience_s
        while True:
            self.sock.sendto(self.request, self.server)
            try:
                packet = self._receive(2 * WAIT_S)
                break
            except TimeoutError:
                assert time.monotonic() < deadline, "no answer"
        if packet[:2] == b"\0\6":
            self.agreed = options_of(packet)
        else:
            assert packet == ack(0), packet[:20]
        return self.tid

    def _receive(self, seconds: float) -> bytes:
        self.sock.settimeout(seconds)
        packet, peer = self.sock.recvfrom(2048)
        self.tid = self.tid or peer
        if packet[:2] == b"\0\5":
            raise RefusedError(packet)
        assert peer == self.tid, f"{peer} is not {self.tid}"
        return packet

    def data(self, block: int) -> bytes:
        agreed = {key.lower(): value for key, value in self.agreed.items()}
        size, rollover = int(agreed.get("blksize") or agreed.get("blksize2") or 512), int(agreed.get("rollover", 0))
        number = block if not rollover or block == 0 else (block - 1) % 65535 + 1
        return struct.pack("!HH", 3, number & 0xFFFF) + self.content[(block - 1) * size : block * size]

    def send(self, block: int) -> None:
        times = self.seen[block] = self.seen.get(block, 0) + 1
        if not self.lose(block, times):
            self.sent += 1
            self.sock.sendto(self.data(block), self.tid)

    def _run(self) -> None:
        self.begin()
        agreed = {key.lower(): value for key, value in self.agreed.items()}
        size = int(agreed.get("blksize") or agreed.get("blksize2") or 512)
        window = int(agreed.get("windowsize", 1))
        last, base = len(self.content) // size + 1, 0
        deadline = time.monotonic() + self.patience_s
        again = True
        while base < last:
            assert time.monotonic() < deadline, f"stuck after block {base}"
            if again:
                for block in range(base + 1, min(base + window, last) + 1):
                    self.send(block)
            try:
                packet = self._receive(self.wait_s)
            except TimeoutError:
                again = True
                continue
            if packet[:2] != b"\0\4":
                again = False
                continue
            self.acks += 1
            number = struct.unpack_from("!H", packet, 2)[0]
            acked = next((b for b in range(base, base + window + 1) if self.data(b)[2:4] == packet[2:4]), None)
            again = acked is not None and (acked > base or window > 1)
            base = acked if acked is not None else base
            assert acked is not None or number != base


def put(server: tuple[str, int], name: bytes | str, content: bytes, options: dict[str, object] | None = None, **more):
    """Upload one file; returns what was agreed."""
    upload = Put(server, name, content, options, **more)
    upload.run()
    return upload.agreed
