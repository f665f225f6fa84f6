"""Read archives: tar in every compression of Python's library and in zstd, Debian packages, ISO 9660, and folders.

`Archive.tree()` tells what is in it, `Archive.each(paths)` gives the content of members, in the order they lie there.
Nothing is ever made from a name in an archive. All of it runs in the unpacker, without network, under limits.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Protocol, cast

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from appliance.boot.links import MOST, Hostile, Tree

try:
    import zstandard
except ImportError:  # the Debian package only recommends it: nothing of Debian itself is compressed like that
    zstandard = None  # type: ignore[assignment]

BLOCK = 1 << 18
_ZSTD_WINDOW = 128 << 20  # bytes a frame may make its reader keep: what zstd(1) takes without being told otherwise


class ArchiveError(Exception):
    """It cannot be read; the text says why."""


class Archive(Protocol):
    """What is in it, and the content of its members."""

    def tree(self) -> Tree:
        """Everything that is in it. Raises ArchiveError and Hostile."""

    def each(self, paths: Collection[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The members of these own paths with their bytes. Raises ArchiveError."""


def blocks(stream: Any) -> Iterator[bytes]:
    """The rest of a stream."""
    while block := stream.read(BLOCK):
        yield block


class Tar:
    """A tar archive in a seekable file, compressed or not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[str, int] = {}  # path -> which member; of two with one path the later one counts (tar(5))

    def tree(self) -> Tree:
        """Everything that is in it."""
        found = Tree()
        for place, (member, _content) in enumerate(self._members()):
            if member.isreg():
                if (path := found.add_file(member.name, member.size)) is not None:
                    self._places[path] = place
            elif member.issym() or member.islnk():
                found.add_link(member.name, member.linkname, hard=member.islnk())
            elif not member.isdir():
                found.add_other(member.name, "a device, a FIFO or a kind of member that is not known")
        return found

    def each(self, paths: Collection[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The members of these paths."""
        wanted = {self._places[path]: path for path in paths}
        for place, (member, content) in enumerate(self._members()):
            if place in wanted:
                yield wanted[place], blocks(content(member))

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, Any]]:
        self._file.seek(0)
        try:
            stream, mode = _stream(self._file)
            with tarfile.open(fileobj=stream, mode=mode, errorlevel=2) as tar:
                for count, member in enumerate(tar):
                    if count >= MOST:
                        raise Hostile(f"more than {MOST} members")
                    yield member, tar.extractfile
                    tar.members = []  # type: ignore[attr-defined]  # it keeps every header it has seen otherwise
        except (tarfile.TarError, EOFError, OSError, ValueError, ImportError, struct.error) as error:
            raise ArchiveError(f"the tar archive is damaged or cut off: {_words(error)}") from error
        except Exception as error:
            if type(error).__name__ in ("LZMAError", "error", "ZstdError"):  # they have exceptions of their own
                raise ArchiveError(f"the tar archive is damaged or cut off: {_words(error)}") from error
            raise


_MAGICS = ((b"\x1f\x8b", "gz"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bz2"), (b"\x5d\0\0", "xz"))
_ZSTD = b"\x28\xb5\x2f\xfd"


def _stream(file: BinaryIO) -> tuple[Any, Any]:
    """What tarfile reads, as a stream, so that a bomb costs no memory; the compression is told by the first bytes."""
    place = file.tell()
    head = file.read(6)
    file.seek(place)
    if head.startswith(_ZSTD):
        if zstandard is None:
            raise ArchiveError("it is compressed with zstd, and this Python has no zstandard (python3-zstandard)")
        reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        return reader.stream_reader(file, read_size=BLOCK, read_across_frames=True, closefd=False), "r|"
    return file, "r|" + next((name for magic, name in _MAGICS if head.startswith(magic)), "")


class Deb(Tar):
    """A Debian package (deb(5)): an ar archive with debian-binary, control.tar and data.tar, of which we read data."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(cast("BinaryIO", _data_of(file)))


def _data_of(file: BinaryIO) -> _Part:
    file.seek(0)
    if file.read(8) != b"!<arch>\n":
        raise ArchiveError("it is no Debian package")
    for _ in range(20):
        head = file.read(60)
        if len(head) < 60 or head[58:] != b"`\n":
            break
        name, size = head[:16].rstrip().rstrip(b"/"), head[48:58].strip()
        if not size.isdigit():
            break
        if name.startswith(b"data.tar"):
            return _Part(file, file.tell(), int(size))
        file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise ArchiveError("the Debian package is damaged or cut off: it has no data.tar")


class _Part(io.RawIOBase):
    """A piece of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._place = file, start, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Only from the start."""
        assert whence == os.SEEK_SET
        self._place = place
        return place

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        left = self._size - self._place
        self._file.seek(self._start + self._place)
        data = self._file.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data


class Iso:
    """An ISO 9660 image: the names of Rock Ridge where it has them, else those of Joliet, else upper-case ones."""

    def __init__(self, file: BinaryIO) -> None:
        self._iso = pycdlib.PyCdlib()
        try:
            self._iso.open_fp(file)
            self._kind = (
                "rr_path" if self._iso.has_rock_ridge() else "joliet_path" if self._iso.has_joliet() else "iso_path"
            )
        except (PyCdlibException, struct.error, ValueError, LookupError, OverflowError) as error:
            raise ArchiveError(f"the ISO image is damaged or cut off: {_words(error)}") from error
        self._own: dict[str, str] = {}  # clean path -> the image's

    def tree(self) -> Tree:
        """Everything that is in it."""
        found = Tree()
        try:
            for folder, _folders, names in self._iso.walk(**{self._kind: "/"}):
                for name in names:
                    self._add(found, f"{folder.rstrip('/')}/{name}")
        except (PyCdlibException, struct.error, ValueError, LookupError, RecursionError) as error:
            raise ArchiveError(f"the ISO image is damaged or cut off: {_words(error)}") from error
        return found

    def _add(self, found: Tree, path: str) -> None:
        record = self._iso.get_record(**{self._kind: path})
        shown = path[1:]
        if self._kind == "iso_path":  # ISO 9660 7.5.1: a version after a semicolon, a dot where there is no extension
            shown = shown.partition(";")[0].rstrip(".").lower()
        rock = getattr(record, "rock_ridge", None)
        if rock is not None and rock.is_symlink():
            found.add_link(shown, rock.symlink_path().decode("utf-8", "surrogateescape"))
        elif rock is not None and not stat.S_ISREG(rock.get_file_mode()):
            found.add_other(shown, "a device, a FIFO or a socket")
        elif (clean := found.add_file(shown, record.get_data_length())) is not None:
            self._own[clean] = path

    def each(self, paths: Collection[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The members of these paths."""
        for path in paths:
            try:
                with self._iso.open_file_from_iso(**{self._kind: self._own[path]}) as stream:
                    yield path, blocks(stream)
            except (PyCdlibException, struct.error, ValueError, LookupError) as error:
                raise ArchiveError(f"the ISO image is damaged or cut off: {_words(error)}") from error


class Folder:
    """A folder of this machine, as far as everybody may read it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tree(self) -> Tree:
        """Everything below it; links are noted, never followed."""
        found = Tree()
        self._walk(found, "", os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd))
        return found

    def _walk(self, found: Tree, above: str, fd: int) -> None:
        try:
            for name in sorted(os.listdir(fd)):
                path = f"{above}{name}"
                facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode):
                    found.add_file(path, facts.st_size)
                elif stat.S_ISLNK(facts.st_mode):
                    target = os.readlink(name, dir_fd=fd)
                    if target.startswith("/"):
                        found.add_other(path, f"a link to {target[:200]!a}, which lies outside")
                    else:
                        found.add_link(path, target)
                elif stat.S_ISDIR(facts.st_mode):
                    self._enter(found, path, name, fd)
                else:
                    found.add_other(path, "a device, a FIFO or a socket")
        finally:
            os.close(fd)

    def _enter(self, found: Tree, path: str, name: str, fd: int) -> None:
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError as error:
            found.add_other(f"{path}", f"a folder that cannot be opened: {error.strerror}")
            return
        self._walk(found, f"{path}/", inner)

    def each(self, paths: Collection[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The files of these paths."""
        for path in paths:
            try:
                fd = self._open(path.split("/"))
            except OSError as error:
                raise ArchiveError(f"cannot read {path!a}: {error.strerror} (chmod -R a+rX it)") from error
            with os.fdopen(fd, "rb") as stream:
                yield path, blocks(stream)

    def _open(self, parts: list[str]) -> int:
        """Step by step, never through a link: somebody may be changing the folder."""
        fd = os.dup(self._fd)
        try:
            for part in parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
            found = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise OSError(0, "not a regular file")
        return found


def _words(error: Exception) -> str:
    with suppress(Exception):
        return ascii(str(error)[:200])[1:-1]
    return type(error).__name__
