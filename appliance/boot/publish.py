"""Publishing: releases and overlays are made in every root, and then one rename says which are served.

Invariants: the rename of `current` is the one commit point; whatever it names is whole, in every root, and on disk
before. What was interrupted is swept by the next call; nothing outside of state_dir/boot and `.releases` is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from appliance.boot import disk, records, trees
from appliance.boot.records import BootError, Fetched, Given, Release
from appliance.boot.store import Store
from appliance.published import sums
from appliance.published.layers import ONCE

_LONGEST_S = 86400  # a release that is not in force any more is kept for pinned clients
_LARGEST_SEEN = 16 << 20  # bytes
_KEPT_OVERLAYS = 3  # the one that is served and those before it, which workers may still be leaving


Overlay = Sequence[Given]


@dataclass(frozen=True, slots=True)
class Published:
    """What is served now: the id of a release, and an overlay.

    `unchanged`: the tree is the one that was served before. `how`: files linked, copied, ...
    """

    id: str
    overlay: int
    unchanged: bool = False
    how: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays: the newest `releases`, the one that is served, and those that were within the last `pin` seconds.

    Besides, for a day after they were served, the releases that clients are pinned to. `held`: which those are, None
    where nobody could tell. `now`: seconds since the epoch.
    """

    releases: int
    now: int
    pin: float = 600.0
    held: Collection[str] | None = ()


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed: ids of releases, contents of the store, and their bytes."""

    releases: tuple[str, ...]
    contents: int
    size: int


class Home:
    """state_dir/boot and the `.releases` of each root, open and locked. A context."""

    def __init__(self, boot: int, roots: Mapping[str, int]) -> None:
        """`roots`: the open `.releases` by the name of its service. The descriptors stay the caller's.

        Raises OSError and BootError.
        """
        self._boot = boot
        self._places = _grouped(roots)
        self._roots = tuple(self._places)
        self._open = ExitStack()
        try:
            self._lock()
            self._judge_format()
            self.store = self._open.enter_context(Store(boot))
            self._releases = self._open.enter_context(disk.folder("releases", boot, make=True))
            self._sources = self._open.enter_context(disk.folder("sources", boot, make=True))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _lock(self) -> None:
        fd = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=self._boot)
        self._open.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BootError("another `appliance boot` is at work (wait for it to end)") from None

    def _judge_format(self) -> None:
        try:
            text = disk.read("format", self._boot, 100)
        except FileNotFoundError:
            disk.replace("format", self._boot, f"{records.FORMAT}\n".encode())
            return
        if text.strip() != str(records.FORMAT).encode():
            raise BootError(
                f"state_dir/boot has format {text[:20].decode('ascii', 'replace').strip()!a}, this build knows "
                f"{records.FORMAT} (use the newer build)"
            )

    # --- what is there

    def current(self) -> tuple[str, int] | None:
        """The release and the overlay that are served; None before the first publish. Raises OSError and BootError."""
        try:
            return records.decode_current(disk.read("current", self._boot, 100))
        except FileNotFoundError:
            return None

    def ids(self) -> list[str]:
        """The releases that are whole, the oldest first. Raises OSError."""
        found = (name.removesuffix(".json") for name in disk.names(self._releases) if name.endswith(".json"))
        return sorted(found)

    def release(self, name: str) -> Release:
        """One of them. Raises OSError, and BootError where there is none."""
        try:
            return records.decode(disk.read(f"{records.release_id(name)}.json", self._releases, records.MOST_BYTES))
        except FileNotFoundError:
            raise BootError(f"there is no release {name} (appliance boot releases)") from None

    def sources(self) -> list[Fetched]:
        """What was fetched; a record that cannot be read is left out, it is written anew by the next fetch."""
        found = []
        for name in disk.names(self._sources):
            if name.endswith(".json"):
                try:
                    found.append(records.decode_fetched(disk.read(name, self._sources, records.MOST_BYTES)))
                except BootError:
                    continue
        return found

    # --- what is done

    def record(self, fetched: Fetched) -> None:
        """Note a source whose files were added to the store. Raises OSError and BootError."""
        self.store.settle()
        self._present(fetched.files, f"source {fetched.name}")
        name = f"{records.source_name(fetched.name)}.json"
        disk.replace(name, self._sources, records.encode_fetched(fetched))

    def saw(self, url: str, signed: int) -> None:
        """A list of digests was signed then, in seconds since the epoch, by whom the manifest trusts.

        Raises OSError, and BootError where a newer one was seen at this address: whatever becomes of the download.
        """
        known = self._seen()
        if signed < known.get(url, 0):
            raise BootError("the list of digests is older than the newest one that was seen: a mirror may be held back")
        if signed > known.get(url, 0):
            disk.replace("seen", self._boot, json.dumps(known | {url: signed}, sort_keys=True).encode() + b"\n")

    def _seen(self) -> dict[str, int]:
        """When the newest list at each address was signed."""
        try:
            found = json.loads(disk.read("seen", self._boot, _LARGEST_SEEN))
            return {str(url): int(signed) for url, signed in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise BootError(
                "the file `seen` in state_dir/boot cannot be read, so no list is known to be the newest "
                "(remove it if you trust the mirrors today)"
            ) from error

    def publish(self, release: Release, overlay: Overlay, keep: Keep) -> Published:
        """Serve a release and an overlay from now on. Raises OSError and BootError; then all is as it was.

        A release with the tree and the plan of the current one is not made again.
        """
        self.store.settle()
        self.sweep()
        self._present(release.files, "the release")
        before = self.current()
        served = self._readable(before[0]) if before else None
        unchanged = served is not None and (served.files, served.plan) == (release.files, release.plan)
        if unchanged and served is not None:
            release = served
        how = self._ensure(release)
        if not unchanged:
            disk.replace(f"{release.id}.json", self._releases, records.encode(release))
        number = self._commit(release.id, overlay, keep.now)
        self._prune(keep)
        return Published(release.id, number, unchanged, how)

    def rollback(self, name: str, overlay: Overlay, now: int) -> Published:
        """Serve an older release again, with an overlay rendered for it. Raises OSError and BootError.

        Its record is read only where a tree is to be made again: those that are there are whole.
        """
        self.sweep()
        if records.release_id(name) not in self.ids():
            raise BootError(f"there is no release {name} (appliance boot releases)")
        lacking = any(self._lacks(root, name) for root in self._roots)
        how = self._ensure(self.release(name)) if lacking else Counter()
        return Published(name, self._commit(name, overlay, now), how=how)

    def render(self, overlay: Overlay, now: int) -> Published:
        """Serve the current release with a new overlay. Raises OSError and BootError."""
        served = self.current()
        if served is None:
            raise BootError("nothing is published (appliance boot publish)")
        return self.rollback(served[0], overlay, now)

    def collect(self, keep: Keep, sources: Collection[str] | None = None) -> Collected:
        """Remove old releases, and what no release needs.

        `sources`: those that the manifest has; the records of others go. Raises OSError and BootError.
        """
        self.sweep()
        gone = self._prune(keep)
        for fetched in self.sources():
            if sources is not None and fetched.name not in sources:
                disk.discard(f"{fetched.name}.json", self._sources)
        os.fsync(self._sources)
        wanted = {file.sha256 for name in self.ids() for file in self.release(name).files}
        wanted |= {file.sha256 for fetched in self.sources() for file in fetched.files}
        return Collected(tuple(gone), *self.store.keep_only(wanted))

    def adopt(self, release: Release) -> None:
        """A release of another machine, whose content was added to the store. Raises OSError and BootError."""
        self.store.settle()
        self._present(release.files, f"release {release.id}")
        self._ensure(release)
        disk.replace(f"{release.id}.json", self._releases, records.encode(release))

    def sweep(self) -> None:
        """Remove what interrupted calls left. Raises OSError and BootError."""
        self.store.sweep()
        for folder in (self._boot, self._releases, self._sources):
            for name in disk.names(folder):
                if name.startswith(disk.NEW):
                    disk.discard(name, folder)
        now = self.current()
        last = now[1] if now else 0
        ids = self.ids()
        numbers = range(max(last - _KEPT_OVERLAYS + 1, 1), last + 1)
        kept = {*ids, *map(sums.file_of, ids), *map(trees.overlay, numbers)}
        for root in self._roots:
            for name in disk.names(root):
                if name not in kept:
                    disk.remove_tree(name, root)
            self._forget_secrets(root, last)

    def _forget_secrets(self, root: int, last: int) -> None:
        """What was rendered for armed machines stays in no overlay but the last: it may hold secrets, and who is still
        served from an older one gets what the machine boots every day."""
        for number in trees.overlays(root):
            with disk.folder(trees.overlay(number), root) as fd:
                if number != last and ONCE in disk.names(fd):
                    disk.remove_piecemeal(ONCE, fd)

    # --- steps

    def _present(self, files: Iterable[records.File], whose: str) -> None:
        for file in files:
            if self.store.size(file.sha256) != file.size:
                raise BootError(f"{whose} has {file.path}, whose content is not in the store (appliance boot fetch)")

    def _readable(self, name: str) -> Release | None:
        try:
            return self.release(name)
        except BootError:
            return None  # of another build, or damaged: it is served on until the commit, and not compared with

    def _ensure(self, release: Release) -> Counter[str]:
        """Its tree is in every root: one that was lost with its disk is made again."""
        how: Counter[str] = Counter()
        for root, served in self._places.items():
            if self._lacks(root, release.id):
                if release.id in os.listdir(root):
                    disk.remove_tree(release.id, root)
                files = {file.path: file for file in release.files if served & set(file.roots)}
                if any(files[file.path].sha256 != file.sha256 for file in release.files if served & set(file.roots)):
                    raise BootError("TFTP and FTP serve one folder, and the release has two files for one path in it")
                how += trees.build_release(root, release.id, list(files.values()), self.store)
        return how

    def _lacks(self, root: int, name: str) -> bool:
        """Whether a root has the tree of a release not whole: it is renamed into place after its digests."""
        return not {name, sums.file_of(name)} <= set(os.listdir(root))

    def _commit(self, name: str, overlay: Overlay, at: int) -> int:
        """Make the overlay, note the release that goes, and commit both with the one rename."""
        now = self.current()
        number = max([now[1] if now else 0, *(n for root in self._roots for n in trees.overlays(root))]) + 1
        for given in overlay:
            if why := records.unfit(given.path):
                raise BootError(f"{given.path[:200]!a} cannot be a path of an overlay: {why}")
            if isinstance(given.content, str) and self.store.size(given.content) is None:
                raise BootError(f"the content of {given.path} is not in the store (appliance boot fetch)")
        for root, served in self._places.items():
            files = {given.path: given.content for given in overlay if given.root in served}
            trees.build_overlay(root, number, sorted(files.items(), key=lambda item: item[0]), self.store)
        if now is not None and now[0] != name:
            retired = {**self._retired(), now[0]: at}
            known = {one: retired[one] for one in sorted(retired.keys() & set(self.ids()))}
            disk.replace("retired", self._boot, json.dumps(known).encode() + b"\n")
        disk.replace("current", self._boot, records.encode_current(name, number))
        return number

    def _retired(self) -> dict[str, int]:
        """When each release was last replaced by another, in seconds since the epoch."""
        try:
            found = json.loads(disk.read("retired", self._boot, 1 << 20))
            return {str(name): int(at) for name, at in found.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return {}

    def _prune(self, keep: Keep) -> list[str]:
        """Remove the oldest releases, first from the list, so that none is listed that is not whole."""
        ids, served, retired = self.ids(), self.current(), self._retired()
        recent = {one for one, at in retired.items() if at > keep.now - max(keep.pin, _LONGEST_S)}
        held = recent if keep.held is None else recent.intersection(keep.held)
        needed = {served[0] if served else "", *held, *(one for one in recent if retired[one] > keep.now - keep.pin)}
        gone = [name for name in ids[: max(len(ids) - max(keep.releases, 1), 0)] if name not in needed]
        for name in gone:
            disk.discard(f"{name}.json", self._releases)
        if gone:
            os.fsync(self._releases)
        for root in self._roots:
            for name in {*gone, *map(sums.file_of, gone)} & set(os.listdir(root)):
                disk.remove_tree(name, root)
        return gone


def _grouped(roots: Mapping[str, int]) -> dict[int, set[str]]:
    """Descriptors of different folders, and the services that serve each: two services may serve one folder."""
    places: dict[tuple[int, int], tuple[int, set[str]]] = {}
    for name, fd in roots.items():
        found = os.fstat(fd)
        places.setdefault((found.st_dev, found.st_ino), (fd, set()))[1].add(name)
    return dict(places.values())
