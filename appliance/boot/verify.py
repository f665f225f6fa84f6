"""OpenPGP signatures, checked by gpgv: it reads keys and signatures, has no network and writes nothing.

What counts is what gpgv says on its status channel, never its exit code alone: one good signature by a key of the
keyring that is neither expired nor revoked, and no bad one beside it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass

from appliance.boot import programs, talk
from appliance.boot.house import House
from appliance.boot.records import BootError

_GPGV = "/usr/bin/gpgv"
_LARGEST_KEYRING = 16 << 20
_STATUS = re.compile(rb"^\[GNUPG:\] ([A-Z_]+)((?: [!-~]+)*)$", re.MULTILINE)
_WRONG = {
    b"BADSIG": "the signature is bad: the list was changed, or cut off",
    b"EXPKEYSIG": "it was signed with a key that has expired",
    b"REVKEYSIG": "it was signed with a key that was revoked",
    b"EXPSIG": "the signature has expired",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was signed, by which key (its fingerprint), and when, in seconds since the epoch."""

    text: bytes
    key: str
    signed: int


def signature(text: bytes, detached: bytes | None, keyring: str, house: House) -> Proof:
    """Check a detached signature, or a clear-signed text. Raises BootError with what is wrong."""
    if not os.access(_GPGV, os.X_OK):
        raise BootError("this machine has no gpgv, which checks signatures (apt-get install gpgv)")
    fds = [talk.document(_keys(keyring)), talk.document(text)]
    fds += [talk.document(b"")] if detached is None else [talk.document(detached)]
    try:
        keys, data, third = (f"/proc/self/fd/{fd}" for fd in fds)
        command = [_GPGV, "--quiet", "--status-fd", "1", "--keyring", keys]
        command += ["--output", third, data] if detached is None else [third, data]
        with house.jail() as work:
            said = programs.run(
                command, house.accounts.unpack, work, network=False, seconds=60.0, fds=fds, environment={"HOME": "/"}
            )
        key, signed = judge(said.out)
        if said.code:
            raise BootError(f"gpgv refuses the signature (exit code {said.code})")
        return Proof(talk.content(fds[2], 16 << 20) if detached is None else text, key, signed)
    finally:
        for fd in fds:
            os.close(fd)


def judge(status: bytes) -> tuple[str, int]:
    """The key and the time of the one good signature. Raises BootError. Pure: gpg's doc/DETAILS, "status codes"."""
    valid: list[tuple[str, int]] = []
    for found in _STATUS.finditer(status):
        word, rest = found[1], found[2].split()
        if word in _WRONG:
            raise BootError(f"{_WRONG[word]} (a mirror may lie; look at the keyring)")
        if word == b"VALIDSIG" and len(rest) >= 3 and rest[2].isdigit():
            valid.append((rest[0].decode("ascii"), int(rest[2])))
    if not valid:
        raise BootError("no key of the keyring has signed the list of digests (look at the keyring)")
    return max(valid, key=lambda one: one[1])


def _keys(path: str) -> bytes:
    """A keyring as gpgv reads it, from one that may be in ASCII armour (RFC 9580 section 6). Raises BootError."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_KEYRING + 1)
    except OSError as error:
        raise BootError(f"cannot read the keyring {path}: {error.strerror}") from error
    if len(content) > _LARGEST_KEYRING:
        raise BootError(f"the keyring {path} has more than {_LARGEST_KEYRING >> 20} MiB")
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" not in content:
        return content
    keys = b""
    for block in content.split(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")[1:]:
        body = block.partition(b"-----END PGP")[0].replace(b"\r", b"")
        _head, _, coded = body.partition(b"\n\n")
        lines = [line for line in coded.split(b"\n") if line and not line.startswith(b"=")]
        try:
            keys += base64.b64decode(b"".join(lines), validate=True)
        except binascii.Error as error:
            raise BootError(f"the keyring {path} is damaged") from error
    return keys
