"""The web server of the board: a few pages that can only be read, one stream of events. HTTP/1.1 by h11 (RFC 9112).

Invariants: a request has no body and REQUEST_S to arrive; connections, those of one address and event streams are
bounded; whoever does not read is cut off; nothing a browser sends is ever shown or executed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import h11

from appliance.board import guard

REQUEST_S = 10.0
IDLE_S = 20.0
BEAT_S = 15.0
CONNECTIONS, PER_CLIENT, STREAMS = 512, 256, 256
_BACKLOG = 512 << 10  # bytes that a page may be behind, above the snapshot it began with
_GUESSES_PER_S = 3  # passwords that are tried: each costs 40 ms of the loop
_HEADER_MAX = 8192
_KNOWN_MAX = 16

Headers = list[tuple[bytes, bytes]]
Gone = (ConnectionError, TimeoutError, asyncio.IncompleteReadError, h11.RemoteProtocolError, OSError)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    kind: str
    body: bytes

    @property
    def tag(self) -> bytes:
        """Its ETag."""
        return b'"' + hashlib.sha256(self.body).hexdigest()[:32].encode() + b'"'


@dataclass(frozen=True, slots=True)
class Rules:
    """Whom the server answers: names in the Host header, how it is reached, and the stored password ("" for none)."""

    hosts: frozenset[str]
    secure: bool
    password: str = ""

    @property
    def scheme(self) -> str:
        """As browsers write an Origin."""
        return "https" if self.secure else "http"


class Stream:
    """One page that listens. Frames are written as they come; one that is too far behind is cut off."""

    def __init__(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        self._connection, self._writer = connection, writer
        self.allowance = 0

    def send(self, text: bytes) -> bool:
        """Write one frame; False when this page is lost."""
        if self._writer.transport.get_write_buffer_size() > _BACKLOG + self.allowance:
            self._writer.transport.abort()
            return False
        self._writer.write(self._connection.send(h11.Data(text)) or b"")
        return True


class Server:
    """`snapshot()` and `story(key)` give what JSON is made of; `lost` is called for each client that is turned away."""

    def __init__(
        self,
        assets: dict[str, Asset],
        rules: Rules,
        snapshot: Callable[[], dict[str, Any]],
        story: Callable[[str], dict[str, Any] | None],
        lost: Callable[[str, str], None] = lambda _client, _why: None,
    ) -> None:
        self._assets, self.rules = assets, rules
        self._snapshot, self._story, self._lost = snapshot, story, lost
        self.streams: set[Stream] = set()
        self._clients: collections.Counter[str] = collections.Counter()
        self._key = os.urandom(32)
        self._known: collections.OrderedDict[bytes, None] = collections.OrderedDict()
        self._guesses: collections.deque[float] = collections.deque(maxlen=_GUESSES_PER_S)

    def broadcast(self, frame: dict[str, Any]) -> None:
        """Tell every page."""
        if not self.streams:
            return
        text = event(frame)
        self.streams = {stream for stream in self.streams if self._told(stream, text)}

    def _told(self, stream: Stream, text: bytes) -> bool:
        try:
            return stream.send(text)
        except (h11.LocalProtocolError, OSError):
            return False

    def beat(self) -> None:
        """Keep silent streams open through what lies between."""
        self.streams = {stream for stream in self.streams if self._told(stream, b": still here\n\n")}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        client = str((writer.get_extra_info("peername") or ("?",))[0])
        if self._clients.total() >= CONNECTIONS or self._clients[client] >= PER_CLIENT:
            self._lost(client, "too many connections")
            writer.transport.abort()
            return
        self._clients[client] += 1
        try:
            await self._talk(h11.Connection(h11.SERVER, _HEADER_MAX), reader, writer, client)
        except Gone:
            pass
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            writer.close()
            with contextlib.suppress(*Gone):
                await asyncio.wait_for(writer.wait_closed(), 1.0)

    async def _talk(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
    ) -> None:
        wait = REQUEST_S
        while True:
            try:
                async with asyncio.timeout(wait):
                    request = await _request(connection, reader)
            except h11.RemoteProtocolError as error:
                if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    status = error.error_status_hint if error.error_status_hint in (400, 431, 501) else 400
                    await self._answer(connection, writer, status, [], b"That was no request.\n")
                return
            if request is None:
                return
            await self._one(request, connection, reader, writer, client)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
            wait = IDLE_S

    async def _one(
        self,
        request: h11.Request,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: str,
    ) -> None:
        found: dict[bytes, bytes] = dict(request.headers)
        refusal = self._refusal(request.method, found, client)
        path, _, query = bytes(request.target).partition(b"?")
        if refusal is not None:
            status, extra, text = refusal
            await self._answer(connection, writer, status, extra, text, head=request.method == b"HEAD")
        elif path == b"/events" and request.method == b"GET":
            await self._listen(connection, reader, writer)
        else:
            answer = self._page(path.decode("latin-1"), query, found)
            await self._answer(connection, writer, *answer, head=request.method == b"HEAD")

    def _refusal(self, method: bytes, headers: dict[bytes, bytes], client: str) -> tuple[int, Headers, bytes] | None:
        if method not in (b"GET", b"HEAD"):
            return 405, [(b"Allow", b"GET, HEAD")], b"This page can only be read.\n"
        if not guard.host_fits(headers.get(b"host"), self.rules.hosts):
            self._lost(client, "a Host that is not ours")
            return 421, [], b"This server is not called that: see observe.board.names.\n"
        if not guard.origin_fits(headers.get(b"origin"), headers.get(b"host"), self.rules.scheme):
            self._lost(client, "an Origin that is not ours")
            return 403, [], b"Not for pages from elsewhere.\n"
        if self.rules.password and not self._may(guard.password_in(headers.get(b"authorization"))):
            return (
                401,
                [(b"WWW-Authenticate", b'Basic realm="boot board", charset="UTF-8"')],
                b"A password is needed.\n",
            )
        return None

    def _may(self, password: bytes | None) -> bool:
        """Whether a password fits; one that did is remembered by a keyed hash, so that only guesses cost time."""
        if password is None:
            return False
        known = hashlib.blake2b(password, key=self._key).digest()
        if known in self._known:
            self._known.move_to_end(known)
            return True
        now = time.monotonic()
        if len(self._guesses) == _GUESSES_PER_S and now - self._guesses[0] < 1:
            return False
        self._guesses.append(now)
        if not guard.matches(password, self.rules.password):
            return False
        self._known[known] = None
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return True

    def _page(self, path: str, query: bytes, headers: dict[bytes, bytes]) -> tuple[int, Headers, bytes]:
        fresh: Headers = [(b"Cache-Control", b"no-store"), (b"Content-Type", b"application/json")]
        asset = self._assets.get(path)
        if asset is not None:
            extra = [(b"ETag", asset.tag), (b"Cache-Control", b"no-cache"), (b"Content-Type", asset.kind.encode())]
            unchanged = headers.get(b"if-none-match") == asset.tag
            return (304, extra, b"") if unchanged else (200, extra, asset.body)
        if path == "/board.json":
            return 200, fresh, _json(self._snapshot())
        if path == "/machine.json" and query.startswith(b"key="):
            story = self._story(unquote_to_bytes(query[4:260]).decode("latin-1"))
            return 200 if story else 404, fresh, _json(story or {})
        return 404, [], b"There is no such page.\n"

    async def _answer(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        status: int,
        extra: Headers,
        body: bytes,
        *,
        head: bool = False,
    ) -> None:
        names = {name.lower() for name, _ in extra}
        headers = [*guard.HEADERS, *extra]
        if b"content-type" not in names:
            headers.append((b"Content-Type", b"text/plain; charset=utf-8"))
        headers.append((b"Content-Length", str(len(body)).encode()))
        out = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        if not head and status != 304:
            out += connection.send(h11.Data(body)) or b""
        out += connection.send(h11.EndOfMessage()) or b""
        writer.write(out)
        async with asyncio.timeout(REQUEST_S):
            await writer.drain()

    async def _listen(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """An event stream (HTML, section 9.2), until either side ends it."""
        if len(self.streams) >= STREAMS:
            await self._answer(connection, writer, 503, [(b"Retry-After", b"10")], b"Too many pages are open.\n")
            return
        headers = [*guard.HEADERS, (b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-store")]
        writer.write(connection.send(h11.Response(status_code=200, headers=headers)) or b"")
        stream = Stream(connection, writer)
        first = b"retry: 2000\n" + event(self._snapshot())
        stream.allowance = len(first)
        stream.send(first)
        self.streams.add(stream)
        try:
            while await reader.read(1024):
                pass  # a browser sends nothing more here; what comes is not kept
        finally:
            self.streams.discard(stream)


def event(frame: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + _json(frame) + b"\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The next request, whole; None at the end. Raises h11.RemoteProtocolError, also for one that has a body."""
    request: h11.Request | None = None
    while True:
        found = connection.next_event()
        if found is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(found, h11.Request):
            request = found
        elif isinstance(found, h11.EndOfMessage):
            return request
        elif isinstance(found, h11.Data):
            raise h11.RemoteProtocolError("a body", error_status_hint=400)
        else:
            return None
