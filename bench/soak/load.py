"""A process of good clients: `python -m bench.soak.load PLAN`. It writes one JSON line for each thing a client wanted.

A line: `p` protocol, `k` kind, `n` name, `tries` the attempts that broke ([began, ended, how, standstill], monotonic
seconds; the last is what `standstill.Standstill.worst` tells of this program meanwhile), `ok`, `t0`, `t1`, `first`
seconds to the first byte of the attempt that worked, `bytes`, `sha`, `wrong` when what came or lies on disk is not what
it should be. Commands on standard input: `pace FACTOR`, `stop`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.soak import ftp, tftp
from bench.soak.standstill import Standstill

_TRIES = 4  # a boot ROM that starts anew, curl --retry 3
_OPTIONS: tuple[dict[str, int], ...] = (
    {},
    {"blksize": 1428, "tsize": 0},
    {"blksize": 1428, "windowsize": 4},
    {"blksize": 1428, "windowsize": 16},
    {"blksize": 8192, "windowsize": 32, "tsize": 0},
    {"blksize": 1024, "windowsize": 64},
    {"blksize": 65464},
)
Broken = (tftp.BrokenError, ftp.BrokenError)


class Client:
    """One client; it goes on until `stop` is set."""

    def __init__(self, crowd: Crowd, host: str, chance: random.Random) -> None:
        self.crowd, self.host, self.chance = crowd, host, chance
        self.plan = crowd.plan

    async def run(self) -> None:
        await asyncio.sleep(self.chance.random() * 2)
        while not self.crowd.stop.is_set():
            await self.once()
            pause = min(self.chance.expovariate(1.0), 4.0) * self.plan["think_s"] * self.crowd.pace
            try:
                await asyncio.wait_for(self.crowd.stop.wait(), pause)
            except TimeoutError:
                pass

    async def once(self) -> None:
        raise NotImplementedError

    async def want(self, kind: str, name: str, job: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any] | None:
        """Try until it works, four times at most, and tell. Returns what the job found."""
        began, tries, found = time.monotonic(), [], None
        for number in range(_TRIES):
            start = time.monotonic()
            try:
                found = await job()
                break
            except Broken as error:
                end = time.monotonic()
                tries.append([round(start, 3), round(end, 3), str(error), self.crowd.standstill.worst(start, end)])
                await self.broken()
                await asyncio.sleep(0.5 * 2**number)
        self.tell(kind, name, began, tries, found)
        return found

    def tell(self, kind: str, name: str, began: float, tries: list[Any], found: dict[str, Any] | None) -> None:
        line = {
            "p": self.protocol,
            "k": kind,
            "n": name,
            "ok": found is not None,
            "tries": tries,
            "t0": round(began, 3),
        }
        print(json.dumps({**line, "t1": round(time.monotonic(), 3), **(found or {})}), flush=True)

    async def broken(self) -> None:
        """An attempt has broken: whatever is left of it goes."""

    protocol = ""

    def file(self) -> tuple[str, str]:
        """A file of the tree and its digest; small ones more often."""
        names = self.plan["files"]
        name = self.chance.choices(list(names), [weight for _sha, weight in names.values()])[0]
        return name, names[name][0]

    def blob(self) -> bytes:
        """What is uploaded: mostly small."""
        size = int(min(self.chance.paretovariate(0.7) * 300, self.plan["largest_upload"]))
        return self.chance.randbytes(size)

    def stored(self, folder: str, name: str, data: bytes) -> dict[str, Any]:
        """Look at an upload that the server called complete, and take it away as its operator would.

        Those of clients that went go with it: who ends the data connection in order and hangs up a moment later has
        sent a whole file, as far as FTP can tell (RFC 959 section 3.4.1). They filled the box within half an hour.
        """
        place = Path(folder, name)
        for gone in Path(folder).glob("gone-*"):
            gone.unlink(missing_ok=True)
        try:
            good = hashlib.sha256(place.read_bytes()).digest() == hashlib.sha256(data).digest()
            place.unlink()
        except OSError:
            good = False
        return {"bytes": len(data), "wrong": not good}


class TftpClient(Client):
    """A machine that boots, a switch that saves its configuration, one that goes away."""

    protocol = "tftp"

    async def once(self) -> None:
        job = self.chance.choices((self.get, self.boot, self.put, self.leave), (10, 2, 3, 1))[0]
        await job()

    async def get(self) -> None:
        name, sha = self.file()
        # one block at a time a large file would outlast what a worker is given to finish in after a reload
        options = self.chance.choice(_OPTIONS if name != self.plan["huge"] else _OPTIONS[3:6])

        async def job() -> dict[str, Any]:
            got = await tftp.get(self.host, self.crowd.tftp, name, options)
            return {"first": round(got.first_s, 4), "bytes": got.size, "wrong": got.sha256 != sha}

        await self.want("get", name, job)

    async def boot(self) -> None:
        """What the loader begins with, then kernel and initrd: of one release."""
        found = []
        for name in (self.plan["loader"], *self.plan["kit"]):

            async def job(name: str = name) -> dict[str, Any]:
                got = await tftp.get(self.host, self.crowd.tftp, name, {"blksize": 1428, "windowsize": 8})
                return {"first": round(got.first_s, 4), "bytes": got.size, "sha": got.sha256}

            found.append(await self.want("boot", name, job))
        if all(found):
            self.tell("pair", "", time.monotonic(), [], {"pair": [one["sha"] for one in found[1:] if one]})

    async def put(self) -> None:
        data, options = self.blob(), self.chance.choice(_OPTIONS[:5])

        async def job() -> dict[str, Any]:
            name = f"sw-{self.chance.getrandbits(64):016x}.cfg"
            first = await tftp.put(self.host, self.crowd.tftp, f"{self.plan['uploads_name']}/{name}", data, options)
            return {"first": round(first, 4), **self.stored(self.plan["uploads"], name, data)}

        await self.want("put", "", job)

    async def leave(self) -> None:
        """Begin, and go: with an ERROR, or in silence."""
        most = self.chance.randrange(1, 300_000)
        goodbye = self.chance.choice((b"", b"\0\5\0\0enough\0"))
        name = self.plan["large"]
        try:
            options = self.chance.choice(_OPTIONS)
            await tftp.get(self.host, self.crowd.tftp, name, options, lambda size: goodbye if size >= most else None)
        except tftp.BrokenError:
            pass
        self.tell("abort", name, time.monotonic(), [], {})


class FtpClient(Client):
    """An installer, a mirror, somebody who drops files, somebody who dozes."""

    protocol = "ftp"

    def __init__(self, crowd: Crowd, host: str, chance: random.Random) -> None:
        super().__init__(crowd, host, chance)
        self._stack = AsyncExitStack()
        self._session: ftp.Session | None = None

    async def session(self) -> ftp.Session:
        if self._session is None:
            self._session = await self._stack.enter_async_context(ftp.open_session(self.host, self.crowd.ftp))
        return self._session

    async def broken(self) -> None:
        self._session = None
        await self._stack.aclose()

    async def once(self) -> None:
        jobs = (self.get, self.list, self.boot, self.put, self.idle, self.leave)
        try:
            for job in self.chance.choices(jobs, (10, 3, 2, 4, 1, 1), k=self.chance.randrange(1, 5)):
                if self.crowd.stop.is_set():
                    break
                await job()
            if self._session is not None and self.chance.random() < 0.7:
                await self._session.command("QUIT", "221")
        except ftp.BrokenError:
            pass  # only saying goodbye is outside of an attempt
        finally:
            await self.broken()

    async def get(self) -> None:
        name, sha = self.file()
        await self.want("get", name, lambda: self._get(name, sha))

    async def _get(self, name: str, sha: str = "") -> dict[str, Any]:
        session = await self.session()
        got = await session.get("RETR", name, self.chance.choice(ftp.WAYS))
        told = {"first": round(got.first_s, 4), "greeted": round(session.greeted_s, 4), "bytes": got.size}
        return {**told, "wrong": got.sha256 != sha} if sha else {**told, "sha": got.sha256}

    async def list(self) -> None:
        verb = self.chance.choice(("LIST", "MLSD", "NLST"))

        async def job() -> dict[str, Any]:
            session = await self.session()
            got = await session.get(verb, self.plan["folder"], self.chance.choice(ftp.WAYS))
            rows = [line.rpartition("/" if verb == "NLST" else " ")[2] for line in got.listing.decode().splitlines()]
            names = sorted(row for row in rows if row.startswith("f"))
            return {"first": round(got.first_s, 4), "bytes": got.size, "wrong": names != self.plan["listed"]}

        await self.want("list", verb, job)

    async def boot(self) -> None:
        names = (self.plan["loader"], *self.plan["kit"])
        found = [await self.want("boot", name, lambda name=name: self._get(name)) for name in names]
        if all(found):
            self.tell("pair", "", time.monotonic(), [], {"pair": [one["sha"] for one in found[1:] if one]})

    async def put(self) -> None:
        data = self.blob()

        async def job() -> dict[str, Any]:
            session = await self.session()
            name = f"up-{self.chance.getrandbits(64):016x}.bin"
            first = await session.put(f"{self.plan['incoming_name']}/{name}", data, self.chance.choice(ftp.WAYS))
            return {"first": round(first, 4), **self.stored(self.plan["incoming"], name, data)}

        await self.want("put", "", job)

    async def idle(self) -> None:
        """Log in, doze, and be there still."""

        async def job() -> dict[str, Any]:
            session = await self.session()
            try:
                await asyncio.wait_for(self.crowd.stop.wait(), self.chance.uniform(1, self.plan["doze_s"]))
            except TimeoutError:
                pass
            await session.command("NOOP", "200")
            return {}

        await self.want("idle", "", job)

    async def leave(self) -> None:
        """Begin a download or an upload, and go."""
        most = self.chance.randrange(1, 300_000)
        try:
            session = await self.session()
            if self.chance.random() < 0.5:
                await session.get("RETR", self.plan["large"], self.chance.choice(ftp.WAYS), most)
            else:
                name = f"{self.plan['incoming_name']}/gone-{self.chance.getrandbits(64):016x}"
                await session.put(name, self.chance.randbytes(400_000), self.chance.choice(ftp.WAYS), most)
        except ftp.BrokenError:
            pass
        await self.broken()
        self.tell("abort", "", time.monotonic(), [], {})


class Crowd:
    """All clients of this process."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.tftp, self.ftp = tuple(plan["tftp"]), tuple(plan["ftp"])
        self.pace = 1.0
        self.stop = asyncio.Event()
        self.standstill = Standstill()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, self._command)
        watching = asyncio.create_task(self.standstill.watch())
        chance = random.Random(f"{self.plan['seed']} {self.plan['number']}")
        people: list[Client] = []
        for index in range(self.plan["clients"]):
            host = f"127.{10 + self.plan['number']}.{index % 2}.{index + 1}"
            kind = TftpClient if index % 2 else FtpClient
            people.append(kind(self, host, random.Random(chance.getrandbits(64))))
        await asyncio.gather(*(one.run() for one in people))
        watching.cancel()

    def _command(self) -> None:
        word, _, value = sys.stdin.readline().strip().partition(" ")
        if word == "pace":
            self.pace = float(value)
        else:  # stop, or the end of whoever started us
            asyncio.get_running_loop().remove_reader(sys.stdin)
            self.stop.set()


if __name__ == "__main__":
    asyncio.run(Crowd(json.loads(Path(sys.argv[1]).read_text())).run())
