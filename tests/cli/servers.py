"""Small peers on loopback: the servers of tftpy and pyftpdlib in a thread, and servers that follow a script."""

from __future__ import annotations

import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # asyncore, on Pythons that still have it
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

from tftpy.TftpServer import TftpServer

Peer = tuple[str, int]
Script = Callable[[socket.socket, bytes, Peer], None]


@contextmanager
def tftp_server(root: Path) -> Iterator[int]:
    """tftpy's server on `root`; the value is its port."""
    server = TftpServer(str(root))
    thread = threading.Thread(target=server.listen, args=("127.0.0.1", 0, 5))
    thread.start()
    try:
        assert server.is_running.wait(10)
        yield server.listenport
    finally:
        server.stop(now=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"\0\5\0\0\0", ("127.0.0.1", server.listenport))
        thread.join(20)


@contextmanager
def ftp_server(root: Path, *, host: str = "127.0.0.1", epsv: bool = True) -> Iterator[int]:
    """pyftpdlib's server on `root`, which anonymous may read and write; the value is its port."""
    commands = {name: what for name, what in FTPHandler.proto_cmds.items() if epsv or name != "EPSV"}
    authorizer = DummyAuthorizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of write permissions for anonymous
        authorizer.add_anonymous(str(root), perm="elrw")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "proto_cmds": commands, "use_sendfile": True})
    loop = IOLoop()
    server = FTPServer((host, 0), handler, ioloop=loop)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            loop.loop(timeout=0.05, blocking=False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        stop.set()
        thread.join(20)
        server.close_all()


@contextmanager
def scripted_tftp(script: Script) -> Iterator[int]:
    """Hand each datagram (with the socket and its sender) to `script`, until the block ends; the value is the port."""
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.05)

        def loop() -> None:
            while True:
                try:
                    data, peer = sock.recvfrom(70000)
                except TimeoutError:
                    if stop.is_set():  # and everything that was sent before has been heard
                        return
                else:
                    script(sock, data, peer)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            stop.set()
            thread.join(20)


@contextmanager
def scripted_ftp(replies: dict[bytes, bytes]) -> Iterator[int]:
    """Greet, then answer each verb with its reply; an unknown verb ends the connection. The value is the port."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(replies[b""])
        with connection.makefile("rb") as lines:
            for line in lines:
                reply = replies.get(line.split()[0].upper() if line.split() else b"")
                if reply is None:
                    return
                connection.sendall(reply)

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def loop() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(10)
                    try:
                        talk(connection)
                    except OSError:
                        pass

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join(20)
