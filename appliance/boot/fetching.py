"""Fetch sources: each is downloaded, shown to be genuine, unpacked and taken into the store, by whom that is for.

The command line orchestrates and looks into nothing: the fetcher downloads, APT and gpgv verify, the unpacker opens
archives, the publisher hashes what it takes in. A source is noted only when all of it is in the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from appliance.boot import grub, grubimage, records, talk, verify
from appliance.boot.apt import Apt, Package
from appliance.boot.children import Child
from appliance.boot.house import House
from appliance.boot.model import Source
from appliance.boot.records import BootError, Fetched, File
from appliance.settings.fetch import FetchSettings
from appliance.settings.plain import encode

DOWNLOADS = ("https", "http", "ftp", "tftp")
_BATCH = 50  # files in one message to the publisher
_LARGEST_LIST = 16 << 20  # bytes of a list of digests, of a signature
_STEP_S = 7200.0  # the longest that one step of a child takes


class Report(Protocol):
    """Who is told how it goes."""

    def begun(self, name: str, what: str) -> None:
        """A source is being worked on."""

    def moved(self, name: str, count: int, size: int | None) -> None:
        """Bytes of its download so far, and in all when known."""

    def again(self, name: str, why: str) -> None:
        """Something went wrong, and it goes on: a download is tried again, APT uses the list it has."""

    def ended(self, outcome: Outcome) -> None:
        """It is in the store, or failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one source ended: ``fetched``, ``unchanged`` or ``failed`` with the reason."""

    name: str
    state: str
    fetched: Fetched | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Proven:
    """A file and what showed that it is genuine."""

    fd: int
    location: str
    digest: str | None  # what it must hash to
    verified: str
    signed: int = 0
    validators: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is in the store of a source: its own digest and size, and its files."""

    digest: str
    size: int
    files: tuple[File, ...]
    left_out: tuple[str, ...]


class Fetching:
    """One `boot fetch`, with its publisher at work."""

    def __init__(
        self,
        house: House,
        publisher: Child,
        settings: FetchSettings,
        report: Report,
        wanted: Mapping[str, Sequence[str]],
        *,
        images: Mapping[str, str] | None = None,
    ) -> None:
        """`wanted`: the members of each source that the manifest takes; `images`: what grub.images() says."""
        self._house, self._publisher, self._settings, self._report = house, publisher, settings, report
        self._wanted, self._images = wanted, images or {}
        self._known = house.sources()

    def run(self, sources: Sequence[Source], now: int) -> list[Outcome]:
        """Fetch them all; one that fails hinders no other."""
        found: list[Outcome] = []
        packages = [one for one in sources if one.kind == "deb"]
        found += self._packages(packages, now)
        for source in sources:
            if source.kind in ("file", "dir"):
                found.append(self._guarded(source, partial(self._local, source, now)))
        downloads = [one for one in sources if one.kind in DOWNLOADS]
        if downloads:
            from appliance.boot.downloading import Downloading

            found += Downloading(self, self._house, self._settings, self._report).run(downloads, now)
        order = {source.name: place for place, source in enumerate(sources)}
        return sorted(found, key=lambda outcome: order[outcome.name])

    def _guarded(self, source: Source, work: Callable[[], Outcome]) -> Outcome:
        self._report.begun(source.name, source.at)
        try:
            outcome = work()
        except BootError as error:
            outcome = self.failed(source, str(error))
        except OSError as error:
            why = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
            outcome = self.failed(source, why)
        self._report.ended(outcome)
        return outcome

    def failed(self, source: Source, why: str) -> Outcome:
        """How a source ends that cannot be had; what was fetched of it before stays in the store."""
        return Outcome(source.name, "failed", self._known.get(source.name), why)

    # --- what is there already

    def spec(self, source: Source) -> str:
        """A digest of what the manifest says of a source, and of what it takes from it."""
        built = [self._images[source.name]] if source.name in self._images else []
        said = json.dumps([encode(source), sorted(self._wanted.get(source.name, ())), *built], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def settled(self, source: Source, digest: str | None) -> Outcome | None:
        """A source whose bytes have this digest and that is in the store as the manifest has it now."""
        known = self._known.get(source.name)
        if known is None or digest is None or known.sha256 != digest or known.spec != self.spec(source):
            return None
        return Outcome(source.name, "unchanged", known)

    def known(self, source: Source) -> Fetched | None:
        """What was fetched before under this name."""
        return self._known.get(source.name)

    # --- the kinds

    def _packages(self, sources: Sequence[Source], now: int) -> list[Outcome]:
        if not sources:
            return []
        self._report.begun("apt", "the lists of the archives")
        foreign = sorted({one.at.partition(":")[2] for one in sources} - {""})
        try:
            apt = Apt(self._house.work_of_apt(), self._house.accounts.fetch, self._settings.apt, foreign)
            if complaint := apt.update():
                self._report.again("apt", complaint)
            packages = apt.find_all([one.at for one in sources])
        except (BootError, OSError) as error:
            why = str(error) if isinstance(error, BootError) else f"APT cannot be run: {error.strerror}"
            failed = [self.failed(one, why) for one in sources]
            for outcome in failed:
                self._report.ended(outcome)
            return failed

        def one(source: Source) -> Outcome:
            package = packages.get(source.at) or apt.find(source.at)
            return self.settled(source, package.sha256) or self._package(source, apt, package, now)

        return [self._guarded(source, partial(one, source)) for source in sources]

    def _package(self, source: Source, apt: Apt, package: Package, now: int) -> Outcome:
        path = apt.fetch(source.at, package, source.max_size)
        with opened(path) as fd:
            made = f", image for {self._images[source.name]}" if source.name in self._images else ""
            outcome = self.take(source, Proven(fd, f"deb:{package.file}{made}", package.sha256, "apt"), now)
        os.unlink(path)
        return outcome

    def _local(self, source: Source, now: int) -> Outcome:
        if source.kind == "dir":
            return self._folder(source, now)
        with opened(source.at) as fd:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise BootError(f"{source.at} is no regular file")
            if not facts.st_mode & stat.S_IROTH:
                raise BootError(f"{source.at} may not be read by everybody, who would get it (chmod o+r it)")
            digest = source.sha256 or None
            return self.take(source, Proven(fd, f"file:{source.at}", digest, _pinned(source)), now)

    def _folder(self, source: Source, now: int) -> Outcome:
        try:
            fd = os.open(source.at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BootError(f"cannot open {source.at}: {error.strerror}") from error
        try:
            files, left_out = self._unpacked(source, "dir", None, fd)
        finally:
            os.close(fd)
        content = json.dumps([[file.path, file.sha256] for file in files]).encode()
        digest = hashlib.sha256(content).hexdigest()
        size = sum(file.size for file in files)
        if (settled := self.settled(source, digest)) is not None:
            return settled
        proven = Proven(-1, f"dir:{source.at}", digest, "")
        return self._noted(source, proven, Taken(digest, size, tuple(files), tuple(left_out)), now)

    # --- into the store

    def take(self, source: Source, proven: Proven, now: int) -> Outcome:
        """A file, shown to be genuine, and what is in it. Raises BootError and OSError; then nothing is noted."""
        taken = self._publisher.ask(
            {"verb": "take", "most": source.max_size, "expected": [proven.digest]}, (proven.fd,), _STEP_S
        )
        digest, size = taken["files"][0]
        if proven.digest is not None and digest != proven.digest:
            raise BootError("the publisher took another file")
        if (settled := self.settled(source, digest)) is not None and not proven.signed:
            return settled
        self._publisher.ask({"verb": "settle"})
        if source.unpack == "none":
            files, left_out = [File(source.name, size, digest)], list[str]()
        else:
            with opened(self._house.content(digest)) as fd:
                if source.unpack == "grub":
                    files, left_out = self._image(source, fd)
                else:
                    files, left_out = self._unpacked(source, source.unpack, fd, None)
        return self._noted(source, proven, Taken(digest, size, tuple(files), tuple(left_out)), now)

    def _unpacked(
        self, source: Source, form: str, archive: int | None, folder: int | None
    ) -> tuple[list[File], list[str]]:
        """The members that the manifest takes, in the store."""
        wanted = list(self._wanted.get(source.name, ()))
        with self._house.unpacker(folder) as (unpacker, place):
            fds = () if archive is None else (archive,)
            members, left_out, count = _told(unpacker, form, source.max_size, wanted, fds)
            taken = self._take_all(place, count, source.max_size)
        try:
            files = [File(path, taken[number][1], taken[number][0]) for path, number in members]
        except IndexError:
            raise BootError("the unpacker tells of members that it did not make") from None
        if any(records.unfit(file.path) for file in files):
            raise BootError("the unpacker tells of a member that leads out of the tree")
        return files, left_out

    def _image(self, source: Source, archive: int) -> tuple[list[File], list[str]]:
        """An image of GRUB, made of the members of a package and put into the store."""
        if (prefix := self._images.get(source.name)) is None:
            raise BootError("nothing takes the image of this GRUB")
        with self._house.unpacker() as (unpacker, place):
            members, _left, _count = _told(unpacker, "deb", source.max_size, [grub.MODULES], (archive,))
            with grubimage.made(self._house, place, dict(members), prefix) as fd:
                order = {"verb": "take", "most": source.max_size, "expected": [None]}
                ((digest, size),) = self._publisher.ask(order, (fd,), _STEP_S)["files"]
        return [File(grub.MEMBER, size, digest)], []

    def _take_all(self, place: int, count: int, most: int) -> list[tuple[str, int]]:
        taken: list[tuple[str, int]] = []
        for start in range(0, count, _BATCH):
            with ExitStack() as stack:
                fds = [_member(str(n), place, stack) for n in range(start, min(start + _BATCH, count))]
                order = {"verb": "take", "most": most, "expected": [None] * len(fds)}
                taken += self._publisher.ask(order, tuple(fds), _STEP_S)["files"]
        return taken

    def _noted(self, source: Source, proven: Proven, taken: Taken, now: int) -> Outcome:
        verified = "" if source.unverified else proven.verified
        origins = [replace(file, origin=proven.location, verified=verified) for file in taken.files]
        fetched = Fetched(
            source.name,
            self.spec(source),
            proven.location,
            taken.digest,
            taken.size,
            now,
            verified,
            proven.signed,
            tuple(sorted(origins, key=lambda file: file.path)),
            tuple(line[:500] for line in taken.left_out),
            proven.validators,
        )
        fd = talk.document(records.encode_fetched(fetched))
        try:
            self._publisher.ask({"verb": "record"}, (fd,), _STEP_S)
        finally:
            os.close(fd)
        return Outcome(source.name, "fetched", fetched)

    # --- lists of digests

    def digest_of(self, source: Source, listed: int, signature: int | None) -> tuple[str, str, int]:
        """The digest that a signed list has for a source, how that was verified, and when it was signed.

        Raises BootError for a list that is not signed by the keyring, or older than the newest one that was seen.
        """
        assert source.sums is not None
        text = talk.content(listed, _LARGEST_LIST)
        signed_by = talk.content(signature, _LARGEST_LIST) if signature is not None else None
        proof = verify.signature(text, signed_by, source.sums.keyring, self._house)
        known = self.known(source)
        if known is not None and proof.signed < known.signed:
            raise BootError("the list of digests is older than the newest one that was seen: a mirror may be held back")
        if proof.signed:
            self._publisher.ask({"verb": "saw", "list": source.sums.url, "signed": proof.signed}, (), _STEP_S)
        with self._house.unpacker() as (unpacker, _place):
            fd = talk.document(proof.text)
            try:
                order = {"verb": "digest", "path": beside(source.at, source.sums.url)}
                digest = unpacker.ask(order, (fd,), 60.0)["digest"]
            finally:
                os.close(fd)
        if not records.is_digest(digest):
            raise BootError("the list of digests has none for this file")
        return digest, f"signed by {proof.key}", proof.signed


def beside(url: str, list_url: str) -> str:
    """Where a file lies as seen from the list."""
    one, two = urlsplit(url), urlsplit(list_url)
    above = posixpath.dirname(two.path).rstrip("/")
    if one.netloc == two.netloc and one.path.startswith(f"{above}/"):
        return one.path[len(above) + 1 :]
    return posixpath.basename(one.path)


def _told(
    unpacker: Child, form: str, most: int, wanted: Sequence[str], fds: tuple[int, ...]
) -> tuple[list[tuple[str, int]], list[str], int]:
    """Have an archive opened: members by number, what was left out, and how many numbers there are."""
    members: list[tuple[str, int]] = []
    left_out: list[str] = []
    with talk_document(list(wanted)) as listed:
        unpacker.say({"verb": "unpack", "form": form, "most": most}, (listed, *fds))
    while "end" not in (heard := unpacker.hear(_STEP_S)):
        members += [(str(path), int(number)) for path, number in heard.get("members", ())]
        left_out += map(str, heard.get("left_out", ()))
    return members, left_out, int(heard["end"])


def _pinned(source: Source) -> str:
    return "sha256" if source.sha256 else ""


def _member(name: str, place: int, stack: ExitStack) -> int:
    """A file that the unpacker made: it is opened by us, so it is looked at by descriptor."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    stack.callback(os.close, fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise BootError("the unpacker made something that is no regular file")
    return fd


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A file to be read, whoever made it. Raises BootError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BootError(f"cannot open {path}: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def talk_document(value: object) -> Iterator[int]:
    """A value of any size as a descriptor."""
    fd = talk.document(json.dumps(value).encode())
    try:
        yield fd
    finally:
        os.close(fd)
