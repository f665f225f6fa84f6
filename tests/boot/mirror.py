"""A web server with the manners of good and bad mirrors; and the rooms and keys that tests of fetching need."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from appliance.boot import model
from appliance.boot.fetching import Fetching, Outcome
from appliance.boot.house import Accounts, House
from appliance.settings.fetch import FetchSettings
from tests.support import ROOT


class Mirror:
    """`files`: path -> content. `manners`: path -> what is done instead; it may call `plain` on the handler."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.manners: dict[str, Callable[[Any], None]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                mirror.asked.append((self.path, self.headers.get("Range")))
                mirror.headers.append(dict(self.headers.items()))
                manner = mirror.manners.get(self.path)
                if manner is not None:
                    manner(self)
                else:
                    self.plain()

            def plain(self, most: int | None = None) -> None:
                content = mirror.files.get(re.sub("^http://[^/]*", "", self.path))
                if content is None:
                    return self.answer(404, b"nothing here")
                etag = '"' + hashlib.sha256(content).hexdigest()[:16] + '"'
                if self.headers.get("If-None-Match") == etag:
                    return self.answer(304, b"")
                start = 0
                if (wanted := self.headers.get("Range")) and self.headers.get("If-Range") == etag:
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if start >= len(content):
                        return self.answer(416, b"")
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start:] if most is None else content[start : start + most])
                if most is not None:
                    self.close_connection = True
                return None

            def answer(self, code: int, body: bytes, **headers: str) -> None:
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Not wanted."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that leaves is none."""

        self.server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.base = f"{'https' if context else 'http'}://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Mirror:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def cut(most: int) -> Callable[[Any], None]:
    """Send so many bytes and hang up."""
    return lambda handler: handler.plain(most)


def house(place: Path, **more: Any) -> House:
    """Rooms in a folder, with the accounts that root has."""
    place.chmod(0o755)
    for name in ("tftp", "ftp"):
        (place / name).mkdir(exist_ok=True)
    me = (os.geteuid(), os.getegid())
    accounts = Accounts((64621, 64621), (64622, 64622), (64623, 64623)) if ROOT else Accounts(me, me, me)
    roots = {name: str(place / name) for name in ("tftp", "ftp")}
    fields: dict[str, Any] = {"state_dir": str(place / "state"), "empty": str(place / "empty"), "required": True}
    return House(roots=roots, accounts=accounts, **{**fields, **more})


class Silent:
    """Told how it goes; remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begun(self, name: str, what: str) -> None:
        self.said.append(f"begun {name}")

    def moved(self, name: str, count: int, size: int | None) -> None:
        self.said.append(f"moved {name} {count} {size}")

    def again(self, name: str, why: str) -> None:
        self.said.append(f"again {name} {why}")

    def ended(self, outcome: Outcome) -> None:
        self.said.append(f"ended {outcome.name}")


def source(name: str, at: str, **more: Any) -> model.Source:
    kind = at.partition(":")[0] if "://" in at else more.pop("kind", "file")
    if not {"sha256", "sums"} & set(more) and kind != "deb":
        more["unverified"] = True
    return model.Source(name, kind, at, **more)


def fetch(
    rooms: House,
    sources: Sequence[model.Source],
    *,
    now: int = 0,
    report: Silent | None = None,
    images: Mapping[str, str] | None = None,
    **settings: Any,
) -> dict[str, Outcome]:
    """One `boot fetch`, that takes everything of each source."""
    terms = FetchSettings(**{"tries": 2, "stall": 5.0, **settings})
    wanted = {one.name: ["/"] for one in sources}
    with rooms.publisher() as publisher:
        fetching = Fetching(rooms, publisher, terms, report or Silent(), wanted, images=images)
        return {one.name: one for one in fetching.run(sources, now or int(time.time()))}


def stored(rooms: House, outcome: Outcome, member: str | None = None) -> bytes:
    """The bytes of a member, or of the only file."""
    assert outcome.fetched is not None, outcome.why
    files = {one.path: one for one in outcome.fetched.files}
    file = files[member] if member is not None else next(iter(files.values()))
    return Path(rooms.content(file.sha256)).read_bytes()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Keys:
    """An OpenPGP key in a folder of its own, by GnuPG."""

    def __init__(self, place: Path, name: str = "archive", *extra: str) -> None:
        place.mkdir(mode=0o700)
        self.home = place
        lasts = "1d" if extra else "never"
        self._run(*extra, "--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", lasts)
        self.public = place / "public.gpg"
        self._run("--output", str(self.public), "--export")
        self.public.chmod(0o644)
        self.armoured = place / "public.asc"
        self._run("--armor", "--output", str(self.armoured), "--export")

    def _run(self, *arguments: str, data: bytes | None = None) -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
        command += ["--passphrase", "", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def sign(self, text: bytes, *more: str) -> bytes:
        """A detached signature."""
        return self._run(*more, "--detach-sign", "--output", "-", data=text)

    def clear(self, text: bytes, *more: str) -> bytes:
        """The text with its signature."""
        return self._run(*more, "--clear-sign", "--output", "-", data=text)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)


@contextmanager
def keys(place: Path, *arguments: str) -> Iterator[Keys]:
    made = Keys(place, *arguments)
    try:
        yield made
    finally:
        made.close()
