"""Make an image of GRUB from the members of a package, by grub-mkimage: it works in the unpacker's folder, as it.

The program is this machine's own (Debian's grub-common) and what it reads was unpacked from a verified package. It has
no network and writes nowhere else; what it makes is hashed and stored by the publisher like every other member.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from appliance.boot import grub, programs
from appliance.boot.house import UNPACK, House
from appliance.boot.records import BootError
from appliance.observe.text import printable

_PROGRAM = "/usr/bin/grub-mkimage"
_FOLDER, _OUT = "grub", "image"
_LONGEST = 64 << 20  # bytes of an image; one has less than 1 MiB
_SECONDS = 120.0


@contextmanager
def made(house: House, place: int, members: Mapping[str, int], prefix: str) -> Iterator[int]:
    """An open image with `prefix` built in. `members` lie in `place` as files named by number. Raises BootError."""
    kind = grub.platform(members)
    if not kind:
        raise BootError("the package has no modules of GRUB for UEFI (take grub-efi-amd64-bin or grub-efi-arm64-bin)")
    if not os.access(_PROGRAM, os.X_OK):
        raise BootError("this machine has no grub-mkimage, which makes images (apt-get install grub-common)")
    parts = grub.parts(members, kind)
    os.mkdir(_FOLDER, dir_fd=place)
    os.chmod(_FOLDER, 0o755, dir_fd=place)  # noqa: S103  whatever the umask: the program is another account
    for name, number in parts.items():
        os.symlink(f"../{number}", f"{_FOLDER}/{name}", dir_fd=place)
    said = programs.run(
        [_PROGRAM, "--directory", _FOLDER, "--output", _OUT, *grub.arguments(kind, prefix, parts.keys())],
        house.accounts.unpack,
        f"{house.work or house.state_dir}/{UNPACK}",
        network=False,
        seconds=_SECONDS,
        fsize=_LONGEST,
    )
    if said.code:
        why = printable(said.err.strip().splitlines()[-1], 300) if said.err.strip() else f"exit code {said.code}"
        raise BootError(f"grub-mkimage makes no image: {why} (is it of the same release as the package?)")
    fd = os.open(_OUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BootError("grub-mkimage made something that is no regular file")
        yield fd
    finally:
        os.close(fd)
