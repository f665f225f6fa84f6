"""A backup: one tar file with machines, releases by digest, notes of sources and the configuration; and taking one in.

    backup.json               format, when, by which version, what was served
    hosts.d/NAME.yaml         machines
    config/NAME               configuration files that everybody may read: no keys, no secrets
    manifest/NAME             the manifest and what lies beside it, the same
    store/DIGEST              contents, each once
    sources/NAME.json, releases/ID.json
    end                       so that one that was cut off is seen

Invariant: nothing is made from a name in a backup but what has one of these forms, and no content counts whose digest
is not its name. What the keeper noted of one-shot boots is not in it; a file of machines that says `once` says so there
too, until its time is over.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from appliance.boot import orders, records
from appliance.boot.children import Child
from appliance.boot.house import House
from appliance.boot.records import BootError

FORMAT = 1
_HOST = re.compile(r"hosts\.d/([A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml)")
_STORE = re.compile(r"store/([0-9a-f]{64})")
_RECORD = re.compile(r"(sources|releases)/([A-Za-z0-9][A-Za-z0-9._-]{0,99})\.json")
_CONFIG = re.compile(r"(?:config/(?:conf\.d/)?|manifest/)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_END = "end"  # the last member: a tar file does not tell that it was cut off between two
_MOST_TEXT = 2 << 20  # bytes of a configuration file
_LARGEST = 1 << 40  # bytes of a content


@dataclass(slots=True)
class Bundle:
    """What a backup holds besides contents, which went to the store as they were read."""

    current: tuple[str, int] | None = None
    hosts: dict[str, bytes] = field(default_factory=dict)
    config: dict[str, bytes] = field(default_factory=dict)
    contents: int = 0
    releases: list[records.Release] = field(default_factory=list)
    sources: list[records.Fetched] = field(default_factory=list)


def write(out: IO[bytes], house: House, config: Mapping[str, str], version: str, now: int) -> dict[str, int]:
    """Write a backup to a stream; how many of each kind. `config`: name in it -> path. Raises BootError and OSError."""
    releases = [house.release(name) for name in house.releases()]
    sources = house.sources()
    released = {file.sha256 for release in releases for file in release.files}
    digests = sorted(released | {file.sha256 for fetched in sources.values() for file in fetched.files})
    hosts = _hosts(house)
    fit = {name: path for name, path in config.items() if _CONFIG.fullmatch(name)}
    texts = {name: text for name, path in fit.items() if (text := _public(path)) is not None}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        head = {"format": FORMAT, "created": now, "appliance": version, "current": house.current()}
        _add(tar, "backup.json", json.dumps(head).encode(), now)
        for name, text in hosts.items():
            _add(tar, f"hosts.d/{name}", text, now)
        for name, text in texts.items():
            _add(tar, name, text, now)
        for digest in digests:
            _content(tar, house, digest, now)
        for fetched in sources.values():
            _add(tar, f"sources/{fetched.name}.json", records.encode_fetched(fetched), now)
        for release in releases:
            _add(tar, f"releases/{release.id}.json", records.encode(release), now)
        _add(tar, _END, b"", now)
    counts = {"hosts": len(hosts), "config": len(texts), "contents": len(digests)}
    return {**counts, "sources": len(sources), "releases": len(releases)}


def _hosts(house: House) -> dict[str, bytes]:
    folder = f"{house.state_dir}/hosts.d"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = {}
    for name in names:
        if _HOST.fullmatch(f"hosts.d/{name}"):
            with open(f"{folder}/{name}", "rb") as file:
                found[name] = file.read(_MOST_TEXT)
    return found


def _public(path: str) -> bytes | None:
    """A configuration file, unless it is one that not everybody may read: it may hold what a backup must not."""
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or not facts.st_mode & stat.S_IROTH or facts.st_size > _MOST_TEXT:
                return None
            return file.read(_MOST_TEXT)
    except OSError:
        return None


def _add(tar: tarfile.TarFile, name: str, content: bytes, now: int) -> None:
    tar.addfile(_info(name, len(content), now), io.BytesIO(content))


def _content(tar: tarfile.TarFile, house: House, digest: str, now: int) -> None:
    try:
        with open(house.content(digest), "rb") as file:
            tar.addfile(_info(f"store/{digest}", os.fstat(file.fileno()).st_size, now), file)
    except OSError as error:
        raise BootError(f"content {digest} cannot be read: {error.strerror} (appliance boot fetch)") from error


def _info(name: str, size: int, now: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, now, 0o644
    return info


def read(stream: IO[bytes], publisher: Child | None) -> Bundle:
    """Take in a backup: contents go to the store, and then notes and releases; nothing of it is served yet.

    Without a publisher it is only looked at. Raises BootError, and OSError.
    """
    bundle = Bundle()
    known = complete = False
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise BootError(f"the backup has {member.name[:200]!a}, which is no file")
                if complete:
                    raise BootError("the backup goes on after its end")
                if member.name == _END and known:
                    complete = True
                elif not known:
                    _head(bundle, member, content)
                    known = True
                else:
                    _take(bundle, member, content, publisher)
    except (tarfile.TarError, EOFError) as error:
        raise BootError(f"the backup is damaged or cut off: {str(error)[:200]!a}") from error
    if not known:
        raise BootError("this is no backup")
    if not complete:
        raise BootError("the backup is damaged or cut off: it has no end")
    for fetched in bundle.sources if publisher else ():
        assert publisher is not None
        with orders.documents(records.encode_fetched(fetched)) as fds:
            publisher.ask({"verb": "record"}, fds)
    for release in bundle.releases if publisher else ():
        assert publisher is not None
        orders.adopt(publisher, release)
    return bundle


def _head(bundle: Bundle, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    """The first member says what it is. Raises BootError."""
    try:
        head: Mapping[str, Any] = json.loads(content.read(_MOST_TEXT)) if member.name == "backup.json" else {}
        number = head["format"]
        if number != FORMAT:
            raise BootError(
                f"the backup has format {str(number)[:20]}, this build knows {FORMAT} (use the newer build)"
            )
        if head["current"] is not None:
            bundle.current = records.release_id(head["current"][0]), int(head["current"][1])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise BootError("this is no backup") from error


def _take(bundle: Bundle, member: tarfile.TarInfo, content: IO[bytes], publisher: Child | None) -> None:
    name = member.name
    if found := _STORE.fullmatch(name):
        bundle.contents += 1
        if publisher is None:
            return
        with _spooled(content, member.size) as fd:
            publisher.ask({"verb": "take", "most": _LARGEST, "expected": [found[1]]}, (fd,))
    elif found := _RECORD.fullmatch(name):
        text = _text(content, member, records.MOST_BYTES)
        if found[1] == "sources":
            bundle.sources.append(records.decode_fetched(text))
        else:
            bundle.releases.append(records.decode(text))
    elif found := _HOST.fullmatch(name):
        bundle.hosts[found[1]] = _text(content, member, _MOST_TEXT)
    elif _CONFIG.fullmatch(name):
        bundle.config[name] = _text(content, member, _MOST_TEXT)
    else:
        raise BootError(f"the backup has {name[:200]!a}, which no backup has")


def _text(content: IO[bytes], member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:
        raise BootError(f"{member.name[:200]!a} in the backup has more than {most} bytes")
    return content.read()


@contextmanager
def _spooled(content: IO[bytes], size: int) -> Iterator[int]:
    """The content in a file without a name, whose descriptor can be handed on."""
    with tempfile.TemporaryFile() as file:
        left = size
        while left and (block := content.read(min(left, 1 << 20))):
            file.write(block)
            left -= len(block)
        file.flush()
        yield file.fileno()
