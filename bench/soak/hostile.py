"""A process of bad clients: `python -m bench.soak.hostile PLAN`. They send what nobody should.

Commands on standard input: `burst` (each kind once, at once), `stop`. Between bursts a little of everything goes on.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

_SILENT = 100
_USUAL = 48  # addresses between bursts: few enough that every worker has soon met them all
_LINES = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    b"USER " + b"A" * 5000 + b"\r\n",
    b"USER root\r\nPASS toor\r\n",
    b"SITE EXEC /bin/sh\r\nSITE CHMOD 777 x\r\n",
    b"USER ftp\r\nPASS x\r\nCWD ../../../etc\r\nRETR /etc/passwd\r\nRETR ../../etc/shadow\r\n",
    b"USER ftp\r\nPASS x\r\nPORT 10,0,0,1,0,22\r\nEPRT |1|192.0.2.1|25|\r\n",
    b"USER ftp\r\nPASS x\r\nPASV\r\nPASV\r\nEPSV\r\nPASV\r\nRETR nothing\r\n",
    b"USER ftp\r\nPASS x\r\nSTOR incoming/.hidden\r\nSTOR incoming/a\r\nDELE incoming/a\r\nRNFR x\r\nMKD y\r\n",
    b"USER ftp\r\nPASS x\r\nLIST -R /\r\nSTAT -la *\r\nREST 99999999999999999999\r\n",
    b"\xff\xf4\xff\xf2ABOR\r\n\x00\x00\r\n\r\r\r\n",
)


class Mob:
    """All bad clients of this process."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan, self.chance = plan, random.Random(f"{plan['seed']} hostile")
        self.tftp, self.ftp = tuple(plan["tftp"]), tuple(plan["ftp"])
        self.stop, self.bursts = asyncio.Event(), asyncio.Event()
        self._anywhere = False
        self._silent: collections.deque[socket.socket] = collections.deque()
        self.kinds: tuple[Callable[[int], Awaitable[None]], ...] = (
            self.noise, self.half_open, self.strays, self.babble, self.flood,
        )  # fmt: skip

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin, self._command)
        while not self.stop.is_set():
            try:
                await asyncio.wait_for(self.bursts.wait(), self.chance.uniform(1, 4))
            except TimeoutError:
                await self.chance.choice(self.kinds)(4)
                continue
            self.bursts.clear()
            self._anywhere = True
            for kind in self.kinds:
                await kind(60)
            self._anywhere = False
        for sock in self._silent:
            sock.close()

    def _command(self) -> None:
        if sys.stdin.readline().strip() == "burst":
            self.bursts.set()
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            self.stop.set()
            self.bursts.set()

    def host(self) -> str:
        """Addresses that no good client has: a few, and in a burst any of a hundred.

        What a worker remembers of each client, 1 KiB, is bounded by their number, thousands. It fills for as long as
        new ones come, which would hide what grows without bounds: of a thousand, new ones came for an hour.
        """
        if not self._anywhere:
            return f"127.200.9.{self.chance.randrange(1, _USUAL + 1)}"
        return f"127.200.0.{self.chance.randrange(1, 101)}"

    def udp(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((self.host(), 0))
        return sock

    async def noise(self, count: int) -> None:
        """Random datagrams, and requests with random options and modes."""
        for _ in range(count):
            with self.udp() as sock:
                junk = self.chance.randbytes(self.chance.randrange(0, 1400))
                opcode = struct.pack("!H", self.chance.randrange(0, 9))
                option = b"blksize\0-1\0windowsize\0999999\0tsize\0x\0timeout\x000\0"
                named = b"\0\1" + junk[:40].replace(b"\0", b"x") + b"\0octet\0" + option
                for packet in (junk, opcode + junk, named, b"\0\1../../etc/passwd\0octet\0", b"\0\2.x\0mail\0"):
                    self._send(sock, packet, self.tftp)
            await asyncio.sleep(0.002)

    async def half_open(self, count: int) -> None:
        """Requests that are never acknowledged: by somebody who is silent, or gone (the kernel answers by ICMP)."""
        for _ in range(count):
            sock = self.udp()
            name = self.chance.choice((self.plan["large"], *self.plan["kit"])).encode()
            self._send(sock, b"\0\1" + name + b"\0octet\0blksize\x001428\0windowsize\x0016\0", self.tftp)
            self._send(sock, b"\0\2" + self.plan["uploads_name"].encode() + b"/half\0octet\0", self.tftp)
            if self.chance.random() < 0.5:
                sock.close()
            else:
                self._silent.append(sock)
            while len(self._silent) > _SILENT:
                self._silent.popleft().close()
            await asyncio.sleep(0.002)

    async def strays(self, count: int) -> None:
        """DATA, ACK and ERROR to the listener, and to ports that transfers may have."""
        with self.udp() as sock:
            for _ in range(count):
                port = self.chance.choice((self.tftp[1], self.chance.randrange(32768, 60999)))
                for opcode in (3, 4, 5, 6):
                    packet = struct.pack("!HH", opcode, self.chance.randrange(65536)) + self.chance.randbytes(20)
                    self._send(sock, packet, (self.tftp[0], port))
                await asyncio.sleep(0)

    @staticmethod
    def _send(sock: socket.socket, packet: bytes, where: tuple[str, int]) -> None:
        try:
            sock.sendto(packet, where)
        except OSError:
            pass  # an ICMP answer to the one before

    async def babble(self, count: int) -> None:
        """FTP sessions of garbage."""
        await asyncio.gather(*(self._babble() for _ in range(max(1, count // 4))))

    async def _babble(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(*self.ftp, local_addr=(self.host(), 0))
        except OSError:
            return
        try:
            for _ in range(self.chance.randrange(1, 6)):
                writer.write(self.chance.choice((*_LINES, self.chance.randbytes(self.chance.randrange(1, 3000)))))
                await asyncio.wait_for(writer.drain(), 2)
                await asyncio.wait_for(reader.read(4096), 1)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort() if self.chance.random() < 0.5 else writer.close()

    async def flood(self, count: int) -> None:
        """Connections that say nothing; some stay a while, all from a few addresses."""
        hosts = [self.host() for _ in range(3)]
        held = []
        for _ in range(count * 3):
            try:
                opening = asyncio.open_connection(*self.ftp, local_addr=(self.chance.choice(hosts), 0))
                held.append((await asyncio.wait_for(opening, 2))[1])
            except (OSError, TimeoutError):
                continue
        await asyncio.sleep(self.chance.uniform(0, 2))
        for writer in held:
            writer.transport.abort()


if __name__ == "__main__":
    asyncio.run(Mob(json.loads(Path(sys.argv[1]).read_text())).run())
