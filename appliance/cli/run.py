"""`appliance run`: find the configuration, make the demo files if it is the embedded one, become the supervisor."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import sys

from appliance.cli import configuration
from appliance.cli.options import Config
from appliance.errors import ApplianceError

_REMEDY = "choose another place with XDG_STATE_HOME=DIR, or use -c FILE"


def run(config: Config = None) -> None:
    """Serve in the foreground until SIGTERM or Ctrl-C.

    Without a configuration this serves demo files from your state folder on unprivileged ports
    (TFTP 6969, FTP 2121), and prints what to try. As root every process gets its own account and jail;
    as an ordinary user, what the kernel allows (`appliance status` tells).

    \b
    Signals: SIGHUP reload; SIGTERM finish running transfers, then end; SIGTERM again end now.

    \b
    Examples:
      appliance run
      appliance run -c lab.yaml
    """
    found = configuration.find(config, quiet=True)  # the banner tells which one
    path, banner = _embedded(found) if found.embedded else (found.name, for_file(found.name))
    from appliance.supervise.spawn import python_argv

    argv = python_argv("appliance.supervise.main", "--config", path, "--name", found.name, "--banner", banner)
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606 - the supervisor takes our place and our pid; no shell


def _embedded(found: configuration.Found) -> tuple[str, str]:
    from appliance.cli import demo

    settings, _warnings = found.load()
    _own(settings.state_dir)
    demo.make(settings.tftp.root, settings.ftp.incoming.path)
    path = f"{settings.state_dir}/embedded.yaml"
    _write(path, found.documents[0][1])
    return path, for_embedded(settings.tftp.root, _program())


def _own(state_dir: str) -> None:
    """Make the state folder. Whoever could write there could say what we serve, so it must be ours."""
    try:
        os.makedirs(state_dir, exist_ok=True)
        found = os.lstat(state_dir)
    except OSError as error:
        raise ApplianceError(f"cannot make {state_dir}: {error.strerror} ({_REMEDY})") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise ApplianceError(f"{state_dir} is not a folder of this user alone ({_REMEDY})")


def _write(path: str, text: bytes) -> None:
    """The supervisor reads a file, again at each reload; so the embedded document becomes one."""
    try:
        half = f"{path}.{secrets.token_hex(4)}"
        with open(half, "xb") as file:
            file.write(text)
        os.rename(half, path)
    except OSError as error:
        raise ApplianceError(f"cannot write {path}: {error.strerror} ({_REMEDY})") from error


def for_embedded(root: str, program: str) -> str:
    """What a newcomer is told once everything serves; the supervisor fills in {tftp}, {ftp} and {confinement}."""
    return "\n".join(
        (
            f"Serving {root} (embedded default): TFTP on {{tftp}}, anonymous FTP on {{ftp}}",
            "Confinement {confinement}",
            "Try in another terminal:",
            "  curl -o hello.txt tftp://{tftp}/hello.txt",
            "  curl -o big.bin ftp://{ftp}/big.bin",
            "  curl -T hello.txt ftp://{ftp}/incoming/     (an upload: kept, never readable through the network)",
            f"  {program} get tftp://{{tftp}}/pxelinux.cfg/default -",
            f"  {program} status",
            "Ctrl-C ends it.",
        )
    )


def for_file(name: str) -> str:
    """What an administrator is told once everything serves."""
    return f"Serving by {name}: TFTP on {{tftp}}, FTP on {{ftp}}\nConfinement {{confinement}}"


def _program() -> str:
    """How this program is called again: its bare name when that finds it, else the shortest path."""
    ours = os.path.abspath(sys.argv[0])
    found = shutil.which("appliance")
    if found and os.path.realpath(found) == os.path.realpath(ours):
        return "appliance"
    return min(os.path.relpath(ours), ours, key=len)
