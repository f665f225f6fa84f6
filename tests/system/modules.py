"""A worker's `main` that also tells which modules were imported after confinement. Test use only."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from appliance.child.context import Context


class Watched:
    """Runs the real worker; at the end it answers with the modules that came in late."""

    def __init__(self, context: Context) -> None:
        module, _, function = context.settings["watched"].partition(":")
        self._worker: Any = getattr(importlib.import_module(module), function)(context)
        self._answer = context.documents["answer"]
        if hasattr(self._worker, "start_threads"):
            self.start_threads = self._worker.start_threads

    def run(self) -> None:
        before = set(sys.modules)
        self._worker.run()
        with os.fdopen(self._answer, "w") as out:
            json.dump(sorted(set(sys.modules) - before), out)


def prepare(context: Context) -> Watched:
    return Watched(context)
