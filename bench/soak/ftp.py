"""An FTP client for the soak: asynchronous, from an address of its own, passive and active."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

Address = tuple[str, int]
_PATIENCE_S = 20.0
WAYS = ("PASV", "EPSV", "PORT", "EPRT")


class BrokenError(Exception):
    """The attempt is over without success; the text says how: a reply begins with its code."""


@dataclass
class Got:
    """A download: how long its first byte took, its size and digest, and what it says, if it is a listing."""

    first_s: float
    size: int
    sha256: str
    listing: bytes


class Session:
    """One logged-in session; `open` makes it."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.host, self._reader, self._writer = host, reader, writer
        self.greeted_s = 0.0

    async def reply(self) -> str:
        """The next reply, its last line. Raises BrokenError."""
        try:
            while True:
                line = (await asyncio.wait_for(self._reader.readline(), _PATIENCE_S)).decode(errors="replace")
                if not line:
                    raise BrokenError("the control connection was closed")
                if re.match(r"\d\d\d ", line):
                    return line.rstrip()
        except TimeoutError:
            raise BrokenError(f"no reply within {_PATIENCE_S:g} s") from None
        except OSError as error:
            raise BrokenError(f"control connection: {error.strerror or error}") from error

    async def command(self, line: str, *good: str) -> str:
        """Send a command; its reply must begin with one of `good`. Raises BrokenError."""
        self._writer.write(line.encode() + b"\r\n")
        answer = await self.reply()
        if not answer.startswith(good):
            raise BrokenError(f"{answer} ({line.split()[0]})")
        return answer

    async def get(self, verb: str, name: str, way: str, most: int = -1) -> Got:
        """What comes after a verb. Raises BrokenError.

        `most`: leave after so many bytes, and cut everything.
        """
        async with self._data(way, f"{verb} {name}".rstrip()) as (reader, _writer, began):
            digest, pieces, first, size = hashlib.sha256(), [], 0.0, 0
            while True:
                try:
                    piece = await asyncio.wait_for(reader.read(1 << 17), _PATIENCE_S)
                except TimeoutError:
                    raise BrokenError(f"no data within {_PATIENCE_S:g} s, after {size} bytes") from None
                first = first or time.monotonic() - began
                if not piece:
                    break
                size += len(piece)
                digest.update(piece)
                if verb != "RETR":
                    pieces.append(piece)
                if 0 <= most < size:
                    self._writer.transport.abort()
                    return Got(first, size, "", b"")
        answer = await self.reply()
        if not answer.startswith("226"):
            raise BrokenError(f"{answer} (after {size} bytes)")
        return Got(first, size, digest.hexdigest(), b"".join(pieces))

    async def put(self, name: str, data: bytes, way: str, most: int = -1) -> float:
        """Store a file; returns the seconds to 150. Raises BrokenError. `most`: leave after so many bytes."""
        async with self._data(way, f"STOR {name}") as (_reader, writer, began):
            first = time.monotonic() - began
            for start in range(0, len(data), 1 << 16):
                writer.write(data[start : start + (1 << 16)])
                try:
                    await asyncio.wait_for(writer.drain(), _PATIENCE_S)
                except (TimeoutError, OSError):
                    break  # the reply tells why
                if 0 <= most <= start:
                    writer.transport.abort()
                    self._writer.transport.abort()
                    return first
        answer = await self.reply()
        if not answer.startswith("226"):
            raise BrokenError(f"{answer} (STOR)")
        return first

    @asynccontextmanager
    async def _data(
        self, way: str, line: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]]:
        """A data connection on which a command was begun, and when that command was sent."""
        listener = None
        try:
            if way in ("PORT", "EPRT"):
                coming: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
                coming = asyncio.get_running_loop().create_future()
                listener = await asyncio.start_server(
                    lambda *pair: coming.set_result(pair) if not coming.done() else pair[1].transport.abort(),
                    self.host,
                    0,
                )
                port = listener.sockets[0].getsockname()[1]
                told = f"{self.host.replace('.', ',')},{port >> 8},{port & 255}"
                await self.command(f"PORT {told}" if way == "PORT" else f"EPRT |1|{self.host}|{port}|", "200")
                began = time.monotonic()
                await self.command(line, "150", "125")
                reader, writer = await asyncio.wait_for(coming, _PATIENCE_S)
            else:
                where = self._where(way, await self.command(way, "227", "229"))
                opening = asyncio.open_connection(*where, local_addr=(self.host, 0))
                reader, writer = await asyncio.wait_for(opening, _PATIENCE_S)
                try:
                    began = time.monotonic()
                    await self.command(line, "150", "125")
                except BaseException:
                    writer.transport.abort()
                    raise
        except TimeoutError:
            raise BrokenError("no data connection") from None
        except OSError as error:
            raise BrokenError(f"data connection: {error.strerror or error}") from error
        finally:
            if listener is not None:
                listener.close()
        try:
            yield reader, writer, began
        except OSError as error:
            raise BrokenError(f"data connection: {error.strerror or error}") from error
        finally:
            writer.close()

    def _where(self, way: str, answer: str) -> Address:
        if way == "EPSV":
            found = re.search(r"\(\|\|\|(\d+)\|\)", answer)
            return self._writer.get_extra_info("peername")[0], int(found[1]) if found else 0
        numbers = re.search(r"(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)", answer)
        parts = numbers.groups() if numbers else ("0",) * 6
        return ".".join(parts[:4]), int(parts[4]) * 256 + int(parts[5])


@asynccontextmanager
async def open_session(host: str, server: Address) -> AsyncIterator[Session]:
    """Connect and log in. Raises BrokenError."""
    began = time.monotonic()
    try:
        opening = asyncio.open_connection(*server, local_addr=(host, 0))
        reader, writer = await asyncio.wait_for(opening, _PATIENCE_S)
    except (OSError, TimeoutError) as error:
        raise BrokenError(f"cannot connect: {error!r}") from None
    try:
        session = Session(host, reader, writer)
        greeting = await session.reply()
        if not greeting.startswith("220"):
            raise BrokenError(greeting)
        session.greeted_s = time.monotonic() - began
        await session.command("USER anonymous", "331")
        await session.command("PASS soak@", "230")
        await session.command("TYPE I", "200")
        yield session
    finally:
        writer.close()
