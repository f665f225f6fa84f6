"""The files that the embedded default serves: made once, whole or not at all, and never touched again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from appliance.errors import ApplianceError

BIG = 64 << 20
_PIECE = 1 << 20
_HELLO = "Hello from the appliance.\n"
_TEXTS = {
    "hello.txt": _HELLO,
    "README": """This folder is served by TFTP and by anonymous FTP.

Put files here, edit them, remove them: the next request sees what is there. It was made once and is yours now.

  hello.txt      one line
  big.bin        64 MiB, the same bytes everywhere, to measure with
  boot.ipxe      what a machine that boots by iPXE is sent
  pxelinux.cfg/  what a network boot loader asks for
  a/b/c/         folders in folders
  incoming/      the drop box: anonymous FTP may write here, and nobody may read it through the network
""",
    "pxelinux.cfg/default": """DEFAULT local
PROMPT 0
LABEL local
  LOCALBOOT 0
""",
    "boot.ipxe": """#!ipxe
echo
echo This is boot.ipxe. It was sent by TFTP to ${manufacturer} ${product}, MAC address ${mac}.
imgfetch hello.txt && imgstat && imgfree
echo
echo Try: imgfetch big.bin      Go on to the disk: exit      In QEMU without a window, end it: Ctrl-A X
shell
""",
    "a/one.txt": "one\n",
    "a/b/two.txt": "two\n",
    "a/b/c/three.txt": "three\n",
}


def make(root: str, incoming: str) -> bool:
    """Make the tree `root` with the drop box `incoming` in it; False when `root` is there already, in whatever state.

    Raises ApplianceError when it cannot be made; nothing is left then.
    """
    if os.path.lexists(root):
        return False
    place = Path(root)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        half = tempfile.mkdtemp(prefix=".demo-", dir=place.parent)
        try:
            _fill(Path(half), incoming)
            os.rename(half, place)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        if place.is_dir():  # another start was quicker
            return False
        raise ApplianceError(
            f"cannot make the demo files in {root}: {error.strerror} (choose another place with XDG_STATE_HOME=DIR)"
        ) from error
    return True


def _fill(root: Path, incoming: str) -> None:
    for name, text in _TEXTS.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with (root / "big.bin").open("wb") as big:
        for number in range(BIG // _PIECE):
            big.write(piece(number))
    (root / incoming).mkdir(parents=True)
    for folder, _, files in os.walk(root):  # whatever the umask was: workers have an account of their own
        os.chmod(folder, 0o755)  # noqa: S103 - everyone may read what everyone is served
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)
    os.chmod(root / incoming, 0o700)


def piece(number: int) -> bytes:
    """The MiB `number` of big.bin: no two are alike, so that a block in the wrong place is found out."""
    return hashlib.shake_128(number.to_bytes(4, "big")).digest(_PIECE)
