"""Entry of the supervisor process: options, lock, first reading, loop."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import signal
import stat
import sys

from appliance.errors import ExitCode, StartError
from appliance.observe.log import Log
from appliance.supervise import folders, listeners
from appliance.supervise.loop import Supervisor
from appliance.supervise.notify import Notify
from appliance.supervise.reading import BadConfiguration, read_now

CONFINED = {
    "full": "full: every process has its own uid and jail, no capabilities, few system calls",
    "user": "user: every process has its own user namespace and jail, no capabilities, few system calls",
    "partial": "PARTIAL: this kernel or account does not allow all of it; `appliance check` tells what is missing",
}


def main(arguments: list[str]) -> int:
    """``--config PATH --name NAME [--banner TEXT]``: the command line (`appliance run`) makes these, not a person."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    path = options["--config"]
    log = Log("supervisor")
    os.umask(0o022)
    notify = Notify(os.environ)
    _tidy_descriptors()
    for number in (signal.SIGTERM, signal.SIGINT):  # as process 1 they would be ignored until the loop runs
        signal.signal(number, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is about to be read is what it asks for
    try:
        inherited = listeners.inherit(os.environ)
        wiring = read_now(path, options.get("--name", ""))
        log = Log("supervisor", wiring.log)
        for line in wiring.warnings:
            log.warning("configuration", problem=line)
        held = folders.lock(wiring.run_dir)
        folders.make(wiring.state_dir)
        folders.empty_jail(wiring.run_dir)
        source = (path, options.get("--name") or path)
        # whoever asks for objects reads them with a program, and standard output goes to the journal as well
        banner = _Banner(options.get("--banner", "") if wiring.log != "json" else "")
        gc.freeze()
        code = Supervisor(
            wiring, source=source, log=log, notify=notify, inherited=inherited, announce=banner.show
        ).run()
        log.info("ended")
        os.close(held)
        notify.close()
    except BadConfiguration as bad:
        print(bad, file=sys.stderr)
        return ExitCode.USAGE
    except StartError as error:
        log.error("cannot start", why=str(error))
        return ExitCode.FAILED
    return code


def _leave(*_: object) -> None:
    """Told to stop while the configuration is still being read: let go of everything on the way out."""
    sys.exit(ExitCode.DONE)


def _tidy_descriptors() -> None:
    """No child gets a descriptor that we were started with by mistake; room for our own; a log only grows.

    Without O_APPEND, every child could write over what a log file already says.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass  # that of the listing itself
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for descriptor in (1, 2):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)


class _Banner:
    """Printed once, when everything serves; told as an event of the log when there is no text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def show(self, supervisor: Supervisor) -> None:
        """Fill in the addresses and the level, and print."""
        text, self._text = self._text, ""
        if not text:
            summary, level = supervisor.snapshot.summary(), supervisor.snapshot.level()
            supervisor.log.info("serving", services=summary, confinement=level)
            return
        places = {name: group.reachable() for name, group in supervisor.groups.items() if group.public}
        for name in ("tftp", "ftp"):
            place = "{" + name + "}"
            text = (text if name in places else text.replace(f"on {place}", "off")).replace(
                place, places.get(name, "off")
            )
        try:
            print(text.replace("{confinement}", CONFINED[supervisor.snapshot.level()]), flush=True)
        except OSError:  # who read it has left; what is still in the buffer would fail again at the end: exit code 120
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, 1)
            os.close(nowhere)
