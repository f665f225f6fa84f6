"""The verbs that tell checksums: HASH (draft-bryan-ftpext-hash-02), XSHA256, XMD5, XCRC, and files NAME.sha256 that
exist nowhere but are served for every NAME, as `sha256sum -c` reads them. They are not listed; a real one wins."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

from appliance.ftp import ascii, checksums, filesystem, policy
from appliance.ftp.checksums import ALGORITHMS, Claim
from appliance.ftp.data import Stream
from appliance.ftp.rulings import Place
from appliance.ftp.session import Session

DEFAULT = next(iter(ALGORITHMS))
SUFFIX = ".sha256"
_OF_VERB = {"XSHA256": "SHA-256", "XMD5": "MD5", "XCRC": "CRC32"}
_BUSY = "450 Too many checksums are computed. Try again."
_CHANGED = "450 The file was changed while it was read. Try again."
_TOO_LARGE = "550 Too large for a checksum here."
_OFF = "502 Checksums are switched off."


class Summing(Session):
    """A session that knows these verbs."""

    algorithm = DEFAULT  # what HASH computes in this session

    def sum(self, command: policy.Command, path: str) -> None:
        """HASH, XSHA256, XMD5, XCRC. Raises OSError for what cannot be opened."""
        if not self.house.settings.checksums.enabled:
            self.respond(_OFF)
            return
        typed, start, end = policy.span(command)
        file = filesystem.open_file(path, self.layers)
        end = file.size if end is None else end
        if not start <= end <= file.size:
            file.close()
            self.respond("501 Not a part of the file.")
            return
        if command.verb == "HASH":  # the end of the range is told as other servers tell it: the first byte left out
            form = f"213 {self.algorithm} {start}-{end} %s {typed.replace('%', '%%')}"
            self._tell(file, self.algorithm, start, end, lambda value: self.respond(form % value))
        else:
            tell = lambda value: self.respond(f"250 {value.upper()}")  # noqa: E731
            self._tell(file, _OF_VERB[command.verb], start, end, tell)

    def _tell(
        self, file: filesystem.OpenFile, algorithm: str, start: int, end: int, tell: Callable[[str], None]
    ) -> None:
        """Call `tell` with the checksum, now or when it is computed; say why if there is none. Takes the file."""
        if algorithm == DEFAULT and (start, end) == (0, file.size) and file.layer == "release":
            digest = self.house.published.digest(self.layers, file.name)
            if digest is not None:
                file.close()
                tell(digest)
                return
        if end - start > self.house.settings.checksums.max_size:
            file.close()
            self.respond(_TOO_LARGE)
            return

        def then(value: str | OSError) -> None:
            self.claim = None
            if isinstance(value, str):
                tell(value)
            elif isinstance(value, BlockingIOError):
                self.respond(_CHANGED)
            else:
                self.house.log.error("cannot read", client=self.client, cause=os.strerror(value.errno or errno.EIO))
                self.respond("451 Local error.")

        claim = Claim(then, self.handle_error)
        try:
            known = self.house.checksums.ask(file, algorithm, start, end, claim)
        except checksums.BusyError:
            self.respond(_BUSY)
            return
        if known is None:
            self.claim = claim
        else:
            tell(known)

    def _summed(self, path: str) -> str:
        """The path of the file that a path NAME.sha256 tells the checksum of. Raises FileNotFoundError."""
        name = path.removesuffix(SUFFIX)
        here = self.house.settings.checksums.enabled and name != path and not name.endswith("/")
        if not here or self.site.rules.place(self.site.seen(name)) is not Place.TREE:
            raise FileNotFoundError(errno.ENOENT, "no such file, nor one of which this would be the checksum")
        return name

    def size_of_sum(self, path: str) -> int:
        """Bytes of the file of a checksum. Raises OSError where there is none."""
        path = self._summed(path)
        filesystem.open_file(path, self.layers).close()
        return len(checksums.line_of("0" * 64, _name(path)))

    def retr_sum(self, path: str, offset: int) -> bool:
        """RETR of NAME.sha256; false where there is no such thing."""
        try:
            path, typed = self._summed(path), path
            file = filesystem.open_file(path, self.layers)
        except OSError:
            return False

        def send(value: str) -> None:
            line = checksums.line_of(value, _name(path))
            if offset > len(line) or (offset and self.type_a):
                self.respond("554 REST position is not within the file, or TYPE is not I.")
            else:
                line = ascii.to_wire(line, after_cr=False) if self.type_a else line[offset:]
                self.begin(Stream(self, "RETR", typed, _once(line), None))

        self._tell(file, "SHA-256", 0, file.size, send)
        return True

    # --- what a client is told of it

    def ftp_FEAT(self, line: str) -> None:
        if self.house.settings.checksums.enabled:
            known = ";".join(f"{name}*" if name == self.algorithm else name for name in ALGORITHMS)
            others = [feat for feat in self._extra_feats if feat.partition(" ")[0] not in ("HASH", *_OF_VERB)]
            self._extra_feats = [*others, f"HASH {known}", *_OF_VERB]
        super().ftp_FEAT(line)

    def ftp_OPTS(self, line: str) -> None:
        name, _space, wanted = line.partition(" ")
        if name.upper() != "HASH" or not self.house.settings.checksums.enabled:
            self.respond("501 There are no options of such a command.")
        elif wanted and wanted.upper() not in ALGORITHMS:
            self.respond("501 Unknown algorithm, current selection not changed.")
        else:
            self.algorithm = wanted.upper() or self.algorithm
            self.respond(f"200 {self.algorithm}")


def _name(path: str) -> bytes:
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")


def _once(line: bytes) -> Iterator[bytes]:
    yield line
