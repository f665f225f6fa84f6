"""A progress bar on standard error, when that is a terminal; otherwise nothing at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Moved: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in all when known
_STEP = 1 << 18  # bytes between two updates: a TFTP block is too small to draw


@contextmanager
def progress(title: str) -> Iterator[Moved]:
    """Call the value with the bytes moved so far and the whole size."""
    if not sys.stderr.isatty():
        yield lambda _moved, _size: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(title), total=None)
        shown = 0

        def moved(count: int, size: int | None) -> None:
            nonlocal shown
            if count - shown >= _STEP or count == size:
                shown = count
                bar.update(task, completed=count, total=size)

        yield moved
