"""Each proof fails when its own layer is missing, whatever else is there: otherwise it would prove nothing."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable

import pytest

from appliance.confine import landlock, libc, proof
from appliance.errors import ConfinementError
from tests.support import ROOT


def in_a_child(action: Callable[[], None]) -> str:
    """Run in a forked process; the text of the ConfinementError it ends with, or empty."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            action()
        except ConfinementError as error:
            text = str(error)
        except BaseException:
            text = "crash: " + traceback.format_exc()
        os.write(write_end, text.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    return text


def test_must_fail_accepts_only_the_error_that_the_layer_gives() -> None:
    def refuse(number: int) -> None:
        raise OSError(number, os.strerror(number))

    proof.must_fail("x", errno.EPERM, lambda: refuse(errno.EPERM))
    with pytest.raises(ConfinementError, match="refused with"):
        proof.must_fail("x", errno.EPERM, lambda: refuse(errno.ENOENT))
    with pytest.raises(ConfinementError, match="still possible after confinement: x"):
        proof.must_fail("x", errno.EPERM, lambda: None)


def test_without_a_filter_the_proof_of_seccomp_fails() -> None:
    assert in_a_child(proof.seccomp) == "still possible after confinement: getpriority"


def test_without_landlock_the_proof_of_landlock_fails() -> None:
    witness = os.open("/etc", os.O_RDONLY)
    try:
        expected = "still possible after confinement: read outside through a descriptor"
        assert in_a_child(lambda: proof.landlock(witness, b"passwd")) == expected
    finally:
        os.close(witness)


def test_without_a_witness_landlock_cannot_be_proven() -> None:
    here = os.open("/", os.O_RDONLY)
    try:
        assert "no witness" in in_a_child(lambda: proof.readable_before(here, b"does-not-exist"))
    finally:
        os.close(here)


def test_without_the_flag_the_proof_of_no_new_privs_fails() -> None:
    assert in_a_child(proof.no_new_privs) == "no_new_privs is not set"


def test_an_open_directory_is_found() -> None:
    def leave_one_open() -> None:
        os.open("/", os.O_RDONLY)
        proof.no_directory_open(256)

    assert in_a_child(leave_one_open).endswith("is a directory")


def test_without_limits_the_proof_of_limits_fails() -> None:
    assert "rlimit" in in_a_child(lambda: proof.limits(17, 0))


def test_without_a_chroot_the_proof_of_the_jail_fails(tmp_path: object) -> None:
    found = os.stat("/etc/passwd")
    jail = os.stat(str(tmp_path))
    message = in_a_child(lambda: proof.jail((found.st_dev, found.st_ino), (jail.st_dev, jail.st_ino)))
    assert message == "/ is not the jail"


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_process_that_is_still_root_fails_the_proofs_of_identity_and_capabilities() -> None:
    assert in_a_child(lambda: proof.identity(64610, 64610)).startswith("ids are")
    assert in_a_child(proof.capabilities).startswith("capabilities left")
    assert not proof.bounding()

    def only_the_real_uid() -> None:
        os.setgroups([])
        os.setresgid(64610, 64610, 64610)
        os.setresuid(64610, 64610, 0)
        proof.identity(64610, 64610)

    assert in_a_child(only_the_real_uid).startswith("ids are")


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_forgotten_group_fails_the_proof_of_identity() -> None:
    def keep_a_group() -> None:
        os.setgroups([4])
        os.setresgid(64610, 64610, 64610)
        os.setresuid(64610, 64610, 64610)
        proof.identity(64610, 64610)

    assert "[4]" in in_a_child(keep_a_group)


def test_landlock_tells_its_abi_here() -> None:
    assert landlock.abi() >= 0
    assert libc.prctl(libc.PR_GET_PDEATHSIG - 1, 0) == 0
