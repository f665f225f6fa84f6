"""Which layers of the confinement are in force, as one set of bits that fits a fixed message. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag


class Layer(IntFlag):
    """One layer each; a bit is set only after the layer was tried and held."""

    CHROOT = 1
    USER_NAMESPACE = 2
    IDENTITY = 4  # own uid and gid, no supplementary groups
    CAPABILITIES = 8  # none effective, permitted, inheritable or ambient
    BOUNDING = 16  # empty bounding set
    NO_NEW_PRIVS = 32
    LANDLOCK = 64
    SECCOMP = 128
    LIMITS = 256
    DEATH_SIGNAL = 512


FULL = Layer.CHROOT | Layer.IDENTITY | Layer.CAPABILITIES | Layer.NO_NEW_PRIVS | Layer.SECCOMP
USER = Layer.CHROOT | Layer.USER_NAMESPACE | Layer.CAPABILITIES | Layer.NO_NEW_PRIVS | Layer.SECCOMP
NAMES = {
    Layer.CHROOT: "jail (chroot)",
    Layer.IDENTITY: "own uid",
    Layer.USER_NAMESPACE: "user namespace",
    Layer.CAPABILITIES: "no capabilities",
    Layer.NO_NEW_PRIVS: "no_new_privs",
    Layer.SECCOMP: "system call filter (seccomp)",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What one child proved: layers, the Landlock ABI in use (0: none), the number of system calls it keeps."""

    layers: Layer
    landlock_abi: int
    syscalls: int

    @property
    def level(self) -> str:
        """``full`` (own uid and chroot by root), ``user`` (user namespace and chroot) or ``partial``."""
        if self.layers & FULL == FULL:
            return "full"
        return "user" if self.layers & USER == USER else "partial"

    def missing(self) -> tuple[str, ...]:
        """Names of what `confinement: required` asks for and is not in force; empty when the level is reached."""
        if self.level != "partial":
            return ()
        wanted = FULL if self.layers & Layer.IDENTITY else USER
        return tuple(name for layer, name in NAMES.items() if layer & wanted and not layer & self.layers)

    def plain(self) -> dict[str, object]:
        """The `confinement` object of `status --json`."""
        jail = "chroot" if self.layers & Layer.CHROOT else "none"
        return {
            "level": self.level,
            "jail": "userns" if jail == "chroot" and self.layers & Layer.USER_NAMESPACE else jail,
            "uid": bool(self.layers & Layer.IDENTITY),
            "capabilities": bool(self.layers & Layer.CAPABILITIES),
            "bounding": bool(self.layers & Layer.BOUNDING),
            "no_new_privs": bool(self.layers & Layer.NO_NEW_PRIVS),
            "landlock": self.landlock_abi,
            "seccomp": self.syscalls,
            "limits": bool(self.layers & Layer.LIMITS),
            "death_signal": bool(self.layers & Layer.DEATH_SIGNAL),
        }
