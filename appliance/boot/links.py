"""Which member a path in an archive really is: links followed inside the tree, what leads out of it refused. Pure.

Invariant: every path that comes out is a clean relative one, and so is the member it stands for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.boot import records

MOST = 200_000  # paths
_DEEPEST = 20  # links on the way to one file
_ROUNDS = 5


class Hostile(Exception):
    """A member that no honest archive has; the text names it."""


@dataclass(slots=True)
class Tree:
    """What an archive holds. `links`: path -> path it leads to; `left_out`: path -> why."""

    files: dict[str, int] = field(default_factory=dict)  # path -> bytes
    links: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add_file(self, name: str, size: int) -> str | None:
        """A regular file; its clean path, or None for one that is left out. Raises Hostile."""
        path = self._clean(name)
        if path is not None:
            self._only(path)
            self.files[path] = size
        return path

    def add_link(self, name: str, target: str, *, hard: bool = False) -> None:
        """A symbolic link, or a hard one whose target is a path in the archive. Raises Hostile."""
        path = self._clean(name)
        if path is None:
            return
        self._only(path)
        base = "" if hard or target.startswith("/") else posixpath.dirname(path)
        inside = posixpath.normpath(posixpath.join(base, target.lstrip("/")))
        if inside == ".." or inside.startswith("../") or "\0" in target:
            self.left_out[path] = f"a link that leads out of the tree, to {_shown(target)}"
        elif inside == "." or records.unfit(inside):
            self.left_out[path] = f"a link to {_shown(target)}, which is no path of a file"
        else:
            self.links[path] = inside

    def add_other(self, name: str, what: str) -> None:
        """A device, a FIFO, a socket: never taken. Raises Hostile."""
        path = self._clean(name)
        if path is not None:
            self.left_out[path] = what

    def _clean(self, name: str) -> str | None:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise Hostile(f"the member {_shown(name)} leads out of the tree")
        if len(self.files) + len(self.links) + len(self.left_out) >= MOST:
            raise Hostile(f"more than {MOST} members")
        path = "/".join(parts)
        if why := records.unfit(path):
            if path:
                self.left_out[_shown(path)] = f"its name: {why}"
            return None
        return path

    def _only(self, path: str) -> None:
        """The last member of a name is the one that counts (tar(5): later ones replace earlier ones)."""
        for kind in (self.files, self.links, self.left_out):
            kind.pop(path, None)

    def resolve(self) -> dict[str, str]:
        """Every path that means a file -> the file's own path. Links to folders bring what lies below them.

        Links that lead nowhere, in circles or out are left out, and told in `left_out`.
        """
        found = {path: path for path in self.files}
        folders: dict[str, str] = {}
        for link in sorted(self.links):
            real = self._real(link)
            if real in self.files:
                found[link] = real
            else:
                folders[link] = real or ""
        for _ in range(_ROUNDS):  # a folder may have links to folders
            if not self._through(folders, found):
                break
        for link in folders:
            if not any(path.startswith(f"{link}/") for path in found):
                self.left_out[link] = f"a link to {_shown(self.links[link])}, which is not there"
        return found

    @staticmethod
    def _through(folders: dict[str, str], found: dict[str, str]) -> bool:
        """Add what lies below each link to a folder. Whether there was anything new. Raises Hostile."""
        below: dict[str, list[str]] = {}
        for path in found:
            for above in _above(path):
                below.setdefault(above, []).append(path)
        before = len(found)
        for link, real in folders.items():
            for path in below.get(real, ()):
                alias = link + path[len(real) :]
                if path.startswith(f"{link}/") or records.unfit(alias):
                    continue  # a link into a folder that it lies in itself
                if len(found) >= MOST and alias not in found:
                    raise Hostile(f"more than {MOST} paths through links")
                found.setdefault(alias, found[path])
        return len(found) > before

    def _real(self, path: str) -> str | None:
        """Where a path leads when every link on its way is followed; None for a circle."""
        followed = 0
        while (link := next((one for one in (*_above(path), path) if one in self.links), None)) is not None:
            followed += 1
            if followed > _DEEPEST:
                return None
            path = self.links[link] + path[len(link) :]
        return path


def wanted(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path is asked for: by its name, or by a folder above it that ends in a slash (`/`: everything)."""
    return any(path == one or (one.endswith("/") and f"/{path}".startswith(f"/{one.lstrip('/')}")) for one in patterns)


def _above(path: str) -> list[str]:
    """The folders on the way to a path, from the top."""
    return [path[:place] for place, char in enumerate(path) if char == "/"]


def _shown(text: str) -> str:
    return ascii(text[:200])
