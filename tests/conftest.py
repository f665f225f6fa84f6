"""At the end of a run: which real clients and which kernel features were really exercised."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from appliance.confine import landlock

# how long an example takes says how busy the machine is, and nothing else
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("house"), max_examples=15)  # of `make check`
settings.load_profile("house")

CLIENTS = ("tftp_hpa", "atftp", "curl", "busybox", "lftp", "tnftp", "ftplib", "tftpy", "own_verbs")
_UDP_SEGMENT = 103


SLOW = (
    "tests/system/", "real_clients", "test_fuzz", "test_anomaly", "ftp/test_limits", "ftp/test_uploads", "roll_over",
    "past_block_65535", "the_same_530", "a_wrong_log_in", "ten_thousand", "never_answers", "smaller_ones",
    "at_least_once", "limit_of_values", "bounded_time", "swapped_while", "custodian_is_busy", "test_ftp_worker",
    "ftp/test_data", "upload_with_losses", "silent_client_is_given_up", "tftp/test_paced",
    "the_next_offer_smaller", "never_waits_for_a_timeout", "wait_no_longer_while", "that_waits_for_a_checksum",
    "does_not_go_on",
    "a_big_folder", "a_listing_that_is_dropped", "far_down_is_listed", "goes_away_meanwhile", "ftp/test_worker",
    "release/test_program", "release/test_clamd", "tftp/test_loss", "test_ftpsclient", "test_write_matrix",
    "not_anonymous_counts", "cli/test_incoming", "learns_from_transfers", "tftp/test_transfer", "tftp/test_receiving",
    "ftp/test_tls.py", "retention_are_swept", "custodian_before_still", "board/test_server", "board/test_browser",
    "over_the_control_connection", "test_pool",
    "tests/qemu/", "test_dhcp_service", "ftp/test_kept", "resolve/test_worker", "test_fail2ban",
    "boot/test_house", "a_kill_at_any_system_call", "boot/test_downloading", "boot/test_unpacking",
    "cli/test_bootfiles", "cli/test_backup", "tests/test_run.py",
    "hooks/test_runner", "survive_being_written", "survives_being_written", "ftp/test_senders", "ftp/test_downloads",
    "custody/test_ledger", "time_of_the_first_repeat", "a_pin_ends_when_nothing", "a_lossy_path_costs", "tests/escape/",
    "expensive_commands_of_one_client", "whatever_two_custodians_and_a_kill_do", "killed_at_any_call",
)  # fmt: skip


def pytest_configure() -> None:
    """A shell that begins tests with & has all that they start ignore Ctrl-C: what is ended by it would never end."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole programs, real clients and long loops are left to `make test`."""
    slow = re.compile("|".join(map(re.escape, SLOW)))
    for item in items:
        if slow.search(item.nodeid):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What the tests themselves are made of stays: the collections below need not look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _what_was_left_open_is_told_here() -> Iterator[None]:
    """A socket or file that a cycle kept from being closed fails its own module, and not whichever comes later."""
    yield
    gc.collect()
    gc.freeze()  # or every module would take longer than the one before


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Named from the tests that passed, not from what is installed."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", []) if "real_clients" in report.nodeid]
    skipped = [report.nodeid for report in terminalreporter.stats.get("skipped", [])]
    counts = {client: sum(client in nodeid for nodeid in passed) for client in CLIENTS}
    used = ", ".join(f"{client} {count}" for client, count in counts.items() if count) or "none in this run"
    terminalreporter.write_line(f"real clients exercised (tests passed): {used}")
    terminalreporter.write_line(f"kernel features here: {', '.join(_features())}")
    if skipped:
        terminalreporter.write_line(f"skipped: {len(skipped)}")


def _features() -> list[str]:
    found = [f"Linux {os.uname().release.split('-')[0]}", f"Landlock ABI {landlock.abi()}"]
    found.append("root" if os.geteuid() == 0 else "ordinary user")
    namespaces = Path("/proc/sys/user/max_user_namespaces")
    found.append("user namespaces" if namespaces.exists() and int(namespaces.read_text()) else "no user namespaces")
    found.append("seccomp" if Path("/proc/sys/kernel/seccomp").exists() else "no seccomp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 1432)
            found.append("UDP_SEGMENT")
        except OSError:
            found.append("no UDP_SEGMENT")
    return found
