"""act.sock: words of the table and nothing else, whoever else connects, says nonsense, or says nothing."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.supervise import acts
from appliance.supervise.acts import Acts, Asker


class Loop:
    """The supervisor's loop, as far as this is concerned."""

    def __init__(self, folder: Path) -> None:
        self.place = str(folder / "act.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.place)
        self.listener.listen(2000)
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.acted: list[bytes] = []
        self.askers: list[socket.socket] = []
        self.acts = Acts(self.listener, self.watch, self.selector.unregister, self.act)

    def watch(self, sock: socket.socket, action: Callable[[], None]) -> None:
        self.selector.register(sock, selectors.EVENT_READ, action)

    def act(self, word: bytes, asker: Asker) -> None:
        self.acted.append(word)
        asker.end(True)

    def turn(self) -> None:
        """Everything that is ready, until nothing is."""
        while ready := self.selector.select(0):
            for key, _mask in ready:
                key.data()

    def ask(self, word: bytes = b"") -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(30)
        sock.connect(self.place)
        self.askers.append(sock)
        if word:
            sock.send(word)
        self.turn()
        return sock

    def close(self) -> None:
        for sock in (*self.askers, self.listener):
            sock.close()
        self.turn_off()

    def turn_off(self) -> None:
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.selector.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path)
    yield made
    made.close()


def answer(sock: socket.socket) -> list[str]:
    said: list[str] = []
    for _ in range(2):  # the kernel tells first that we were not heard out, and then what was said
        with contextlib.suppress(ConnectionResetError):
            while text := sock.recv(60000):
                said.append(text.decode())
    return said


@pytest.mark.parametrize("word", [b"reload", b"kick tftp.0 17", b"ban 192.0.2.7 600", b"unban 2001:db8::/64"])
def test_a_word_of_the_table_is_acted_on(loop: Loop, word: bytes) -> None:
    assert answer(loop.ask(word)) == ["ok"]
    assert loop.acted == [word]


@pytest.mark.parametrize(
    "word",
    [b"reload\n", b"RELOAD", b"\0", b"\xff" * 50_000, b"reload" + b" " * 200, b"kick ftp.0 -1", b"ban ../../etc 1",
     b"ban 192.0.2.7 99999999999", b"{}", os.urandom(128)],
)  # fmt: skip
def test_anything_else_is_an_unknown_word(loop: Loop, word: bytes) -> None:
    assert answer(loop.ask(word)) == ["unknown word", "failed"]
    assert loop.acted == []


def test_a_thousand_who_connect_and_say_nothing_keep_nobody_out(loop: Loop) -> None:
    silent = [loop.ask() for _ in range(1000)]
    assert answer(loop.ask(b"reload")) == ["ok"]
    assert answer(silent[0]) == ["nothing was asked, and others ask", "failed"]
    assert len(loop.acts._open) <= acts._MOST
    silent[-1].close()
    loop.turn()
    assert answer(loop.ask(b"drain")) == ["ok"]


def test_more_at_once_than_are_carried_out_are_told_so(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "act", lambda _word, _asker: None)
    loop.acts._act = loop.act  # which never ends
    for _ in range(acts._MOST):
        loop.ask(b"reload")
    assert answer(loop.ask(b"reload")) == ["too many requests at once", "failed"]
