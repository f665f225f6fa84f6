"""Write machines into hosts.d, one file each, whole or not at all.

Invariant: a file is only ever replaced by its successor as a whole, and a file that a person wrote is never changed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from appliance.boot.folder import HOSTS
from appliance.boot.hosts import file_name, quick, written
from appliance.boot.model import Machine
from appliance.errors import ApplianceError


class HostsError(ApplianceError):
    """Machines cannot be written; the text says why and what to do."""


@contextmanager
def changing(state_dir: str) -> Iterator[str]:
    """The folder of machines, for one who changes it: others wait. Raises HostsError."""
    folder = os.path.join(state_dir, HOSTS)
    try:
        os.makedirs(folder, 0o755, exist_ok=True)
        lock = os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostsError(f"{folder}: {error.strerror} (run as root, or as who owns it)") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)


def mine(folder: str, machine: Machine) -> bool:
    """Whether a machine stands in a file that `put` wrote, so that it may be replaced."""
    path = os.path.join(folder, file_name(machine))
    try:
        with open(path, "rb") as file:
            return quick(path, file.read(1 << 20)) is not None
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostsError(f"{path}: {error.strerror}") from None


def put(folder: str, machines: Sequence[Machine]) -> None:
    """Write machines, each under its final name only when it is whole and on the disk. Raises HostsError."""
    half = ""
    try:
        for machine in machines:
            path = os.path.join(folder, file_name(machine))
            half = os.path.join(folder, f".{secrets.token_hex(8)}")
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(written(machine))
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, path)
        _settle(folder)
    except OSError as error:
        if half:
            with_no_trace(half)
        raise HostsError(f"{folder}: {error.strerror}") from None


def remove(folder: str, machine: Machine) -> None:
    """Remove the file of a machine. Raises HostsError."""
    path = os.path.join(folder, file_name(machine))
    try:
        os.unlink(path)
        _settle(folder)
    except OSError as error:
        raise HostsError(f"{path}: {error.strerror}") from None


def with_no_trace(path: str) -> None:
    """Remove what may not be there."""
    try:
        os.unlink(path)
    except OSError:
        pass  # it was never made, or is already in its place


def _settle(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
