"""`appliance boot fetch`: download, verify and store what the manifest names."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.bootrooms import confined, now, rooms
from appliance.cli.options import Config, Json
from appliance.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.boot.fetching import Outcome
    from appliance.boot.model import Source


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Sources of the manifest; all without any.")
    ] = None,
    *,
    landlock: Annotated[
        bool,
        typer.Option("--landlock", help="Lock the children in by Landlock alone: without root and without namespaces."),
    ] = False,
    work: Annotated[
        str, typer.Option(metavar="DIR", help="A folder of yours for what is under way, instead of state_dir.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Download what the manifest names, show that it is genuine, and take it into the store.

    Nothing that is served changes. What is in the store already is not fetched again; what was cut off goes on where it
    stopped. A source that fails hinders no other, and the exit code is then 1. Secrets are not read.

    The unit appliance-boot-fetch.service does this as the account appliance-boot.

    \b
    Examples:
      appliance boot fetch
      appliance boot fetch debian-12 && appliance boot publish
    """
    from dataclasses import replace

    from appliance.boot import grub, plan
    from appliance.boot.fetching import Fetching
    from appliance.boot.records import BootError

    here = rooms(config, quiet=as_json)
    manifest = here.load(secrets=False).resolved.manifest
    sources = plan.sources(manifest)
    known = [source.name for source in sources]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise BootError(f"the manifest takes nothing from {', '.join(unknown)} (it has: {', '.join(known) or 'none'})")
    wanted: dict[str, list[str]] = {}
    for take in manifest.takes:
        wanted.setdefault(take.source, []).append(take.member)
    chosen = [source for source in sources if not names or source.name in names]
    for source in chosen if not as_json else ():
        if source.experimental:
            output.remark(f"{source.name}: experimental: {source.experimental}")
    with ExitStack() as opened:
        report = opened.enter_context(_Bars()) if sys.stderr.isatty() and not as_json else _Lines(quiet=as_json)
        house = replace(here.house, landlock=landlock, work=work, roots={})
        if work:
            house = replace(house, empty=f"{work}/boot-empty")
        publisher = opened.enter_context(house.publisher())
        if not as_json and not landlock:
            confined(publisher)
        images = grub.images(manifest)
        fetching = Fetching(house, publisher, here.settings.boot.fetch, report, wanted, images=images)
        outcomes = fetching.run(chosen, now())
    _tell(here.config, sources, outcomes, as_json)


def _tell(config: str, sources: Sequence[Source], outcomes: Sequence[Outcome], as_json: bool) -> None:
    """What became of each; raises Exit(1) when one failed."""
    if as_json:
        marks = {source.name: {"experimental": source.experimental} for source in sources}
        output.document({"config": config, "sources": [_plain(one) | marks[one.name] for one in outcomes]})
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed and not as_json:
        output.remark(f"{len(failed)} of {len(outcomes)} failed; what is served has not changed")
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def _plain(outcome: Outcome) -> dict[str, Any]:
    fetched = outcome.fetched
    facts: dict[str, Any] = {"name": outcome.name, "state": outcome.state, "why": outcome.why}
    if fetched is not None:
        facts |= {
            "location": fetched.location,
            "sha256": fetched.sha256,
            "bytes": fetched.size,
            "files": len(fetched.files),
            "verified": fetched.verified or "unverified",
            "left_out": list(fetched.left_out),
        }
    return facts


def line(outcome: Outcome) -> str:
    """How a source ended, for a person."""
    if outcome.state == "failed" or outcome.fetched is None:
        return f"{outcome.name}: FAILED: {outcome.why}"
    fetched = outcome.fetched
    how = f"verified: {fetched.verified}" if fetched.verified else "UNVERIFIED"
    count = "1 file" if len(fetched.files) == 1 else f"{len(fetched.files)} files"
    left = f", {len(fetched.left_out)} left out" if fetched.left_out else ""
    return f"{outcome.name}: {outcome.state}, {output.size(fetched.size)}, {count}{left}, {how}"


class _Lines:
    """Plain lines: for logs and pipes."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def begun(self, name: str, what: str) -> None:
        """One line at the beginning."""
        if not self._quiet:
            output.remark(f"{name}: fetching {what}")

    def moved(self, name: str, count: int, size: int | None) -> None:
        """Nobody reads a bar in a log."""

    def again(self, name: str, why: str) -> None:
        """One line: a person may want to know why it takes so long."""
        if not self._quiet:
            output.remark(f"{name}: {why}")

    def ended(self, outcome: Outcome) -> None:
        """One line at the end."""
        if not self._quiet:
            output.fact(line(outcome))
            for left in outcome.fetched.left_out if outcome.fetched and outcome.state == "fetched" else ():
                output.remark(f"{outcome.name}: left out {left}")


class _Bars(_Lines):
    """A bar for each download on a terminal. A context."""

    def __init__(self) -> None:
        super().__init__(quiet=False)
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
        # without a thread of its own: a process with threads cannot fork safely
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begun(self, name: str, what: str) -> None:  # noqa: ARG002  a bar has no room for it
        """A new bar."""
        from rich.markup import escape

        self._tasks[name] = self._bars.add_task(escape(name), total=None)
        self._bars.refresh()

    def moved(self, name: str, count: int, size: int | None) -> None:
        """The bar grows."""
        if name in self._tasks:
            self._bars.update(self._tasks[name], completed=count, total=size)
            self._bars.refresh()

    def again(self, name: str, why: str) -> None:
        """A line above the bars."""
        self._bars.console.print(f"{name}: {why}", markup=False, highlight=False)

    def ended(self, outcome: Outcome) -> None:
        """The bar goes, its line stays."""
        if outcome.name in self._tasks:
            self._bars.remove_task(self._tasks.pop(outcome.name))
            self._bars.refresh()
        self._bars.console.print(line(outcome), markup=False, highlight=False)
