"""The unpacker: a short-lived, confined child without network that opens archives.

It is given an open archive and says what is in it; members that are asked for become files named by number in its jail,
for the publisher to copy. It also finds a digest in a list of them.
"""

from __future__ import annotations

import codecs
import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

from appliance.boot import sums
from appliance.boot.archives import Archive, ArchiveError, Deb, Folder, Iso, Tar
from appliance.boot.links import Hostile, wanted
from appliance.boot.talk import Talk, content
from appliance.child.context import Context
from appliance.observe.log import Log

_MEMORY = 2 << 30  # bytes of address space
_CPU_S = 3600  # seconds of processor time
_BATCH = 100  # paths in a message
_LARGEST_LIST = 16 << 20


class TooMuch(Exception):
    """More is in it than may be; the text says how much."""


class _Unpacker:
    def __init__(self, context: Context) -> None:
        self._talk = Talk(socket.socket(fileno=context.documents["talk"]))
        self._log = Log("unpacker", str(context.settings["log"]))
        self._folders = context.folders

    def run(self) -> None:
        """Answer until the command line has nothing more to ask."""
        self._talk.send({"ok": True})
        while (heard := self._talk.receive()) is not None:
            self._answer(*heard)

    def _answer(self, order: dict[str, Any], fds: list[int]) -> None:
        try:
            if order["verb"] == "digest":
                digest = sums.find(content(fds[0], _LARGEST_LIST).decode("utf-8", "replace"), str(order["path"]))
                self._talk.send({"digest": digest})
            else:
                self._unpack(order, fds)
        except (ArchiveError, Hostile, TooMuch, sums.SumsError) as error:
            self._talk.send({"error": str(error)[:2000]})
        except OSError as error:
            self._talk.send({"error": f"the unpacker cannot go on: {error.strerror or type(error).__name__}"})
        except Exception as error:
            self._log.crash("an archive could not be read")
            self._talk.send({"error": f"the archive cannot be read ({type(error).__name__})"})
        finally:
            for fd in fds:
                os.close(fd)

    def _unpack(self, order: dict[str, Any], fds: list[int]) -> None:
        """Told as it goes: members, what was left out, and the end. The first descriptor says what is asked for."""
        asked = [str(one) for one in json.loads(content(fds[0], _LARGEST_LIST))]
        archive = self._open(str(order["form"]), fds[1:])
        tree = archive.tree()
        chosen = {path: real for path, real in tree.resolve().items() if wanted(path, asked)}
        numbers = {real: number for number, real in enumerate(sorted(set(chosen.values())))}
        self._judge(tree.files, numbers, int(order["most"]))
        for real, stream in archive.each(numbers.keys()):
            _write(str(numbers[real]), stream, tree.files[real])
        for batch in _batches([[path, numbers[real]] for path, real in sorted(chosen.items())]):
            self._talk.send({"members": batch})
        told = [f"{path}: {why}" for path, why in sorted(tree.left_out.items()) if wanted(path, asked)]
        for batch in _batches(told[:1000]):
            self._talk.send({"left_out": batch})
        self._talk.send({"end": len(numbers)})

    def _open(self, form: str, fds: list[int]) -> Archive:
        if form == "dir":
            return Folder(self._folders["source"])
        return _FORMS[form](os.fdopen(os.dup(fds[0]), "rb"))

    @staticmethod
    def _judge(files: dict[str, int], numbers: dict[str, int], most: int) -> None:
        size = sum(files[real] for real in numbers)
        if size > most:
            raise TooMuch(f"its members have {size} bytes, and max_size is {most}")


_FORMS: dict[str, Callable[[Any], Archive]] = {"tar": Tar, "deb": Deb, "iso": Iso}


def _write(name: str, stream: Iterator[bytes], size: int) -> None:
    """A member as a file of our jail."""
    count = 0
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for block in stream:
            count += len(block)
            if count > size:
                raise TooMuch("a member has more bytes than the archive says")
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)
    if count != size:
        raise ArchiveError("the archive is cut off")


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    """Parts that fit a message, whatever the names are."""
    batch: list[Any] = []
    size = 0
    for item in items:
        length = len(ascii(item)) + 20
        if batch and (size + length > 30_000 or len(batch) == _BATCH):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


def prepare(context: Context) -> _Unpacker:
    """Everything is imported, and what an archive can cost is bounded before the first one is seen."""
    os.umask(0o022)
    for kind, value in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _CPU_S)):
        most = resource.getrlimit(kind)[1]
        bound = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (bound, bound))
    for module in ("bz2", "lzma", "zlib", "gzip"):
        __import__(module)
    for codec in ("utf_16_be", "utf_16_le", "utf_16"):  # names in ISO images
        codecs.lookup(codec)
    return _Unpacker(context)
