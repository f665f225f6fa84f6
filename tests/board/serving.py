"""The board's server on a real port, in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from appliance.board import guard
from appliance.board.server import Asset, Rules, Server


class Running:
    def __init__(self, server: Server, port: int, loop: asyncio.AbstractEventLoop, lost: list[tuple[str, str]]) -> None:
        self.server, self.port, self.loop, self.lost = server, port, loop, lost
        self.tls: ssl.SSLContext | None = None

    def call(self, what: Any, *arguments: Any) -> Any:
        """Run something in the loop and wait for it."""

        async def run() -> Any:
            return what(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        return self.tls.wrap_socket(sock, server_hostname="localhost") if self.tls else sock

    def ask(
        self, path: str = "/", method: str = "GET", host: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'localhost:{self.port}'}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self.raw("\r\n".join([*lines, "", ""]).encode())

    def raw(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.connect() as sock:
            sock.sendall(sent)
            whole = b""
            while piece := sock.recv(65536):
                whole += piece
        return parsed(whole)


def parsed(whole: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]) if first else 0, headers, body


@contextlib.contextmanager
def running(
    snapshot: Any = lambda: {"rows": []},
    story: Any = lambda key: {"key": key} if key == "known" else None,
    password: str = "",
    tls: ssl.SSLContext | None = None,
    names: tuple[str, ...] = (),
    assets: dict[str, Asset] | None = None,
) -> Iterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listener.getsockname()[1]
    lost: list[tuple[str, str]] = []
    rules = Rules(guard.hosts_of([f"127.0.0.1:{port}"], list(names)), tls is not None, password)
    pages = assets or {"/": Asset("text/html", b"<!doctype html>hello")}
    server = Server(pages, rules, snapshot, story, lambda *one: lost.append(one))
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def main() -> None:
        accepting = await asyncio.start_server(server.serve, sock=listener, ssl=tls)
        ready.set()
        async with accepting:
            await stop.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait(10)
    try:
        yield Running(server, port, loop, lost)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
