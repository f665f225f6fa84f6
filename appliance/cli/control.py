"""Talk to the supervisor that runs on a run_dir: ask for its status, give it one word."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from appliance.errors import ApplianceError

_LARGEST = 1 << 20
_LARGEST_WHO = 256 << 20  # 64 workers of each service with full tables


class NotRunning(ApplianceError):
    """There is no supervisor on this run_dir; the text says so."""


class NoAnswer(ApplianceError):
    """There is one, but it may not be asked or did not answer in time."""


def connect(run_dir: str, name: str, kind: socket.SocketKind, timeout: float) -> socket.socket:
    """A connected Unix socket of `kind`. Raises NotRunning or NoAnswer.

    The path goes through a descriptor of its folder, because a socket address ends after 107 bytes (unix(7)).
    """
    try:
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotRunning(f"not running (no supervisor on {run_dir})") from None
    except OSError as error:
        raise NoAnswer(f"cannot look into {run_dir}: {error.strerror}") from error
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.settimeout(timeout)
        sock.connect(f"/proc/self/fd/{folder}/{name}")
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        raise NotRunning(f"not running (no supervisor on {run_dir})") from None
    except OSError as error:
        sock.close()
        remedy = " (ask as root, or as the user who started it)" if isinstance(error, PermissionError) else ""
        raise NoAnswer(f"cannot ask {run_dir}/{name}: {error.strerror or error}{remedy}") from error
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def status(run_dir: str, timeout: float) -> bytes:
    """The status document as the supervisor wrote it. Raises NotRunning or NoAnswer."""
    return _document(run_dir, "status.sock", timeout, _LARGEST)


def who(run_dir: str, timeout: float) -> dict[str, Any]:
    """Who is on, as docs/STATUS.md describes it. Raises NotRunning or NoAnswer."""
    text = _document(run_dir, "who.sock", timeout, _LARGEST_WHO)
    try:
        found: dict[str, Any] = json.loads(text)
        found["live"]
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"{run_dir}/who.sock answers something that is not who is on") from error
    return found


def _document(run_dir: str, name: str, timeout: float, largest: int) -> bytes:
    deadline = time.monotonic() + timeout
    text = bytearray()
    with connect(run_dir, name, socket.SOCK_STREAM, timeout) as sock:
        while data := _receive(sock, deadline, f"no answer from {run_dir}/{name} within {timeout:g} s"):
            text += data
            if len(text) > largest:
                raise NoAnswer(f"the answer of {run_dir}/{name} has no end")
    return bytes(text)


def order(run_dir: str, word: str, timeout: float) -> Iterator[str]:
    """Give the supervisor one word; yields its lines as they come, the last is ``ok``, ``failed`` or ``config``.

    Raises NotRunning or NoAnswer.
    """
    deadline = time.monotonic() + timeout
    with connect(run_dir, "act.sock", socket.SOCK_SEQPACKET, timeout) as sock:
        line = ""
        try:
            sock.sendall(word.encode())
        except OSError:
            pass  # it may have refused already; what it said can still be read
        while line not in ("ok", "failed", "config"):
            data = _receive(sock, deadline, f"{word}: no end within {timeout:g} s; `appliance status` tells more")
            if not data:
                raise NoAnswer(f"{word}: the supervisor left without saying how it went")
            line = data.decode("utf-8", "replace")
            yield line


def _receive(sock: socket.socket, deadline: float, late: str) -> bytes:
    try:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            return sock.recv(1 << 16)
        except ConnectionResetError:  # told once, when it left without reading us, and before what it said
            return sock.recv(1 << 16)
    except TimeoutError:
        raise NoAnswer(late) from None
    except OSError as error:
        raise NoAnswer(f"the supervisor broke off: {error.strerror}") from error
