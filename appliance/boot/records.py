"""What is written down of fetched sources and of releases: values, their JSON, and what differs. Pure.

Invariant: `decode` gives back only what `encode` can have made: digests are 64 hex digits, paths stay inside a tree.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from appliance.errors import ApplianceError

ROOTS = ("tftp", "ftp")
FORMAT = 1  # of state_dir/boot; an older build refuses a newer one
MOST_FILES = 200_000
MOST_BYTES = 128 << 20  # of one record
LONGEST_PATH = 1024  # bytes
LONGEST_NAME = 255
_DEEPEST = 32
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# every part begins with what is no dot: nearly all paths are like that, and need no closer look
_ORDINARY = re.compile(r"(?:[A-Za-z0-9_+-][A-Za-z0-9._+-]*/)*[A-Za-z0-9_+-][A-Za-z0-9._+-]*", re.ASCII)
_CURRENT = re.compile(rb"([0-9]{8}-[0-9]{6}-[0-9a-f]{8}) ([0-9]{1,9})\n")


class BootError(ApplianceError):
    """Boot files are not as they have to be, or cannot be made so; the text says what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a release, or of a source.

    `origin`: where its bytes came from; `verified`: how that was shown, empty if it was not; `roots`: where it is
    served, `tftp` and `ftp`, and empty for a file of a source.
    """

    path: str
    size: int
    sha256: str
    origin: str = ""
    verified: str = ""
    roots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """A whole tree. `created` in seconds since the epoch; `plan`: what it was rendered from, for the planner alone."""

    id: str
    created: int
    note: str
    files: tuple[File, ...]
    plan: Any = None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Given:
    """One file of an overlay: its bytes, or the digest of what is in the store."""

    root: str
    path: str
    content: bytes | str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source whose files lie in the store.

    `spec`: digest of what the manifest said, so that a change of it is seen. `verified`: how, empty for unverified.
    `signed`: when its index was signed, in seconds since the epoch (0: it was not); a later fetch takes none older.
    `files`: path in the source -> File. `left_out`: what was not taken, and why. `validators`: what a server said by
    which it can tell later that nothing changed (RFC 9110 section 8.8).
    """

    name: str
    spec: str
    location: str
    sha256: str
    size: int
    fetched: int
    verified: str
    signed: int
    files: tuple[File, ...]
    left_out: tuple[str, ...] = field(default=())
    validators: Mapping[str, str] = field(default_factory=dict)


def make(created: int, note: str, files: Iterable[File], plan: Any) -> Release:
    """A release with the id that its content and time give it. Raises BootError for what is no tree."""
    ordered = tuple(sorted(files, key=lambda file: (file.path, file.roots)))
    _judge(ordered)
    content = _text({"created": created, "note": note, "files": [_plain(file) for file in ordered], "plan": plan})
    return Release(_id(created, content), created, note, ordered, plan)


def created(name: str) -> int:
    """When a release with this id was made, in seconds since the epoch. Raises BootError."""
    try:
        return int(datetime.strptime(f"{release_id(name)[:15]}+0000", "%Y%m%d-%H%M%S%z").timestamp())
    except ValueError:
        raise BootError(f"{name} is not the id of a release (appliance boot releases)") from None


def _id(created: int, content: bytes) -> str:
    stamp = datetime.fromtimestamp(created, UTC).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{hashlib.sha256(content).hexdigest()[:8]}"


def encode(release: Release) -> bytes:
    """The file `releases/ID.json`."""
    plain = {name: getattr(release, name) for name in ("id", "created", "note", "plan")}
    return _text({"format": FORMAT, **plain, "files": [_plain(file) for file in release.files]})


def decode(text: bytes) -> Release:
    """Read `releases/ID.json`. Raises BootError.

    What the id was made of is the text itself without the two fields that `encode` added: nothing is encoded again.
    """
    try:
        plain = json.loads(text)
        _format(plain["format"])
        created, note, name = int(plain["created"]), str(plain["note"]), release_id(plain["id"])
        files = tuple(map(_file, plain["files"]))
        _judge(files)
        added = b'"format":%d,"id":"%b",' % (FORMAT, name.encode())
        if _id(created, text.replace(added, b"", 1)) != name:
            raise BootError(f"release {name} is not what its name says (publish anew)")
        release = Release(name, created, note, files, plain["plan"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise BootError("the record of a release cannot be read (publish anew)") from error
    return release


def encode_fetched(fetched: Fetched) -> bytes:
    """The file `sources/NAME.json`."""
    plain = {name: getattr(fetched, name) for name in Fetched.__slots__ if name not in ("files", "left_out")}
    files = [_plain(file) for file in fetched.files]
    return _text({"format": FORMAT, **plain, "files": files, "left_out": list(fetched.left_out)})


def decode_fetched(text: bytes) -> Fetched:
    """Read `sources/NAME.json`. Raises BootError."""
    try:
        plain = json.loads(text)
        _format(plain.pop("format"))
        files = tuple(_file(item) for item in plain.pop("files"))
        left_out = tuple(map(str, plain.pop("left_out")))
        validators = {str(name): str(value) for name, value in plain.pop("validators").items()}
        found = Fetched(**plain, files=files, left_out=left_out, validators=validators)
        if not (_NAME.fullmatch(found.name) and _DIGEST.fullmatch(found.sha256)):
            raise BootError("the record of a source has no proper name or digest (appliance boot fetch)")
        if not all(type(n) is int and n >= 0 for n in (found.size, found.fetched, found.signed)):
            raise BootError("the record of a source has no proper numbers (appliance boot fetch)")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BootError("the record of a source cannot be read (appliance boot fetch)") from error
    return found


def encode_current(release: str, overlay: int) -> bytes:
    """The file `current`."""
    return f"{release} {overlay}\n".encode()


def decode_current(text: bytes) -> tuple[str, int]:
    """The id of the release and the number of the overlay that are served. Raises BootError."""
    found = _CURRENT.fullmatch(text)
    if found is None:
        raise BootError("the file `current` in state_dir/boot cannot be read (appliance boot rollback ID)")
    return found[1].decode(), int(found[2])


def release_id(text: object) -> str:
    """The id of a release, typed by a person or read. Raises BootError."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise BootError(f"{str(text)[:80]!a} is not the id of a release (appliance boot releases)")
    return text


def source_name(text: str) -> str:
    """A name that a file can have. Raises BootError."""
    if not _NAME.fullmatch(text):
        raise BootError(f"{text[:80]!a} is no name for a source (letters, digits, dot, dash and underscore)")
    return text


def is_digest(text: object) -> bool:
    """Whether it is a SHA-256 in lower-case hex."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def unfit(path: str) -> str:
    """Why a path cannot be one in a tree, or an empty text."""
    if len(path) <= LONGEST_NAME and _ORDINARY.fullmatch(path) and path.count("/") < _DEEPEST:
        return ""
    if not path or len(path.encode("utf-8", "surrogateescape")) > LONGEST_PATH:
        return "it is empty" if not path else f"it is longer than {LONGEST_PATH} bytes"
    if not path.isprintable():
        return "it has characters that cannot be printed"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "it leads out of the tree, or has empty parts"
    if len(parts) > _DEEPEST or any(len(part.encode()) > LONGEST_NAME for part in parts):
        return f"it has more than {_DEEPEST} parts, or one longer than {LONGEST_NAME} bytes"
    return "the name .releases is ours" if parts[0] == ".releases" else ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one release to another: paths, in order."""

    added: tuple[File, ...]
    removed: tuple[File, ...]
    changed: tuple[tuple[File, File], ...]


def diff(before: Iterable[File], after: Iterable[File]) -> Difference:
    """Compare two trees by content."""
    old, new = ({(file.path, file.roots): file for file in files} for files in (before, after))
    return Difference(
        added=tuple(new[key] for key in sorted(new.keys() - old.keys())),
        removed=tuple(old[key] for key in sorted(old.keys() - new.keys())),
        changed=tuple(
            (old[key], new[key]) for key in sorted(old.keys() & new.keys()) if old[key].sha256 != new[key].sha256
        ),
    )


def _judge(files: tuple[File, ...]) -> None:
    """Raises BootError unless the files, in order of their paths, can be the trees of a release."""
    if len(files) > MOST_FILES:
        raise BootError(f"a release has {len(files)} files; {MOST_FILES} is the most")
    if any(not file.roots or set(file.roots) - set(ROOTS) for file in files):
        raise BootError("a file of the release is in no root, or in one that is not served")
    trees = {root: [file for file in files if root in file.roots] for root in ROOTS}
    for root in ROOTS if trees["tftp"] != trees["ftp"] else ("tftp",):
        _judge_tree(trees[root], root)


def _judge_tree(files: list[File], root: str) -> None:
    """Raises BootError unless the files, in order of their paths, can lie in one tree."""
    names = {file.path for file in files}
    good = {""}  # folders that are no file: most files lie beside another
    if len(names) != len(files):
        twice = next(one for one, two in pairwise(sorted(file.path for file in files)) if one == two)
        raise BootError(f"two files of the release have the path {twice} in the root of {root}")
    for file in files:
        if why := unfit(file.path):
            raise BootError(f"{file.path[:200]!a} cannot be a path of a release: {why}")
        above = file.path.rpartition("/")[0]
        while above not in good:
            if above in names:
                raise BootError(f"{above} is a file of the release, and {file.path} lies beneath it")
            good.add(above)
            above = above.rpartition("/")[0]


def _plain(file: File) -> dict[str, Any]:
    """As `asdict`, which would be half of the time that a release of many files takes."""
    return {name: getattr(file, name) for name in File.__slots__}


def _file(plain: dict[str, Any]) -> File:
    path, size, digest = plain["path"], plain["size"], plain["sha256"]
    if not is_digest(digest) or type(size) is not int or size < 0 or unfit(path) or len(plain) != len(File.__slots__):
        raise ValueError("not a file")
    return File(path, size, digest, plain["origin"], plain["verified"], tuple(plain["roots"]))


def _format(number: object) -> None:
    if number != FORMAT:
        raise BootError(f"the state has format {str(number)[:20]}, this build knows {FORMAT} (use the newer build)")


def _text(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
