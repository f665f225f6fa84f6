"""The traps of a chroot, each tried inside a confined child; the answer maps a trap to what happened."""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable

from appliance.child.context import Context
from appliance.observe.log import Log


def codecs_for_host_names() -> str:
    return "x".encode("idna").decode() + "é".encode("cp437").decode("cp437") + "ü".encode("punycode").decode()


def numeric_addresses() -> str:
    return str(socket.getaddrinfo("127.0.0.1", 21, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4][0])


def local_time_is_utc() -> str:
    moment = time.localtime(0)
    return f"{moment.tm_hour} {time.strftime('%Z', moment)}"


def parsing_a_time() -> str:
    return str(time.strptime("20260102030405", "%Y%m%d%H%M%S").tm_year)


def a_traceback_has_its_lines() -> str:
    try:
        raise RuntimeError("trap")
    except RuntimeError:
        return traceback.format_exc().splitlines()[-1]


def logging_still_works() -> str:
    Log("test", "text").info("from inside the jail")
    return "ok"


def random_bytes() -> str:
    return str(len(os.urandom(8)))


def error_texts() -> str:
    return os.strerror(2)


def the_environment_names_no_home() -> str:
    return os.environ.get("HOME", "none")


def the_working_directory_is_the_root() -> str:
    return os.getcwd()


def a_name_that_is_not_utf8() -> str:
    return os.fsdecode(os.listdir(b".")[0]).encode("utf-8", "surrogateescape").hex()


def a_host_name_is_refused_without_a_crash() -> str:
    try:
        socket.getaddrinfo("localhost.example", 21)
    except socket.gaierror:
        return "gaierror"
    return "resolved"


TRAPS: tuple[Callable[[], str], ...] = (
    codecs_for_host_names, numeric_addresses, local_time_is_utc, parsing_a_time, a_traceback_has_its_lines,
    logging_still_works, random_bytes, error_texts, the_environment_names_no_home, the_working_directory_is_the_root,
    a_name_that_is_not_utf8, a_host_name_is_refused_without_a_crash,
)  # fmt: skip


class Trapped:
    """Tries each."""

    def __init__(self, context: Context) -> None:
        self._answer = context.documents["answer"]

    def run(self) -> None:
        found = {}
        for trap in TRAPS:
            try:
                found[trap.__name__] = trap()
            except Exception as error:
                found[trap.__name__] = f"TRAPPED: {error!r}"
        with os.fdopen(self._answer, "w") as out:
            json.dump(found, out)


def prepare(context: Context) -> Trapped:
    return Trapped(context)
