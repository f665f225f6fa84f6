"""The folders of boot provisioning: made, judged and opened by the command line, and handed to its children.

state_dir/boot          the publisher's      store, releases, sources, `current`
work/boot-spool         the fetcher's        downloads
work/boot-unpack        the unpacker's       members of archives
work/boot-apt           the fetcher's        what APT keeps, out of the reach of the child that talks to mirrors
<root>/.releases        the publisher's      in the root of each service that is on

`work` is state_dir, or a folder of whoever fetches without being root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from appliance.boot import disk, records
from appliance.boot.children import FETCHER, PUBLISHER, UNPACKER, Child, Place
from appliance.boot.records import BootError, Fetched, Release
from appliance.boot.store import path

BOOT, SPOOL, UNPACK, APT, TREES = "boot", "boot-spool", "boot-unpack", "boot-apt", ".releases"


@dataclass(frozen=True, slots=True)
class Accounts:
    """uid and gid of the three children; an ordinary user has one for all."""

    boot: tuple[int, int]
    fetch: tuple[int, int]
    unpack: tuple[int, int]


@dataclass(frozen=True, slots=True)
class House:
    """Where everything is. `roots`: the folders of the services that are on, by `tftp` and `ftp`."""

    state_dir: str
    roots: Mapping[str, str]
    accounts: Accounts
    empty: str  # a folder with nothing in it, where nobody may write: the publisher's jail
    required: bool
    landlock: bool = False  # that alone locks the children in
    work: str = ""  # instead of state_dir, for what is fetched and not yet in the store

    @contextmanager
    def publisher(self, *, soon: bool = False) -> Iterator[Child]:
        """The publisher, at work as long as the block runs; nobody else publishes meanwhile. Raises BootError.

        `soon`: it may still be starting when the block begins. Then its first order waits, and nothing that is read
        before is sure to be what the publisher finds.
        """
        with ExitStack() as opened:
            folders = {"boot": (self._own(BOOT, self.accounts.boot, 0o755, opened), True)}
            for name, root in self.roots.items():
                if not os.path.isdir(root):
                    raise BootError(f"the root of {name} is not there (mkdir -p {root})")
                fd = own(f"{root}/{TREES}", self.accounts.boot, 0o755)
                opened.callback(os.close, fd)
                folders[name] = fd, True
            jail = opened.enter_context(self.jail())
            place = Place(*self.accounts.boot, jail, self.required, folders, self.landlock)
            child = opened.enter_context(Child(PUBLISHER, place, {}))
            if not soon:
                child.ready()
            yield child

    @contextmanager
    def unpacker(self, source: int | None = None) -> Iterator[tuple[Child, int]]:
        """An unpacker and its open folder, which is empty before and after. `source`: a folder that it may read.

        Raises BootError.
        """
        with ExitStack() as opened:
            fd = self._own(UNPACK, self.accounts.unpack, 0o700, opened, self._work)
            _empty(fd)
            opened.callback(_empty, fd)
            folders = {} if source is None else {"source": (source, False)}
            place = Place(*self.accounts.unpack, f"{self._work}/{UNPACK}", self.required, folders, self.landlock)
            child = opened.enter_context(Child(UNPACKER, place, {}))
            child.ready()
            yield child, fd

    @contextmanager
    def fetcher(self, settings: Mapping[str, object]) -> Iterator[tuple[Child, int]]:
        """A fetcher and its open spool. Raises BootError."""
        with ExitStack() as opened:
            fd = self._own(SPOOL, self.accounts.fetch, 0o700, opened, self._work)
            _name_service(fd)
            folders = _names_outside(opened) if self.landlock else {}
            place = Place(*self.accounts.fetch, f"{self._work}/{SPOOL}", self.required, folders, self.landlock)
            child = opened.enter_context(Child(FETCHER, place, settings))
            child.ready()
            yield child, fd

    def work_of_apt(self) -> str:
        """The folder of APT's own state. Raises BootError."""
        with ExitStack() as opened:
            self._own(APT, self.accounts.fetch, 0o700, opened, self._work)
        return f"{self._work}/{APT}"

    @property
    def _work(self) -> str:
        return self.work or self.state_dir

    @contextmanager
    def jail(self) -> Iterator[str]:
        """A folder with nothing in it."""
        try:
            os.makedirs(self.empty, 0o755, exist_ok=True)
        except OSError as error:
            raise BootError(f"cannot make {self.empty}: {error.strerror}") from error
        yield self.empty

    def _own(self, name: str, account: tuple[int, int], mode: int, opened: ExitStack, above: str = "") -> int:
        above = above or self.state_dir
        try:
            os.makedirs(above, 0o755, exist_ok=True)
        except OSError as error:
            raise BootError(f"cannot make {above}: {error.strerror} (name another state_dir)") from error
        fd = own(f"{above}/{name}", account, mode)
        opened.callback(os.close, fd)
        return fd

    # --- what everybody may read

    def current(self) -> tuple[str, int] | None:
        """What is served, None before the first publish. Raises BootError."""
        with _opened(f"{self.state_dir}/{BOOT}") as fd:
            if fd is None:
                return None
            try:
                return records.decode_current(disk.read("current", fd, 100))
            except FileNotFoundError:
                return None

    def content(self, digest: str) -> str:
        """The path of a content of the store. Raises BootError for what is no digest."""
        return f"{self.state_dir}/{BOOT}/store/{path(digest)}"

    def releases(self) -> list[str]:
        """The ids of all releases, the oldest first. Raises BootError."""
        with _opened(f"{self.state_dir}/{BOOT}/releases") as fd:
            return [] if fd is None else [name[:-5] for name in disk.names(fd) if name.endswith(".json")]

    def known(self, name: str) -> None:
        """Raises BootError where there is no such release."""
        if records.release_id(name) not in self.releases():
            raise BootError(f"there is no release {name} (appliance boot releases)")

    def release(self, name: str) -> Release:
        """One of them. Raises BootError."""
        with _opened(f"{self.state_dir}/{BOOT}/releases") as fd:
            try:
                if fd is not None:
                    return records.decode(disk.read(f"{records.release_id(name)}.json", fd, records.MOST_BYTES))
            except FileNotFoundError:
                pass
        raise BootError(f"there is no release {name} (appliance boot releases)")

    def sources(self) -> dict[str, Fetched]:
        """What was fetched, by name. One whose record cannot be read counts as not fetched. Raises BootError."""
        found = {}
        with _opened(f"{self.state_dir}/{BOOT}/sources") as fd:
            if fd is None:
                return {}
            for name in disk.names(fd):
                if name.endswith(".json") and not name.startswith("."):
                    try:
                        fetched = records.decode_fetched(disk.read(name, fd, records.MOST_BYTES))
                    except BootError:
                        continue
                    found[fetched.name] = fetched
        return found


def _empty(fd: int) -> None:
    """Remove the members that an unpacker made. Raises BootError."""
    try:
        for name in os.listdir(fd):
            disk.remove_tree(name, fd)
    except OSError as error:
        raise BootError(f"cannot empty the unpacker's folder: {error.strerror}") from error


def _name_service(fd: int) -> None:
    """What glibc needs in the jail to resolve names: it reads these files anew with every question."""
    texts = {"nsswitch.conf": b"hosts: files dns\n"}
    for name in ("hosts", "resolv.conf"):
        try:
            with open(f"/etc/{name}", "rb") as file:
                texts[name] = file.read(1 << 16)
        except OSError:
            continue
    try:
        with disk.folder("etc", fd, make=True) as etc:
            for name, text in texts.items():
                disk.discard(name, etc)
                disk.write_new(name, etc, [text])
    except OSError as error:
        raise BootError(f"cannot write into the fetcher's folder: {error.strerror}") from error


def _names_outside(opened: ExitStack) -> dict[str, tuple[int, bool]]:
    """The same files where they are, for a fetcher that keeps its view of the file system: Landlock leaves it these."""
    found = {}
    for name in ("hosts", "resolv.conf", "nsswitch.conf"):
        try:
            fd = os.open(f"/etc/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        opened.callback(os.close, fd)
        found[name] = fd, False
    return found


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    try:
        fd = os.open(path, disk.FOLDER)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise BootError(f"cannot open {path}: {error.strerror}") from error
    try:
        yield fd
    except OSError as error:
        raise BootError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(fd)


def own(path: str, account: tuple[int, int], mode: int) -> int:
    """Make `path` the folder of an account and open it. Raises BootError with the remedy.

    Only a folder of root, of us or of that account is taken over, and only where nobody else could put a link.
    """
    uid, gid = account
    remedy = f"install -d -o {uid} -g {gid} -m {mode:04o} {path}"
    fd = -1
    try:
        above = os.stat(os.path.dirname(path))
        if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
            raise BootError(f"{os.path.dirname(path)} can be written by others (chmod go-w it)")
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        fd = os.open(path, disk.FOLDER)
        found = os.fstat(fd)
        if found.st_uid not in (0, uid, os.geteuid()):
            raise BootError(f"{path} belongs to uid {found.st_uid} ({remedy})")
        if os.geteuid() == 0 and (found.st_uid, found.st_gid) != account:
            os.fchown(fd, uid, gid)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(fd, mode)
    except (OSError, BootError) as error:
        if fd >= 0:
            os.close(fd)
        if isinstance(error, BootError):
            raise
        raise BootError(f"cannot use {path}: {error.strerror} ({remedy})") from error
    return fd
