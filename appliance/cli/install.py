"""`appliance install`: lay units, accounts, folders and configuration over a system that has no dpkg."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import output
from appliance.cli.options import Json
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.install.layout import Item


def install(
    *,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="The root of the system it is laid over.")] = "/",
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            metavar="PATH",
            help="Where the program lies in that system.  [default: where it lies here]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Lay the files of the appliance over a system, for those without dpkg: first install the wheel there.

    Units of systemd, accounts, folders, configuration, logrotate, motd, manual pages and completion. A
    configuration that is there and differs is kept, and ours is put beside it as NAME.new. Nothing is
    started. Done again, it does what is missing.

    \b
    Example:
      python3 -m venv /opt/appliance && /opt/appliance/bin/pip install appliance-*.whl
      /opt/appliance/bin/appliance install --dry-run
    """
    from appliance.install import lay, layout

    where = _program(root, program)
    planned = lay.plan(root, _items(where))
    steps = [step for step, _ in planned] if dry_run else list(lay.carry_out(root, planned, layout.folders()))
    if not dry_run:
        _settle(root)
    if as_json:
        files = [{"path": step.path, "verb": step.verb} for step in steps]
        output.document({"root": root, "program": where, "done": not dry_run, "files": files})
        return
    for step in steps:
        output.fact(f"{step.verb:9} {step.path}")
    if not dry_run:
        at = "" if os.path.realpath(root) == "/" else f"--root={root} "
        reload = "" if at else "systemctl daemon-reload && "
        output.remark(f"next: {reload}systemctl {at}enable {'' if at else '--now '}appliance")


def _items(program: str) -> list[Item]:
    from appliance.cli import papers
    from appliance.cli.main import program as whole
    from appliance.install import layout

    found = layout.items(program, papers.generated(whole()))
    if not any(item.path.endswith("/appliance.service") for item in found):
        raise ApplianceError("this program carries no files to lay: it comes from a Debian package (use the wheel)")
    return found


def _program(root: str, stated: str | None) -> str:
    """The absolute path of the program inside the target. Raises ApplianceError when nothing is there."""
    where = stated or shutil.which(sys.argv[0]) or os.path.abspath(sys.argv[0])
    where = os.path.abspath(where)
    if not os.access(os.path.join(root, where.lstrip("/")), os.X_OK):
        remedy = "install the wheel into that system first, and name the program: --program PATH"
        raise ApplianceError(f"there is no program {where} in {root} ({remedy})")
    return where


def _settle(root: str) -> None:
    """Accounts and folders, by systemd's own tools. Raises ApplianceError with what they said."""
    for tool, arguments in (("systemd-sysusers", ()), ("systemd-tmpfiles", ("--create",))):
        found = shutil.which(tool)
        if found is None:
            raise ApplianceError(f"there is no {tool} (apt-get install systemd, or make accounts and folders by hand)")
        argv = [found, f"--root={os.path.realpath(root)}", *arguments, "appliance.conf"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 (no shell)
        if done.returncode:
            raise ApplianceError(f"{tool}: {done.stderr.strip()} (as root: {' '.join(argv)})")
