"""Which configuration a verb uses: found once, told to the person, loaded only by the verbs that need its values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli import output
from appliance.errors import ConfigError, Problem

if TYPE_CHECKING:
    from appliance.settings.main import Settings

# All that is read of a file that cannot be loaded: a broken key must not keep `status` and `drain` from working.
_RUN_DIR = re.compile(rb"""^run_dir[ \t]*:[ \t]*(["']?)(/[^"'#\r\n]*?)\1[ \t]*(?:#.*)?\r?$""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """The documents of one configuration; `name` is what people are told, a path or `embedded default`."""

    name: str
    documents: list[tuple[str, bytes]]

    @property
    def embedded(self) -> bool:
        """True for the default that needs no file."""
        from appliance.settings.load import EMBEDDED

        return self.name == EMBEDDED

    def load(self) -> tuple[Settings, list[Problem]]:
        """The settings and the warnings. Raises ConfigError with every problem."""
        from appliance.settings import load

        return load.load(self.documents)

    def run_dir(self) -> str:
        """Where the control sockets are, also when the rest of the configuration cannot be used."""
        try:
            return self.load()[0].run_dir
        except ConfigError as error:
            place = self._written_run_dir()
            output.remark(
                f"{self.name}: {len(error.problems)} error(s), `appliance check` tells them; asking at {place}"
            )
            return place

    def _written_run_dir(self) -> str:
        from appliance.settings.main import Settings

        written = [match for _, text in self.documents for match in _RUN_DIR.findall(text)]
        return written[-1][1].decode("utf-8", "surrogateescape") if written else Settings().run_dir


def find(path: str | None, *, quiet: bool) -> Found:
    """The configuration of this call; tells a person which one it is unless `quiet`.

    Raises ConfigError when `path` does not exist or cannot be read.
    """
    from appliance.settings import load

    name, documents = load.read(str(Path(path).absolute()) if path is not None else None)
    if not quiet:
        output.remark(f"configuration: {name}")
    return Found(name, documents)
