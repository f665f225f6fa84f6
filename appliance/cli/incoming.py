"""`appliance incoming`: look through the drop box of FTP, release what is good, remove the rest.

It works on the folders themselves, with or without a running appliance, as root or as the user who runs it.
"""

from __future__ import annotations

import contextlib
import sys
import syslog
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import configuration, output
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError, ExitCode
from appliance.observe.text import printable

if TYPE_CHECKING:
    from appliance.release.box import Box, Opened, Upload
    from appliance.release.verdict import Verdict
    from appliance.release.verdicts import Judged, Verdicts
    from appliance.release.work import Scanner
    from appliance.settings.ftp import FtpSettings

app = typer.Typer(
    no_args_is_help=True, help="What was uploaded by FTP: look, release, reject, purge.", rich_markup_mode=None
)
_LATEST = 253_402_300_799.0  # seconds since the epoch: the end of the year 9999

Name = Annotated[str, typer.Argument(metavar="NAME", help="The upload, as `appliance incoming list` shows it.")]


@dataclass(frozen=True, slots=True)
class Desk:
    """The drop box and what is around it, open."""

    config: str
    ftp: FtpSettings
    root: int
    box: Box
    verdicts: Verdicts


@contextlib.contextmanager
def _desk(config: str | None, *, quiet: bool) -> Iterator[Desk]:
    """Open the drop box that a configuration has. Raises ConfigError and ReleaseError."""
    import os

    from appliance import boxes
    from appliance.machine import Machine
    from appliance.release import folders
    from appliance.release.box import Box
    from appliance.release.verdicts import Verdicts

    found = configuration.find(config, quiet=quiet)
    settings = found.load()[0]
    ftp = settings.ftp
    keeper = boxes.identity(Machine(), "appliance-custody")
    owners = {0, os.geteuid(), *(keeper or ())[:1]}
    root = folders.root(ftp.root)
    try:
        with Box(root, ftp.incoming.path, owners) as box:
            yield Desk(found.name, ftp, root, box, Verdicts(settings.state_dir))
    finally:
        os.close(root)


def _opened(desk: Desk, name: str) -> Opened:
    from appliance.release import names

    return desk.box.open(names.typed(name))


@app.command(name="list", short_help="what lies in the drop box")
def list_(
    *,
    scan: Annotated[
        bool, typer.Option("--scan", help="Have the scanner look at those that it has not looked at yet.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the uploads that wait in the drop box, the oldest first.

    When each was complete (UTC), its size, who sent it, what the scanner of ftp.incoming.scan said (- as long as nobody
    asked it), its name. A byte of a name that is not printable ASCII is shown as \\xNN; the other verbs take the name
    as it is shown.

    \b
    Examples:
      appliance incoming list
      appliance incoming list --scan --json
    """
    from appliance.release.box import MOST

    with _desk(config, quiet=as_json) as desk:
        uploads = sorted(desk.box.uploads(), key=lambda upload: (upload.stored, upload.name))
        cut = len(uploads) == MOST
        known = desk.verdicts.read()
        if scan:
            known |= _judge_rest(desk, uploads, known)
        if as_json:
            entries = [{**_entry(upload), **_known(known.get(upload.stamp))} for upload in uploads]
            output.document({"config": desk.config, "uploads": entries, "complete": not cut})
            return
        for upload in uploads:
            output.fact(_line(upload, known.get(upload.stamp)))
        if not uploads:
            output.fact("nothing waits in the drop box")
        if cut:
            output.remark(f"these are {MOST} of them; there may be more")


@app.command(short_help="one upload: who, when, size, SHA-256; --scan for a verdict")
def show(
    name: Name,
    *,
    scan: Annotated[bool, typer.Option("--scan", help="Have the scanner of ftp.incoming.scan look at it now.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell everything that is known of one upload, its SHA-256 included.

    A verdict, given now or before, decides nothing: a release scans again, and then the copy that it makes.

    \b
    Example:
      appliance incoming show report.pdf --scan
    """
    with _desk(config, quiet=as_json) as desk, _opened(desk, name) as opened:
        upload = opened.upload
        known = desk.verdicts.read().get(upload.stamp)
        if scan:
            known = _judge(opened, _scanner(desk.ftp))
            _keep(desk, {upload.stamp: known})
        facts = {**_entry(upload), "sha256": opened.digest()}
        if known is not None and known.sha256 == facts["sha256"]:
            facts |= _known(known)
        if as_json:
            output.document({"config": desk.config, **facts})
            return
        for key, value in facts.items():
            output.fact(f"{key + ':':9}{_verdict_line(value) if key == 'verdict' else value if value != '' else '-'}")


@app.command(short_help="give one upload to everybody: a copy, hashed and scanned")
def release(
    name: Name,
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="PATH", help="Its name in the released tree, folders included.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a file that was released.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Give an upload to everybody, as a copy that was hashed and scanned.

    It goes to the folder `ftp.incoming.released`, which is served like the rest of ftp.root: as a new file that nobody
    else can write. That copy is hashed, and scanned where `ftp.incoming.scan` says how; only a clean one gets its name,
    in one step, and the upload is removed. Anything but a clear verdict holds the upload: it stays where it is, and the
    exit code is 1. The line that is printed is one for `sha256sum -c`, to be run in ftp.root.

    \b
    Examples:
      appliance incoming release report.pdf
      appliance incoming release a.iso --to images/a.iso --replace
    """
    from appliance.release import names, work
    from appliance.release.tree import Place

    with _desk(config, quiet=as_json) as desk, _opened(desk, name) as opened:
        parts = names.target(opened.upload.name if to is None else names.typed(to))
        if not parts:
            what = printable(opened.upload.name if to is None else names.typed(to), 1024)
            raise ApplianceError(f"{what} is no fit name for a released file (--to another one)")
        scan = _scanner(desk.ftp, needed=False)
        with Place(desk.root, desk.ftp.incoming.released, parts) as place:
            outcome = work.release(desk.box, opened, place, scan, replace=replace)
            path = place.shown
        if not outcome.released:
            _keep(desk, {outcome.upload.stamp: _judged(outcome.sha256, outcome.verdict)})
    event = "released" if outcome.released else "held"
    facts = {**_entry(outcome.upload), "sha256": outcome.sha256, "verdict": _said(outcome.verdict)}
    _record(event, {**_entry(outcome.upload), "sha256": outcome.sha256, "to": path}, outcome.verdict)
    if as_json:
        output.document(
            {"config": desk.config, **facts, "released": outcome.released, "removed": outcome.removed, "to": path}
        )
    elif outcome.released:
        output.fact(f"{outcome.sha256}  {path}")
    if not outcome.released:
        shown = printable(outcome.upload.name)
        output.remark(f"appliance: {shown} is held: {_verdict_line(facts['verdict'])}")
        raise typer.Exit(ExitCode.FAILED)
    if not outcome.removed:
        output.remark("the upload changed or cannot be removed; what has its name was left in the drop box")


@app.command(short_help="remove one upload")
def reject(
    name: Name,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes to the system's log.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove an upload for good.

    Who sent it, its SHA-256 and the reason go to the system's log (syslog, the journal).

    \b
    Example:
      appliance incoming reject a.exe --reason "no programs"
    """
    with _desk(config, quiet=as_json) as desk, _opened(desk, name) as opened:
        facts = {**_entry(opened.upload), "sha256": opened.digest()}
        if not desk.box.remove(opened.upload):
            raise ApplianceError(f"{printable(opened.upload.name)} changed meanwhile; nothing was removed")
    facts["reason"] = printable(reason, 300)
    _record("rejected", facts)
    if as_json:
        output.document({"config": desk.config, **facts})
    else:
        output.fact(f"removed {_line(opened.upload)}")


@app.command(short_help="remove many uploads: old ones, or all")
def purge(
    *,
    older: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Those complete for longer: 12h, 30d.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove uploads that were complete before a time, or all.

    Asks first, on a terminal; elsewhere it needs --yes.

    \b
    Examples:
      appliance incoming purge --older-than 30d
      appliance incoming purge --all --yes
    """
    oldest = _oldest(older, everything=everything)
    with _desk(config, quiet=as_json) as desk:
        chosen = [upload for upload in desk.box.uploads() if upload.stored < oldest]
        if chosen and not yes and not _agreed(len(chosen), sum(upload.size for upload in chosen)):
            raise ApplianceError("nothing was removed")
        gone = [upload for upload in chosen if desk.box.remove(upload)]
    size = sum(upload.size for upload in gone)
    for upload in gone:
        _record("purged", _entry(upload))
    if as_json:
        output.document({"config": desk.config, "removed": [_entry(upload) for upload in gone], "bytes": size})
    else:
        output.fact(f"removed {_count(len(gone))}, {output.size(size)}")


def _judge_rest(desk: Desk, uploads: list[Upload], known: dict[str, Judged]) -> dict[str, Judged]:
    """Have those scanned of which nothing is known, and keep that."""
    from appliance.release.folders import ReleaseError

    scan, found = _scanner(desk.ftp), {}
    for upload in uploads:
        if upload.stamp in known:
            continue
        try:
            with desk.box.open(upload.name) as opened:
                if opened.upload.stamp == upload.stamp:
                    found[upload.stamp] = _judge(opened, scan)
        except ReleaseError:
            continue  # it is gone, or changed meanwhile
    _keep(desk, found)
    return found


def _judge(opened: Opened, scan: Scanner) -> Judged:
    return _judged(opened.digest(), scan(opened.fd, opened.upload.size))


def _judged(sha256: str, verdict: Verdict) -> Judged:
    from appliance.release.verdicts import Judged

    return Judged(sha256, verdict, round(time.time(), 3))


def _keep(desk: Desk, found: dict[str, Judged]) -> None:
    try:
        desk.verdicts.add(found, list(desk.box.uploads()))
    except OSError as error:
        output.remark(f"appliance: the verdict is not kept: {error.strerror} (state_dir)")


def _oldest(older: str | None, *, everything: bool) -> float:
    """Seconds since the epoch before which uploads go. Raises typer.BadParameter."""
    from appliance.settings import units
    from appliance.settings.forms import Unfit

    if (older is None) == (not everything):
        raise typer.BadParameter("write --older-than TIME, or --all")
    if older is None:
        return float("inf")
    try:
        return time.time() - units.parse_duration(older)
    except Unfit as error:
        raise typer.BadParameter(f"{error.what} ({error.remedy})") from None


def _count(number: int) -> str:
    return "1 upload" if number == 1 else f"{number} uploads"


def _agreed(count: int, size: int) -> bool:
    if not sys.stdin.isatty():
        raise ApplianceError(f"{_count(count)} would be removed, and there is no terminal to ask on (--yes)")
    return typer.confirm(f"Remove {_count(count)}, {output.size(size)}?", err=True)


def _scanner(ftp: FtpSettings, *, needed: bool = True) -> Scanner:
    """What looks at an open file. Raises ApplianceError where there is none, if it is `needed`."""
    from functools import partial

    from appliance import boxes
    from appliance.machine import Machine
    from appliance.release import clamd, program, verdict

    scan = ftp.incoming.scan
    if scan is None:
        if needed:
            raise ApplianceError("there is no scanner (ftp.incoming.scan)")
        return lambda _fd, _size: verdict.UNSCANNED
    if scan.clamd is not None:
        return partial(clamd.scan, scan.clamd, scan.timeout)
    machine = Machine()
    found = boxes.identity(machine, scan.user)
    if found is None or 0 in found:
        what = "is root" if found else "does not exist"
        raise ApplianceError(f"the account {scan.user} of ftp.incoming.scan.user {what}")
    account = program.Account(*found) if machine.uid == 0 else None
    return partial(program.scan, scan.command, account, scan.timeout)


def _entry(upload: Upload) -> dict[str, Any]:
    """An upload as plain values; the strangers' bytes in it are escaped."""
    return {
        "name": printable(upload.name),
        "client": printable(upload.client),
        "bytes": upload.size,
        "stored": _time(upload.stored),
    }


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _line(upload: Upload, known: Judged | None = None) -> str:
    entry, kind = _entry(upload), known.verdict.kind.value if known else "-"
    return f"{entry['stored']}  {output.size(upload.size):>11}  {entry['client'] or '-':15}  {kind:8}  {entry['name']}"


def _known(judged: Judged | None) -> dict[str, Any]:
    """What is known of an upload that a scanner has looked at, null where none has."""
    if judged is None:
        return {"sha256": None, "verdict": None, "judged": None}
    return {"sha256": judged.sha256, "verdict": _said(judged.verdict), "judged": _time(judged.at)}


def _said(verdict: Verdict) -> dict[str, str]:
    return {"kind": verdict.kind.value, "text": printable(verdict.text, 300)}


def _verdict_line(said: dict[str, str]) -> str:
    return f"{said['kind']}: {said['text']}" if said["text"] else said["kind"]


def _record(event: str, facts: dict[str, Any], verdict: Verdict | None = None) -> None:
    """One line to the system's log, which adds who gave the command. Where there is none it is lost."""
    if verdict is not None:
        facts = {**facts, "verdict": _verdict_line(_said(verdict))}
    pairs = ['{}="{}"'.format(key, str(value).replace('"', r"\x22")) for key, value in facts.items() if value != ""]
    syslog.openlog("appliance", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_INFO, f"incoming: {event} {' '.join(pairs)}")
